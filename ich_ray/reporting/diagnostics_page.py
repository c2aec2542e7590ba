"""Diagnostics of pseudo-labels as one HTML page: figures first, then what they are made of."""

from typing import Any

from ich_ray.label_drift import CLASSES
from ich_ray.reporting.diagnostics_contents import NOTICE, Diagnostics
from ich_ray.reporting.figures import diagnostics as figures
from ich_ray.reporting.figures.style import MINUS
from ich_ray.reporting.html import DASH, count, data_uri, number, render, share

LABELS = ("positive", "ignored", "negative")
"""In the order of CLASSES."""

RANKED = ("paper", "ignore_band")
"""Modes whose labels follow a cut of the ranking."""


def to_html(found: Diagnostics) -> str:
    """Return index.html; every text is escaped, every picture is inside."""
    assert len(LABELS) == len(CLASSES)
    return render(
        "diagnostics.html",
        {"percent": percent, "millilitres": millilitres, "signed": signed},
        found=found,
        headline=headline(found),
        labels=LABELS,
        notice=NOTICE,
        pictures=_pictures(found),
    )


def percent(value: float | None, digits: int = 1) -> str:
    """Write a share in per cent; a dash where there is none.

    >>> percent(0.125), percent(float("nan"))
    ('12.5 %', '\u2013')
    """
    said = number(None if value is None else 100 * value, digits)
    return said if said == DASH else f"{said} %"


def millilitres(value: float) -> str:
    """Write a volume to three digits.

    >>> millilitres(0.1234), millilitres(1234.5), millilitres(float("nan"))
    ('0.123 mL', '1,234 mL', '\u2013')
    """
    if value != value:
        return DASH
    return f"{value:,.0f} mL" if value >= 100 else f"{value:.3g} mL"


def signed(value: float, digits: int = 2) -> str:
    """Write a difference with its sign; a dash where there is none.

    >>> signed(-0.204)
    '\u22120.20'
    """
    return DASH if value != value else f"{value:+.{digits}f}".replace("-", MINUS)


def headline(found: Diagnostics) -> str:
    """Say in a sentence or two what the pseudo-labels are like."""
    held = found.patients
    patients = "1 patient" if held.with_positive == 1 else f"{count(held.with_positive)} patients"
    first = (
        f"{count(found.positive)} of {count(found.slices)} slices "
        f"({share(found.positive, found.slices)}) are positive, in {patients} of "
        f"{count(held.patients)}."
    )
    if found.against is None:
        return first
    name, agreed = found.against
    return (
        f"{first} With {name} they share {percent(agreed.jaccard, 0)} of the positives of either."
    )


def _pictures(found: Diagnostics) -> dict[str, Any]:
    """Figure -> data URI; of `drift` one for each student."""
    cut = found.cut if found.mode in RANKED else None
    svgs = {
        "patients": figures.patients_figure(found.patients),
        "scores": figures.scores_figure(found.scores, cut),
    }
    if found.volumes.exams > found.volumes.unknown:
        svgs["volumes"] = figures.volumes_figure(found.volumes)
    if found.against is not None and found.against[1].slices:
        names = found.name, found.against[0]
        svgs["agreement"] = figures.joint_figure(found.against[1].joint, names)
    if found.hidden is not None:
        svgs["hidden"] = figures.hidden_figure(found.hidden)
    pictures: dict[str, Any] = {key: data_uri(svg, "image/svg+xml") for key, svg in svgs.items()}
    pictures["drift"] = {
        name: data_uri(figures.drift_figure(name, drift), "image/svg+xml")
        for name, drift in found.students.items()
    }
    return pictures
