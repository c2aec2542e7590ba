"""Tables and folders that other software wrote: what is read, and what is said of what is wrong."""

import csv
import gzip
import io
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ich_ray.errors import ConfigError, SurroundingsError
from ich_ray.foreign_cells import Role, name_of
from ich_ray.foreign_exams import ForeignExam
from ich_ray.storage import foreign_rows, foreign_sources, local_files
from ich_ray.storage.foreign_sources import read_exams
from ich_ray.storage.objects import Store
from ich_ray.storage.scored_maps import read_map
from tests.local.foreign_maps import SHAPE, as_nifti, as_seg, head_slices, some_bleeds

SECRET = "Doe^Jane"


def read(path: Path, role: Role = "predictions") -> dict[str, ForeignExam]:
    return read_exams(Store(str(path.parent)), str(path), role=role, name="predictions 2")


def refused(path: Path, said: str, role: Role = "predictions") -> None:
    with pytest.raises(ConfigError, match=f"^predictions 2: {said}") as caught:
        read(path, role)
    assert "Doe" not in str(caught.value)


def table(folder: Path, *lines: str, name: str = "t.csv") -> Path:
    path = folder / name
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")
    return path


def parquet(path: Path, **columns: Any) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    pq.write_table(pa.table(columns), path)
    return path


def an_example() -> str:
    """The table that the documentation shows, and the maps that it names."""
    page = foreign_sources.__doc__ or ""
    lines = page.partition("An example of predictions::")[2].splitlines()
    return "\n".join(line.strip() for line in lines if line.startswith("    ")) + "\n"


def test_the_example_of_the_documentation_is_read(tmp_path: Path) -> None:
    (tmp_path / "t.csv").write_text(an_example())
    (tmp_path / "maps").mkdir()
    (tmp_path / "maps" / "a17.nii.gz").touch()
    assert read(tmp_path / "t.csv") == {
        "a17": ForeignExam(
            exam="a17",
            patient="a17",
            value=0.93,
            slices={"1": 0.12, "2": 0.93},
            map=str(tmp_path / "maps" / "a17.nii.gz"),
            where="data row 1",
        )
    }


names = st.text(st.characters(categories=("L", "N", "P")), min_size=1, max_size=6).filter(
    lambda name: name_of(name) == name
)
exams = st.dictionaries(names, st.tuples(st.floats(0, 1), st.sets(st.integers(0, 99), max_size=3)))


def cells_of(said: dict[str, tuple[float, set[int]]]) -> list[tuple[str, int | None, float]]:
    rows: list[tuple[str, int | None, float]] = []
    for exam, (score, slices) in said.items():
        rows += [(exam, None, score), *((exam, number, score / 2) for number in sorted(slices))]
    return rows


@settings(max_examples=40, deadline=None)
@given(exams.filter(bool), st.sampled_from(["t.csv", "t.csv.gz"]))
def test_a_table_says_the_same_as_csv_and_as_parquet(
    tmp_path_factory: pytest.TempPathFactory, said: dict[str, tuple[float, set[int]]], name: str
) -> None:
    folder, rows = tmp_path_factory.mktemp("tables"), cells_of(said)
    text = io.StringIO()
    csv.writer(text).writerows([("slice", "exam", "score"), *((b, a, c) for a, b, c in rows)])
    data = text.getvalue().encode()
    (folder / name).write_bytes(gzip.compress(data) if name.endswith(".gz") else data)
    exam, number, score = zip(*rows, strict=True)
    parquet(folder / "t.parquet", exam=exam, slice=number, score=score)
    found = read(folder / name)
    assert found == read(folder / "t.parquet")
    assert {e: (f.value, {int(s) for s in f.slices}) for e, f in found.items()} == said


