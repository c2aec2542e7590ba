"""Pseudo-labels as they are: two rounds on a labelled corpus, whose labels never feed back."""

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from scipy.special import expit
from sklearn.metrics import precision_score, recall_score, roc_auc_score

from ich_ray.distributed.label_diagnostics import diagnose
from ich_ray.distributed.lineage import finished_pseudo_labels, trained_model
from ich_ray.distributed.predict import prediction_task
from ich_ray.distributed.pseudo_label import pseudo_label
from ich_ray.distributed.session import Session, select
from ich_ray.distributed.train import train
from ich_ray.errors import QualityError
from ich_ray.storage.corpus import index_table, open_corpus, read_exams
from ich_ray.storage.predictions import decode_map, decode_mask
from ich_ray.storage.tables import open_table
from jobs.cli import main
from tests.cluster.tiny_experiment import files_under, opened, rows_of

# A corpus with labels as the pool: they are hidden from all but the diagnostics.
POOL = ("pseudo_labels.pool.unlabelled=['c']", "evaluate.test=['b']")
SECOND = ("pseudo_labels.second.teacher=student", "pseudo_labels.second.unlabelled=['c']")
HIDDEN = ("label", "subtypes", "exam_label", "exam_subtypes", "mask", "mask_codec")


def run(root: Path, verb: str, *arguments: str) -> int:
    overrides = (*POOL, *SECOND, *sure(root), f"diagnose.folder={root / 'diagnose'}")
    return main([verb, str(root / "settings.toml"), *arguments, *overrides])


def sure(root: Path) -> tuple[str, ...]:
    """Set K so that half of all pixels are above it: of a few steps a teacher is sure of none."""
    with opened(root) as session:
        task = prediction_task(
            session, trained_model(session, "teacher"), select(session, ["c"])[0]
        )
        rows = rows_of(session, open_table(session.store, task.url))
    k = expit(np.median([decode_map(row).astype(np.float64) for row in rows]))
    return (f"pseudo_labels.pool.positive_above={k}", "pseudo_labels.pool.negative_below=0.0")


def record_of(root: Path, name: str = "pool") -> dict[str, Any]:
    found: dict[str, Any] = json.loads((root / "diagnose" / name / "diagnostics.json").read_text())
    return found


def p_of(session: Session, model: str) -> dict[str, float]:
    task = prediction_task(session, trained_model(session, model), select(session, ["c"])[0])
    return {row["slice"]: row["p"] for row in rows_of(session, open_table(session.store, task.url))}


def hide(root: Path) -> None:
    """Take its labels from the corpus of the pool, and leave all else as it is, byte for byte."""
    for path in (root / "store" / "corpora" / "c" / "slices").glob("*.parquet"):
        part = pq.ParquetFile(path)
        groups = [part.read_row_group(group) for group in range(part.num_row_groups)]
        with pq.ParquetWriter(path, part.schema_arrow) as writer:
            for rows in groups:
                for name in HIDDEN:
                    place = rows.schema.get_field_index(name)
                    field = rows.schema.field(name)
                    rows = rows.set_column(place, field, pa.nulls(rows.num_rows, field.type))
                writer.write_table(rows)


