"""What is told of a training while it runs: values by name and step."""

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

Points = tuple[tuple[int, float], ...]
"""(step, value), in the order of the steps, each step once."""

LOSS = "training/loss"
LEARNING_RATE = "training/learning_rate"
TUNING = "tuning/"
"""What the names of all metrics on the tuning corpus begin with."""


@dataclass(frozen=True, kw_only=True, slots=True)
class LearningCurves:
    """The curves of one training, up to some step of it."""

    scalars: Mapping[str, Points]
    """By name, e.g. `training/loss`, `training/slices_per_s`, `tuning/exam_auc`."""

    best_step: int | None = None
    """Whose weights are the model's, where the tuning corpus chooses."""

    def with_point(self, name: str, step: int, value: float) -> "LearningCurves":
        """Add a point; those of the same name at this step or later go.

        A run that goes on from a checkpoint tells the steps since then again.

        >>> curves = LearningCurves(scalars={"training/loss": ((10, 0.7), (20, 0.5), (30, 0.4))})
        >>> dict(curves.with_point("training/loss", 20, 0.6).scalars)
        {'training/loss': ((10, 0.7), (20, 0.6))}
        """
        before = tuple(point for point in self.scalars.get(name, ()) if point[0] < step)
        return replace(self, scalars={**self.scalars, name: (*before, (step, float(value)))})

    def finite(self, name: str) -> Points:
        """Return the points that can be drawn: AUC, e.g., is NaN where all exams are negative."""
        return tuple(point for point in self.scalars.get(name, ()) if math.isfinite(point[1]))


def tuning_of(record: Mapping[str, Any]) -> dict[str, float]:
    """Return what the tuning selections said of a model, by metric.

    Args:
        record: Of the model, whose weights are those of `best_step`, or of its last step. Without
            tuning selections it holds no validations; a figure that is undefined, as the AUC of
            exams that all bleed, is left out.

    >>> tuning_of({"validations": [{"step": 9, "dsc": 0.5, "exam_auc": None}]})
    {'dsc': 0.5}
    """
    measured = {one["step"]: one for one in record.get("validations") or ()}
    if not measured:
        return {}
    step = record.get("best_step")
    values = measured[max(measured) if step is None else step]
    return {
        name: float(value)
        for name, value in values.items()
        if name != "step" and value is not None and math.isfinite(value)
    }
