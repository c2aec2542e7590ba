"""What a network says of the slices of exams, as rows of a predictions table."""

from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from ich_ray.config import InputConfig
from ich_ray.distributed.inputs import channels_of
from ich_ray.exam import Slice
from ich_ray.storage.predictions import MAP_KIND, encode_map

if TYPE_CHECKING:
    from ich_ray.learning.predictor import Predictions

Predict = Callable[[np.ndarray], "Predictions"]
"""Slices as the network sees them, of shape (slice, channel, side, side) -> what it says."""


def predictions_of(
    exams: Iterable[Sequence[Slice]], predict: Predict, config: InputConfig, *, batch: int
) -> Iterator[list[dict[str, Any]]]:
    """Predict exams, `batch` slices at a time, which may be of several exams; yield rows by exam.

    Args:
        exams: In the order in which they are yielded.
        predict: The network.
        config: What it sees of a slice.
        batch: Slices of one pass; the last one may have fewer.
    """
    lengths: deque[int] = deque()
    rows: list[dict[str, Any]] = []
    for items, inputs in _batches(_noted(exams, lengths), config, batch):
        rows += _rows(items, predict(np.stack(inputs)))
        while lengths and len(rows) >= lengths[0]:
            done = lengths.popleft()
            yield rows[:done]
            del rows[:done]


def _noted(exams: Iterable[Sequence[Slice]], lengths: deque[int]) -> Iterator[Sequence[Slice]]:
    """Keep the lengths of exams that go by."""
    for exam in exams:
        lengths.append(len(exam))
        yield exam


def _batches(
    exams: Iterable[Sequence[Slice]], config: InputConfig, size: int
) -> Iterator[tuple[list[Slice], list[np.ndarray]]]:
    """Yield slices with what the network sees of them; the slices of a batch are of one size."""
    items: list[Slice] = []
    inputs: list[np.ndarray] = []
    for exam in exams:
        seen = channels_of(exam, config)
        if inputs and inputs[0].shape != seen[0].shape:
            yield items, inputs
            items, inputs = [], []
        items, inputs = [*items, *exam], [*inputs, *seen]
        while len(items) >= size:
            yield items[:size], inputs[:size]
            items, inputs = items[size:], inputs[size:]
    if items:
        yield items, inputs


def _rows(items: Sequence[Slice], found: "Predictions") -> list[dict[str, Any]]:
    return [
        {
            "exam": item.exam,
            "slice": item.key,
            "p": float(score),
            "map": encode_map(logits),
            "map_kind": MAP_KIND,
            "map_rows": logits.shape[0],
            "map_columns": logits.shape[1],
            "rows": item.stored.shape[0],
            "columns": item.stored.shape[1],
        }
        for item, score, logits in zip(items, found.p, found.maps, strict=True)
    ]
