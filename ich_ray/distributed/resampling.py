"""Resamples of an evaluation in a pool: the result depends on neither its size nor its order."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import ray
import ray.data

from ich_ray.capacity import Process
from ich_ray.config import EvaluateConfig
from ich_ray.distributed import records
from ich_ray.distributed.metering import metered
from ich_ray.distributed.progress import bar
from ich_ray.distributed.resources import options
from ich_ray.distributed.session import Session
from ich_ray.statistics.comparison import (
    METRICS,
    Exams,
    PixelAp,
    Predicted,
    Resampled,
    errors_of,
    joined,
    pixel_aps,
    resampled,
)

CHUNK = 100
"""Resamples of one call of the pool."""

WHOLE = -1
"""In place of a first resample: all patients once."""

RESAMPLER = Process(memory=1_000_000_000)
"""Measured: 0.4 GB, of small evaluations; it holds one shelf of pixels at a time."""

RESAMPLING = "resample"
"""The kind of this work, in the runs table."""

Pairs = Sequence[tuple[str, str]]


class Resampler:
    """Computes chunks of resamples; holds the statistics of all models once."""

    def __init__(self, *, exams: Any, predicted: Any, compared: Pairs, seed: int) -> None:
        self.exams, self.predicted = ray.get(exams), ray.get(predicted)
        self.compared, self.seed = compared, seed

    def __call__(self, batch: Mapping[str, np.ndarray]) -> dict[str, list[Any]]:
        """Compute the chunks that a batch names by their first and last resample."""
        first, last = int(batch["first"][0]), int(batch["last"][0])
        if first == WHOLE:
            on_all = pixel_aps(self.predicted).values()
            told = [value for one in on_all for value in (one.estimate, *one.influence.tolist())]
            return {"first": [first], "figures": [told]}
        found = resampled(
            self.exams, self.predicted, self.compared, seed=self.seed, resamples=range(first, last)
        )
        figures = [
            *(found.values[name][metric] for name in self.predicted for metric in METRICS),
            *(found.errors[key] for key in errors_of(list(self.predicted), self.compared)),
        ]
        return {"first": [first], "figures": [np.concatenate(figures).tolist()]}


def resample(
    run: Session,
    config: EvaluateConfig,
    exams: Exams,
    predicted: Mapping[str, Predicted],
    compared: Pairs,
) -> tuple[Resampled, dict[str, PixelAp]]:
    """Return all resamples that the settings ask for, and each model's pixel AP on all patients.

    Args:
        run: The session.
        config: Seed and number of resamples, and size of the pool.
        exams: The exams that all models saw.
        predicted: Name -> statistics of a model.
        compared: Pairs of models, first minus second.

    Raises:
        BudgetError: The budget is passed.
    """
    starts = range(0, config.resamples, CHUNK)
    chunks = [
        {"first": WHOLE, "last": WHOLE},
        *({"first": s, "last": min(s + CHUNK, config.resamples)} for s in starts),
    ]
    actors = min(config.actors, len(chunks))
    dataset = ray.data.from_items(chunks, override_num_blocks=len(chunks)).map_batches(
        Resampler,
        fn_constructor_kwargs={
            "exams": ray.put(exams),
            "predicted": ray.put(dict(predicted)),
            "compared": list(compared),
            "seed": config.seed,
        },
        batch_size=1,
        batch_format="numpy",
        compute=ray.data.ActorPoolStrategy(size=actors),
        **options(RESAMPLER),
    )
    found: dict[int, Resampled] = {}
    whole: dict[str, PixelAp] = {}
    with (
        bar("resample", total=len(chunks), unit="chunk") as shown,
        metered(run, RESAMPLING, RESAMPLER, processes=actors) as meter,
    ):
        for row in records.rows("resample", dataset):
            shown.update(1)
            if int(row["first"]) == WHOLE:
                whole = _whole(row["figures"], list(predicted))
                continue
            part = _part(row["figures"], list(predicted), compared)
            found[int(row["first"])] = part
            of_model = next(iter(part.values.values()))["exam_auc"]
            meter.finished(len(of_model) * len(predicted), more=len(found) < len(starts))
    return joined([found[start] for start in sorted(found)]), whole


def _whole(figures: Sequence[float], names: Sequence[str]) -> dict[str, PixelAp]:
    """Return what a resampler said of all patients, in the order of the models."""
    rows = np.array(figures, np.float64).reshape(len(names), -1)
    return {
        name: PixelAp(estimate=float(row[0]), influence=row[1:])
        for name, row in zip(names, rows, strict=True)
    }


def _part(figures: Sequence[float], names: Sequence[str], compared: Pairs) -> Resampled:
    """Return a chunk as its resampler had it: figures come in the order in which they were sent."""
    keys = errors_of(names, compared)
    rows = iter(np.array(figures, np.float64).reshape(len(names) * len(METRICS) + len(keys), -1))
    return Resampled(
        values={name: {metric: next(rows) for metric in METRICS} for name in names},
        errors={key: next(rows) for key in keys},
    )
