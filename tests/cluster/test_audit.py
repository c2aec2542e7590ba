import json
import os
import subprocess
import sys
from collections import Counter
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

import ich_ray.distributed.slice_facts as facts_stage
from ich_ray.exam import Slice
from ich_ray.identity import Pseudonyms
from ich_ray.storage.objects import Store
from ich_ray.storage.tables import open_table, read_rows
from jobs.cli import main
from tests.cluster.phantom_corpora import NAMES, changed, phantom_exam, write_corpus
from tests.cluster.tiny_experiment import files_under

pytestmark = pytest.mark.usefixtures("ray_cluster")

SETTINGS = """
identity = "public"
store = { root = "ROOT/store" }
audit = { report = "ROOT/audit", thumbnails = 6 }
[corpora]
a = { layout = "folder", source = "none", splits = { train = 0.5, test = 0.5 } }
b = { layout = "folder", source = "none" }
[models.teacher]
labelled = ["a:train"]
[evaluate]
models = { baseline = "teacher" }
test = ["a:test"]
"""
NOTES = {"other_matrix"}
"""Of every small phantom: it has 64 x 64 pixels."""


def renamed(exam: list[Slice], tag: str, **changes: Any) -> list[Slice]:
    """The same exam under other names."""
    return [
        replace(item, exam=NAMES.of(tag + item.exam), key=NAMES.of(tag + item.key), **changes)
        for item in exam
    ]


@pytest.fixture
def store(tmp_path: Path) -> Store:
    (tmp_path / "settings.toml").write_text(SETTINGS.replace("ROOT", str(tmp_path)))
    return Store(str(tmp_path / "store"))


def settings_of(store: Store) -> str:
    return str(Path(store.root).parent / "settings.toml")


def audited(store: Store, *arguments: str, code: int = 0) -> dict[str, Any]:
    """Run the command and return the record that it wrote."""
    assert main(["audit", settings_of(store), *arguments]) == code
    record: dict[str, Any] = json.loads(
        (Path(store.root).parent / "audit" / "audit.json").read_text()
    )
    return record


def oddities(record: dict[str, Any]) -> Counter[tuple[str, str]]:
    """Count (oddity, exam) of all findings but the notes that every phantom has."""
    return Counter(
        (finding["oddity"], finding["exam"])
        for finding in record["findings"]
        if finding["oddity"] not in NOTES
    )


def bleeding() -> list[Slice]:
    """A phantom that bleeds."""
    return next(e for e in map(phantom_exam, range(20)) if any(s.label for s in e))


def test_nothing_is_found_where_nothing_is_odd(
    store: Store, capsys: pytest.CaptureFixture[str]
) -> None:
    write_corpus(store, "a", [phantom_exam(0), phantom_exam(1)])
    write_corpus(store, "b", [phantom_exam(2, site="b"), phantom_exam(3, site="c")])
    record = audited(store, "evaluate.test=['b']")
    assert oddities(record) == {}
    assert [(pair["patients"], pair["slices"], pair["images"]) for pair in record["shared"]] == [
        (0, 0, 0)
    ]
    assert (record["leaks"], record["notes"]) == ([], [])
    assert [corpus["ledger"] for corpus in record["corpora"]] == [
        {"accepted slice": 16, "rejected slice (not_ct)": 1}
    ] * 2
    said = capsys.readouterr().out
    assert "2 exams" not in said
    assert "4 exams, 32 slices; exams with contradictions 0, to look at 0, with notes 4" in said


def geometry(**changes: Any) -> Callable[[list[Slice]], list[Slice]]:
    """Change the geometry of an exam's last slice."""
    return lambda exam: changed(
        exam, -1, lambda s: replace(s, geometry=replace(s.geometry, **changes))
    )


def one_pixel(mask: Any, value: int) -> np.ndarray:
    """A mask with one pixel more."""
    other = np.array(mask)
    other[0, 0] = value
    return other


def stored(change: Callable[[np.ndarray], np.ndarray]) -> Callable[[list[Slice]], list[Slice]]:
    """Change the HU of every slice."""
    return lambda exam: [
        replace(s, stored=change(s.stored + s.intercept).astype(np.int16), intercept=0.0)
        for s in exam
    ]


def where_it_bleeds(change: Callable[[Slice], Slice]) -> Callable[[list[Slice]], list[Slice]]:
    """Change the first slice that bleeds."""
    return lambda exam: changed(exam, [bool(s.label) for s in exam].index(True), change)


NAMED = (False, False, False, True, True)
MARKED = np.zeros((64, 64), np.uint8)
MARKED[10], MARKED[20], MARKED[30] = 4, 5, 3
"""Both types that are named, and one that is not."""

