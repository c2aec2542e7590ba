"""Predictions and reference of other software, counted exam by exam as our own are."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
from jaxtyping import Bool
from scipy.special import logit

from ich_ray.errors import QualityError
from ich_ray.foreign_exams import ForeignExam
from ich_ray.scored_volume import ScoredVolume, aligned
from ich_ray.statistics.comparison import exam_score
from ich_ray.statistics.exam_slices import CountedSlice
from ich_ray.statistics.exam_statistics import CountedExam, Counting, ExamFacts, count_exam
from ich_ray.statistics.score_levels import quantise_logits
from ich_ray.volume import neighbours

LARGEST_STEP_MM = 10.0
"""Between slices of a head that are neighbours: of two slices alone no usual step is known."""

Ignored = Bool[np.ndarray, "slice row column"] | None


@dataclass(frozen=True, kw_only=True, slots=True)
class ForeignCase:
    """One exam of a reference, with what each model says of it."""

    key: str
    """Its number: names may be patients'."""

    patient: str
    """Likewise."""

    truth: ForeignExam
    said: Mapping[str, ForeignExam]
    """Model -> prediction."""

    @property
    def has_maps(self) -> bool:
        """Whether reference and all models have its pixels."""
        return all(one.map is not None for one in (self.truth, *self.said.values()))


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class CaseVolumes:
    """The pixels of a case that are needed; all on one grid where they are compared."""

    truth: ScoredVolume | None = None
    said: Mapping[str, ScoredVolume] = field(default_factory=dict)


def needs_pixels(case: ForeignCase, one: ForeignExam) -> bool:
    """Return whether the map of a case's reference, or of a model, has to be read.

    It is where pixels are compared, and where nothing else tells label or score of the exam.
    """
    silent = one.value is None and not one.slices
    return one.map is not None and (case.has_maps or silent)


def on_one_grid(truth: ScoredVolume, said: Mapping[str, ScoredVolume]) -> CaseVolumes:
    """Put the volumes of an exam on one grid, slices that one leaves out filled with 0.

    Raises:
        QualityError: Their voxels are not the same; names the model.
    """
    for name, one in said.items():
        try:
            truth, _ = aligned(truth, one)
        except QualityError as error:
            raise QualityError(f"predictions {name} against the reference: {error}") from None
    return CaseVolumes(
        truth=truth, said={name: aligned(truth, one)[1] for name, one in said.items()}
    )


def count_case(
    case: ForeignCase,
    volumes: CaseVolumes,
    *,
    score_slices: int,
    counting: Mapping[str, Counting],
) -> list[CountedExam]:
    """Count what each model says of a case.

    Slices are those that the tables of the reference and of all models name; without such tables
    those of the maps, where all have one.

    Args:
        case: The exam.
        volumes: Its pixels, as far as `needs_pixels` says.
        score_slices: The score of an exam whose own row has none is the mean of so many highest
            scores of its slices: those of the table, else the highest pixel of each.
        counting: Model -> what else is counted.
    """
    facts = ExamFacts(
        exam=case.key,
        patient=case.patient,
        corpus="reference",
        label=label_of(case.truth, volumes.truth),
    )
    named = slices_of_all(case)
    found = []
    for name, said in case.said.items():
        pixels: list[CountedSlice] = []
        if case.has_maps:
            assert volumes.truth is not None, case.key
            pixels = _with_pixels(volumes.truth, volumes.said[name], labelled=named is None)
        slices = [
            CountedSlice(key=one, label=case.truth.slices[one] > 0, score=said.slices[one])
            for one in named or ()
        ]
        score = _score(said, volumes.said.get(name), volumes.truth, slices=score_slices)
        counted = [*slices, *pixels] or [CountedSlice(key="exam", label=None, score=score)]
        found.append(count_exam(name, facts, counted, score=score, counting=counting.get(name)))
    return found


def slices_of_all(case: ForeignCase) -> list[str] | None:
    """Return the slices that all tables of a case name; None where one names none at all."""
    if not case.truth.slices or not all(said.slices for said in case.said.values()):
        return None
    return [
        name
        for name in case.truth.slices
        if all(name in said.slices for said in case.said.values())
    ]


def label_of(truth: ForeignExam, volume: ScoredVolume | None) -> bool:
    """Return whether an exam is positive: by its own row, its slices, or its pixels."""
    if truth.value is not None:
        return truth.value > 0
    if truth.slices:
        return any(value > 0 for value in truth.slices.values())
    assert volume is not None, truth.where
    return bool(_marked(volume).any())


