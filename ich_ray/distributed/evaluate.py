"""Predictions -> sufficient statistics -> metrics with intervals -> a report."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import ray.data
from jaxtyping import Integer

from ich_ray.capacity import Need, Process
from ich_ray.config import EvaluateConfig
from ich_ray.distributed import records
from ich_ray.distributed.estimates import Planned
from ich_ray.distributed.exam_statistics import (
    THRESHOLD,
    ExamStatistics,
    StatisticsOfPart,
    from_row,
)
from ich_ray.distributed.lineage import (
    TrainedModel,
    deciding_predictions,
    known_to,
    refuse_shared_patients,
    trained_model,
)
from ich_ray.distributed.metering import metered, reserved_by, tasks_at_once
from ich_ray.distributed.origin import here
from ich_ray.distributed.predict import (
    planned_work,
    pool_need,
    predict_all,
    prediction_task,
)
from ich_ray.distributed.progress import bar
from ich_ray.distributed.resampling import RESAMPLER, RESAMPLING, resample
from ich_ray.distributed.resources import check_fits, options
from ich_ray.distributed.session import Selection, Session, select
from ich_ray.errors import ConfigError, QualityError
from ich_ray.settings import resolved
from ich_ray.statistics import overlap, pixel_histograms, score_levels
from ich_ray.statistics.comparison import Compared, Exams, Predicted, best_count_cut, compare, pairs
from ich_ray.statistics.operating_points import (
    OperatingPoint,
    PairedCalls,
    Rule,
    Scored,
    operating_point,
    paired_calls,
)
from ich_ray.storage.tables import Table
from ich_ray.windows import preprocessing_id

EMPTY = "empty_masks"
READER = Process(memory=1_200_000_000)
"""Measured: 0.5 GB at exams of 20 slices of 256 x 256; the rest is for one of a few hundred."""

READING = Need(what="the statistics of an evaluation", each=READER, pool=False)


@dataclass(frozen=True, kw_only=True, slots=True)
class Evaluation:
    """Every figure of one comparison, and what it was computed from."""

    names: tuple[str, ...]
    """The models, in the order of the settings; the rivals follow."""

    exams: Exams
    predicted: Mapping[str, Predicted]
    figures: Compared
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

    notes: tuple[str, ...] = field(default=())


def evaluation_identity(run: Session) -> dict[str, Any]:
    """Return what decides the figures: models, exams and settings.

    Raises:
        ConfigError: There is no evaluate section, or something that it needs does not exist.
    """
    config = evaluate_config(run)
    models = {name: trained_model(run, model) for name, model in config.models.items()}
    settings = {k: v for k, v in resolved(config).items() if k not in ("actors", "report")}
    return {
        "models": {name: model.identity for name, model in models.items()},
        "test": [s.identity for s in select(run, config.test)],
        "tuning": [s.identity for s in select(run, config.tuning)],
        "preprocessing": preprocessing_id(run.settings.input),
        "settings": settings,
        "predictions": deciding_predictions(run.settings.predict),
        "statistics": 3,
    }


def planned_evaluation(run: Session) -> list[Planned]:
    """Return what an evaluation would take, predictions that are made already left out."""
    config, prices = evaluate_config(run), run.settings.budget
    selections = [*select(run, config.test), *select(run, config.tuning)]
    models = [trained_model(run, model) for model in config.models.values()]
    tasks = [prediction_task(run, model, s) for model in models for s in selections]
    slices = sum(s.corpus.num_rows for s in selections)
    return [
        *planned_work(run, tasks),
        Planned(
            kind=_statistics_kind(run),
            units=slices * len(models),
            setting="budget.statistics_seconds_per_1000_slices",
            seconds=prices.statistics_seconds_per_1000_slices / 1000,
            each=reserved_by(READER, processes=1),
        ),
        Planned(
            kind=RESAMPLING,
            units=config.resamples * (len(models) + len((THRESHOLD, EMPTY))),
            setting="budget.resample_seconds_per_1000",
            seconds=prices.resample_seconds_per_1000 / 1000,
            each=reserved_by(RESAMPLER, processes=1),
        ),
    ]


def _statistics_kind(run: Session) -> str:
    return f"statistics {run.settings.input.size}"


def check_evaluation(run: Session) -> None:
    """Refuse an evaluation before it starts, or writes anything.

    Raises:
        ConfigError: A pool, or a task, does not fit the cluster.
        QualityError: A test patient is among those that a model has learned from, or was chosen by.
    """
    config = evaluate_config(run)
    known = {k: v for m in run.settings.models for k, v in known_to(run.settings, m).items()}
    # What fixes a threshold must not be what judges it.
    known["evaluate.tuning"] = config.tuning
    refuse_shared_patients(run, known, "evaluate.test", config.test)
    run.ensure_ray()
    resamplers = Need(what="evaluate.actors", processes=config.actors, each=RESAMPLER)
    check_fits(run.settings.cluster, pool_need(run.settings.predict), READING, resamplers)


def evaluate(run: Session) -> Evaluation:
    """Compare the models of the evaluate section on its test selections, once that was checked.

    Raises:
        QualityError: Fewer than two patients have a positive, or a negative, test exam; no
            reference mask.
        BudgetError: The budget is passed; the predictions that are written are kept.
    """
    config = evaluate_config(run)
    models = {name: trained_model(run, model) for name, model in config.models.items()}
    for model in models.values():
        records.read("model", model.url, model.identity)
    test, tuning = select(run, config.test), select(run, config.tuning)
    tasks = [prediction_task(run, m, s) for m in models.values() for s in (*test, *tuning)]
    made = dict(zip((task.url for task in tasks), predict_all(run, tasks), strict=True))
    tuned = _tuned(run, models, tuning, made)
    found = _statistics(run, models, test, made, threshold=True)
    exams, keys = _exams(found, next(iter(models)), test)
    predicted = {
        name: _predicted(found[name], keys, exams, level=tuned[name].level) for name in models
    }
    predicted[THRESHOLD] = _threshold(found[THRESHOLD], keys, exams)
    predicted[EMPTY] = _empty(predicted[THRESHOLD])
    compared = [
        *pairs(list(models)),
        *((model, rival) for model in models for rival in (THRESHOLD, EMPTY)),
    ]
    samples = resample(run, config, exams, predicted, compared)
    positive = {
        name: _positive_dsc(found.get(name, {}), keys, exams, predicted[name].level)
        for name in (*models, THRESHOLD)
    }
    scored = {m: Scored(scores=predicted[m].scores, labels=exams.labels) for m in models}
    operating = _operating_points(config, tuned, scored)
    marked = predicted[EMPTY].pixels
    return Evaluation(
        names=tuple(models),
        exams=exams,
        predicted=predicted,
        figures=compare(exams, predicted, compared, samples, seed=config.seed),
        positive_slice_dsc={**positive, EMPTY: 0.0},
        operating_points=tuple(operating),
        paired_calls=tuple(
            paired_calls(
                [
                    (one, other)
                    for a, b in pairs(list(models))
                    for one in operating
                    for other in operating
                    if (one.model, other.model) == (a, b) and one.rule == other.rule
                ],
                scored,
            )
        ),
        marked_patients=len(np.unique(marked.cluster[marked.pos > 0])),
        exam_keys=tuple(keys),
        shown_slices={exam: s.largest_slice for exam, s in found[next(reversed(models))].items()},
    )


def evaluate_config(run: Session) -> EvaluateConfig:
    """Return the evaluate section.

    Raises:
        ConfigError: There is none.
    """
    if run.settings.evaluate is None:
        raise ConfigError("the settings have no [evaluate] section; add models and test to it")
    return run.settings.evaluate


@dataclass(frozen=True, kw_only=True, slots=True)
class _Tuned:
    """What the tuning selections say of a model, before its test exams are looked at."""

    level: int
    """Its pixel threshold: of the best micro DSC; p = 0.5 without tuning selections."""

    exams: Scored


def _tuned(
    run: Session,
    models: Mapping[str, TrainedModel],
    tuning: tuple[Selection, ...],
    made: Mapping[str, Table],
) -> dict[str, _Tuned]:
    """Compute what fixes each model's thresholds."""
    found = _statistics(run, models, tuning, made, threshold=False)
    return {
        name: _Tuned(level=_level(run, found[name]), exams=_scored(found[name])) for name in models
    }


