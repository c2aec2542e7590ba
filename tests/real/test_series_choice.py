"""The rules of series against real exams: CQ500's 1,226 series, and heads with odd spacing.

The manifest of CQ500 holds description, thickness and instance numbers, but no position, kernel or
series number. So a position here is the instance number times the step, which is the thickness, or
half of it in the long series of 1 to 1.5 mm (checked against the thick series of the same exams:
325 slices of 1 mm beside 55 of 3 mm). Series of an exam come in the descending order of their
identifiers, as acquired: in 91 of 100 pairs of a plain and a contrast series of equal thickness the
plain one has the higher identifier.
"""

import os
from collections import Counter, defaultdict
from collections.abc import Mapping
from itertools import pairwise
from pathlib import Path

import pyarrow.parquet as pq
import pytest

from ich_ray import volume
from ich_ray.identity import PUBLIC_KEY, Pseudonyms
from ich_ray.series import Choice, HeaderFacts, SeriesFacts, choose, dropped_by, series_facts
from ich_ray.series_signs import signs_of
from ich_ray.storage import dicom, slice_rows
from ich_ray.storage.corpora.cq500 import Cq500

DATA = Path(os.environ.get("ICH_RAY_REAL_DATA", ""))
NAMES = Pseudonyms(PUBLIC_KEY)

pytestmark = pytest.mark.skipif(
    "ICH_RAY_REAL_DATA" not in os.environ, reason="ICH_RAY_REAL_DATA names no folder of real data"
)


@pytest.fixture(scope="module")
def exams() -> Mapping[str, list[SeriesFacts]]:
    """Exam -> its series, the first acquired first."""
    rows: dict[tuple[str, str], list[dict[str, object]]] = defaultdict(list)
    table = pq.read_table(DATA / "cq500" / "slice-manifest.parquet")
    for row in table.to_pylist():
        rows[row["name"], row["series_uid"]].append(row)
    found: dict[str, list[SeriesFacts]] = defaultdict(list)
    for (name, series), slices in sorted(
        rows.items(), key=lambda item: -int(item[0][1].rpartition(".")[2])
    ):
        thickness = min(row["slice_thick_mm"] for row in slices)
        step = thickness / 2 if 1 <= thickness <= 1.5 and len(slices) > 200 else thickness
        facts = [
            HeaderFacts(
                position_mm=row["instance_num"] * step,
                thickness_mm=row["slice_thick_mm"],
                instance=row["instance_num"],
                signs=signs_of(description=row["series_desc"]),
            )
            for row in slices
        ]
        found[name].append(series_facts(series, facts))
    return found


@pytest.fixture(scope="module")
def choices(exams: Mapping[str, list[SeriesFacts]]) -> Mapping[str, list[Choice]]:
    return {name: choose(series) for name, series in exams.items()}


def test_every_exam_of_cq500_gets_exactly_one_series(
    choices: Mapping[str, list[Choice]],
) -> None:
    # 18 of the 491 exams that the readers saw are absent from this copy of the corpus.
    assert len(choices) == 473
    assert Counter(sum(c.kept for c in exam) for exam in choices.values()) == {1: 473}
    rules = Counter(c.rule.value for exam in choices.values() for c in exam)
    assert rules == {
        # of the series that is read
        "soft_tissue": 320,
        "only_series": 59,
        "complete": 36,
        "first_of_equals": 27,
        "only_usable": 20,
        "most_complete": 5,
        "said_to_be_plain": 4,
        "head_sized": 2,
        # of the others
        "another_kept": 493,
        "bone": 141,
        "contrast": 114,
        "high_resolution": 4,
        "rendered": 1,
    }


def test_boxes_by_hand_lie_on_the_chosen_series(choices: Mapping[str, list[Choice]]) -> None:
    boxed = {box.series for box in boxes()}
    here = [exam for exam in choices.values() if any(c.series in boxed for c in exam)]
    agreed = [exam for exam in here if any(c.kept and c.series in boxed for c in exam)]
    assert (len(agreed), len(here)) == (209, 218)


def test_no_exam_is_read_from_a_series_with_contrast_medium_or_of_bone(
    exams: Mapping[str, list[SeriesFacts]], choices: Mapping[str, list[Choice]]
) -> None:
    for name, exam in exams.items():
        for summed, choice in zip(exam, choices[name], strict=True):
            assert not (choice.kept and dropped_by(summed))


