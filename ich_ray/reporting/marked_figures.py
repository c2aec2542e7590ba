"""Figures 2 and 3 of the paper from the galleries of our reports: what models mark on slices.

Source: Lin & Yuh, figures 2 and 3.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from ich_ray.experiment import BASELINE
from ich_ray.reporting.gallery_rows import panel, told_of_reference
from ich_ray.reporting.stills import Still
from ich_ray.reproduction import NO_RANKER, STUDENT

SHOWN = 4
"""Slices of a figure."""


@dataclass(frozen=True, kw_only=True, slots=True)
class MarkedFigure:
    """Slices with the masks of some models."""

    title: str
    caption: str
    rows: tuple[dict[str, Any], ...]
    """For the template; empty where no slice is of interest."""

    nothing: str
    """What to say then."""


def marked_figures(stills: Sequence[Still]) -> tuple[MarkedFigure, ...]:
    """Return figures 2 and 3.

    Args:
        stills: Of the report on the validation exams.
    """
    without_ranker = sorted(
        (one for one in stills if _wrong(one, NO_RANKER)),
        key=lambda one: -_wrong(one, NO_RANKER),
    )
    return (
        MarkedFigure(
            title="Figure 2: false positives without the ranker",
            caption="Of the slices in the report's gallery those on which the student without a "
            "ranker marks the most pixels in error; beside it, the student with one.",
            rows=_rows(without_ranker, (NO_RANKER, STUDENT)),
            nothing="No slice of the report's gallery is marked in error by a student without a "
            "ranker, or the experiment has none: add no_ranker to experiment.variants.",
        ),
        MarkedFigure(
            title="Figure 3: baseline and semi-supervised",
            caption="The first slices of the report's gallery: the exams of the student's largest "
            "gains and losses in DSC.",
            rows=_rows(stills, (BASELINE, STUDENT)),
            nothing="The report has no gallery: set evaluate.gallery above 0.",
        ),
    )


def _wrong(one: Still, model: str) -> int:
    return one.marked[model].overlap.wrong if model in one.marked else 0


def _rows(stills: Sequence[Still], models: Sequence[str]) -> tuple[dict[str, Any], ...]:
    return tuple(
        {
            "still": one,
            "reference": told_of_reference(one.reference),
            "panels": [panel(one, name) for name in models if name in one.marked],
        }
        for one in stills[:SHOWN]
    )