def _level(run: Session, statistics: Mapping[str, ExamStatistics]) -> int:
    tuning = list(evaluate_config(run).tuning)
    if not tuning:
        return int(score_levels.quantise_logits(np.zeros(1, np.float32))[0])
    stack = pixel_histograms.stack([s.pixels for _, s in sorted(statistics.items())])
    if not stack.pos.any():
        raise QualityError(
            f"evaluate.tuning={tuning} holds no positive pixel: no pixel threshold can be fixed "
            "there; add positive exams with masks, or leave tuning empty for p=0.5"
        )
    return int(overlap.best_dice_level(stack))


def _scored(statistics: Mapping[str, ExamStatistics]) -> Scored:
    exams = [one for _, one in sorted(statistics.items())]
    return Scored(
        scores=np.array([one.score for one in exams], np.float64),
        labels=np.array([one.label for one in exams], np.bool_),
    )


def _operating_points(
    config: EvaluateConfig, tuned: Mapping[str, _Tuned], scored: Mapping[str, Scored]
) -> list[OperatingPoint]:
    """Fix exam thresholds on the tuning exams, where these are of both classes."""
    rules = [
        *(Rule("sensitivity", share) for share in config.sensitivities),
        *(Rule("specificity", share) for share in config.specificities),
    ]
    return [
        operating_point(name, rule, tuning=tuned[name].exams, test=test)
        for name, test in scored.items()
        if tuned[name].exams.both_classes
        for rule in rules
    ]


