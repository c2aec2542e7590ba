"""Corpora for the ingest benchmark: new identifiers and new noise in every object."""

import os
from dataclasses import replace
from functools import lru_cache
from pathlib import Path

import numpy as np

from ich_ray.phantom import SITES, PhantomExam, make_exam
from ich_ray.phantom.exam import uid
from ich_ray.storage.phantom_dicom import dicom_objects

SLICES_PER_EXAM = 32
MATRIX = 512
NOISE = 2
"""Stored units that the new noise adds or takes, at most; the phantom has its own already."""


def write(folder: Path, num_slices: int) -> None:
    """Write exams of 32 slices until there are enough; whole exams that are there are kept."""
    for number in range(_num_exams(num_slices)):
        place = folder / f"exam-{number:05d}"
        if place.exists():
            continue
        temporary = folder / f".exam-{number:05d}"
        temporary.mkdir(parents=True, exist_ok=True)
        for name, data in dicom_objects(_exam(number), with_mask=False):
            (temporary / Path(name).name).write_bytes(data)
        temporary.rename(place)


def linked(folder: Path, into: Path, num_slices: int) -> int:
    """Make a corpus of the first exams of another, by hard links; return its slices."""
    for number in range(_num_exams(num_slices)):
        place = into / f"exam-{number:05d}"
        place.mkdir(parents=True, exist_ok=True)
        for path in (folder / place.name).iterdir():
            if not (place / path.name).exists():
                os.link(path, place / path.name)
    return _num_exams(num_slices) * SLICES_PER_EXAM


def _num_exams(num_slices: int) -> int:
    return -(-num_slices // SLICES_PER_EXAM)


@lru_cache
def _base(site: str) -> PhantomExam:
    return make_exam(SITES[site], seed=11, index=0, matrix=MATRIX, num_slices=SLICES_PER_EXAM)


def _exam(number: int) -> PhantomExam:
    base = _base(list(SITES)[number % len(SITES)])
    rng = np.random.default_rng(number)
    noise = rng.integers(-NOISE, NOISE, base.stored.shape, np.int16, endpoint=True)
    # Not below the least value: unsigned values would wrap.
    stored = np.maximum(base.stored.astype(np.int32) + noise, base.stored.min())
    name = f"bench-{number:05d}"
    return replace(
        base,
        exam=name,
        patient=f"bench-patient-{number:05d}",
        study_uid=uid(name, "study"),
        series_uid=uid(name, "series"),
        sop_uids=tuple(uid(name, f"slice {i}") for i in range(SLICES_PER_EXAM)),
        stored=stored.astype(base.stored.dtype),
    )