NEGATIVE: dict[str, Callable[[list[Slice]], list[Slice]]] = {
    "negative_but_marked": lambda exam: changed(
        exam, 2, lambda s: replace(s, mask=one_pixel(s.mask, 5))
    ),
    "any_contradicts_subtypes": lambda exam: changed(
        exam, 0, lambda s: replace(s, label=True, mask=None)
    ),
    "below_air": stored(lambda hu: np.where(np.eye(64), -32000, hu)),
    "padded": stored(lambda hu: np.where(np.eye(64), -3024, hu)),
    "beyond_scale": stored(lambda hu: np.where(np.eye(64), 25000, hu)),
    "no_bone": stored(lambda hu: np.minimum(hu, 100)),
    "no_air": stored(lambda hu: np.maximum(hu, -100)),
    "blank": lambda exam: changed(exam, 3, lambda s: replace(s, stored=s.stored * 0)),
    "no_position": geometry(position_mm=None),
    "gap": geometry(position_mm=500.0),
    "not_axial": geometry(tilt_deg=90.0),
    "mixed_grid": geometry(spacing_mm=(3.0, 3.0)),
    "mixed_thickness": geometry(thickness_mm=2.5),
    "tilted": geometry(tilt_deg=20.0),
    "no_spacing": lambda exam: [
        replace(s, geometry=replace(s.geometry, spacing_mm=None)) for s in exam
    ],
    "oblong_pixels": lambda exam: [
        replace(s, geometry=replace(s.geometry, spacing_mm=(3.5, 3.0))) for s in exam
    ],
    "odd_field_of_view": lambda exam: [
        replace(s, geometry=replace(s.geometry, spacing_mm=(9.0, 9.0))) for s in exam
    ],
    "odd_step": lambda exam: [
        replace(s, geometry=replace(s.geometry, position_mm=40.0 * i)) for i, s in enumerate(exam)
    ],
    "single_slice": lambda exam: exam[4:5],
}
POSITIVE: dict[str, Callable[[list[Slice]], list[Slice]]] = {
    "positive_but_unmarked": where_it_bleeds(
        lambda s: replace(s, mask=np.zeros((64, 64), np.uint8))
    ),
    "mask_contradicts_subtypes": where_it_bleeds(lambda s: replace(s, subtypes=NAMED, mask=MARKED)),
    "subtype_unmarked": where_it_bleeds(
        lambda s: replace(s, subtypes=NAMED, mask=np.where(MARKED == 4, MARKED, 0))
    ),
}


def test_each_planted_contradiction_and_oddity_is_found_and_nothing_else(store: Store) -> None:
    exams = [phantom_exam(index, num_slices=6) for index in range(60)]
    negative = [e for e in exams if not any(s.label for s in e)]
    positive = [e for e in exams if any(s.label for s in e)]
    planted = {
        oddity: plant(exam)
        for plants, kind in ((NEGATIVE, negative), (POSITIVE, positive))
        for (oddity, plant), exam in zip(plants.items(), kind, strict=False)
    }
    assert len(planted) == len(NEGATIVE) + len(POSITIVE)
    write_corpus(store, "a", planted.values(), exams_of_a_part=12)
    record = audited(store, "a", "evaluate.test=['b']", "audit.thumbnails=30")
    assert oddities(record) == {(oddity, exam[0].exam): 1 for oddity, exam in planted.items()}
    page = (Path(store.root).parent / "audit" / "index.html").read_text()
    assert all(record["meanings"][oddity]["title"] in page for oddity in planted)
    assert page.count("data:image/jpeg") == len(planted)


def test_what_corpora_share_is_found_by_patient_slice_and_image(store: Store) -> None:
    copied, follow_up, same = phantom_exam(0), phantom_exam(1), phantom_exam(2)
    write_corpus(store, "a", [copied, follow_up, same, phantom_exam(3)])
    # The same pixels under other names, in another encoding, and turned.
    turned = [
        replace(
            s,
            stored=np.ascontiguousarray(
                np.rot90(s.stored.astype(np.int32) + int(s.intercept)).astype(np.int16)
            ),
            intercept=0.0,
            mask=None,
            patient="f" * 32,
        )
        for s in renamed(copied, "f")
    ]
    later = [
        replace(s, patient=follow_up[0].patient) for s in renamed(phantom_exam(5, site="c"), "e")
    ]
    write_corpus(store, "b", [turned, later, same])
    record = audited(store, "evaluate.test=['b']", "models.teacher.labelled=['b']", code=4)
    (pair,) = record["shared"]
    assert (pair["patients"], pair["slices"], pair["images"]) == (2, 8, 16)
    assert {(exam["a_exam"], exam["b_exam"], exam["images"]) for exam in pair["exams"]} == {
        (copied[0].exam, turned[0].exam, 8),
        (same[0].exam, same[0].exam, 8),
    }
    assert oddities(record) == {}


