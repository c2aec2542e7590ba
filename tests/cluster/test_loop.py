import json
import re
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import ray.data
import torch
from sklearn.metrics import average_precision_score, f1_score, roc_auc_score

from ich_ray.config import PredictConfig
from ich_ray.distributed import records
from ich_ray.distributed.evaluate import evaluation_identity, source_of
from ich_ray.distributed.ingest import ingest
from ich_ray.distributed.inputs import channels_of
from ich_ray.distributed.lineage import (
    finished_pseudo_labels,
    model_lineage,
    trained_model,
)
from ich_ray.distributed.origin import Origin
from ich_ray.distributed.part_predictor import PartPredictor
from ich_ray.distributed.predict import predict, predict_all, prediction_task
from ich_ray.distributed.report import make_report
from ich_ray.distributed.session import Session, select
from ich_ray.distributed.train import plan_train
from ich_ray.errors import ConfigError, QualityError
from ich_ray.exam import Slice
from ich_ray.statistics.score_levels import probability_of_level, quantise_logits
from ich_ray.storage.corpus import index_table, ledger_url, read_exams
from ich_ray.storage.objects import Store
from ich_ray.storage.predictions import decode_map
from ich_ray.storage.tables import open_table
from ich_ray.windows import upsample
from tests.cluster.tiny_experiment import files_under, opened, parts_under, rows_of, run_all
from tests.local.dicom_objects import ct_slice, to_bytes
from tests.local.svg_paths import filled

METRICS = ("exam_auc", "dsc", "pixel_ap")


def report_of(root: Path) -> dict[str, Any]:
    report: dict[str, Any] = json.loads((root / "report" / "report.json").read_text())
    return report


def predictions_of(run: Session, model: str, selection: str) -> list[dict[str, Any]]:
    task = prediction_task(run, trained_model(run, model), select(run, [selection])[0])
    return rows_of(run, open_table(run.store, task.url))


def exams_of(run: Session, model: str, name: str) -> dict[str, tuple[float, bool]]:
    """Return exam -> its highest slice probability, and whether a slice of it bleeds."""
    (selection,) = select(run, [name])
    index = index_table(run.store, selection.corpus).to_pylist()
    bleeds = {row["slice"]: row["label"] for row in index if selection.holds(row["patient"])}
    found: dict[str, tuple[float, bool]] = {}
    for row in predictions_of(run, model, name):
        p, label = found.get(row["exam"], (0.0, False))
        found[row["exam"]] = max(p, row["p"]), label or bool(bleeds[row["slice"]])
    return found


def counted(exams: dict[str, tuple[float, bool]], threshold: float) -> dict[str, int]:
    calls = [(p >= threshold, label) for p, label in exams.values()]
    return {
        "tp": calls.count((True, True)),
        "fp": calls.count((True, False)),
        "fn": calls.count((False, True)),
        "tn": calls.count((False, False)),
    }


def test_exam_thresholds_are_fixed_on_the_tuning_exams_and_judged_on_the_test_exams(
    finished: Path,
) -> None:
    report = report_of(finished)
    models = {"baseline": "teacher", "semi_supervised": "student"}
    rules = {f"sensitivity at least {share}" for share in (0.9, 0.92, 0.95)}
    rules |= {f"specificity at least {share}" for share in (0.8, 0.9, 0.95)}
    points = report["operating_points"]
    assert {(point["model"], point["rule"]) for point in points} == {
        (model, rule) for model in models for rule in rules
    }
    with opened(finished) as run:
        sides = {
            model: (exams_of(run, own, "a:tune"), exams_of(run, own, "c"))
            for model, own in models.items()
        }
    for point in points:
        tuning, test = sides[point["model"]]
        assert {label for _, label in tuning.values()} == {True, False}
        threshold = np.inf if point["calls_no_exam"] else point["threshold"]
        assert point["tuning"] == counted(tuning, threshold)
        assert point["test"] == counted(test, threshold)
        kind, _, share = point["rule"].partition(" at least ")
        right, wrong = ("tp", "fn") if kind == "sensitivity" else ("tn", "fp")

        def reaches(
            cut: float,
            *,
            exams: dict[str, tuple[float, bool]] = tuning,
            of: tuple[str, str] = (right, wrong),
            at_least: float = float(share),
        ) -> bool:
            calls = counted(exams, cut)
            return calls[of[0]] / (calls[of[0]] + calls[of[1]]) >= at_least

        cuts = [cut for cut in (*(p for p, _ in tuning.values()), np.inf) if reaches(cut)]
        assert threshold == (max(cuts) if kind == "sensitivity" else min(cuts))
    assert {calls["of"] for calls in report["paired_calls"]} == {"sensitivity", "specificity"}
    assert len(report["paired_calls"]) == 2 * len(rules)