def _score(
    said: ForeignExam, volume: ScoredVolume | None, truth: ScoredVolume | None, *, slices: int
) -> float:
    if said.value is not None:
        return said.value
    if said.slices:
        return exam_score(list(said.slices.values()), slices=slices)
    assert volume is not None, said.where
    on_grid = truth is not None and truth.values.shape == volume.values.shape
    ignored = truth.ignored if truth is not None and on_grid else None
    return exam_score(_highest(volume, ignored), slices=slices)


def _highest(volume: ScoredVolume, ignored: Ignored) -> list[float]:
    """Return the highest pixel of each slice; ignored ones do not count."""
    values = volume.values if ignored is None else np.where(ignored, 0, volume.values)
    return [float(value) for value in values.max(axis=(1, 2))]


def _with_pixels(truth: ScoredVolume, said: ScoredVolume, *, labelled: bool) -> list[CountedSlice]:
    marked, spacing = _marked(truth), truth.spacing_mm
    before = _before(truth)
    slices = []
    for i, score in enumerate(_highest(said, truth.ignored)):
        ignored = None if truth.ignored is None else truth.ignored[i]
        with np.errstate(divide="ignore"):
            levels = quantise_logits(logit(said.values[i].astype(np.float64)))
        slices.append(
            CountedSlice(
                key=str(i),
                label=bool(marked[i].any()) if labelled else None,
                score=score,
                levels=levels,
                reference=marked[i],
                valid=None if ignored is None or not ignored.any() else ~ignored,
                previous=None if before[i] is None else str(before[i]),
                spacing_mm=None if spacing is None else spacing[1:],
                extent_mm=None if spacing is None else spacing[0],
            )
        )
    return slices


def _before(volume: ScoredVolume) -> list[int | None]:
    """Return the physical neighbour before each slice: a bleed does not pass what is left out."""
    at = volume.positions_mm
    return [
        near if near is not None and abs(at[i] - at[near]) <= LARGEST_STEP_MM else None
        for i, (near, _) in enumerate(neighbours(at))
    ]


def _marked(volume: ScoredVolume) -> Bool[np.ndarray, "slice row column"]:
    """Return the voxels that a reference marks; of one in fractions those of one half or more."""
    marked = volume.values >= 0.5
    return marked if volume.ignored is None else marked & ~volume.ignored


def cases_of(
    truth: Mapping[str, ForeignExam], said: Mapping[str, Mapping[str, ForeignExam]]
) -> list[ForeignCase]:
    """Return the exams that reference and all predictions hold, numbered as the reference has them.

    Args:
        truth: Exam -> reference.
        said: Model -> exam -> prediction.
    """
    number = {exam: f"{i:07d}" for i, exam in enumerate(truth, 1)}
    patients: dict[str, str] = {}
    for one in truth.values():
        patients.setdefault(one.patient, f"{len(patients) + 1:07d}")
    return [
        ForeignCase(
            key=number[exam],
            patient=patients[one.patient],
            truth=one,
            said={name: of[exam] for name, of in said.items()},
        )
        for exam, one in truth.items()
        if all(exam in of for of in said.values())
    ]


def left_out(
    truth: Mapping[str, ForeignExam],
    said: Mapping[str, Mapping[str, ForeignExam]],
    cases: Sequence[ForeignCase],
    *,
    others: int,
) -> list[str]:
    """Return a sentence for each reason why exams, or pixels of exams, are not compared.

    Args:
        truth: Exam -> reference.
        said: Model -> exam -> prediction.
        cases: Those compared.
        others: Exams of the reference that fixes thresholds.
    """
    sentences = []
    for name, of in said.items():
        missing = sum(exam not in of for exam in truth)
        if missing:
            sentences.append(
                f"{missing} of {len(truth)} exams of the reference have no prediction of {name}, "
                "and are left out for all models."
            )
        beside = sum(exam not in truth for exam in of) - others
        if beside > 0:
            sentences.append(
                f"{beside} of {len(of)} exams that {name} predicts are not in the reference, and "
                "are left out."
            )
    maps = sum(case.has_maps for case in cases)
    any_map = any(one.map for case in cases for one in (case.truth, *case.said.values()))
    if any_map and maps < len(cases):
        sentences.append(
            f"Pixels are compared in {maps} of {len(cases)} exams: the others lack the map of a "
            "model, or of the reference."
        )
    shared = [(case, slices_of_all(case)) for case in cases]
    unscored = sum(len(case.truth.slices) - len(of) for case, of in shared if of is not None)
    if unscored:
        sentences.append(
            f"{unscored} slices that the reference labels have no score of a model, and are left "
            "out of the figures by slice."
        )
    return sentences
