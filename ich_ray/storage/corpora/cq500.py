"""CQ500: folders of series by exam, the reads of three radiologists, and the boxes of BHX."""

import ast
import dataclasses
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import PurePosixPath

import numpy as np
from jaxtyping import UInt8

from ich_ray.annotations import ANY_HEMORRHAGE, BOX_TYPES, Box, Read, majority
from ich_ray.errors import ConfigError
from ich_ray.exam import Kind, Slice
from ich_ray.identity import Pseudonyms
from ich_ray.ingest_plan import Truth
from ich_ray.storage import dicom
from ich_ray.storage.corpora.layout import Role, flag, label_rows

READS = "reads.csv"
CATEGORIES = ("B1", "B2")
"""The batches in which the exams were collected."""

READERS = ("R1", "R2", "R3")
SUBTYPES = ("EDH", "IPH", "IVH", "SAH", "SDH")
"""In the order of HEMORRHAGE_TYPES."""

FINDINGS = (
    ANY_HEMORRHAGE,
    "IPH",
    "IVH",
    "SDH",
    "EDH",
    "SAH",
    "BleedLocation-Left",
    "BleedLocation-Right",
    "ChronicBleed",
    "Fracture",
    "CalvarialFracture",
    "OtherFracture",
    "MassEffect",
    "MidlineShift",
)

_OBJECT = re.compile(r"(?:.*/)?CQ500CT(\d+) CQ500CT\1/[^/]+/[^/]+/[^/]+")
_EXAM = re.compile(r"CQ500-CT-\d+")
_BOXES = re.compile(r"[123]_\w+\.csv")
"""† Of the three files of BHX only 1_Initial_Manual_Labeling.csv was at hand."""

_BOX_COLUMNS = ("SOPInstanceUID", "SeriesInstanceUID", "data", "labelName", "labelType")
_CORNERS = ("x", "y", "width", "height")


@dataclass(frozen=True)
class Cq500:
    """`qctNN/CQ500CT<k> CQ500CT<k>/Unknown Study/<series>/*.dcm`.

    The archives may lie side by side or unpacked into one folder; an exam that is divided over
    two of them is one exam, since its key names it, and its series is one by its identifier. No
    slice has a label, let alone a mask: the reads are of exams.
    """

    kind: Kind = "hu"
    window: tuple[float, float] | None = None
    zero_masks: bool = False
    automatic_masks: bool = False

    def role(self, key: str) -> Role:
        """Tell slices by their folders, tables by their names."""
        name = PurePosixPath(key).name
        if _OBJECT.fullmatch(key):
            return "object"
        if key == READS:
            return "labels"
        if _BOXES.fullmatch(name):
            return "boxes"
        return "manifest" if name in (READS, "prediction_probabilities.csv") else "unknown"

    def place(self, key: str) -> None:
        """The key names the exam (see `exam_of`), but only the header the slice."""

    def exam_of(self, key: str) -> str:
        """Return the name by which the reads know the exam, and which is its patient's too."""
        match = _OBJECT.fullmatch(key)
        assert match, "not an object of the layout"
        return f"CQ500-CT-{int(match[1])}"

    def label_files(self) -> Sequence[str]:
        """In the root of the source, or beside it."""
        return READS, f"../{READS}"

    def read_labels(self, text: str) -> dict[str, Truth]:
        """No label is of a slice."""
        return {}

    def read_reads(self, text: str) -> list[Read]:
        """Read `name,Category` and fourteen findings for each of three readers."""
        columns = {
            (reader, finding): f"{reader}:{finding}" for reader in READERS for finding in FINDINGS
        }
        first_line: dict[str, tuple[int, list[Read]]] = {}
        for line, row in label_rows(text, ("name", "Category", *columns.values())):
            name = row["name"]
            if not _EXAM.fullmatch(name):
                raise ConfigError(
                    f"line {line} of the reads names no exam; write CQ500-CT-<number>"
                )
            if row["Category"] not in CATEGORIES:
                raise ConfigError(
                    f"line {line} of the reads holds another Category than "
                    f"{' or '.join(CATEGORIES)}"
                )
            reads = [
                Read(
                    exam=name,
                    reader=reader,
                    category=row["Category"],
                    findings={f: flag(line, row, columns[reader, f]) for f in FINDINGS},
                )
                for reader in READERS
            ]
            earlier, known = first_line.setdefault(name, (line, reads))
            if known != reads:
                raise ConfigError(
                    f"line {line} of the reads contradicts line {earlier}: both name the same "
                    "exam; remove one"
                )
        return [read for _, reads in first_line.values() for read in reads]

    def exam_truths(self, reads: Sequence[Read]) -> dict[str, Truth]:
        """Return the majority of three, for the hemorrhage and for each of its types."""
        by_exam: dict[str, list[Read]] = {}
        for read in reads:
            by_exam.setdefault(read.exam, []).append(read)
        return {
            exam: majority(found, any_finding=ANY_HEMORRHAGE, subtypes=SUBTYPES)
            for exam, found in by_exam.items()
        }

    def read_boxes(self, text: str) -> list[Box]:
        """Read one of the tables of BHX; the third begins with a column without a name."""
        return [_box(line, row) for line, row in label_rows(text, _BOX_COLUMNS)]

    def expected_key(self, slice_id: str) -> str:
        """Return a name for what has none: the exam's row."""
        return f"{READS}#{slice_id}"

    def read_slices(self, key: str, data: bytes, pseudonyms: Pseudonyms) -> list[Slice]:
        """Decode the DICOM object; its exam is the one that its key names."""
        name = pseudonyms.of(self.exam_of(key))
        return [dataclasses.replace(dicom.read_slice(data, pseudonyms), exam=name, patient=name)]

    def read_masks(
        self, key: str, data: bytes, slices: Mapping[str, Slice], pseudonyms: Pseudonyms
    ) -> dict[str, UInt8[np.ndarray, "rows columns"]]:
        """Decode a segmentation; the corpus has none of its own."""
        return dicom.read_masks(data, pseudonyms, slices, automatic=self.automatic_masks)


def _box(line: int, row: Mapping[str, str]) -> Box:
    kind = row["labelName"].lower()
    try:
        corners = ast.literal_eval(row["data"])
        x, y, width, height = (float(corners[name]) for name in _CORNERS)
    except (ValueError, SyntaxError, TypeError, KeyError):
        raise ConfigError(
            f"line {line} of the boxes must hold x, y, width and height in the column data"
        ) from None
    if kind not in BOX_TYPES or not row["SOPInstanceUID"]:
        raise ConfigError(
            f"line {line} of the boxes must name a slice and one of {', '.join(BOX_TYPES)}"
        )
    return Box(
        slice=row["SOPInstanceUID"],
        series=row["SeriesInstanceUID"],
        x=x,
        y=y,
        width=width,
        height=height,
        type=kind,
        origin="hand" if row["labelType"] == "handDrawn" else "extrapolated",
    )
