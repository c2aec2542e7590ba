"""Predictions -> sufficient statistics -> metrics with intervals -> a report."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from jaxtyping import Float64

from ich_ray.capacity import Need
from ich_ray.config import EvaluateConfig
from ich_ray.distributed.estimates import Planned
from ich_ray.distributed.foreign_exams import ForeignExams
from ich_ray.distributed.metering import reserved_by
from ich_ray.distributed.own_exams import OwnExams, evaluate_config
from ich_ray.distributed.pixel_shelving import SHELVING_NEED, shelve
from ich_ray.distributed.resampling import RESAMPLER, RESAMPLING, resample
from ich_ray.distributed.resources import check_fits
from ich_ray.distributed.session import Session
from ich_ray.settings import resolved
from ich_ray.statistics.calibration.calibration import ModelCalibration, model_calibration
from ich_ray.statistics.comparison import (
    Compared,
    Exams,
    Predicted,
    Resampled,
    compare,
    main_pair,
    pairs,
)
from ich_ray.statistics.further_figures import FurtherFigures, further_figures
from ich_ray.statistics.masks.mask_figures import MaskFigures, mask_figures
from ich_ray.statistics.operating_points import OperatingPoint, PairedCalls, Rule, paired_calls
from ich_ray.statistics.paper.comparison import paper_comparison
from ich_ray.statistics.paper.figures import PaperFigures
from ich_ray.statistics.pooled_exams import (
    EMPTY,
    compared_exams,
    empty_rival,
    positive_slice_dsc,
    predicted,
    scored,
    threshold_rival,
)
from ich_ray.statistics.resampled_change import ResampledChange, resampled_change
from ich_ray.statistics.seeds.pooled import OverTrainings, over_trainings
from ich_ray.statistics.tuning import points_of, tune


@dataclass(frozen=True, kw_only=True, slots=True)
class Evaluation:
    """Every figure of one comparison, and what it was computed from."""

    names: tuple[str, ...]
    """The models, in the order of the settings; the rivals follow."""

    exams: Exams
    predicted: Mapping[str, Predicted]
    figures: Compared
    further: FurtherFigures
    masks: MaskFigures
    calibration: tuple[ModelCalibration, ...]
    resampled: ResampledChange | None
    """The difference of the headline's exam AUCs over the resamples."""

    over_trainings: OverTrainings | None
    """Recipes of several trainings, where the settings name them."""

    paper: PaperFigures | None
    """By the published procedure, where that was asked for."""

    positive_slice_dsc: Mapping[str, float]
    """DSC over the slices that hold a bleed, at the same threshold."""

    operating_points: tuple[OperatingPoint, ...]
    """None without tuning exams of both classes."""

    paired_calls: tuple[PairedCalls, ...]
    marked_patients: int
    """Those whose reference masks hold a bleed: DSC and AP rest on them."""

    exam_keys: tuple[str, ...]
    shown_slices: Mapping[str, str]
    """Exam -> the slice to show of it."""

    notes: tuple[str, ...]
    """What was left out, and why."""


Source = OwnExams | ForeignExams
"""What is compared: this store's models, or other software's predictions."""


def evaluation_identity(run: Session, source: Source) -> dict[str, Any]:
    """Return what decides the figures: models, exams and settings.

    Raises:
        ConfigError: There is no evaluate section, or something that it needs does not exist.
    """
    settings = resolved(evaluate_config(run))
    kept = {k: v for k, v in settings.items() if k not in ("actors", "report")}
    return {**source.identity(), "settings": kept, "statistics": 5}


def planned_evaluation(run: Session, source: Source) -> list[Planned]:
    """Return what an evaluation would take, predictions that are made already left out."""
    config, prices = evaluate_config(run), run.settings.budget
    return [
        *source.planned(),
        Planned(
            kind=RESAMPLING,
            units=config.resamples * (len(source.names) + len(source.rivals) + 1),
            setting="budget.resample_seconds_per_1000",
            seconds=prices.resample_seconds_per_1000 / 1000,
            each=reserved_by(RESAMPLER, processes=1),
        ),
    ]


def check_evaluation(run: Session, source: Source) -> None:
    """Refuse an evaluation before it starts, or writes anything.

    Raises:
        ConfigError: A pool, or a task, does not fit the cluster.
        QualityError: A test patient is among those that a model has learned from, or was chosen by.
    """
    config = evaluate_config(run)
    source.check()
    run.ensure_ray()
    resamplers = Need(what="evaluate.actors", processes=config.actors, each=RESAMPLER)
    check_fits(run.settings.cluster, *source.needs(), SHELVING_NEED, resamplers)


