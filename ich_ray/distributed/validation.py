"""A network in training on the tuning selections, by the code that evaluates models.

Each process of the group predicts its own exams; what they sum up to is the same for all.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import numpy as np
import torch
import torch.distributed
from torch import nn

from ich_ray.config import InputConfig, ValidationConfig
from ich_ray.distributed.exam_predictions import predictions_of
from ich_ray.distributed.part_statistics import (
    counted_slices,
    facts_of,
    score_of,
    with_reference,
)
from ich_ray.distributed.session import Selection
from ich_ray.learning.patchfcn import PatchFCN
from ich_ray.learning.predictor import Predictor, predicting
from ich_ray.learning.sampling import Worker
from ich_ray.statistics import average_precision, overlap, pixel_histograms, roc, score_levels
from ich_ray.statistics.exam_statistics import CountedExam, count_exam
from ich_ray.storage.corpus import index_table, read_exams
from ich_ray.storage.objects import Store

BATCH = 8
"""Slices of one forward pass."""


class _Found(NamedTuple):
    """Of the exams of one process."""

    scores: tuple[float, ...]
    labels: tuple[bool, ...]
    pixels: pixel_histograms.SliceHistogram


@dataclass(frozen=True, kw_only=True, slots=True)
class Validation:
    """Measures a network on the tuning selections."""

    store: Store
    selections: tuple[Selection, ...]
    input: InputConfig
    config: ValidationConfig
    crop: int
    """Side of the patches that the network is trained on, pixels."""

    worker: Worker
    device: torch.device
    alive: Callable[[], None]
    """Is called after each exam: this process does not stand still."""

    mine: tuple[frozenset[str], ...] = field(init=False)
    """Patients of each selection that this process predicts."""

    def __post_init__(self) -> None:
        """Divide the patients among the processes."""
        mine = []
        for selection in self.selections:
            patients = index_table(self.store, selection.corpus)["patient"].unique().to_pylist()
            held = sorted(filter(selection.holds, patients))
            mine.append(frozenset(held[self.worker.rank :: self.worker.world]))
        object.__setattr__(self, "mine", tuple(mine))

    def __call__(self, network: nn.Module) -> Mapping[str, float]:
        """Return exam AUC, pixel AP and the DSC at p = 0.5, the same in all processes.

        NaN where the selections hold exams of one class only, or no positive pixel.
        """
        assert isinstance(network, PatchFCN)
        for statistic in network.buffers():
            # The first process's are the model's; each has its own until DDP's next step.
            torch.distributed.broadcast(statistic, 0)
        with predicting(network, crop=self.crop, device=self.device) as predictor:
            mine = list(self._exams(predictor))
        here = _Found(
            scores=tuple(exam.statistics.score for exam in mine),
            labels=tuple(exam.statistics.facts.label for exam in mine),
            pixels=pixel_histograms.merge([exam.pixels for exam in mine]),
        )
        found: list[Any] = [None] * self.worker.world
        torch.distributed.all_gather_object(found, here)
        return metrics(found)

    def _exams(self, predictor: Predictor) -> Iterator[CountedExam]:
        for selection, mine in zip(self.selections, self.mine, strict=True):
            for url in selection.corpus.files:
                for exam in read_exams(self.store, url, splits=mine.__contains__):
                    known = with_reference(exam)
                    if known:
                        yield self._of_exam(exam, known, predictor, selection.corpus.name)
                    self.alive()

    def _of_exam(
        self, exam: Sequence[Any], known: list[Any], predictor: Predictor, corpus: str
    ) -> CountedExam:
        (rows,) = predictions_of([exam], predictor.predict, self.input, batch=BATCH)
        of_slice = {row["slice"]: row for row in rows}
        counted = counted_slices(known, of_slice, grid=self.input.size)
        score = score_of(counted, slices=self.config.exam_score_slices)
        return count_exam("in training", facts_of(known, corpus=corpus), counted, score=score)


def metrics(found: Sequence[_Found]) -> dict[str, float]:
    """Return the metrics of all exams together, however they fell to processes."""
    scores = np.array([score for one in found for score in one.scores], np.float64)
    labels = np.array([label for one in found for label in one.labels], np.bool_)
    pixels = pixel_histograms.stack([pixel_histograms.merge([one.pixels for one in found])])
    both = labels.any() and not labels.all()
    half = int(score_levels.quantise_logits(np.zeros(1, np.float32))[0])
    once = np.ones((1, 1), np.int64)
    return {
        "exam_auc": float(roc.auc(scores, labels)) if both else float("nan"),
        "pixel_ap": float(average_precision.weighted_average_precisions(pixels, once)[0]),
        "dsc": float(overlap.weighted_dices(overlap.overlap_at(pixels, half), once)[0]),
    }
