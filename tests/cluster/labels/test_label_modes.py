"""Each mode of the ranker gives the labels and targets that the method names."""

import shutil
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch.nn import functional as F

from ich_ray.distributed.cache import PoolSource, open_pool
from ich_ray.distributed.lineage import finished_pseudo_labels, trained_model
from ich_ray.distributed.predict import prediction_task
from ich_ray.distributed.pseudo_label import PseudoLabelSummary, pseudo_label
from ich_ray.distributed.session import Session, select
from ich_ray.distributed.train import train
from ich_ray.errors import QualityError, SurroundingsError
from ich_ray.exam import IGNORED, SURE
from ich_ray.learning.sampling import SlicePool, Worker
from ich_ray.storage.corpus import index_table
from ich_ray.storage.predictions import decode_map, decode_mask
from ich_ray.storage.tables import open_table
from tests.cluster.tiny_experiment import opened, rows_of

# The labelled test corpus as the pool: the oracles need labels.
ORACLE = ("pseudo_labels.pool.unlabelled=['c']", "evaluate.test=['b']")


@contextmanager
def labelled(
    finished: Path, root: Path, *overrides: str
) -> Iterator[tuple[Session, PseudoLabelSummary, list[dict[str, Any]]]]:
    """Label the pool of a copy of the finished experiment, with the teacher that is there."""
    shutil.copytree(finished / "store", root / "store")
    with opened(root, *overrides) as run:
        summary = pseudo_label(run, "pool")
        yield run, summary, rows_of(run, finished_pseudo_labels(run, "pool").table)


def said(run: Session, selection: str, model: str = "teacher") -> list[dict[str, Any]]:
    task = prediction_task(run, trained_model(run, model), select(run, [selection])[0])
    return rows_of(run, open_table(run.store, task.url))


def pixel_probabilities(row: dict[str, Any]) -> np.ndarray:
    """By torch's own up-sampler."""
    logits = torch.from_numpy(decode_map(row).astype(np.float32))[None, None]
    full = F.interpolate(logits, scale_factor=8, mode="bilinear", align_corners=False)
    return torch.sigmoid(full)[0, 0].numpy()


def ternary(row: dict[str, Any]) -> np.ndarray:
    p = pixel_probabilities(row)
    return np.where(p > 0.7, 1, np.where(p < 0.3, 0, IGNORED)).astype(np.uint8)


def pool_of(run: Session, root: Path) -> SlicePool:
    (selection,) = finished_pseudo_labels(run, "pool").selections
    source = PoolSource(
        store=run.store,
        selection=selection,
        input=run.settings.input,
        pseudo_labels=finished_pseudo_labels(run, "pool").url,
    )
    return open_pool([source], str(root / "pool"), worker=Worker(), barrier=lambda: None)


def key_of(name: str) -> str:
    return name.rsplit(" ", 1)[1]


def by_key(rows: Sequence[dict[str, Any]]) -> dict[str, dict[str, Any]]:
    return {row["slice"]: row for row in rows}


def test_a_band_after_the_top_percent_is_ignored_by_label_and_by_every_pixel(
    finished: Path, tmp_path: Path
) -> None:
    with labelled(finished, tmp_path, "pseudo_labels.pool.mode=ignore_band") as found:
        run, summary, rows = found
        pool = pool_of(run, tmp_path)
    order = sorted(rows, key=lambda row: (-row["p"], row["slice"]))
    assert [row["label"] for row in order] == [True] * 6 + [None] * 13 + [False] * 45
    assert (summary.positive, summary.ignored, summary.slices) == (6, 13, 64)
    ignored = {row["slice"] for row in order[6:19]}
    for i, name in enumerate(pool.names):
        all_ignored = bool((pool.masks[i] == IGNORED).all())
        assert all_ignored == (key_of(name) in ignored) or key_of(name) in by_key(order[:6])