@pytest.mark.parametrize(
    ("exam", "number", "score"),
    [
        (pa.array(["a", "a"]).dictionary_encode(), pa.array([1.0, 2.0]), [0.5, 1.0]),
        (pa.array(["a", "a"], pa.large_string()), pa.array([1, 2], pa.int8()), ["0.5", "1"]),
        (["a", "a"], ["1", "2"], pa.array([0.5, 1.0], pa.float32())),
        (["a", "a"], ["1", "2"], pa.array([0.5, 1.0], pa.float16())),
        (["a", "a"], ["1", "2"], pa.array([0.5, 1.0]).cast(pa.decimal128(3, 1))),
    ],
)
def test_parquet_may_hold_text_and_numbers_of_any_type(
    tmp_path: Path, exam: Any, number: Any, score: Any
) -> None:
    path = parquet(tmp_path / "t.parquet", exam=exam, slice=number, score=score)
    assert read(path)["a"].slices == {"1": 0.5, "2": 1.0}


def test_labels_and_patients_of_a_reference(tmp_path: Path) -> None:
    path = table(tmp_path, "patient,exam,label", "p,a,true", "p,b,0", ",c,1")
    found = read(path, "reference")
    assert [(e.patient, e.value) for e in found.values()] == [("p", 1.0), ("p", 0.0), ("c", 1.0)]
    path = parquet(tmp_path / "t.parquet", exam=["a", "b"], label=[True, False])
    assert [exam.value for exam in read(path, "reference").values()] == [1.0, 0.0]


def test_predictions_know_no_patients(tmp_path: Path) -> None:
    path = table(tmp_path, "patient,exam,score", "p,a,0.5", "q,b,0.5")
    assert [exam.patient for exam in read(path).values()] == ["a", "b"]


def test_parts_of_parquet_are_one_table(tmp_path: Path) -> None:
    folder = tmp_path / "t.parquet"
    (tmp_path / "a.nii").touch()
    parquet(folder / "part-0.parquet", exam=["a", "a"], slice=[1, 2], score=[0.1, 0.2])
    parquet(folder / "part-1.parquet", exam=["a", "b"], slice=[3, 1], score=[0.3, 0.4])
    parquet(folder / ".part-2.parquet.tmp.parquet", exam=["c"], slice=[1], score=[0.5])
    (folder / "_SUCCESS").touch()
    found = read(folder)
    assert found["a"].slices == {"1": 0.1, "2": 0.2, "3": 0.3}
    assert found["b"].where == "part 2, data row 2"
    assert list(found) == ["a", "b"]


def test_a_table_of_spreadsheets_and_of_windows_is_read(tmp_path: Path) -> None:
    path = tmp_path / "t.csv"
    path.write_bytes('\ufeffexam,score,note\r\n"a","0.5","x, y"\r\n\r\n,,\r\nb,1,\r\n'.encode())
    assert {name: exam.where for name, exam in read(path).items()} == {
        "a": "data row 1",
        "b": "data row 4",
    }


@pytest.mark.parametrize("absolute", [False, True])
def test_maps_go_from_the_folder_of_their_table(tmp_path: Path, *, absolute: bool) -> None:
    (tmp_path / "maps").mkdir()
    (tmp_path / "tables").mkdir()
    seg = tmp_path / "maps" / "a.dcm"
    seg.write_bytes(as_seg(head_slices(), some_bleeds()))
    path = table(tmp_path / "tables", "exam,map", f"a,{seg if absolute else '../maps/a.dcm'}")
    url = read(path)["a"].map
    assert url == str(seg)
    assert read_map(Store(str(tmp_path)), url, name="predictions 2").values.any()


