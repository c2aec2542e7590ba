"""What ingest asks of a layout, and the truth that labels and masks give a slice."""

import csv
import dataclasses
import io
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal, NamedTuple, Protocol, runtime_checkable

import numpy as np
from jaxtyping import UInt8

from ich_ray.annotations import Box, Read
from ich_ray.errors import ConfigError
from ich_ray.exam import HEMORRHAGE_TYPES, Kind, Slice
from ich_ray.identity import Pseudonyms
from ich_ray.ingest_plan import Subtypes, Truth

Role = Literal["slice", "mask", "labels", "boxes", "manifest", "object", "unknown"]
"""`object`: a slice or a mask, as its header says. `manifest`: known, and not needed."""


class Place(NamedTuple):
    """What an object belongs to: original identifiers, hashed before they are written."""

    patient: str
    exam: str
    slice: str
    """Of a volume: its own, since its slices are known when it is read."""

    series: str = ""
    """Empty where the key alone places the object: such layouts hold one series an exam."""


@dataclass(frozen=True, slots=True)
class Beside:
    """Where the slices of a mask lie that says nothing of its exam: below a folder."""

    folder: str
    """Key, without a slash at its end."""

    climb: bool
    """Whether the nearest folder above it that holds slices will do."""


@runtime_checkable
class Layout(Protocol):
    """One public layout of objects; the decisions of it, none of the reading."""

    @property
    def kind(self) -> Kind:
        """Of the pixels."""

    @property
    def window(self) -> tuple[float, float] | None:
        """(center, width) of kind `window`."""

    @property
    def zero_masks(self) -> bool:
        """Whether a slice that is known to hold no bleeding has a mask of zeros."""

    def role(self, key: str) -> Role:
        """Tell what an object is, by its key alone."""

    def place(self, key: str) -> Place | Beside | None:
        """Tell what an object belongs to, or None where only its header says."""

    def label_files(self) -> Sequence[str]:
        """Return where labels lie relative to the source, best first; `../` is beside it."""

    def read_labels(self, text: str) -> dict[str, Truth]:
        """Return the truth by the slice's original identifier."""

    def expected_key(self, slice_id: str) -> str:
        """Return the key that a slice named by a label would have."""

    def read_slices(self, key: str, data: bytes, pseudonyms: Pseudonyms) -> list[Slice]:
        """Decode an object's slices, one or a volume of them, or raise InvalidExam."""

    def read_masks(
        self, key: str, data: bytes, slices: Mapping[str, Slice], pseudonyms: Pseudonyms
    ) -> dict[str, UInt8[np.ndarray, "rows columns"]]:
        """Decode masks by the pseudonym of their slice, or raise InvalidExam.

        `slices` are the exam's, by their pseudonyms: what has no names lies on them by its place.
        """


@runtime_checkable
class LabelsExams(Protocol):
    """A layout whose keys name the exam, and whose labels are of exams, not of slices."""

    def exam_of(self, key: str) -> str:
        """Return the name of an object's exam and patient."""

    def read_reads(self, text: str) -> list[Read]:
        """Return what each reader says of each exam."""

    def exam_truths(self, reads: Sequence[Read]) -> dict[str, Truth]:
        """Return the truth of each exam by its name."""

    def read_boxes(self, text: str) -> list[Box]:
        """Return the boxes of a table of them, on slices by their original identifiers."""


