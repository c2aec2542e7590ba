"""What readers and annotators say of exams and slices, beside labels and masks."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

from ich_ray.exam import HEMORRHAGE_TYPES
from ich_ray.ingest_plan import Truth

ANY_HEMORRHAGE = "ICH"
"""The finding of a read that says whether there is any."""

BOX_TYPES = (*HEMORRHAGE_TYPES, "chronic")


@dataclass(frozen=True, kw_only=True, slots=True)
class Read:
    """What one reader says of one exam."""

    exam: str
    reader: str
    category: str
    """Of the exam, by the corpus: CQ500's batch, B1 or B2."""

    findings: Mapping[str, bool]


@dataclass(frozen=True, kw_only=True, slots=True)
class Box:
    """One bounding box on one slice, in pixels from its upper left corner."""

    slice: str
    series: str
    x: float
    y: float
    width: float
    height: float
    type: str
    """One of BOX_TYPES."""

    origin: Literal["hand", "extrapolated"]


def majority(reads: Sequence[Read], *, any_finding: str, subtypes: Sequence[str]) -> Truth:
    """Return the truth that more than half of an exam's readers agree on, finding by finding.

    Args:
        reads: Of one exam, an odd number.
        any_finding: Name of the finding of any hemorrhage.
        subtypes: Names of the five types, in the order of HEMORRHAGE_TYPES.

    Each finding has its own majority, as in the CQ500 paper (Chilamkurthy 2018): an exam may be
    positive without a type on which two readers agree.
    """
    votes = [
        2 * sum(read.findings[name] for read in reads) > len(reads)
        for name in (any_finding, *subtypes)
    ]
    label, first, second, third, fourth, fifth = votes
    return Truth(label, (first, second, third, fourth, fifth))
