"""Exams whose scores are their probabilities, and any exams at all."""

from typing import NamedTuple

import numpy as np
from hypothesis import assume
from hypothesis import strategies as st
from scipy.special import expit, ndtr


class Exams(NamedTuple):
    scores: np.ndarray
    labels: np.ndarray
    patient: np.ndarray


@st.composite
def exams(draw: st.DrawFn) -> Exams:
    """Heavily tied scores, 0 and 1 among them, labels of both classes, patients of some exams."""
    size = draw(st.integers(2, 40))
    scores = draw(st.lists(st.integers(0, 8), min_size=size, max_size=size))
    labels = np.array(draw(st.lists(st.booleans(), min_size=size, max_size=size)))
    patient = draw(st.lists(st.integers(3, 9), min_size=size, max_size=size))
    assume(0 < labels.sum() < size)
    return Exams(np.array(scores) / 8, labels, np.array(patient))


def calibrated(seed: int, *, patients: int = 200, of_each: int = 1, slope: float = 1.0) -> Exams:
    """Exams that are positive as often as their scores say, alike within a patient.

    Scores are normal logits about -1, of deviation 2. `slope` other than 1: the scores are too
    extreme (below) or too timid (above).
    """
    rng = np.random.default_rng(seed)
    patient = np.repeat(np.arange(patients), of_each)
    shared, own = rng.normal(size=(2, patients))[:, patient], rng.normal(size=(2, len(patient)))
    if of_each == 1:
        logit, luck = own
    else:
        logit, luck = (shared + own) / np.sqrt(2)
    logit = 2 * logit - 1
    return Exams(expit(logit / slope), ndtr(luck) < expit(logit), patient)