def test_a_path_in_a_bucket_goes_from_the_folder_of_its_table(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    data = b"exam,map\na,maps/a.nii\nb,../b.nii\nc,s3://other/c.nii\n"
    monkeypatch.setattr(Store, "size", lambda *_: len(data))
    monkeypatch.setattr(Store, "exists", lambda *_: True)
    monkeypatch.setattr(Store, "read_bytes", lambda *_: data)
    store = Store("s3://bucket/store")
    found = read_exams(store, "s3://bucket/run/t.csv", role="predictions", name="predictions 2")
    assert [exam.map for exam in found.values()] == [
        "s3://bucket/run/maps/a.nii",
        "s3://bucket/b.nii",
        "s3://other/c.nii",
    ]


@pytest.mark.parametrize(
    ("lines", "said"),
    [
        (["exam;score", f"{SECRET};0,5"], "its cells are separated by semicolons; save it with co"),
        (["exam\tscore", f"{SECRET}\t0.5"], "its cells are separated by tabs"),
        (["exam,score", f"{SECRET};0.5"], "data row 1: it has 1 cells and the header 2;.*semicol"),
        (["exam,score", "a,1", f"{SECRET},0,5"], "data row 2: it has 3 cells and the header 2"),
        (["exam,score", f'{SECRET},"0,5"'], "data row 1, column score: it is not a number.*point"),
        (["exam,score", f"{SECRET},1.5"], "data row 1, column score: it is outside 0 to 1"),
        (["exam,score", f'"{SECRET},0.5'], "it is no CSV near line 2; look for a lone quote"),
        (["exam,p", f"{SECRET},0.5"], "there is no column score"),
        ([f"{SECRET},0.5"], "there is no column exam"),
        (["exam,score"], "it has no rows"),
        ([""], "there is no column exam"),
        (["exam,map", f"{SECRET},{SECRET}.nii"], "data row 1, column map: there is no such file"),
        (["exam,map", f"{SECRET},{SECRET}.nrrd"], "data row 1, column map: it is of no kind that"),
        (["exam,map", f"{SECRET},http://{SECRET}/a.nii"], "data row 1, column map: .* s3:// URL"),
        (["exam,map", f"{SECRET},a.nii", "b,./a.nii"], "data row 2, column map: .*data row 1 too"),
    ],
)
def test_what_is_wrong_with_a_table_is_said_by_row_and_column(
    tmp_path: Path, lines: Sequence[str], said: str
) -> None:
    (tmp_path / "a.nii").touch()
    refused(table(tmp_path, *lines), said)


def test_missing_maps_are_counted(tmp_path: Path) -> None:
    (tmp_path / "b.nii").touch()
    path = table(tmp_path, "exam,map", "b,b.nii", f"{SECRET},{SECRET}.nii", "c,c.nii")
    refused(path, "data row 2, column map: there is no such file, as of 2 of 3 maps")


def test_what_is_no_table_is_refused(tmp_path: Path) -> None:
    latin = tmp_path / "latin.csv"
    latin.write_bytes("exam,score\nJosé,0.5\n".encode("latin-1"))
    refused(latin, "it is not UTF-8 text; save it as CSV UTF-8")
    cut = tmp_path / "cut.csv.gz"
    cut.write_bytes(gzip.compress(b"exam,score\na,1\n")[:-6])
    refused(cut, "it is no whole gzip file")
    broken = parquet(tmp_path / "t.parquet", exam=["a"], score=[1.0])
    broken.write_bytes(broken.read_bytes()[:-20])
    refused(broken, "it is no whole Parquet file")
    bad_text = pa.Array.from_buffers(
        pa.string(), 1, [None, pa.py_buffer(np.array([0, 2], "<i4")), pa.py_buffer(b"D\xff")]
    )
    refused(parquet(tmp_path / "u.parquet", exam=bad_text, score=[1.0]), "it is no whole Parquet")
    refused(
        parquet(tmp_path / "v.parquet", exam=[["a"]], score=[1.0]), "column exam: it holds neit"
    )
    refused(tmp_path / "absent.csv", "it does not exist, or is an empty folder")
    (tmp_path / "t.xlsx").touch()
    refused(tmp_path / "t.xlsx", r"it is of no kind that is read; write a table \(.csv")


def test_a_table_that_inflates_without_end_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(foreign_rows, "MAX_TABLE_BYTES", 1 << 20)
    bomb = tmp_path / "t.csv.gz"
    bomb.write_bytes(gzip.compress(b"exam,score\n" + bytes(1 << 21)))
    refused(bomb, "a file of the table is larger than 1 MiB")
    large = table(tmp_path, "exam,score", "a" * (1 << 21))
    refused(large, "a file of the table is larger than 1 MiB")


def test_parts_with_other_columns_are_refused(tmp_path: Path) -> None:
    folder = tmp_path / "parts"
    parquet(folder / "0.parquet", exam=["a"], label=[1], patient=["p"])
    parquet(folder / "1.parquet", exam=["b"], label=[1])
    refused(folder, "part 2, its columns are not those of the parts before it", "reference")


def test_a_folder_that_is_more_than_its_files_is_refused(tmp_path: Path) -> None:
    delta = tmp_path / "delta"
    parquet(delta / "0.parquet", exam=["a"], score=[0.5])
    (delta / "_delta_log").mkdir()
    (delta / "_delta_log" / "0.json").touch()
    refused(delta, "it is a Delta table, whose folder may hold rows that were removed")
    mixed = tmp_path / "mixed"
    mixed.mkdir()
    (mixed / "a.nii").touch()
    table(mixed, "exam,score", "a,1")
    refused(mixed, "it is a folder that holds a CSV file; name the file itself")
    (tmp_path / "plans").mkdir()
    (tmp_path / "plans" / "plans.json").touch()
    refused(tmp_path / "plans", "it holds no table and no maps")


def files_of(folder: Path, *keys: str) -> Path:
    for key in keys:
        (folder / key).parent.mkdir(parents=True, exist_ok=True)
        (folder / key).touch()
    return folder


def test_a_folder_of_nnunet_holds_an_exam_a_map(tmp_path: Path) -> None:
    others = ("plans.json", "dataset.json", "a.npz", "a.pkl", "._a.nii.gz")
    folder = files_of(tmp_path / "out", "a.nii.gz", "b.1.NII", "c.dcm", *others)
    found = read(folder)
    assert list(found) == ["a", "b.1", "c"]
    assert found["b.1"] == ForeignExam(
        exam="b.1",
        patient="b.1",
        value=None,
        slices={},
        map=str(folder / "b.1.NII"),
        where="map 2 of 3 by name",
    )


def test_a_folder_of_folders_holds_an_exam_a_folder(tmp_path: Path) -> None:
    keys = ("a/a_seg.nii.gz", "b/study/series/1.dcm", "c.nii", "a/a.json")
    assert list(read(files_of(tmp_path / "out", *keys))) == ["a", "b", "c"]


@pytest.mark.parametrize(
    "keys",
    [(f"{SECRET}.nii", f"{SECRET}.nii.gz"), (f"{SECRET}/1.dcm", f"{SECRET}/2.dcm")],
)
def test_two_maps_of_one_exam_are_refused(tmp_path: Path, keys: Sequence[str]) -> None:
    folder = files_of(tmp_path / "out", "A.nii", *keys)
    refused(folder, "map 3 of 3 by name: it is of the same exam as map 2 of 3 by name")


def test_what_a_folder_holds_is_read(tmp_path: Path) -> None:
    images, mask = head_slices(), some_bleeds()[..., 0]
    (tmp_path / "b").mkdir()
    as_nifti(images, mask.astype(np.uint8)).to_filename(tmp_path / "a.nii.gz")
    (tmp_path / "b" / "seg.dcm").write_bytes(as_seg(images, mask))
    volumes = {
        name: read_map(Store(str(tmp_path)), exam.map or "", name=exam.where)
        for name, exam in read(tmp_path).items()
    }
    assert volumes["a"].values.shape == SHAPE
    assert np.array_equal(volumes["a"].values, mask)
    assert np.array_equal(volumes["b"].values, mask[mask.any(axis=(1, 2))])


def test_an_outage_of_the_disk_names_no_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = table(tmp_path, "exam,score", "a,1", name=f"{SECRET}.csv")

    def fail(*_: Any, **__: Any) -> bytes:
        raise OSError(5, "Input/output error", str(path))

    monkeypatch.setattr(local_files, "read", fail)
    with pytest.raises(SurroundingsError, match=r"^predictions 2 could not be read") as caught:
        read(path)
    assert "Doe" not in str(caught.value)
