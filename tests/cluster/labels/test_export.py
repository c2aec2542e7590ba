import csv
import io
import json
import re
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pydicom
import pytest
from scipy.special import expit

from ich_ray.distributed.lineage import trained_model
from ich_ray.distributed.predict import prediction_task
from ich_ray.distributed.session import select
from ich_ray.identity import PUBLIC_KEY, Pseudonyms
from ich_ray.storage.predictions import decode_map
from ich_ray.storage.tables import open_table
from ich_ray.windows import upsample
from jobs.cli import main
from tests.cluster.tiny_experiment import files_under, opened, rows_of
from tests.local.segmentations import assert_lies_on, errors_of, frames_by_pydicom

NAMES = Pseudonyms(PUBLIC_KEY)


def threshold_of(root: Path, corpus: str = "c", *, share: float = 0.9) -> float:
    """A network of a few steps is sure of nothing: mark all but a share of the pixels."""
    return float(np.quantile(np.stack(list(maps(root, corpus).values())), share))


def marks_all(root: Path) -> str:
    """The setting by which every exam has a marked pixel."""
    return f"export.threshold={threshold_of(root, share=0.01)}"


def exported(root: Path, *arguments: str, code: int = 0) -> Path:
    """Run the command, and return the folder of the corpus that it names first."""
    folder = root / "export"
    settings = [f"export.folder={folder}"]
    assert main(["export", str(root / "settings.toml"), *settings, *arguments]) == code
    return folder / arguments[0]


def maps(root: Path, corpus: str) -> dict[str, np.ndarray]:
    """Slice -> probabilities of its pixels, by the student."""
    with opened(root) as run:
        (selection,) = select(run, [corpus])
        task = prediction_task(run, trained_model(run, "student"), selection)
        rows = rows_of(run, open_table(run.store, task.url))
    return {
        row["slice"]: expit(
            upsample(decode_map(row), rows=row["rows"], columns=row["columns"], size=64)
        )
        for row in rows
    }


def sources(root: Path, corpus: str) -> dict[str, list[pydicom.Dataset]]:
    """Exam -> its slices, as they lie in the source."""
    found: dict[str, list[pydicom.Dataset]] = {}
    for path in sorted((root / "dicom" / corpus).rglob("[0-9]*.dcm")):
        image = pydicom.dcmread(path)
        found.setdefault(NAMES.of(image.StudyInstanceUID), []).append(image)
    return found


def table(folder: Path) -> list[dict[str, str]]:
    return list(csv.DictReader((folder / "summary.csv").read_text().splitlines()))


def identifiers(root: Path, corpus: str) -> set[str]:
    """All that names a patient of a corpus of phantoms."""
    names = ("PatientID", "PatientName", "StudyInstanceUID", "SeriesInstanceUID", "SOPInstanceUID")
    images = [image for exam in sources(root, corpus).values() for image in exam]
    return {str(image.get(name)) for image in images for name in names}


def test_predictions_lie_on_the_slices_of_their_exam(root: Path, tmp_path: Path) -> None:
    p, threshold = maps(root, "c"), threshold_of(root, share=0.97)
    chosen = (f"export.threshold={threshold}", "export.probabilities=true")
    folder = exported(root, "c", *chosen)
    rows = {row["exam"]: row for row in table(folder)}
    assert rows.keys() == sources(root, "c").keys()
    assert {row["outcome"] for row in rows.values()} >= {"written"}
    for exam, images in sources(root, "c").items():
        shares = np.stack([p[NAMES.of(image.SOPInstanceUID)] for image in images])
        marked = shares >= threshold
        path = folder / exam / "hemorrhage.dcm"
        assert path.exists() == marked.any()
        if path.exists():
            assert_lies_on(path.read_bytes(), images, marked)
            assert errors_of(path.read_bytes(), tmp_path) == set()
        probability = (folder / exam / "probability.dcm").read_bytes()
        assert_lies_on(probability, images, np.rint(shares * 255).astype(np.uint8))
        row, told = rows[exam], json.loads((folder / exam / "summary.json").read_text())
        assert int(row["positive_slices"]) == marked.any(axis=(1, 2)).sum()
        # Phantoms: 5 mm between slices, along the normal of each.
        voxel = np.prod([float(one) for one in images[0].PixelSpacing]) * 5
        assert float(row["volume_ml"]) == pytest.approx(marked.sum() * voxel / 1000, rel=1e-4)
        assert told["outcome"] == row["outcome"]
        assert told["model"] == row["model"]
        assert len(told["top_slices"]) == 3
        assert told["top_slices"][0]["p"] == pytest.approx(float(row["score"]), abs=1e-5)


