"""Predictions of other software against a reference, from their files to the report."""

import csv
import json
import logging
import re
from pathlib import Path
from typing import Any

import nibabel
import numpy as np
import pytest
from sklearn.metrics import average_precision_score, f1_score, roc_auc_score

from ich_ray.config import Settings
from ich_ray.distributed.foreign_exams import ForeignExams
from ich_ray.distributed.session import session
from ich_ray.identity import PUBLIC_KEY, Pseudonyms
from ich_ray.settings import parse
from jobs.cli import main
from tests.local.foreign_maps import SHAPE as MAP_SHAPE
from tests.local.foreign_maps import as_seg, head_slices

SHAPE = (4, 24, 24)
NAMES = [f"DOE^JOHN {i}" for i in range(24)]
"""As they should not be, and are."""


def heads(seed: int) -> tuple[np.ndarray, np.ndarray]:
    """A mask, empty for every second exam, and probabilities that know something of it."""
    rng = np.random.default_rng(seed)
    mask = np.zeros(SHAPE, np.uint8)
    if seed % 2 == 0:
        row, column = rng.integers(2, 14, 2)
        mask[1:3, row : row + 7, column : column + 6] = 1
    logits = rng.normal(-3 + 4.0 * mask + (1.0 if seed % 2 == 0 else 0.0), 1.5)
    return mask, (1 / (1 + np.exp(-logits))).astype(np.float32)


def save(folder: Path, exam: str, values: np.ndarray, *, shift_mm: float = 0.0) -> None:
    affine = np.diag([-0.5, -0.5, 5.0, 1.0])
    affine[2, 3] = shift_mm
    folder.mkdir(exist_ok=True)
    nibabel.save(nibabel.Nifti1Image(values.transpose(2, 1, 0), affine), folder / f"{exam}.nii.gz")


def write_csv(path: Path, header: str, rows: list[tuple[Any, ...]]) -> Path:
    with path.open("w", newline="") as lines:
        csv.writer(lines).writerows([header.split(","), *rows])
    return path


def evaluated(capsys: pytest.CaptureFixture[str], root: Path, *arguments: str) -> dict[str, Any]:
    code = main(
        [
            "evaluate",
            *arguments,
            f"store.root={root}/store",
            f"evaluate.report={root}/report",
            "evaluate.resamples=200",
            f"evaluate.paper={str(arguments.count('--predictions') > 1).lower()}",
        ]
    )
    said = capsys.readouterr()
    assert code == 0, said.err
    found: dict[str, Any] = json.loads((root / "report" / "report.json").read_text())
    return found