def test_test_patients_must_not_fix_the_thresholds(finished: Path) -> None:
    with (
        opened(finished, "evaluate.tuning=['c']") as run,
        pytest.raises(QualityError, match=r"of evaluate\.tuning are also in evaluate\.test"),
    ):
        make_report(run)


def test_every_table_has_the_columns_that_the_stages_agreed_upon(finished: Path) -> None:
    with opened(finished) as run:
        corpus = run.corpus("a").table
        ledger = open_table(run.store, ledger_url(run.store, "a"))
        labels = finished_pseudo_labels(run, "pool").table
        (selection,) = select(run, ["c"])
        task = prediction_task(run, trained_model(run, "teacher"), selection)
        predictions = open_table(run.store, task.url)
    assert ledger is not None
    assert labels is not None
    assert predictions is not None
    assert {
        *("exam", "slice", "patient", "series", "position_mm", "spacing_mm", "thickness_mm"),
        *("tilt_deg", "rows", "columns", "pixels", "codec", "checksum", "slope", "intercept"),
        *("kind", "label", "subtypes", "mask", "source", "etag"),
    } <= set(corpus.schema.names)
    assert {"source", "etag", "size", "outcome", "reason", "exam", "slice", "part"} <= set(
        ledger.schema.names
    )
    assert {
        *("exam", "slice", "p", "map", "map_kind", "rows", "columns", "model", "preprocessing"),
    } <= set(predictions.schema.names)
    assert {"exam", "slice", "label", "mask", "teacher", "rank", "cut"} <= set(labels.schema.names)
    for table in (corpus, ledger, labels, predictions):
        assert {"schema_version", "code_revision", "stage"} <= set(table.properties)


def test_pseudo_labels_name_their_teacher_and_the_top_percent_are_positive(finished: Path) -> None:
    with opened(finished) as run:
        rows = rows_of(run, finished_pseudo_labels(run, "pool").table)
        teacher = trained_model(run, "teacher").identity
    assert {row["teacher"] for row in rows} == {teacher}
    assert len(rows) == 64
    positive = [row for row in rows if row["label"]]
    assert len(positive) == round(64 * 10 / 100)
    assert min(row["p"] for row in positive) >= max(row["p"] for row in rows if not row["label"])
    p = np.array([row["p"] for row in rows])
    assert [row["rank"] for row in rows] == [int((p > row["p"]).sum()) for row in rows]
    assert all((row["mask"] is not None) == row["label"] for row in rows)
    assert all(set(row["mask"]) <= {0, 1, 255} for row in positive)


@pytest.mark.parametrize(
    ("model", "selection"),
    [("teacher", "a:tune"), ("student", "a:tune"), ("teacher", "c"), ("student", "c")],
)
def test_predictions_cover_every_slice_once(finished: Path, model: str, selection: str) -> None:
    with opened(finished) as run:
        (selected,) = select(run, [selection])
        index = index_table(run.store, selected.corpus).to_pylist()
        slices = sorted(row["slice"] for row in index if selected.holds(row["patient"]))
        predicted = [row["slice"] for row in predictions_of(run, model, selection)]
    assert len(slices) > 8
    assert predicted == slices