def evaluate(run: Session, source: Source, place: str) -> Evaluation:
    """Compare the models of the evaluate section on its test selections, once that was checked.

    Args:
        run: The session.
        source: What is compared.
        place: Folder for pixels by patient, which are needed no longer than this takes.

    Raises:
        QualityError: Fewer than two patients have a positive, or a negative, test exam; no
            reference mask.
        BudgetError: The budget is passed; the predictions that are written are kept.
    """
    config, names = evaluate_config(run), evaluate_config(run).in_order(source.names)
    source.predict()
    tuning = source.of_tuning()
    tuned = {name: tune(tuning[name], where=source.tuned_on) for name in names}
    gathered = source.of_test({name: one.level for name, one in tuned.items()}, place)
    counted = gathered.models
    found = {name: one.exams for name, one in counted.items()}
    seen = compared_exams(found[names[0]], where=source.where)
    pixels = shelve(run, gathered, names, seen, place)
    models = {n: predicted(found[n], seen, pixels[n], level=tuned[n].level) for n in names}
    rivals = {name: threshold_rival(found[name], seen) for name in source.rivals}
    last = names[-1]
    if counted[last].pixels.num_positive:
        rivals[EMPTY] = empty_rival(found[last], seen)
    everyone = {**models, **rivals}
    compared = [*pairs(list(models)), *((model, rival) for model in models for rival in rivals)]
    samples, whole = resample(run, config, seen.exams, everyone, compared)
    figures = compare(seen.exams, everyone, compared, samples, whole, seed=config.seed)
    own = {name: found[name] for name in models}
    test = {name: scored(of) for name, of in own.items()}
    operating = [
        point
        for name, exams in test.items()
        for point in points_of(name, tuned[name], exams, _rules(config))
    ]
    marked, main = models[last].at_level, main_pair(list(models))
    return Evaluation(
        names=names,
        exams=seen.exams,
        predicted=everyone,
        figures=figures,
        further=further_figures(
            {name: counted[name] for name in models},
            seen,
            tuned,
            groups=source.groups(seen),
            seed=config.seed,
        ),
        masks=mask_figures(own, seen, seed=config.seed),
        calibration=tuple(
            model_calibration(
                name,
                tuning=tuned[name].exams,
                test=exams,
                patient=seen.exams.patient,
            )
            for name, exams in test.items()
        ),
        resampled=resampled_change(main, _change(samples, main)) if main else None,
        over_trainings=over_trainings(seen.exams, models, config.seeds) if config.seeds else None,
        paper=paper_comparison(own, seen, tuned, main, seed=config.seed)
        if config.paper and main
        else None,
        positive_slice_dsc={
            name: positive_slice_dsc(of, level=everyone[name].level) for name, of in counted.items()
        }
        | ({EMPTY: 0.0} if EMPTY in rivals else {}),
        operating_points=tuple(operating),
        paired_calls=tuple(paired_calls(_same_rules(operating, pairs(list(models))), test)),
        marked_patients=int(np.count_nonzero(marked.tp + marked.fn)),
        exam_keys=seen.keys,
        notes=tuple(source.notes()),
        shown_slices={exam: s.largest_slice for exam, s in found[names[-1]].items()},
    )


def _change(samples: Resampled, pair: tuple[str, str]) -> Float64[np.ndarray, " resample"]:
    first, second = (samples.values[name]["exam_auc"] for name in pair)
    return np.asarray(first - second)


def source_of(run: Session) -> Source:
    """Open what is compared.

    Raises:
        ConfigError: There is no evaluate section, or something that it needs does not exist.
    """
    return ForeignExams.of(run) if evaluate_config(run).predictions else OwnExams.of(run)


def _rules(config: EvaluateConfig) -> list[Rule]:
    return [
        *(Rule("sensitivity", share) for share in config.sensitivities),
        *(Rule("specificity", share) for share in config.specificities),
    ]


def _same_rules(
    points: Sequence[OperatingPoint], compared: Sequence[tuple[str, str]]
) -> list[tuple[OperatingPoint, OperatingPoint]]:
    """Pair the points of two models that reach the same."""
    return [
        (one, other)
        for pair in compared
        for one in points
        for other in points
        if (one.model, other.model) == pair and one.rule == other.rule
    ]
