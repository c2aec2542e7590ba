"""How a difference of exam AUCs lies over the resamples, counted for a picture."""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float64, Int64

BINS = 40


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class ResampledChange:
    """First model minus second."""

    a: str
    b: str
    counts: Int64[np.ndarray, " bin"]
    """Resamples between each two edges."""

    edges: Float64[np.ndarray, " edge"]


def resampled_change(
    pair: tuple[str, str], changes: Float64[np.ndarray, " resample"]
) -> ResampledChange | None:
    """Count differences in equal bins; None where none is defined.

    Args:
        pair: First and second model.
        changes: Of each resample; undefined (NaN) ones are left out.

    >>> found = resampled_change(("a", "b"), np.array([0.1, 0.1, 0.3, np.nan]))
    >>> int(found.counts.sum()), found.edges[[0, -1]].tolist()
    (3, [0.1, 0.3])
    """
    defined = changes[~np.isnan(changes)]
    if not len(defined):
        return None
    counts, edges = np.histogram(defined, BINS)
    return ResampledChange(a=pair[0], b=pair[1], counts=counts.astype(np.int64), edges=edges)