def test_copies_within_a_corpus_are_told_by_whose_they_are(store: Store) -> None:
    first, second, third = phantom_exam(0), phantom_exam(1), phantom_exam(2)
    twice = [*third, *(replace(s, key=NAMES.of(s.key), series="e" * 32) for s in third)]
    of_other = renamed(first, "f", patient="f" * 32)
    of_same = renamed(second, "f")
    write_corpus(store, "a", [first, second, twice, of_other, of_same])
    write_corpus(store, "b", [phantom_exam(9, site="c")])
    record = audited(store, "evaluate.test=['b']")
    assert oddities(record) == {
        ("image_under_two_patients", first[0].exam): 1,
        ("image_under_two_patients", of_other[0].exam): 1,
        ("image_in_two_exams", second[0].exam): 1,
        ("image_in_two_exams", of_same[0].exam): 1,
        ("image_twice_in_exam", third[0].exam): 1,
    }
    assert record["findings"][0]["oddity"] == "image_under_two_patients"


def test_pseudonyms_of_two_keys_are_compared_by_images_alone(store: Store) -> None:
    exam = phantom_exam(0)
    write_corpus(store, "a", [exam])
    write_corpus(store, "b", [exam], names=Pseudonyms(b"another key of 16 letters"))
    record = audited(store, "evaluate.test=['b']", "models.teacher.labelled=['b']", code=4)
    (pair,) = record["shared"]
    assert (pair["patients"], pair["slices"], pair["images"]) == (None, None, 8)
    (note,) = record["notes"]
    assert "different keys" in note
    record = audited(store, "evaluate.test=['b']", "models.teacher.labelled=['a']", code=4)
    assert record["leaks"] == [
        {"test": "b", "training": "models.teacher.labelled", "patients": 0, "images": 8}
    ]


def test_a_windowed_corpus_says_that_its_images_cannot_match(store: Store) -> None:
    exam = phantom_exam(0)
    write_corpus(store, "a", [exam])
    window = [
        replace(
            s,
            stored=np.clip((s.stored + s.intercept + 20) / 120 * 255, 0, 255).astype(np.uint8),
            slope=120 / 255,
            intercept=-20.0,
            kind="window",
            center=40.0,
            width=120.0,
        )
        for s in exam
    ]
    write_corpus(store, "b", [window])
    record = audited(store, "evaluate.test=['b']", "models.teacher.labelled=['b']", code=4)
    assert [pair["images"] for pair in record["shared"]] == [0]
    assert [pair["patients"] for pair in record["shared"]] == [1]
    assert "Windowed 8-bit pixels (b) never match" in record["notes"][0]


def test_test_patients_among_the_labelled_fail_the_gate_after_the_report(
    store: Store, capsys: pytest.CaptureFixture[str]
) -> None:
    exams = [phantom_exam(index) for index in range(6)]
    write_corpus(store, "a", exams)
    write_corpus(store, "b", [exams[0], phantom_exam(7, site="c")])
    assert audited(store)["leaks"] == []
    capsys.readouterr()
    record = audited(store, "evaluate.test=['b']", "models.teacher.labelled=['a']", code=4)
    assert record["leaks"] == [
        {"test": "b", "training": "models.teacher.labelled", "patients": 1, "images": 8}
    ]
    (line,) = [s for s in capsys.readouterr().err.splitlines() if s.startswith("ich-ray: ")]
    assert "1 patients and 8 images of evaluate.test (b) are also in models.teacher" in line
    assert "index.html" in line
    runs = open_table(store, store.url("runs"))
    assert runs is not None
    outcomes = [row["outcome"] for row in read_rows(store, runs).to_pylist()]
    assert sorted(outcomes) == ["QualityError", "done"]