def test_a_rerun_writes_the_same_bytes_and_the_store_no_name(
    root: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = exported(root, "c", marks_all(root))
    before = files_under(folder)
    exported(root, "c", marks_all(root))
    assert files_under(folder) == before
    told = [
        *capsys.readouterr(),
        *before,
        *(data.decode() for name, data in before.items() if not name.endswith(".dcm")),
    ]
    names = identifiers(root, "c")
    assert not [text for text in told for name in names if name in text]
    stored = files_under(root / "store")
    assert not [key for key, data in stored.items() for name in names if name.encode() in data]


def test_another_threshold_leaves_nothing_of_the_first(root: Path) -> None:
    folder = exported(root, "c", marks_all(root))
    assert list(folder.rglob("*.dcm"))
    exported(root, "c", "export.threshold=0.999999")
    assert not list(folder.rglob("*.dcm"))
    assert {row["outcome"] for row in table(folder)} == {"nothing_marked"}
    assert {float(row["volume_ml"]) for row in table(folder)} == {0.0}


def test_one_exam_costs_the_predictions_of_its_part_alone(
    root: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    exams = sorted(sources(root, "b"))
    folder = exported(root, "b", exams[0][:8])
    assert [path.name for path in folder.iterdir() if path.is_dir()] == [exams[0]]
    made = [k for k in files_under(root / "store") if re.search(r"predictions/.*/part-b-", k)]
    exported(root, "b", exams[0][:8])
    again = [k for k in files_under(root / "store") if re.search(r"predictions/.*/part-b-", k)]
    assert made == again
    exported(root, "b", exams[1])
    assert [row["exam"] for row in table(folder)] == exams[:2]
    capsys.readouterr()
    settings = str(root / "settings.toml")
    assert main(["export", settings, "b", exams[2], "--dry-run", "--json"]) == 0
    plan = json.loads(capsys.readouterr().out)
    assert (plan["exams"], plan["stage"]) == (1, "export")
    assert not (Path("out") / "export" / "b").exists()


def test_an_exam_whose_object_is_gone_or_another_is_told_and_the_others_are_written(
    root: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    gone, changed, *rest = sorted(sources(root, "c"))
    by_study = {
        NAMES.of(pydicom.dcmread(path).StudyInstanceUID): path
        for path in sorted((root / "dicom" / "c").rglob("001.dcm"))
    }
    by_study[gone].unlink()
    shutil.copy(by_study[rest[0]], by_study[changed])
    folder = exported(root, "c", marks_all(root), code=4)
    outcomes = {row["exam"]: row["outcome"] for row in table(folder)}
    assert outcomes == {gone: "unreadable", changed: "unreadable"} | dict.fromkeys(rest, "written")
    said = capsys.readouterr().err
    assert "2 of 8 exams of corpus c have no segmentation" in said
    assert f"exam {gone} has no segmentation: slice" in said
    assert "has changed since it was ingested" in said
    assert not list((folder / gone).glob("*.dcm"))


def test_a_segmentation_shows_in_the_frames_that_it_has(root: Path) -> None:
    folder = exported(root, "c", marks_all(root))
    for path in folder.rglob("hemorrhage.dcm"):
        made = pydicom.dcmread(io.BytesIO(path.read_bytes()))
        assert NAMES.of(made.StudyInstanceUID) == path.parent.name
        assert all(frame.values.any() for frame in frames_by_pydicom(path.read_bytes()).values())


@pytest.mark.parametrize(
    ("arguments", "match"),
    [
        ([], "name a corpus, and exams if not all.*corpora: a, b, c"),
        (["d"], "d: known are a, b, c"),
        (["c", "zzzz"], "corpus c has no exam 'zzzz'"),
        (["c", "export.model=pupil"], "export.model names 'pupil'; known: teacher, student"),
        (["c", "corpora.c.layout=ct_ich"], "corpora.c.layout is ct_ich: its source holds no DICOM"),
        (["c", "corpora.c.layout=rsna"], "export reads the layouts folder, cq500"),
        (["c", "export.folder=ROOT/dicom"], "would write within corpora.c.source"),
        (["c", "export.folder=ROOT/store"], "would write within store.root"),
        (["c", "export.threshold=1"], "threshold=1.*must lie between 0 and 1"),
        (["c", "models.student.steps=9"], "model student has not been trained"),
    ],
)
def test_what_cannot_be_exported_is_answered_with_what_to_do(
    root: Path, arguments: list[str], match: str, capsys: pytest.CaptureFixture[str]
) -> None:
    changed = [one.replace("ROOT", str(root)) for one in arguments]
    before = files_under(root / "dicom")
    assert main(["export", str(root / "settings.toml"), *changed]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert re.search(match, line), line
    assert files_under(root / "dicom") == before


def test_a_corpus_of_averages_is_refused(root: Path, capsys: pytest.CaptureFixture[str]) -> None:
    settings: list[Any] = [str(root / "settings.toml"), "corpora.c.average_to_mm=10"]
    shutil.rmtree(root / "store" / "corpora" / "c")
    assert main(["ingest", *settings, "--only", "c"]) == 0
    capsys.readouterr()
    assert main(["export", *settings, "c"]) == 2
    assert "corpus c holds averages of 10 mm" in capsys.readouterr().err