def test_without_a_ranker_every_slice_has_the_ternary_mask_of_its_pixels(
    finished: Path, tmp_path: Path
) -> None:
    with opened(finished) as run:
        maps = by_key(said(run, "b"))
    peaks = sorted(pixel_probabilities(row).max() for row in maps.values())
    # Between two peaks each, so that no rounding decides.
    high, low = (float(np.mean(peaks[i : i + 2])) for i in (44, 20))
    thresholds = (f"positive_above={high}", f"negative_below={low}")
    overrides = [f"pseudo_labels.pool.{one}" for one in ("mode=none", *thresholds)]
    with labelled(finished, tmp_path, *overrides) as (run, _, rows):
        pool = pool_of(run, tmp_path)
    labels = set()
    masks = {key_of(name): pool.masks[i] for i, name in enumerate(pool.names)}
    for row in rows:
        p = pixel_probabilities(maps[row["slice"]])
        expected = np.where(p > high, 1, np.where(p < low, 0, IGNORED))
        assert (masks[row["slice"]] == expected).mean() > 0.999
        known = True if (expected == 1).any() else None if expected.any() else False
        assert row["label"] is known
        labels.add(known)
    assert labels == {True, None, False}


def test_soft_targets_are_the_teachers_probabilities_of_every_pixel(
    finished: Path, tmp_path: Path
) -> None:
    with labelled(finished, tmp_path, "pseudo_labels.pool.mode=soft") as (run, _, _rows):
        maps = by_key(said(run, "b"))
        pool = pool_of(run, tmp_path)
        summary = train(run, "student")
    assert pool.soft
    for i, name in enumerate(pool.names):
        expected = pixel_probabilities(maps[key_of(name)])
        assert np.abs(pool.masks[i] / SURE - expected).max() < 0.5 / SURE + 1e-4
    assert summary.steps == 8


def test_an_image_oracle_tells_the_true_label_of_the_whole_and_nothing_of_pixels(
    finished: Path, tmp_path: Path
) -> None:
    overrides = (*ORACLE, "pseudo_labels.pool.mode=image_oracle")
    with labelled(finished, tmp_path, *overrides) as (run, _, rows):
        truth = by_key(index_table(run.store, run.corpus("c")).to_pylist())
        pool = pool_of(run, tmp_path)
        summary = train(run, "student")
    assert {row["label"] for row in rows} == {True, False}
    assert all(row["label"] == truth[row["slice"]]["label"] for row in rows)
    for i, name in enumerate(pool.names):
        assert (pool.masks[i] == IGNORED).all()
        assert pool.whole_label[i] == int(truth[key_of(name)]["label"])
    assert summary.steps == 8


def test_a_pixel_oracle_keeps_the_teachers_pixels_where_the_true_label_is_positive(
    finished: Path, tmp_path: Path
) -> None:
    overrides = (*ORACLE, "pseudo_labels.pool.mode=pixel_oracle")
    with labelled(finished, tmp_path, *overrides) as (run, _, rows):
        truth = by_key(index_table(run.store, run.corpus("c")).to_pylist())
        maps = by_key(said(run, "c"))
    for row in rows:
        assert row["label"] == truth[row["slice"]]["label"]
        if row["label"]:
            mask = decode_mask(row["mask"], side=row["mask_side"])
            assert (mask == ternary(maps[row["slice"]])).mean() > 0.999
        else:
            assert row["mask"] is None


def test_an_oracle_without_labels_is_refused_with_the_slice(finished: Path, tmp_path: Path) -> None:
    with (
        pytest.raises(QualityError, match=r"slice \w+ of exam \w+ has no label of its own, which"),
        labelled(finished, tmp_path, "pseudo_labels.pool.mode=image_oracle"),
    ):
        pass