def test_one_pool_makes_the_predictions_of_all_models_that_are_missing(
    finished: Path, tmp_path: Path
) -> None:
    models, selections = ("student", "teacher"), ("a:tune", "c")
    shutil.copytree(finished / "store", tmp_path / "store")
    with opened(tmp_path) as run:
        before = [predictions_of(run, m, s) for m in models for s in selections]
        tasks = [
            prediction_task(run, trained_model(run, model), selection)
            for model in models
            for selection in select(run, selections)
        ]
        kept = tasks[2].url
        for task in tasks:
            if task.url == kept:
                continue
            # Of the last one, an interrupted run has left its parts and no table.
            shutil.rmtree(f"{task.url}/_delta_log" if task is tasks[-1] else task.url)
        there = parts_under(tmp_path / "store" / "predictions")
        with records.collected(Origin()) as found:
            tables = predict_all(run, tasks)
        assert [table.url for table in tables] == [task.url for task in tasks]
        assert [predictions_of(run, m, s) for m in models for s in selections] == before
    assert [one["what"] for one in found.stats] == ["predict"]
    assert [one["url"] for one in found.inputs] == [kept]
    assert {one["url"] for one in found.outputs} == {task.url for task in tasks} - {kept}
    assert there.items() <= parts_under(tmp_path / "store" / "predictions").items()


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a CUDA device here")
def test_an_actor_that_reserves_a_gpu_which_torch_does_not_see_does_not_take_the_cpu(
    finished: Path,
) -> None:
    with opened(finished) as run:
        (selection,) = select(run, ["c"])
        task = prediction_task(run, trained_model(run, "teacher"), selection)
        actor = PartPredictor(
            store=run.store,
            tasks=[task],
            config=run.settings.input,
            pool=PredictConfig(gpus_per_actor=1.0),
            origin=Origin(),
        )
        with pytest.raises(ConfigError, match=r"sees none on its node.*gpus_per_actor=0"):
            actor({"task": np.array([0]), "url": np.array(selection.corpus.files[:1])})


def test_the_student_starts_from_its_teacher_and_learns_from_its_labels(finished: Path) -> None:
    with opened(finished) as run:
        student, teacher = trained_model(run, "student"), trained_model(run, "teacher")
        labels = finished_pseudo_labels(run, "pool")
    assert student.record["inputs"]["start"] == teacher.identity
    assert student.record["inputs"]["pseudo_labels"] == [labels.url.rsplit("/", 1)[1]]
    assert student.identity != teacher.identity


def test_the_report_holds_every_figure_with_its_interval(finished: Path) -> None:
    report = report_of(finished)
    names = {"baseline", "semi_supervised", "intensity_threshold", "empty_masks"}
    assert set(report["models"]) == names
    for name in names:
        for metric in METRICS:
            figure = report["models"][name][metric]
            assert figure["low"] <= figure["estimate"] <= figure["high"], (name, metric)
    difference = report["differences"]["semi_supervised_minus_baseline"]
    for metric in METRICS:
        found = difference[metric]
        student, teacher = (report["models"][m][metric] for m in ("semi_supervised", "baseline"))
        assert found["estimate"] == pytest.approx(student["estimate"] - teacher["estimate"])
        assert 0 < found["p"] <= 1
    assert report["models"]["empty_masks"]["exam_auc"]["estimate"] == 0.5
    assert report["models"]["empty_masks"]["dsc"]["estimate"] == 0.0


