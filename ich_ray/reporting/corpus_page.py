"""A corpus as one HTML page: its exams in a table, and some of them as pictures."""

from collections.abc import Sequence
from dataclasses import dataclass

from ich_ray.reporting.html import render
from ich_ray.reporting.outlines import COLOURS
from ich_ray.reporting.thumbnails import Thumbnail, drawn


@dataclass(frozen=True, kw_only=True, slots=True)
class ListedExam:
    """An exam in numbers."""

    exam: str
    patient: str
    slices: int
    labelled: int
    positive: int
    types: str
    """The subtypes that its labels name."""

    masked: int
    """Slices with a mask, also an empty one."""


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class CorpusPage:
    """All that the page of a corpus says."""

    corpus: str
    facts: Sequence[tuple[str, str]]
    exams: Sequence[ListedExam]
    thumbnails: Sequence[Thumbnail]
    command: str
    """That writes the page of an exam, up to the exam's name."""


def to_html(page: CorpusPage) -> str:
    """Return the page, which needs no other file and no network."""
    return render(
        "corpus.html",
        {},
        page=page,
        thumbnails=[drawn(thumbnail) for thumbnail in page.thumbnails],
        colours=COLOURS,
    )
