"""Batches are filled across exams, and rows come back exam by exam in the exams' order."""

from itertools import pairwise
from typing import NamedTuple

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from ich_ray.config import InputConfig
from ich_ray.distributed.exam_predictions import predictions_of
from ich_ray.exam import Geometry, Slice

few = settings(max_examples=40, deadline=None)
CONFIG = InputConfig(channels="single")


class Said(NamedTuple):
    p: np.ndarray
    maps: np.ndarray


def exam(number: int, length: int, side: int) -> list[Slice]:
    return [
        Slice(
            exam=f"e{number}",
            key=f"e{number}-{i}",
            patient="p",
            series="s",
            stored=np.full((side, side), number + i, np.int16),
            slope=1.0,
            intercept=0.0,
            kind="hu",
            center=None,
            width=None,
            geometry=Geometry(
                position_mm=float(i), spacing_mm=(0.5, 0.5), thickness_mm=5.0, tilt_deg=0.0
            ),
        )
        for i in range(length)
    ]


@few
@given(
    st.lists(st.tuples(st.integers(1, 9), st.sampled_from([8, 16])), max_size=8),
    st.integers(1, 7),
)
def test_every_slice_is_predicted_once_in_batches_of_one_size(
    shapes: list[tuple[int, int]], batch: int
) -> None:
    exams = [exam(i, length, side) for i, (length, side) in enumerate(shapes)]
    asked: list[tuple[int, ...]] = []

    def predict(inputs: np.ndarray) -> Said:
        asked.append(inputs.shape)
        means = inputs.mean((1, 2, 3)).astype(np.float32)
        cells = inputs.shape[-1] // 8
        return Said(means, np.zeros((len(inputs), cells, cells), np.float16))

    found = list(predictions_of(exams, predict, CONFIG, batch=batch))
    assert [[row["slice"] for row in rows] for rows in found] == [
        [item.key for item in one] for one in exams
    ]
    for one, rows in zip(exams, found, strict=True):
        for item, row in zip(one, rows, strict=True):
            level = (int(item.stored[0, 0]) + 40) / 200 * 65535
            assert abs(row["p"] - level) < 1
            assert row["map_rows"] == item.stored.shape[0] // 8
    # All but the last of a run of exams of one size are full.
    runs = sum(a != b for a, b in pairwise(asked) if a[-1] != b[-1]) + 1
    assert sum(shape[0] < batch for shape in asked) <= runs
    assert all(shape[0] <= batch for shape in asked)


def test_without_exams_nothing_is_predicted() -> None:
    def predict(inputs: np.ndarray) -> Said:
        raise AssertionError(inputs.shape)

    assert list(predictions_of([], predict, CONFIG, batch=4)) == []