def test_the_gallery_has_every_slice_of_its_exams_as_corpus_and_predictions_have_it(
    finished: Path,
) -> None:
    report, page = report_of(finished), (finished / "report" / "index.html").read_text()
    shown = re.findall(r'<script type="application/json">(.*?)</script>', page, re.S)
    assert len(shown) == len(report["gallery"]) == 4
    models = {"baseline": "teacher", "semi_supervised": "student"}
    of_level = probability_of_level(np.arange(2**16, dtype=np.uint16))
    with opened(finished) as run:
        exams = {e[0].exam: e for url in run.corpus("c").files for e in read_exams(run.store, url)}
        rows = {
            name: {row["slice"]: row for row in predictions_of(run, model, "c")}
            for name, model in models.items()
        }
    for still, told in zip(report["gallery"], map(json.loads, shown), strict=True):
        exam = exams[still["exam"]]
        assert (told["of"], exam[told["first"]].key) == (len(exam), still["slice"])
        for drawn, item in zip(told["slices"], exam, strict=True):
            reference, *marked = (filled(path, item.stored.shape) for path in drawn["paths"])
            np.testing.assert_array_equal(reference, item.mask > 0)
            for name, mask in zip(models, marked, strict=True):
                logits = decode_map(rows[name][item.key])
                levels = quantise_logits(upsample(logits, rows=64, columns=64, size=64))
                threshold = report["models"][name]["pixel_threshold"]
                np.testing.assert_array_equal(mask, of_level[levels] >= threshold)


def test_a_second_run_does_nothing_and_gives_the_same_report(finished: Path) -> None:
    stored, report = files_under(finished / "store"), files_under(finished / "report")
    shutil.rmtree(finished / "report")
    summaries = run_all(finished)
    assert [summary.up_to_date for summary in summaries] == [True] * 10
    assert files_under(finished / "store") == stored
    assert files_under(finished / "report") == report


def test_a_report_is_made_again_where_a_setting_decides_its_figures(finished: Path) -> None:
    def identity(*settings: str) -> dict[str, Any]:
        with opened(finished, "evaluate.models={ baseline = 'teacher' }", *settings) as run:
            return evaluation_identity(run, source_of(run))

    plain = identity()
    for setting in ("predict.batch=3", "evaluate.actors=1"):
        assert identity(setting) == plain
    for setting in ("predict.flip=true", "predict.inference='windows'", "evaluate.seed=5"):
        assert identity(setting) != plain


def levels_of(row: dict[str, Any]) -> np.ndarray:
    """Bring a stored map to the slice's size with torch, and quantise it."""
    logits = torch.from_numpy(decode_map(row).astype(np.float32))
    size = (row["rows"], row["columns"])
    full = torch.nn.functional.interpolate(logits[None, None], size, mode="bilinear")[0, 0]
    return np.rint((full.numpy() + 16) * 2048).astype(np.int64).ravel()


def expected_figures(run: Session, model: str, threshold: float) -> dict[str, float]:
    """Compute a model's figures with scikit-learn from all pixels of all test slices."""
    files = run.corpus("c").files
    exams = [exam for url in files for exam in read_exams(run.store, url)]
    rows = {row["slice"]: row for row in predictions_of(run, model, "c")}
    labels = [any(item.label for item in exam) for exam in exams]
    scores = [max(rows[item.key]["p"] for item in exam) for exam in exams]
    slices = [item for exam in exams for item in exam]
    levels = np.concatenate([levels_of(rows[item.key]) for item in slices])
    truth = np.concatenate([reference_of(item) for item in slices])
    assert len(truth) == 64 * 64 * 64
    cut = np.rint((np.log(threshold / (1 - threshold)) + 16) * 2048)
    return {
        "exam_auc": roc_auc_score(labels, scores),
        "dsc": f1_score(truth, levels >= cut),
        "pixel_ap": average_precision_score(truth, levels),
    }


def reference_of(item: Slice) -> np.ndarray:
    assert item.mask is not None
    return np.asarray(item.mask.ravel() > 0)


