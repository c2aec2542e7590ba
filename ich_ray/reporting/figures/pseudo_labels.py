"""A teacher's ranking of unlabelled slices as a picture."""

import numpy as np
from jaxtyping import Float, Float64
from matplotlib.ticker import FuncFormatter, NullFormatter

from ich_ray.reporting.contents import PseudoLabels
from ich_ray.reporting.figures.style import COLOURS, INK, one_panel

LEAST_ODDS = 1e-4
"""Probabilities within this of 0 or 1 share the outermost bins of the histogram."""


def pseudo_label_scores(labels: PseudoLabels) -> bytes:
    """Histogram of the teacher's probabilities, on a scale of odds, on both sides of the cut."""
    p = labels.p[np.isfinite(labels.p)]
    cut = float(_log_odds(np.array([labels.cut]))[0])
    limit = float(_log_odds(np.array([1.0]))[0])
    below = np.linspace(-limit, cut, max(2, round(30 * (cut + limit) / limit) + 1))
    above = np.linspace(cut, limit, max(2, round(30 * (limit - cut) / limit) + 1))
    with one_panel(7.2, 3.2) as (_, axes, buffer):
        sides = ((p < labels.cut, below, COLOURS[0]), (p >= labels.cut, above, COLOURS[1]))
        for members, edges, colour in sides:
            if edges[-1] > edges[0]:
                axes.hist(
                    _log_odds(p[members]), edges.tolist(), color=colour, log=True, rwidth=0.92
                )
        axes.axvline(cut, color=INK, linewidth=1.2, dashes=(4, 2))
        share = labels.num_positive / max(labels.num_slices, 1)
        axes.set_title(
            f"{labels.num_positive:,} of {labels.num_slices:,} slices ({100 * share:.1f} %) became "
            f"positive; cut at p = {labels.cut:.3g}",
            fontsize=9,
            loc="left",
        )
        ticks = np.array([LEAST_ODDS, 0.001, 0.01, 0.1, 0.5, 0.9, 0.99, 0.999, 1 - LEAST_ODDS])
        names = [f"{tick:g}" for tick in ticks]
        names[0], names[-1] = f"≤ {names[0]}", f"≥ {names[-1]}"
        axes.set_xticks(_log_odds(ticks), names)
        axes.yaxis.set_major_formatter(FuncFormatter(lambda count, _: f"{count:,.0f}"))
        axes.yaxis.set_minor_formatter(NullFormatter())
        axes.set(xlabel="Teacher's probability of hemorrhage (scale of odds)")
        axes.set(ylabel="Slices (log scale)")
        axes.set_ylim(bottom=0.6)
        axes.grid(visible=True, axis="y")
    return buffer.getvalue()


def _log_odds(p: Float[np.ndarray, " slice"]) -> Float64[np.ndarray, " slice"]:
    inside = np.clip(p.astype(np.float64), LEAST_ODDS, 1 - LEAST_ODDS)
    return np.asarray(np.log(inside / (1 - inside)))