def test_only_new_parts_are_read_and_an_unchanged_audit_is_copied(
    store: Store, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    write_corpus(store, "a", [phantom_exam(index) for index in range(4)])
    assert main(["audit", settings_of(store), "a", "--dry-run"]) == 0
    assert "slices: 32, parts_to_read: 2" in capsys.readouterr().out
    before = audited(store, "a")
    written = files_under(Path(store.root))
    assert main(["audit", settings_of(store), "a", "--json"]) == 0
    assert json.loads(capsys.readouterr().out.splitlines()[-1])["up_to_date"]
    assert files_under(Path(store.root)) == written

    read: list[str] = []
    original = facts_stage.missing_facts

    def told(store: Store, corpus: Any) -> list[str]:
        urls = original(store, corpus)
        read.extend(urls)
        return urls

    monkeypatch.setattr(facts_stage, "missing_facts", told)
    write_corpus(store, "a", [phantom_exam(4), phantom_exam(5)])
    after = audited(store, "a")
    assert len(read) == 1
    assert after["corpora"][0]["slices"] == before["corpora"][0]["slices"] + 16


def test_a_worker_that_died_leaves_facts_that_the_next_run_completes(store: Store) -> None:
    write_corpus(store, "a", [phantom_exam(index) for index in range(4)])
    whole = audited(store, "a")
    (facts,) = Path(store.root, "corpora", "a").glob("facts-*")
    next(facts.glob("*.parquet")).unlink()
    for report in Path(store.root, "audits").glob("*/*"):
        report.unlink()
    assert audited(store, "a") == whole


def test_what_was_not_audited_is_said_to_be_unseen(store: Store) -> None:
    write_corpus(store, "a", [phantom_exam(0)])
    record = audited(store, "a", "evaluate.test=['b']")
    assert record["notes"] == ["Not audited, so a leak there stays unseen: b of evaluate.test."]
    page = (Path(store.root).parent / "audit" / "index.html").read_text()
    assert "a leak there stays unseen: b of evaluate.test" in page


def test_names_and_original_identifiers_stay_out_of_the_report(store: Store) -> None:
    write_corpus(store, "a", [phantom_exam(0), bleeding()])
    audited(store, "a")
    folder = Path(store.root).parent / "audit"
    for page in folder.iterdir():
        text = page.read_text()
        assert "a-0-" not in text
        assert "2.25." not in text


RUN = "import sys; from jobs.audit import main; sys.exit(main(sys.argv[1:]))"


def by_command(
    store: Store, *overrides: str, before: str = "", **environment: str
) -> subprocess.CompletedProcess[str]:
    """Run the command in a process of its own, which starts a Ray of its own."""
    return subprocess.run(
        [sys.executable, "-c", f"{before}\n{RUN}", settings_of(store), "a", *overrides],
        capture_output=True,
        text=True,
        check=False,
        env={**os.environ, **environment},
        cwd=Path(__file__).parents[2],
    )


def test_what_a_worker_refuses_is_said_in_one_sentence(store: Store) -> None:
    write_corpus(store, "a", [phantom_exam(0)])
    (part,) = Path(store.root, "corpora", "a", "slices").glob("*.parquet")
    table = pq.read_table(part)
    column = table.schema.get_field_index("codec")
    later = pa.array(["pixels-of-later-9"] * len(table), table.schema.types[column])
    pq.write_table(table.set_column(column, table.schema.field(column), later), part)
    done = by_command(store)
    assert (done.returncode, done.stdout) == (2, "")
    assert "Traceback" not in done.stderr
    assert "DataContext" not in done.stderr
    (line,) = [s for s in done.stderr.splitlines() if "pixels-of-later-9" in s]
    assert line == done.stderr.splitlines()[-1]
    assert line.startswith("ich-ray: the corpus uses the pixel codec 'pixels-of-later-9'")
    assert line.endswith("read it with the version that wrote it")


def test_a_ray_that_does_not_start_is_the_fault_of_its_surroundings(
    store: Store, tmp_path: Path
) -> None:
    write_corpus(store, "a", [phantom_exam(0)])
    # No socket has so long a name.
    folder = tmp_path / ("x" * 100)
    folder.mkdir()
    done = by_command(store, RAY_TMPDIR=str(folder))
    assert (done.returncode, done.stdout) == (5, "")
    assert "Traceback" not in done.stderr
    last = done.stderr.splitlines()[-1]
    assert last.startswith("ich-ray: Ray did not start on this machine (")
    assert last.endswith("then run the same command again")


def test_settings_that_ray_refuses_are_named(store: Store) -> None:
    write_corpus(store, "a", [phantom_exam(0)])
    done = by_command(store, "cluster.object_store_mb=1")
    assert (done.returncode, done.stdout) == (2, "")
    assert "cluster.object_store_mb=1: " in done.stderr.splitlines()[-1]
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize(
    ("raised", "code"),
    [
        # Ray 2.60's own words and class, 30 s after the death of its raylet.
        ("Exception('The current node timed out during startup.')", 5),
        ("TypeError('a bug')", 1),
        ("KeyError('a bug')", 1),
    ],
)
def test_only_what_ray_raises_of_its_start_is_no_bug(store: Store, raised: str, code: int) -> None:
    write_corpus(store, "a", [phantom_exam(0)])
    before = f"import ray\ndef init(**_): raise {raised}\nray.init = init"
    done = by_command(store, before=before)
    assert done.returncode == code
    assert ("Traceback" in done.stderr) == (code == 1)
    assert ("timed out during startup.); let it have" in done.stderr) == (code == 5)


def test_a_corpus_that_is_not_there_is_named(
    store: Store, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["audit", settings_of(store), "a"]) == 2
    assert "corpus a has not been ingested" in capsys.readouterr().err
    assert main(["audit", settings_of(store), "d"]) == 2
    assert "d: known are a, b" in capsys.readouterr().err
