from pathlib import Path

import pytest

from ich_ray.errors import ConfigError
from ich_ray.identity import PUBLIC_KEY, Pseudonyms
from ich_ray.ingest_plan import Truth
from ich_ray.storage.corpora.cq500 import Cq500
from ich_ray.storage.corpora.layout import LabelsExams, Layout
from tests.local.cq500_copy import boxes, instance, reads, write_cq500

NAMES = Pseudonyms(PUBLIC_KEY)
SUBDURAL = (False, False, False, False, True)


def test_cq500_is_a_layout_whose_labels_are_of_exams() -> None:
    assert isinstance(Cq500(), Layout)
    assert isinstance(Cq500(), LabelsExams)


@pytest.mark.parametrize(
    ("key", "role"),
    [
        ("qct01/CQ500CT7 CQ500CT7/Unknown Study/CT Plain/CT000001.dcm", "object"),
        ("CQ500CT7 CQ500CT7/Unknown Study/CT Plain/CT000001.dcm", "object"),
        ("qct01/CQ500CT7 CQ500CT8/Unknown Study/CT Plain/CT000001.dcm", "unknown"),
        ("reads.csv", "labels"),
        ("prediction_probabilities.csv", "manifest"),
        ("1_Initial_Manual_Labeling.csv", "boxes"),
        ("bhx/2_Extrapolation_to_All_Series.csv", "boxes"),
        ("qct01.zip", "unknown"),
    ],
)
def test_objects_are_known_by_their_keys(key: str, role: str) -> None:
    assert Cq500().role(key) == role


def test_an_exam_is_named_by_its_folder_and_a_slice_by_its_header(tmp_path: Path) -> None:
    write_cq500(tmp_path)
    key = "qct02/CQ500CT1 CQ500CT1/Unknown Study/CT Plain/CT000003.dcm"
    (item,) = Cq500().read_slices(key, (tmp_path / key).read_bytes(), NAMES)
    assert item.exam == item.patient == NAMES.of("CQ500-CT-1")
    assert item.key == NAMES.of(instance(1, 1, 5))
    assert item.geometry.tilt_deg == pytest.approx(15.0)
    assert item.geometry.position_mm == pytest.approx(25.0)


def test_the_majority_of_three_readers_is_the_truth_of_an_exam() -> None:
    found = Cq500().read_reads(reads({4: (1, 0, 1), 5: (0, 0, 1)}))
    assert [(r.exam, r.reader, r.findings["SDH"]) for r in found[:3]] == [
        ("CQ500-CT-4", "R1", True),
        ("CQ500-CT-4", "R2", False),
        ("CQ500-CT-4", "R3", True),
    ]
    assert Cq500().exam_truths(found) == {
        "CQ500-CT-4": Truth(label=True, subtypes=SUBDURAL),
        "CQ500-CT-5": Truth(label=False, subtypes=(False,) * 5),
    }


def test_reads_that_contradict_themselves_are_refused_by_line() -> None:
    text = reads({4: (1, 0, 1)})
    other = reads({4: (0, 0, 0)}).splitlines()[1]
    assert len(Cq500().read_reads(text + text.splitlines()[1] + "\n")) == 3
    with pytest.raises(ConfigError, match=r"line 3 of the reads contradicts line 2"):
        Cq500().read_reads(text + other)
    with pytest.raises(ConfigError, match=r"line 2 of the reads names no exam"):
        Cq500().read_reads(text.replace("CQ500-CT-4", "Jane Doe"))
    with pytest.raises(ConfigError, match=r"line 2 of the reads holds another Category"):
        Cq500().read_reads(text.replace("B1", "see Dr. Doe"))
    with pytest.raises(ConfigError, match=r"0 or 1 in column R1:ICH; see line 2"):
        Cq500().read_reads(text.replace("B1,1", "B1,yes"))
    with pytest.raises(ConfigError, match=r"lacks the columns R1:ICH"):
        Cq500().read_reads(text.replace("R1:ICH", "ICH"))


@pytest.mark.parametrize("index", [True, False])
def test_boxes_are_read_with_and_without_their_nameless_column(index: bool) -> None:  # noqa: FBT001
    (box,) = Cq500().read_boxes(boxes(instance(0, 2, 3), "handDrawn", index=index))
    assert (box.slice, box.type, box.origin) == (instance(0, 2, 3), "subdural", "hand")
    assert (box.x, box.y, box.width, box.height) == (1.5, 2.0, 3.25, 4.0)


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("'width': 3.25", "'breadth': 3.25", "line 2 of the boxes must hold x, y, width"),
        ("{'x'", "__import__('os')#{'x'", "line 2 of the boxes must hold x, y, width"),
        ("Subdural", "Tumor", "line 2 of the boxes must name a slice and one of epidural"),
    ],
)
def test_a_box_that_cannot_be_read_is_named_by_its_line(old: str, new: str, message: str) -> None:
    text = boxes(instance(0, 2, 3), "handDrawn", index=True)
    with pytest.raises(ConfigError, match=message):
        Cq500().read_boxes(text.replace(old, new))