def _statistics(
    run: Session,
    models: Mapping[str, TrainedModel],
    selections: tuple[Selection, ...],
    made: Mapping[str, Table],
    *,
    threshold: bool,
) -> dict[str, dict[str, ExamStatistics]]:
    """Return model -> exam -> statistics, computed on the cluster from predictions by URL."""
    found: dict[str, dict[str, ExamStatistics]] = {name: {} for name in [*models, THRESHOLD]}
    for selection in selections:
        tables = {
            name: made[prediction_task(run, model, selection).url] for name, model in models.items()
        }
        job = StatisticsOfPart(
            store=run.store,
            selection=selection,
            predictions={name: table.files for name, table in tables.items()},
            grid=run.settings.input.size,
            threshold=threshold,
            score_slices=evaluate_config(run).exam_score_slices,
            origin=here().of("evaluate"),
        )
        urls = [{"url": url} for url in selection.corpus.files]
        statistics = ray.data.from_items(urls, override_num_blocks=len(urls)).map_batches(
            job, batch_size=1, batch_format="numpy", **options(READER)
        )
        read: set[str] = set()
        with (
            bar(f"compare on {selection.corpus.name}", total=len(urls), unit="part") as shown,
            metered(
                run, _statistics_kind(run), READER, processes=tasks_at_once(len(urls))
            ) as meter,
        ):
            for row in records.rows("statistics", statistics):
                one = from_row(row)
                found[one.model][one.exam] = one
                read.add(row["of"])
                shown.update(len(read) - shown.n)
                meter.finished(0)
            # Parts without a reference have no rows.
            shown.update(len(urls) - shown.n)
            meter.finished(selection.corpus.num_rows * len(models), more=False)
    return found


