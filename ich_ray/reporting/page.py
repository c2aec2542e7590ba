"""A report as one HTML page: styles and pictures inside, nothing to fetch."""

import json
import math
from collections.abc import Callable
from typing import Any

import numpy as np

from ich_ray.reporting import gallery
from ich_ray.reporting.claim import claim_checklist
from ich_ray.reporting.contents import GallerySlice, Report
from ich_ray.reporting.figures.style import MINUS
from ich_ray.reporting.headline import (
    SHORT,
    cautions,
    headline,
    in_reading_order,
    main_difference,
    non_inferior,
    verdict,
)
from ich_ray.reporting.html import DASH, data_uri, number, render
from ich_ray.reporting.pictures import pictures_of
from ich_ray.reporting.plain_values import plain
from ich_ray.statistics.bootstrap import Difference, Interval
from ich_ray.statistics.by_exam import iou_of
from ich_ray.statistics.comparison import METRICS


def to_html(report: Report) -> str:
    """Return index.html; every text is escaped, every picture is inside."""
    return render(
        "template.html",
        FILTERS,
        report=report,
        short=SHORT,
        metrics=METRICS,
        headline=headline(report),
        differences=in_reading_order(report),
        main=main_difference(report),
        cautions=cautions(report),
        verdict=verdict,
        non_inferior=non_inferior,
        claim=claim_checklist(report),
        iou={m.name: iou_of(m.dsc) for m in report.models if m.dsc is not None},
        pictures=pictures_of(report),
        gallery=[_gallery_row(report, shown) for shown in report.gallery],
        marking=_marking(report),
        settings=json.dumps(plain(report.settings), indent=2, sort_keys=True, ensure_ascii=False),
    )


def signed(value: float) -> str:
    """Write a difference with its sign.

    >>> signed(-0.0204), signed(0.02)
    ('\u22120.020', '+0.020')
    """
    return f"{value:+.3f}".replace("-", MINUS) if math.isfinite(value) else DASH


def bounds(interval: Interval) -> str:
    """Write the bounds of an interval; empty where it has none."""
    defined = math.isfinite(interval.low) and math.isfinite(interval.high)
    return f"{interval.low:.3f} to {interval.high:.3f}".replace("-", MINUS) if defined else ""


def signed_bounds(difference: Difference) -> str:
    """Write the bounds of the interval of a difference; empty where it has none."""
    defined = math.isfinite(difference.low) and math.isfinite(difference.high)
    return f"{signed(difference.low)} to {signed(difference.high)}" if defined else ""


def p_value(p: float) -> str:
    """Write a p-value.

    >>> p_value(0.0123), p_value(0.0)
    ('0.012', '< 0.001')
    """
    return "< 0.001" if p < 0.001 else number(p)


FILTERS: dict[str, Callable[..., str]] = {
    "signed": signed,
    "bounds": bounds,
    "signed_bounds": signed_bounds,
    "p_value": p_value,
}


def _marking(report: Report) -> list[str]:
    """Models with a mask in the gallery, in the order of the results."""
    names = [name for shown in report.gallery for name in shown.predictions]
    listed = [model.name for model in report.models]
    return sorted(set(names), key=lambda n: (listed.index(n) if n in listed else len(listed), n))


def _gallery_row(report: Report, shown: GallerySlice) -> dict[str, Any]:
    box = gallery.square_around_head(shown.image, shown.reference, *shown.predictions.values())
    image, reference = gallery.crop(shown.image, box), gallery.crop_mask(shown.reference, box)
    num_reference = int(shown.reference.sum())
    panels = {}
    for name, prediction in shown.predictions.items():
        both = int(np.sum(prediction & shown.reference))
        picture = gallery.overlay(image, reference, gallery.crop_mask(prediction, box))
        overlap = f"{both:,} of {num_reference:,} reference pixels found" if num_reference else ""
        extra = f"{int(prediction.sum()) - both:,} marked in error"
        panels[name] = {
            "picture": data_uri(gallery.png(picture), "image/png"),
            "counts": ", ".join(filter(None, (overlap, extra))),
            "p": shown.p.get(name),
            "title": report.title_of(name),
        }
    plain_picture = data_uri(gallery.png(image), "image/png")
    reference_text = f"{num_reference:,} px" if num_reference else "no hemorrhage"
    return {"shown": shown, "plain": plain_picture, "reference": reference_text, "panels": panels}