def test_two_rounds_a_student_and_hidden_labels_in_one_page(
    root: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(root, "diagnose", "pool") == 2
    assert "run ich-ray pseudo-label SETTINGS.toml --only pool" in capsys.readouterr().err
    assert run(root, "pseudo-label", "--only", "pool") == 0
    assert run(root, "diagnose", "pool", "--json") == 0
    (note,) = json.loads(capsys.readouterr().out.splitlines()[-1])["notes"]
    assert "student is not compared: it has not been trained" in note
    assert run(root, "train", "--only", "student") == 0
    assert run(root, "diagnose", "pool", "--dry-run", "--json") == 0
    planned = json.loads(capsys.readouterr().out.splitlines()[-1])
    assert (planned["students"], planned["predictions_missing"]) == (["student"], 1)
    assert run(root, "diagnose", "pool") == 0
    assert "diagnose.predict=true makes these predictions" in capsys.readouterr().out
    assert run(root, "pseudo-label", "--only", "second") == 0
    stored = {
        name: files_under(root / "store" / name) for name in ("pseudo_labels", "models", "corpora")
    }
    assert run(root, "diagnose", "pool", "--against", "second") == 0
    said = capsys.readouterr().out
    assert "by hidden labels, a diagnostic only" in said
    assert "is not compared" not in said
    for name, files in stored.items():
        assert files_under(root / "store" / name) == files

    found = record_of(root)
    with opened(root, *POOL, *SECOND, *sure(root)) as session:
        rows = rows_of(session, finished_pseudo_labels(session, "pool").table)
        others = rows_of(session, finished_pseudo_labels(session, "second").table)
        index = index_table(session.store, open_corpus(session.store, "c"))
        teacher, student = p_of(session, "teacher"), p_of(session, "student")
        check_volumes(session, found, rows)
    truth = dict(zip(index["slice"].to_pylist(), index["label"].to_pylist(), strict=True))
    check_hidden(found, rows, truth)
    check_rounds(found, rows, others)
    shift = np.mean([logit(student[key]) - logit(teacher[key]) for key in truth])
    assert found["drift"]["students"]["student"]["mean_shift"] == pytest.approx(shift, abs=1e-4)
    patient = dict(zip(index["slice"].to_pylist(), index["patient"].to_pylist(), strict=True))
    held = np.unique([patient[row["slice"]] for row in rows if row["label"]], return_counts=True)[1]
    assert found["patients"]["with_positive"] == len(held)
    assert found["patients"]["effective"] == pytest.approx(held.sum() ** 2 / (held**2).sum())
    page = (root / "diagnose" / "pool" / "index.html").read_text()
    assert "never feeds back" in page
    assert "never feeds back" in found["hidden_labels"]["notice"]
    for name in set(patient.values()):
        assert name not in page + json.dumps(found)


def logit(p: float) -> float:
    """At most 1e-6 away from 0 and 1, as the record says."""
    inside = min(max(p, 1e-6), 1 - 1e-6)
    return float(np.log(inside / (1 - inside)))


def check_volumes(session: Session, found: dict[str, Any], rows: list[dict[str, Any]]) -> None:
    """By pixels, spacing and numpy's own gradient of the positions, half of either step."""
    corpus = open_corpus(session.store, "c")
    exams = [exam for url in corpus.files for exam in read_exams(session.store, url)]
    expected: dict[str, float] = {}
    masks = {row["slice"]: row for row in rows if row["label"]}
    for exam in exams:
        steps = np.abs(np.gradient([item.geometry.position_mm for item in exam]))
        for item, step in zip(exam, steps, strict=True):
            if item.key in masks:
                row = masks[item.key]
                pixels = (decode_mask(row["mask"], side=row["mask_side"]) == 1).sum()
                area = np.prod(item.geometry.spacing_mm) * (item.stored.shape[0] / 64) ** 2
                expected.setdefault(item.exam, 0.0)
                expected[item.exam] += float(pixels * area * step / 1000)
    told = {one["exam"]: one["volume_ml"] for one in found["volumes"]["exams"]}
    assert told == pytest.approx(expected)
    assert found["volumes"]["summary"]["total_ml"] == pytest.approx(sum(expected.values()))
    assert sum(expected.values()) > 0


def check_hidden(found: dict[str, Any], rows: list[dict[str, Any]], truth: dict[str, bool]) -> None:
    hidden = found["hidden_labels"]["found"]
    true = np.array([truth[row["slice"]] for row in rows])
    p = np.array([row["p"] for row in rows])
    assert (hidden["slices"], hidden["positive"]) == (64, true.sum())
    assert hidden["auc"] == pytest.approx(roc_auc_score(true, p))
    label = np.array([bool(row["label"]) for row in rows])
    assert hidden["precision"]["estimate"] == pytest.approx(precision_score(true, label))
    order = sorted(range(len(rows)), key=lambda i: (-rows[i]["p"], rows[i]["slice"]))
    for at in hidden["percentiles"]:
        top = np.zeros(len(rows), np.bool_)
        top[order[: max(1, round(64 * at["percent"] / 100))]] = True
        assert at["recall"]["estimate"] == pytest.approx(recall_score(true, top))
        assert at["precision"]["estimate"] == pytest.approx(precision_score(true, top))


def check_rounds(
    found: dict[str, Any], rows: list[dict[str, Any]], others: list[dict[str, Any]]
) -> None:
    first, second = ({r["slice"] for r in of if r["label"]} for of in (rows, others))
    agreed = found["agreement"]
    assert agreed["other"] == "second"
    assert agreed["found"]["jaccard"] == pytest.approx(len(first & second) / len(first | second))
    assert agreed["flipped_to_positive"] == pytest.approx(len(second - first) / 64)
    assert agreed["flipped_to_negative"] == pytest.approx(len(first - second) / 64)


def test_labels_ranks_and_models_are_the_same_with_hidden_labels_and_without(
    finished: Path, tmp_path: Path
) -> None:
    results = []
    for name in ("diagnosed", "hidden"):
        shutil.copytree(finished / "store", tmp_path / name / "store")
        if name == "hidden":
            hide(tmp_path / name)
        folder = f"diagnose.folder={tmp_path / name / 'diagnose'}"
        with opened(tmp_path / name, *POOL, folder, "diagnose.predict=true") as session:
            pseudo_label(session, "pool")
            summary = diagnose(session, "pool")
            assert (summary.precision is None) == (name == "hidden")
            lineage = finished_pseudo_labels(session, "pool")
            rows = rows_of(session, lineage.table)
            assert lineage.table is not None
            train(session, "student")
            diagnose(session, "pool")
            results.append(
                (
                    rows,
                    lineage.url.rsplit("/", 1)[1],
                    lineage.table.properties["figures"],
                    trained_model(session, "student").identity,
                )
            )
    assert results[0] == results[1]
    assert "student" in record_of(tmp_path / "diagnosed")["drift"]["students"]
    assert record_of(tmp_path / "hidden")["hidden_labels"]["found"] is None
    assert (
        "By hidden labels"
        not in (tmp_path / "hidden" / "diagnose" / "pool" / "index.html").read_text()
    )


@pytest.mark.parametrize("mode", ["soft", "none", "image_oracle", "ignore_band"])
def test_every_mode_can_be_diagnosed_over_several_corpora(
    finished: Path, tmp_path: Path, mode: str
) -> None:
    shutil.copytree(finished / "store", tmp_path / "store")
    # One corpus has labels, the other none, which an oracle does not take.
    corpora = ["c"] if mode == "image_oracle" else ["b", "c"]
    overrides = (
        f"pseudo_labels.pool.unlabelled={corpora}",
        f"pseudo_labels.pool.mode={mode}",
        "evaluate.test=['a:tune']",
        f"diagnose.folder={tmp_path / 'diagnose'}",
    )
    with opened(tmp_path, *overrides) as session:
        pseudo_label(session, "pool")
        diagnose(session, "pool")
        rows = rows_of(session, finished_pseudo_labels(session, "pool").table)
    found = record_of(tmp_path)
    assert (found["slices"], found["exams"]) == (64 * len(corpora), 8 * len(corpora))
    assert found["positive"] == sum(row["label"] is True for row in rows)
    assert found["ignored"] == sum(row["label"] is None for row in rows)
    assert found["hidden_labels"]["found"]["slices"] == 64
    volumes = found["volumes"]["summary"]
    assert volumes["exams"] == len({row["exam"] for row in rows if row["label"]})
    assert volumes["unknown"] == (volumes["exams"] if mode == "image_oracle" else 0)
    truthful = any("by construction" in note for note in found["notes"])
    assert truthful == (mode == "image_oracle")


def test_another_round_is_one_that_the_settings_name(
    root: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(root, "diagnose", "pool", "--against", "third") == 2
    assert "--against third: known are pool, second" in capsys.readouterr().err
    assert run(root, "diagnose", "--against", "second") == 2
    assert "ich-ray diagnose SETTINGS.toml NAME --against second" in capsys.readouterr().err
    assert run(root, "rank", "pool", "--against", "second") == 2
    assert "--against is an option of diagnose" in capsys.readouterr().err


def test_rounds_without_a_common_slice_are_refused(root: Path) -> None:
    other = ("pseudo_labels.second.teacher=teacher", "pseudo_labels.second.unlabelled=['b']")
    with opened(root, POOL[0], *other, "evaluate.test=['a:tune']") as session:
        pseudo_label(session, "pool")
        pseudo_label(session, "second")
        with pytest.raises(QualityError, match=r"pseudo_labels.second labels none of the slices"):
            diagnose(session, "pool", "second")