def _exams(
    found: Mapping[str, Mapping[str, ExamStatistics]], model: str, test: tuple[Selection, ...]
) -> tuple[Exams, list[str]]:
    keys = sorted(found[model])
    labels = np.array([found[model][key].label for key in keys], bool)
    patient_of = np.array([found[model][key].patient for key in keys])
    of_class = [len(np.unique(patient_of[members])) for members in (labels, ~labels)]
    if min(of_class) < 2:
        raise QualityError(
            f"the test selections {[s.corpus.name for s in test]} hold {int(labels.sum())} "
            f"positive exams of {of_class[0]} patients and {int((~labels).sum())} negative ones of "
            f"{of_class[1]}, with labels; two patients of each are needed: widen evaluate.test"
        )
    patients = sorted({found[model][key].patient for key in keys})
    place = {patient: i for i, patient in enumerate(patients)}
    return Exams(
        labels=labels, patient=np.array([place[found[model][key].patient] for key in keys])
    ), keys


def _by_patient(
    statistics: Mapping[str, ExamStatistics], keys: list[str], exams: Exams, *, which: str
) -> pixel_histograms.HistogramStack:
    of_patient: list[list[pixel_histograms.SliceHistogram]] = [[] for _ in exams.strata]
    for key, patient in zip(keys, exams.patient, strict=True):
        of_patient[patient].append(getattr(statistics[key], which))
    return pixel_histograms.stack([pixel_histograms.merge(histograms) for histograms in of_patient])


def _predicted(
    statistics: Mapping[str, ExamStatistics], keys: list[str], exams: Exams, *, level: int
) -> Predicted:
    return Predicted(
        scores=np.array([statistics[key].score for key in keys]),
        pixels=_by_patient(statistics, keys, exams, which="pixels"),
        level=level,
    )


def _threshold(
    statistics: Mapping[str, ExamStatistics], keys: list[str], exams: Exams
) -> Predicted:
    """Give the plain threshold its best cuts on these very exams: no fairer rival is weaker."""
    pixels = _by_patient(statistics, keys, exams, which="pixels")
    cuts = np.arange(1, 97)
    counts = np.zeros((len(keys), len(cuts)), np.int64)
    for i, key in enumerate(keys):
        histogram = statistics[key].pixels
        at = np.bincount(histogram.level, histogram.pos + histogram.neg, minlength=97)[:97]
        counts[i] = at[::-1].cumsum()[::-1][1:]
    cut = best_count_cut(counts, exams.labels)
    return Predicted(
        scores=counts[:, cut].astype(np.float64),
        pixels=pixels,
        level=int(overlap.best_dice_level(pixels)),
    )


def _empty(like: Predicted) -> Predicted:
    """Return the rival that never sees a bleed: every pixel at level 0, below its threshold."""
    clusters = np.arange(like.pixels.num_clusters, dtype=np.int32)
    stack = pixel_histograms.HistogramStack(
        level=np.zeros(len(clusters), np.uint16),
        cluster=clusters,
        pos=_per_cluster(like.pixels.cluster, like.pixels.pos, len(clusters)),
        neg=_per_cluster(like.pixels.cluster, like.pixels.neg, len(clusters)),
        num_clusters=len(clusters),
    )
    return Predicted(scores=np.zeros(len(like.scores)), pixels=stack, level=1)


def _per_cluster(
    cluster: Integer[np.ndarray, " entry"], counts: Integer[np.ndarray, " entry"], size: int
) -> Integer[np.ndarray, " cluster"]:
    return np.bincount(cluster, counts, minlength=size).astype(np.uint32)


def _positive_dsc(
    statistics: Mapping[str, ExamStatistics], keys: list[str], exams: Exams, level: int
) -> float:
    stack = _by_patient(statistics, keys, exams, which="positive_pixels")
    found = overlap.overlap_at(stack, level)
    return float(overlap.dice(int(found.tp.sum()), int(found.fp.sum()), int(found.fn.sum())))
