"""Predictions and reference of other software, counted exam by exam as our own are."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from scipy.special import logit

from ich_ray.errors import QualityError
from ich_ray.foreign_exams import ForeignExam
from ich_ray.scored_volume import ScoredVolume, aligned
from ich_ray.statistics.comparison import exam_score
from ich_ray.statistics.exam_slices import CountedSlice
from ich_ray.statistics.exam_statistics import Counting, ExamFacts, ExamStatistics, count_exam
from ich_ray.statistics.score_levels import quantise_logits


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
    """The pixels of a case, all on one grid."""

    truth: ScoredVolume
    said: Mapping[str, ScoredVolume]


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
    volumes: CaseVolumes | None,
    *,
    score_slices: int,
    counting: Mapping[str, Counting],
) -> list[ExamStatistics]:
    """Count what each model says of a case.

    Args:
        case: The exam.
        volumes: Its pixels; None without them.
        score_slices: The score of an exam whose own row has none is the mean of so many highest
            scores of its slices: those of the table, else the highest pixel of each.
        counting: Model -> what else is counted.
    """
    facts = ExamFacts(
        exam=case.key,
        patient=case.patient,
        corpus="reference",
        label=label_of(case.truth, None if volumes is None else volumes.truth),
    )
    found = []
    for name, said in case.said.items():
        pixels = [] if volumes is None else _with_pixels(volumes.truth, volumes.said[name])
        slices = _of_tables(case.truth, said)
        score = said.value
        if score is None:
            scores = list(said.slices.values()) or [item.score for item in pixels]
            score = exam_score(scores, slices=score_slices)
        if slices:
            pixels = [_unlabelled(item) for item in pixels]
        counted = [*slices, *pixels] or [CountedSlice(key="exam", label=None, score=score)]
        found.append(count_exam(name, facts, counted, score=score, counting=counting.get(name)))
    return found


def label_of(truth: ForeignExam, volume: ScoredVolume | None) -> bool:
    """Return whether an exam is positive: by its own row, its slices, or its pixels."""
    if truth.value is not None:
        return truth.value > 0
    if truth.slices:
        return any(value > 0 for value in truth.slices.values())
    assert volume is not None, truth.where
    return bool(_marked(volume).any())


def _of_tables(truth: ForeignExam, said: ForeignExam) -> list[CountedSlice]:
    """Return the slices that reference and predictions both name."""
    both = [name for name in truth.slices if name in said.slices]
    return [
        CountedSlice(key=name, label=truth.slices[name] > 0, score=said.slices[name])
        for name in both
    ]


def _with_pixels(truth: ScoredVolume, said: ScoredVolume) -> list[CountedSlice]:
    marked, spacing = _marked(truth), truth.spacing_mm
    with np.errstate(divide="ignore"):
        levels = quantise_logits(logit(said.values.astype(np.float64)))
    slices = []
    for i, score in enumerate(said.values.max(axis=(1, 2))):
        ignored = None if truth.ignored is None else truth.ignored[i]
        slices.append(
            CountedSlice(
                key=str(i),
                label=bool(marked[i].any()),
                score=float(score),
                levels=levels[i],
                reference=marked[i],
                valid=None if ignored is None or not ignored.any() else ~ignored,
                previous=str(i - 1) if i else None,
                spacing_mm=None if spacing is None else spacing[1:],
                extent_mm=None if spacing is None else spacing[0],
            )
        )
    return slices


def _marked(volume: ScoredVolume) -> np.ndarray:
    marked = volume.values > 0
    return marked if volume.ignored is None else marked & ~volume.ignored


def _unlabelled(item: CountedSlice) -> CountedSlice:
    """Return a slice whose label the tables tell."""
    return CountedSlice(
        key=item.key,
        label=None,
        score=item.score,
        levels=item.levels,
        reference=item.reference,
        valid=item.valid,
        previous=item.previous,
        spacing_mm=item.spacing_mm,
        extent_mm=item.extent_mm,
    )


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
    unscored = sum(
        name not in of.slices
        for case in cases
        for of in case.said.values()
        for name in case.truth.slices
        if of.slices
    )
    if unscored:
        sentences.append(
            f"{unscored} slices that the reference labels have no score of a model, and are left "
            "out of the figures by slice."
        )
    return sentences
