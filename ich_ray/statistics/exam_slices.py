"""A slice of an exam as it is counted: its truth, and what a model says of it."""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, UInt16


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class CountedSlice:
    """A slice of an exam, with its truth and what a model says of it."""

    key: str
    label: bool | None
    score: float
    """Probability of hemorrhage."""

    levels: UInt16[np.ndarray, "rows columns"] | None = None
    """Of the pixels (score_levels.py); None where nobody marked the slice."""

    reference: Bool[np.ndarray, "rows columns"] | None = None
    valid: Bool[np.ndarray, "rows columns"] | None = None
    """False where a pixel is to be ignored; None: all count."""

    previous: str | None = None
    """Key of its physical neighbour before it."""

    spacing_mm: tuple[float, float] | None = None
    """Between rows and columns."""

    extent_mm: float | None = None
    """How much of the patient the slice stands for, along its normal (exam_summary.py)."""

    @property
    def area(self) -> int:
        """Pixels that the reference marks."""
        return 0 if self.reference is None else int(self.reference.sum())