def with_truth(
    item: Slice,
    truth: Truth,
    mask: UInt8[np.ndarray, "rows columns"] | None,
    *,
    zeros: bool,
    exam_truth: Truth = Truth(),  # noqa: B008  (a frozen value)
) -> Slice:
    """Return a slice with its label, subtypes and mask.

    Args:
        item: Without truth.
        truth: Of the label table.
        mask: Of a mask object, or None.
        exam_truth: What is said of its exam.
        zeros: Without a mask, a slice that is not known to be positive has one of zeros.

    A slice that no label names takes its label from its mask. Where the labels name exactly
    one subtype, the mask's unnamed pixels are of it.
    """
    if mask is None and zeros and truth.label is not True:
        mask = np.zeros(item.stored.shape, np.uint8)
    label = truth.label
    if label is None and mask is not None:
        label = bool(mask.any())
    if mask is not None and truth.subtypes is not None and sum(truth.subtypes) == 1:
        mask = np.where(mask == 1, np.uint8(truth.subtypes.index(True) + 1), mask)
    return dataclasses.replace(
        item,
        label=label,
        subtypes=truth.subtypes,
        mask=mask,
        exam_label=exam_truth.label,
        exam_subtypes=exam_truth.subtypes,
    )


def label_rows(text: str, needed: Sequence[str]) -> Iterator[tuple[int, Mapping[str, str]]]:
    """Yield the numbered rows of a CSV whose header must hold some columns.

    A byte-order mark, CRLF, and blanks or line breaks within the header's names are accepted.
    """
    reader = csv.reader(io.StringIO(text.removeprefix("\ufeff"), newline=""))
    header = ["_".join(name.split()) for name in next(reader, [])]
    missing = [name for name in needed if name not in header]
    if missing:
        raise ConfigError(
            f"the table of labels lacks the columns {', '.join(missing)}; "
            f"it must hold {', '.join(needed)}"
        )
    twice = [name for name in needed if header.count(name) > 1]
    if twice:
        raise ConfigError(f"the table of labels has two columns {twice[0]}; remove one")
    for row in reader:
        cells = [cell.strip() for cell in row]
        # A row of blanks, as spreadsheets leave them below a table, is none.
        if any(cells):
            if len(cells) < len(header):
                raise ConfigError(f"the table of labels breaks off in line {reader.line_num}")
            if any(cells[len(header) :]):
                raise ConfigError(
                    f"line {reader.line_num} of the table of labels has more cells than the "
                    "header; quote what holds a comma"
                )
            yield reader.line_num, dict(zip(header, cells, strict=False))


def flag(line: int, row: Mapping[str, str], column: str) -> bool:
    """Return a 0/1 cell, or say in which line and column another value stands."""
    try:
        return {"0": False, "1": True}[row[column]]
    except KeyError:
        raise ConfigError(
            f"the table of labels must hold 0 or 1 in column {column}; see line {line}"
        ) from None


def whole_number(line: int, row: Mapping[str, str], column: str) -> int:
    """Return a cell that holds a whole number, or say in which line and column none stands."""
    # Spreadsheets write 49 as 49.0.
    text = row[column].removesuffix(".0")
    if not text.isdecimal():
        raise ConfigError(
            f"the table of labels must hold whole numbers in column {column}; see line {line}"
        )
    return int(text)


def truth_of(line: int, label: bool, subtypes: Subtypes) -> Truth:  # noqa: FBT001  (a value)
    """Return what a row says, unless it contradicts itself: a subtype without a hemorrhage.

    A hemorrhage without a subtype is no contradiction: its type is unknown.
    """
    if any(subtypes) and not label:
        raise ConfigError(
            f"the table of labels contradicts itself: line {line} names a subtype on a slice "
            "that it says has no hemorrhage; correct the row"
        )
    return Truth(label, subtypes)


def subtypes_of(line: int, row: Mapping[str, str], names: Sequence[str]) -> Subtypes:
    """Return the five subtypes, whose columns are named in the order of HEMORRHAGE_TYPES."""
    assert len(names) == len(HEMORRHAGE_TYPES)
    first, second, third, fourth, fifth = (flag(line, row, name) for name in names)
    return first, second, third, fourth, fifth


def add(labels: dict[str, Truth], line: int, slice_id: str, truth: Truth) -> None:
    """Add a row of labels; a second row for the same slice must agree."""
    if labels.setdefault(slice_id, truth) != truth:
        raise ConfigError(
            f"the table of labels contradicts itself: line {line} and an earlier one name the "
            "same slice and differ; remove one"
        )