def test_a_patient_in_both_pools_is_labelled_by_teachers_that_never_saw_him(
    finished: Path, tmp_path: Path
) -> None:
    overrides = (
        "pseudo_labels.pool.unlabelled=['a:train', 'b']",
        "pseudo_labels.pool.other_teachers=['second']",
        "pseudo_labels.pool.top_percent=20.0",
        "models.second.labelled=['c']",
        "evaluate.test=['a:tune']",
        *("models.second.network=drn_d_narrow", "models.second.crop=64", "models.second.batch=4"),
        *("models.second.steps=4", "models.second.optimizer=adamw", "models.second.seed=5"),
    )
    shutil.copytree(finished / "store", tmp_path / "store")
    with opened(tmp_path, *overrides) as run:
        train(run, "second")
        pseudo_label(run, "pool")
        rows = rows_of(run, finished_pseudo_labels(run, "pool").table)
        (seen,) = select(run, ["a:train"])
        index = index_table(run.store, seen.corpus).to_pylist()
        known = {row["slice"] for row in index if seen.holds(row["patient"])}
        first = by_key([*said(run, "a:train"), *said(run, "b")])
        other = by_key([*said(run, "a:train", "second"), *said(run, "b", "second")])
    assert known
    assert {row["slice"] for row in rows} > known
    for row in rows:
        both = [first[row["slice"]]["p"], other[row["slice"]]["p"]]
        expected = both[1] if row["slice"] in known else np.mean(both)
        assert row["p"] == pytest.approx(expected, rel=1e-6)


def test_a_patient_whom_all_teachers_know_is_refused(finished: Path, tmp_path: Path) -> None:
    overrides = (
        "pseudo_labels.pool.unlabelled=['a:train']",
        "pseudo_labels.pool.other_teachers=['student']",
        "models.third={ labelled = ['a:train'], pseudo_labelled = ['pool'] }",
        "models.student.pseudo_labelled=[]",
        "models.student.init=random",
    )
    shutil.copytree(finished / "store", tmp_path / "store")
    with opened(tmp_path, *overrides) as run:
        train(run, "student")
        with pytest.raises(QualityError, match=r"all teachers of pseudo_labels.pool have learned"):
            pseudo_label(run, "pool")


def test_predictions_that_lack_a_part_are_not_ranked(finished: Path, tmp_path: Path) -> None:
    shutil.copytree(finished / "store", tmp_path / "store")
    with opened(tmp_path, "pseudo_labels.pool.top_percent=20.0") as run:
        task = prediction_task(run, trained_model(run, "teacher"), select(run, ["b"])[0])
        table = open_table(run.store, task.url)
        assert table is not None
        Path(table.files[0]).unlink()
        with pytest.raises(SurroundingsError, match=r"part-b-\w+.parquet"):
            pseudo_label(run, "pool")


@pytest.mark.parametrize(
    ("overrides", "match"),
    [
        # Nobody says whether a slice of b bleeds.
        (["pseudo_labels.pool.prevalence_of=['b']"], r"holds 64 slices, 0 with a label, 0 of them"),
        (
            [
                "pseudo_labels.pool.prevalence_of=['a:train']",
                "pseudo_labels.pool.mode=ignore_band",
                "pseudo_labels.pool.band_times=9.9",
            ],
            r"C = \S+ %, and 9.9 times as much as a band, is no place to cut",
        ),
    ],
)
def test_a_prevalence_that_is_no_place_to_cut_is_refused(
    finished: Path, tmp_path: Path, overrides: list[str], match: str
) -> None:
    shutil.copytree(finished / "store", tmp_path / "store")
    with opened(tmp_path, *overrides) as run, pytest.raises(QualityError, match=match):
        pseudo_label(run, "pool")


def test_the_prevalence_of_labelled_slices_is_the_top_percent(
    finished: Path, tmp_path: Path
) -> None:
    override = "pseudo_labels.pool.prevalence_of=['a']"
    with labelled(finished, tmp_path, override) as (run, summary, _):
        labels = index_table(run.store, run.corpus("a"))
        share = np.mean(labels["label"].to_pylist())
    assert summary.positive == round(64 * share)