@pytest.fixture(scope="module")
def maps(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("maps")
    for i, exam in enumerate(NAMES):
        mask, p = heads(i)
        save(root / "reference", exam, mask)
        save(root / "sharp", exam, p)
        save(root / "blurred", exam, np.sqrt(p))
    return root


def test_maps_of_other_software_have_the_figures_of_scikit_learn_and_name_nobody(
    ray_cluster: None,
    maps: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    caplog: pytest.LogCaptureFixture,
) -> None:
    caplog.set_level(logging.DEBUG, "ich_ray")
    report = evaluated(
        capsys,
        tmp_path,
        *("--predictions", str(maps / "sharp"), "--predictions", f"soft={maps / 'blurred'}"),
        *("--reference", str(maps / "reference")),
    )
    made = [heads(i) for i in range(len(NAMES))]
    labels = [mask.any() for mask, _ in made]
    truth = np.concatenate([mask.ravel() for mask, _ in made])
    said = np.concatenate([p.ravel() for _, p in made])
    for name, power in (("sharp", 1.0), ("soft", 0.5)):
        model, values = report["models"][name], said**power
        own = roc_auc_score(labels, [p.max() for _, p in made])
        assert model["exam_auc"]["estimate"] == pytest.approx(own)
        assert model["dsc"]["estimate"] == pytest.approx(f1_score(truth, values >= 0.5), abs=2e-3)
        ap = average_precision_score(truth, values)
        assert model["pixel_ap"]["estimate"] == pytest.approx(ap, abs=1e-4)
    slices = {one["model"]: one for one in report["further"]["slices"]}
    of_slices = [(mask[i].any(), p[i].max()) for mask, p in made for i in range(SHAPE[0])]
    own = roc_auc_score(*zip(*of_slices, strict=True))
    assert slices["sharp"]["auc"]["estimate"] == pytest.approx(own)
    lesions = {one["model"]: one for one in report["lesions"]}
    assert lesions["sharp"]["num_lesions"] == 12
    volumes = {one["model"]: one for one in report["volumes"]}
    # 2 slices of 7 x 6 pixels of 0.5 mm, 5 mm apart.
    assert volumes["soft"]["num_unknown"] == 0
    assert report["paper"]["num_slices"] == 4 * len(NAMES)
    assert "empty_masks" in report["models"]
    written = [p for p in tmp_path.rglob("*") if p.is_file()]
    assert len(written) > 3
    for one in written:
        assert b"DOE" not in one.read_bytes(), one
    assert "DOE" not in caplog.text


def tables(root: Path, *, scored: range = range(24)) -> tuple[Path, Path]:
    rng = np.random.default_rng(3)
    scores = rng.random(24).round(2)
    truth = write_csv(
        root / "truth.csv",
        "exam,label,patient",
        [(name, i % 2, f"p{i // 2}") for i, name in enumerate(NAMES)],
    )
    said = write_csv(
        root / "ours.csv", "exam,score", [(NAMES[i], scores[i]) for i in scored] + [("other", 0.5)]
    )
    return said, truth


def test_a_tuning_reference_fixes_thresholds_and_operating_points(
    ray_cluster: None, maps: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    rows = [(name, f"{maps}/reference/{name}.nii.gz") for name in NAMES]
    test = write_csv(tmp_path / "test.csv", "exam,map", rows[:16])
    tuning = write_csv(tmp_path / "tuning.csv", "exam,map", rows[16:])
    report = evaluated(
        capsys,
        tmp_path,
        *("--predictions", str(maps / "blurred"), "--reference", str(test)),
        *("--tuning-reference", str(tuning)),
    )
    made = [heads(i) for i in range(16, 24)]
    truth = np.concatenate([mask.ravel() for mask, _ in made]) > 0
    said = np.concatenate([np.sqrt(p).ravel() for _, p in made])
    found = report["models"]["blurred"]["pixel_threshold"]
    own = [f1_score(truth, said >= t) for t in (found, found - 0.05, found + 0.05)]
    assert own[0] == max(own)
    assert found != 0.5
    assert {point["rule"] for point in report["operating_points"]} >= {"sensitivity at least 0.92"}
    assert (
        report["operating_points"][0]["tuning"]["tp"]
        + (report["operating_points"][0]["tuning"]["fn"])
        == 4
    )
    assert report["calibration"][0]["temperature"] is not None


def test_tables_of_scores_are_enough_and_what_is_left_out_is_said(
    ray_cluster: None, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    said, truth = tables(tmp_path, scored=range(2, 24))
    rows = list(csv.reader(truth.read_text().splitlines()))[1:]
    test = write_csv(tmp_path / "test.csv", "exam,label,patient", rows[:14])
    tuning = write_csv(tmp_path / "tuning.csv", "exam,label,patient", rows[14:])
    places = ("--reference", str(test), "--tuning-reference", str(tuning))
    report = evaluated(capsys, tmp_path, "--predictions", str(said), *places)
    model = report["models"]["ours"]
    scores = np.random.default_rng(3).random(24).round(2)[2:14]
    own = roc_auc_score([i % 2 for i in range(2, 14)], scores)
    assert model["exam_auc"]["estimate"] == pytest.approx(own)
    assert (model["dsc"]["estimate"], model["pixel_threshold"]) == (None, 0.5)
    assert report["lesions"] == []
    methods = " ".join(report["methods"])
    assert "2 of 14 exams of the reference have no prediction of ours" in methods
    assert "1 of 23 exams that ours predicts are not in the reference" in methods
    assert "12 of 6 patients" in methods
    assert len(report["operating_points"]) == 6
    assert report["calibration"][0]["temperature"] is not None
    assert "input" not in report["settings"]
    answered = {item["number"] for item in report["claim"] if item["status"] == "reported"}
    assert not {9, 11} & answered


def test_trainings_of_recipes_are_pooled_and_the_headline_speaks_of_them(
    ray_cluster: None, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    _, truth = tables(tmp_path)
    labels = np.array([i % 2 for i in range(24)])
    scores = {
        name: 1 / (1 + np.exp(-np.random.default_rng(i).normal((1 + i % 2) * labels)))
        for i, name in enumerate(("old0", "new0", "old1", "new1"))
    }
    places = []
    for name, of in scores.items():
        said = write_csv(tmp_path / f"{name}.csv", "exam,score", [*zip(NAMES, of, strict=True)])
        places += ["--predictions", str(said)]
    report = evaluated(
        capsys,
        tmp_path,
        *(*places, "--reference", str(truth), "evaluate.seeds.old=['old0','old1']"),
        "evaluate.seeds.new=['new0','new1']",
    )
    aucs = {name: roc_auc_score(labels, of) for name, of in scores.items()}
    over = report["over_trainings"]
    gap = next(one for one in over["differences"] if one["metric"] == "exam_auc")
    apart = [aucs["new0"] - aucs["old0"], aucs["new1"] - aucs["old1"]]
    assert (gap["a"], gap["b"]) == ("new", "old")
    assert gap["figures"] == pytest.approx(apart)
    joined, patients = gap["joined"], gap["patients_alone"]
    assert joined["low"] < patients["low"] < joined["estimate"] < joined["high"]
    assert report["headline"].startswith("new is ")
    assert any("trained twice" in one for one in report["cautions"])
    assert "Over trainings: 2 of each recipe" in " ".join(report["methods"])
    html = (tmp_path / "report" / "index.html").read_text()
    assert "<h2>Over trainings</h2>" in html
    assert "and the luck of training" in html


def test_maps_against_labels_and_scores_against_maps(
    ray_cluster: None, maps: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    made = [heads(i) for i in range(len(NAMES))]
    labels = [int(mask.any()) for mask, _ in made]
    truth = write_csv(tmp_path / "truth.csv", "exam,label", [*zip(NAMES, labels, strict=True)])
    highest = [float(p.max()) for _, p in made]
    said = write_csv(tmp_path / "said.csv", "exam,score", [*zip(NAMES, highest, strict=True)])
    own = roc_auc_score(labels, highest)
    for i, exam in enumerate(NAMES):
        save(tmp_path / "bright", exam, 255 * heads(i)[0])
    places = ("--predictions", str(said), "--reference", str(tmp_path / "bright"))
    assert "255" in refused(capsys, tmp_path, *places)
    for predictions, reference in ((maps / "sharp", truth), (said, tmp_path / "bright")):
        root = tmp_path / predictions.stem
        report = evaluated(
            capsys,
            root,
            *("--predictions", str(predictions), "--reference", str(reference)),
            "evaluate.ignored_value=0",
        )
        (model,) = (m for m in report["models"].values() if m["kind"] == "network")
        assert model["exam_auc"]["estimate"] == pytest.approx(own)
        assert model["dsc"]["estimate"] is None


def test_the_order_of_predictions_makes_another_report(tmp_path: Path) -> None:
    said, truth = tables(tmp_path)
    other = write_csv(tmp_path / "other.csv", "exam,score", [(n, 0.5) for n in NAMES])

    def identity(*places: Path) -> dict[str, Any]:
        given = "".join(f"{place.stem} = '{place}'\n" for place in places)
        text = f"store.root = '{tmp_path}/store'\nevaluate.reference = '{truth}'\n"
        settings = parse(Settings, f"{text}[evaluate.predictions]\n{given}")
        with session(settings, Pseudonyms(PUBLIC_KEY)) as run:
            source = ForeignExams.of(run)
            return source.identity()

    assert identity(said, other) == identity(said, other)
    assert identity(said, other) != identity(other, said)


def refused(capsys: pytest.CaptureFixture[str], root: Path, *arguments: str) -> str:
    code = main(["evaluate", *arguments, f"store.root={root}/store"])
    said = capsys.readouterr()
    assert code in (2, 4), said.err
    (line,) = [line for line in said.err.splitlines() if "ich-ray" in line]
    assert "DOE" not in line
    return line


def test_maps_that_lie_elsewhere_are_refused_with_the_row(
    ray_cluster: None, maps: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for i, exam in enumerate(NAMES):
        save(tmp_path / "moved", exam, heads(i)[1], shift_mm=7.0 * (i == 5))
    said = refused(
        capsys,
        tmp_path,
        *("--predictions", str(tmp_path / "moved"), "--reference", str(maps / "reference")),
    )
    assert "predictions moved against the reference: 4 of 4 slices lie elsewhere" in said


@pytest.mark.parametrize(
    ("scores", "labels", "match"),
    [
        ("exam,score\na,1.5\nb,0.2", "exam,label\na,1\nb,0", "predictions ours: .*row 1.*score"),
        ("exam,score\na,nan\nb,0.2", "exam,label\na,1\nb,0", "predictions ours: .*row 1.*score"),
        ("exam,score\na,0.1\na,0.2", "exam,label\na,1\nb,0", "row 2"),
        ("exam,score\na,0.1\nb,0.2", "exam,label\nc,1\nd,0", "no exam of the reference is in all"),
        ("exam,score\na,0.1\nb,0.2", "exam,label\na,0\nb,0", "0 positive exams"),
    ],
)
@pytest.mark.usefixtures("ray_cluster")
def test_bad_input_is_refused_before_anything_is_written(
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    scores: str,
    labels: str,
    match: str,
) -> None:
    (tmp_path / "ours.csv").write_text(scores)
    (tmp_path / "truth.csv").write_text(labels)
    line = refused(
        capsys,
        tmp_path,
        *("--predictions", str(tmp_path / "ours.csv"), "--reference", f"{tmp_path}/truth.csv"),
    )
    assert re.search(match, line), line
    assert not (tmp_path / "report").exists()


def test_patients_of_both_references_are_refused(
    ray_cluster: None, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    said, truth = tables(tmp_path)
    line = refused(
        capsys,
        tmp_path,
        *("--predictions", str(said), "--reference", str(truth), "--tuning-reference", str(truth)),
    )
    assert "24 of 24 exams of the tuning reference are of patients of the reference too" in line


def test_options_that_lack_their_other_are_refused(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert "give both" in refused(capsys, tmp_path, "--reference", "r.csv")
    two = ("--predictions", "a/p.csv", "--predictions", "b/p.csv", "--reference", "r.csv")
    assert "two --predictions are called p" in refused(capsys, tmp_path, *two)
    alone = refused(capsys, tmp_path, "--predictions", "a/p.csv")
    assert "predictions need reference" in alone


def test_a_segmentation_that_an_algorithm_made_is_no_reference(
    ray_cluster: None, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    images = head_slices()
    for folder, kind in (("made", "AUTOMATIC"), ("read", "MANUAL"), ("said", "AUTOMATIC")):
        (tmp_path / folder).mkdir()
        for exam in range(6):
            values = np.zeros(MAP_SHAPE, np.uint8)
            values[2, 2:4, 2:5] = 1 if exam % 2 else 0
            values[0, 0, 0] = 1 if folder == "said" or exam % 2 else 0
            data = as_seg(images, values, algorithm=kind)
            (tmp_path / folder / f"{exam}.dcm").write_bytes(data)
    said = ("--predictions", str(tmp_path / "said"), "--reference")
    line = refused(capsys, tmp_path, *said, str(tmp_path / "made"))
    assert re.search(r"the reference, map \d of 6 by name: its DICOM SEG says", line)
    report = evaluated(capsys, tmp_path, *said, str(tmp_path / "read"))
    # Slice 0 and slice 2 are no neighbours: two lesions an exam.
    assert report["lesions"][0]["num_lesions"] == 6