def test_eighteen_patients_are_divided_over_two_archives_and_are_one_series_each() -> None:
    table = pq.read_table(DATA / "cq500" / "slice-manifest.parquet", columns=["path", "series_uid"])
    layout = Cq500()
    archives: dict[str, set[str]] = defaultdict(set)
    names: dict[str, set[str]] = defaultdict(set)
    for row in table.to_pylist():
        key = row["path"].removeprefix("/kaggle/input/qureai-headct/")
        assert layout.role(key) == "object"
        archives[row["series_uid"]].add(key.partition("/")[0])
        names[row["series_uid"]].add(layout.exam_of(key))
    assert Counter(map(len, archives.values())) == {1: 1208, 2: 18}
    assert set(map(len, names.values())) == {1}


def test_the_reads_of_cq500_have_their_majorities() -> None:
    layout = Cq500()
    reads = layout.read_reads((DATA / "cq500" / "reads.csv").read_text("utf-8-sig"))
    assert len(reads) == 3 * 491
    assert Counter(read.category for read in reads) == {"B1": 3 * 214, "B2": 3 * 277}
    truths = layout.exam_truths(reads)
    assert sum(truth.label is True for truth in truths.values()) == 205


def test_the_boxes_of_bhx_are_read() -> None:
    found = boxes()
    assert len(found) == 6283
    assert {box.origin for box in found} == {"hand"}
    assert all(box.width > 0 and box.height > 0 for box in found)


def boxes() -> list[object]:
    text = (DATA / "bhx" / "1_Initial_Manual_Labeling.csv").read_text("utf-8-sig")
    return Cq500().read_boxes(text)


def headers(folder: Path) -> dict[str, list[dicom.Header]]:
    by_series: dict[str, list[dicom.Header]] = defaultdict(list)
    for path in sorted(path for path in folder.rglob("*") if path.is_file()):
        data = path.read_bytes()
        try:
            header = dicom.read_header(data[: dicom.HEADER_BYTES], whole=False)
        except dicom.HeaderIncomplete:
            header = dicom.read_header(data, whole=True)
        by_series[header.series].append(header)
    return by_series


def test_a_head_with_three_spacings_has_no_gap_and_every_neighbour() -> None:
    folder = DATA / "ge-head-tilt"
    ((members),) = headers(folder).values()
    positions = sorted(h.facts.position_mm for h in members)
    steps = [round(b - a, 2) for a, b in pairwise(positions)]
    assert steps == [4.0] * 13 + [1.08] + [7.0] * 13
    assert volume.gaps(positions) == []
    slices = [dicom.read_slice(p.read_bytes(), NAMES) for p in sorted(folder.glob("*.dcm"))]
    rows = slice_rows.to_table([slices]).to_pylist()
    assert [row["neighbours"] for row in rows] == [1] + [2] * 26 + [1]


def test_the_soft_series_of_the_phantom_is_read_and_the_sharp_one_is_not() -> None:
    found = headers(DATA / "philips-head-phantom" / "S2010")
    found |= headers(DATA / "philips-head-phantom" / "S2020")
    found |= headers(DATA / "philips-head-phantom" / "S2030")
    exam = [series_facts(name, [h.facts for h in members]) for name, members in found.items()]
    rules = [(c.kept, c.rule.value) for c in choose(exam)]
    assert rules == [(True, "complete"), (False, "another_kept"), (False, "bone")]


def test_a_tilted_exam_of_rsna_has_no_gap_and_its_only_series() -> None:
    ((members),) = headers(DATA / "rsna" / "stage_2_test").values()
    facts = [header.facts for header in members]
    assert volume.gaps(item.position_mm for item in facts) == []
    ((choice),) = choose([series_facts("s", facts)])
    assert (choice.kept, choice.rule.value) == (True, "only_series")


def test_a_real_slice_of_cq500_is_plain_and_of_its_exam() -> None:
    data = (DATA / "odd-dicom" / "pydicom_data" / "693_UNCI.dcm").read_bytes()
    header = dicom.read_header(data[: dicom.HEADER_BYTES], whole=False)
    # The key is what names an exam; the header agrees.
    assert header.patient == Cq500().exam_of("a/CQ500CT310 CQ500CT310/Unknown Study/CT 55mm/1.dcm")
    assert {sign.value for sign in header.facts.signs} == {"plain"}
    assert (header.facts.series_number, header.facts.thickness_mm) == (2, 5.0)
