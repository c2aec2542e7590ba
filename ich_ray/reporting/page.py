"""A report as one HTML page: styles and pictures inside, nothing to fetch."""

import json
import math
from collections.abc import Callable

from ich_ray.reporting.claim import claim_checklist
from ich_ray.reporting.contents import Report
from ich_ray.reporting.figures.style import MINUS
from ich_ray.reporting.gallery_rows import (
    gallery_row,
    outlined,
    scrolls,
    window_of,
    windows_of,
)
from ich_ray.reporting.headline import (
    SHORT,
    cautions,
    headline,
    in_reading_order,
    main_difference,
    non_inferior,
    verdict,
)
from ich_ray.reporting.html import DASH, number, render, script
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
        gallery=[gallery_row(report, shown) for shown in report.gallery],
        outlined=outlined(report),
        windows=[window_of(window) for window in windows_of(report)],
        gallery_script=script("slice_drawing.js", "gallery.js") if scrolls(report) else None,
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
