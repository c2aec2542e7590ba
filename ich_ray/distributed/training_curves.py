"""The curves of a training beside its model: a picture, and a file for TensorBoard."""

from collections.abc import Sequence
from typing import TYPE_CHECKING

from ich_ray.learning_curves import LearningCurves
from ich_ray.storage.urls import join

if TYPE_CHECKING:
    from ich_ray.distributed.training_board import Told
    from ich_ray.storage.objects import Store

PICTURE = "curves.svg"
TENSORBOARD = "tensorboard"
"""Folder of the events, beside the model."""


def curves_of(told: Sequence["Told"], *, best_step: int | None = None) -> LearningCurves:
    """Return the curves of all that was told; what a later attempt tells again wins."""
    curves = LearningCurves(scalars={}, best_step=best_step)
    for step, values, _ in told:
        for name, value in values.items():
            curves = curves.with_point(name, step, value)
    return curves


class Curves:
    """Writes picture and events of one training, each time in the place of those before."""

    def __init__(self, store: "Store", url: str, *, title: str, steps: int) -> None:
        """Write nothing yet.

        Args:
            store: Reaches the model's folder.
            url: Of that folder.
            title: Of the picture.
            steps: Of the whole training.
        """
        self.store, self.url, self.title, self.steps = store, url, title, steps
        self.best_step: int | None = None
        """Whose weights are the model's, where the tuning selections choose."""

    def write(self, told: Sequence["Told"]) -> None:
        """Write what was told.

        Raises:
            SurroundingsError: The store is away.
        """
        # Here and not above: matplotlib takes a second to import.
        from ich_ray.reporting.figures.learning_curves import learning_curves_figure
        from ich_ray.reporting.tensorboard_events import FILE_NAME, tensorboard_events

        curves = curves_of(told, best_step=self.best_step)
        picture = learning_curves_figure(self.title, curves, steps=self.steps)
        self.store.write_bytes(join(self.url, PICTURE), picture)
        since = told[0].at_s
        seconds = {one.step: one.at_s - since for one in told}
        events = tensorboard_events(curves, since_s=since, seconds_at=seconds)
        self.store.write_bytes(join(self.url, TENSORBOARD, FILE_NAME), events)