@pytest.mark.parametrize(
    ("name", "model"), [("baseline", "teacher"), ("semi_supervised", "student")]
)
def test_the_figures_are_those_of_scikit_learn(finished: Path, name: str, model: str) -> None:
    reported = report_of(finished)["models"][name]
    with opened(finished) as run:
        expected = expected_figures(run, model, reported["pixel_threshold"])
    found = {metric: reported[metric]["estimate"] for metric in METRICS}
    assert found["exam_auc"] == pytest.approx(expected["exam_auc"], abs=1e-12)
    # Another up-sampler rounds a few of 262,144 pixels to the neighbouring level.
    assert found["dsc"] == pytest.approx(expected["dsc"], rel=1e-3)
    assert found["pixel_ap"] == pytest.approx(expected["pixel_ap"], rel=1e-3)


def test_an_object_store_gives_the_same_rows_as_a_folder(finished: Path, s3_store: Store) -> None:
    there = [
        'store.root="s3://ich/loop"',
        f'store.endpoint_url="{s3_store.endpoint_url}"',
        "store.max_attempts=3",
    ]
    with opened(finished) as run:
        local = rows_of(run, run.corpus("b").table), predictions_of(run, "teacher", "b")
        model = trained_model(run, "teacher")
    with opened(finished, *there) as run:
        for name in ("a", "b"):
            ingest(run.settings, name, pseudonyms=run.pseudonyms, ensure_ray=run.ensure_ray)
        with pytest.raises(ConfigError, match=r"teacher has not been trained.*ich-ray train"):
            trained_model(run, "teacher")
        for name in (f"weights-{model.identity}.safetensors", "model.json"):
            url = f"{model_lineage(run, 'teacher').url}/{name}"
            run.store.write_bytes(url, Path(model.url, name).read_bytes())
        predict(run, prediction_task(run, trained_model(run, "teacher"), select(run, ["b"])[0]))
        remote = rows_of(run, run.corpus("b").table), predictions_of(run, "teacher", "b")
    assert remote == local


def ingest_an_exam_of_two_sizes(run: Session, folder: Path) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    wider = ct_slice(2, Columns=16, PixelData=np.arange(8 * 16, dtype="<i2").tobytes())
    for number, image in enumerate((ct_slice(1), wider)):
        (folder / f"{number}.dcm").write_bytes(to_bytes(image))
    ingest(run.settings, "b", pseudonyms=run.pseudonyms, ensure_ray=run.ensure_ray)


def read_an_exam_of_two_sizes_in_a_worker(root: Path) -> None:
    with opened(root, "input.size=0") as run:
        ingest_an_exam_of_two_sizes(run, root / "dicom" / "b")
        store, config = run.store, run.settings.input

        # Within the function: a worker cannot import the module of a test.
        def prepare(batch: dict[str, Any]) -> dict[str, list[int]]:
            exams = [exam for url in batch["url"] for exam in read_exams(store, str(url))]
            return {"slices": [len(channels_of(exam, config)) for exam in exams]}

        urls = [{"url": url} for url in run.corpus("b").files]
        ray.data.from_items(urls).map_batches(prepare, batch_size=1).materialize()


@pytest.mark.usefixtures("ray_cluster")
def test_what_a_worker_names_arrives_without_the_wrapping_of_ray(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"slices of 8 and of 16 pixels; set input") as raised:
        read_an_exam_of_two_sizes_in_a_worker(tmp_path)
    assert type(raised.value) is ConfigError


@pytest.mark.usefixtures("ray_cluster")
def test_training_on_slices_of_two_sizes_is_refused_before_it_starts(tmp_path: Path) -> None:
    settings = ("labelled=['b']", "validation.tuning=[]")
    with opened(tmp_path, "input.size=0", *(f"models.teacher.{one}" for one in settings)) as run:
        ingest_an_exam_of_two_sizes(run, tmp_path / "dicom" / "b")
        with pytest.raises(ConfigError, match=r"grids of \[8, 16\] pixels; set input\.size"):
            plan_train(run, "teacher")
