"""A report as plain values: what report.json holds, and the schema that it keeps to."""

import json
import math
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from jaxtyping import Float64, Int64

from ich_ray.reporting.claim import ClaimItem, claim_checklist
from ich_ray.reporting.contents import CorpusFacts, ModelResult, PseudoLabels, Report, Roc
from ich_ray.reporting.headline import cautions, headline, main_difference, non_inferior
from ich_ray.reporting.json_schema import schema_of
from ich_ray.reporting.plain_values import plain
from ich_ray.statistics.bootstrap import Difference, Interval
from ich_ray.statistics.calibration.calibration import ModelCalibration
from ich_ray.statistics.comparison import Metric
from ich_ray.statistics.further_figures import FurtherFigures
from ich_ray.statistics.masks.agreement import VolumeAgreement
from ich_ray.statistics.masks.lesion_detection import LesionDetection
from ich_ray.statistics.masks.surfaces import SurfaceDistances
from ich_ray.statistics.operating_points import Calls, OperatingPoint, PairedCalls, Side
from ich_ray.statistics.paper.figures import PaperFigures
from ich_ray.statistics.resampled_change import ResampledChange
from ich_ray.statistics.seeds.pooled import OverTrainings

NUM_BINS = 50
"""Of the histogram that stands for the pseudo-labels' probabilities in report.json."""

SCHEMA_FILE = "report.schema.json"
"""In this folder; `make schema` writes it anew."""


@dataclass(frozen=True, kw_only=True, slots=True)
class ModelRecord:
    """What one model reaches; a metric that it does not have keeps its keys, with null."""

    title: str
    kind: Literal["network", "rival"]
    exam_auc: Interval
    dsc: Interval
    pixel_ap: Interval
    pixel_threshold: float | None
    """Pixels at or above this probability are called hemorrhage."""

    roc: Roc | None
    note: str


@dataclass(frozen=True, kw_only=True, slots=True)
class MarginRecord:
    """Whether model a is shown to lose less than a margin against model b."""

    a: str
    b: str
    margin: float
    shown: bool | None
    """null where the difference is not measured."""


@dataclass(frozen=True, kw_only=True, slots=True)
class PointRecord:
    """A model at one threshold of its exams."""

    model: str
    rule: str
    threshold: float
    """Exams at or above it are called positive; null where no exam can be."""

    calls_no_exam: bool
    tuning: Calls
    """On the exams that fixed the threshold."""

    test: Calls
    sensitivity: Interval
    specificity: Interval
    positive_predictive_value: float
    negative_predictive_value: float
    prevalence: float
    """That the predictive values are for."""


@dataclass(frozen=True, kw_only=True, slots=True)
class CallsRecord:
    """Right calls of model a minus those of b, at the same rule."""

    a: str
    b: str
    rule: str
    of: Side
    difference: float
    only_a: int
    only_b: int
    p: float
    p_adjusted: float


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class HistogramRecord:
    """Counts between edges, of which there is one more."""

    counts: Int64[np.ndarray, " bin"]
    edges: Float64[np.ndarray, " edge"]


@dataclass(frozen=True, kw_only=True, slots=True)
class PseudoLabelsRecord:
    """How a teacher's ranking of unlabelled slices became labels."""

    cut: float
    """Slices at or above this probability became positive."""

    top_percent: float
    num_positive: int
    num_slices: int
    teacher: str
    sources: str
    histogram: HistogramRecord
    """Of all the probabilities."""


@dataclass(frozen=True, kw_only=True, slots=True)
class SliceRecord:
    """A slice of the gallery, without its pictures."""

    exam: str
    slice: str
    p: Mapping[str, float]
    caption: str


@dataclass(frozen=True, kw_only=True, slots=True)
class ReportRecord:
    """Everything that a report says, but pictures and single probabilities."""

    title: str
    question: str
    headline: str
    cautions: Sequence[str]
    models: Mapping[str, ModelRecord]
    differences: Mapping[str, Mapping[Metric, Difference | None]]
    """By `A_minus_B`."""

    bootstrap_auc: Mapping[str, Difference]
    """Of the exam AUC by the percentiles of resamples."""

    bca_auc: Mapping[str, Difference]
    """The same, the percentiles bias-corrected and accelerated."""

    non_inferior: Mapping[Metric, MarginRecord]
    """Of the headline's two models, for metrics with a margin."""

    operating_points: Sequence[PointRecord]
    paired_calls: Sequence[CallsRecord]
    further: FurtherFigures | None
    resampled: ResampledChange | None
    over_trainings: OverTrainings | None
    """What other trainings and patients would give, where recipes name several trainings."""

    calibration: Sequence[ModelCalibration]
    lesions: Sequence[LesionDetection]
    surfaces: Sequence[SurfaceDistances]
    volumes: Sequence[VolumeAgreement]
    paper: PaperFigures | None
    """By the procedure of Lin & Yuh, which has the faults that it lists."""

    claim: Sequence[ClaimItem]
    """The checklist, as far as this run can answer it."""

    pseudo_labels: PseudoLabelsRecord | None
    gallery: Sequence[SliceRecord]
    corpora: Sequence[CorpusFacts]
    ledger: Mapping[str, Mapping[str, int]]
    """Corpus -> outcome or reason -> number of input objects."""

    training: Mapping[str, Sequence[tuple[int, float]]]
    """Model -> (step, loss)."""

    methods: Sequence[str]
    provenance: Mapping[str, str]
    settings: Mapping[str, Any]


def to_json(report: Report) -> str:
    """Return report.json: keys sorted, no NaN; the same report gives the same bytes."""
    return json.dumps(plain(record_of(report)), sort_keys=True, indent=1, allow_nan=False) + "\n"


def schema_json() -> str:
    """Return the schema of report.json, as the file beside this module holds it."""
    schema = schema_of(ReportRecord, title="Report of ich-ray evaluate", identifier=SCHEMA_FILE)
    return json.dumps(schema, indent=1) + "\n"


def record_of(report: Report) -> ReportRecord:
    """Return what report.json holds of a report."""
    return ReportRecord(
        title=report.title,
        question=report.question,
        headline=headline(report),
        cautions=cautions(report),
        models={model.name: _model(model) for model in report.models},
        differences={f"{d.a}_minus_{d.b}": d.metrics() for d in report.differences},
        bootstrap_auc={
            f"{d.a}_minus_{d.b}": d.bootstrap_auc for d in report.differences if d.bootstrap_auc
        },
        bca_auc={f"{d.a}_minus_{d.b}": d.bca_auc for d in report.differences if d.bca_auc},
        non_inferior=_margins(report),
        operating_points=[_point(report, point) for point in report.operating_points],
        paired_calls=[_calls(one) for one in report.paired_calls],
        further=report.further,
        resampled=report.resampled,
        over_trainings=report.over_trainings,
        calibration=report.calibration,
        lesions=report.lesions,
        surfaces=report.surfaces,
        volumes=report.volumes,
        paper=report.paper,
        claim=claim_checklist(report),
        pseudo_labels=_pseudo_labels(report.pseudo_labels),
        gallery=[
            SliceRecord(exam=s.exam, slice=s.slice, p=s.p, caption=s.caption)
            for s in report.gallery
        ],
        corpora=report.corpora,
        ledger=report.ledger,
        training=report.training,
        methods=report.methods,
        provenance=report.provenance,
        settings=report.settings,
    )


def _model(model: ModelResult) -> ModelRecord:
    undefined = Interval(math.nan, math.nan, math.nan)
    return ModelRecord(
        title=model.title,
        kind=model.kind,
        exam_auc=model.exam_auc or undefined,
        dsc=model.dsc or undefined,
        pixel_ap=model.pixel_ap or undefined,
        pixel_threshold=model.pixel_threshold,
        roc=model.roc,
        note=model.note,
    )


def _margins(report: Report) -> dict[Metric, MarginRecord]:
    main = main_difference(report)
    if main is None:
        return {}
    return {
        metric: MarginRecord(
            a=main.a, b=main.b, margin=margin, shown=non_inferior(main.metrics()[metric], margin)
        )
        for metric, margin in report.margins.items()
    }


def _point(report: Report, point: OperatingPoint) -> PointRecord:
    positive, negative = point.test.predictive_values(report.prevalence)
    return PointRecord(
        model=point.model,
        rule=str(point.rule),
        threshold=point.threshold,
        calls_no_exam=point.calls_no_exam,
        tuning=point.tuning,
        test=point.test,
        sensitivity=point.test.sensitivity,
        specificity=point.test.specificity,
        positive_predictive_value=positive,
        negative_predictive_value=negative,
        prevalence=report.prevalence,
    )


def _calls(calls: PairedCalls) -> CallsRecord:
    return CallsRecord(
        a=calls.a,
        b=calls.b,
        rule=str(calls.rule),
        of=calls.of,
        difference=calls.difference,
        only_a=calls.only_a,
        only_b=calls.only_b,
        p=calls.p,
        p_adjusted=calls.p_adjusted,
    )


def _pseudo_labels(labels: PseudoLabels | None) -> PseudoLabelsRecord | None:
    if labels is None:
        return None
    counts, edges = np.histogram(labels.p, NUM_BINS, (0, 1))
    return PseudoLabelsRecord(
        cut=labels.cut,
        top_percent=labels.top_percent,
        num_positive=labels.num_positive,
        num_slices=labels.num_slices,
        teacher=labels.teacher,
        sources=labels.sources,
        histogram=HistogramRecord(
            counts=counts.astype(np.int64), edges=edges.astype(np.float64).round(6)
        ),
    )


if __name__ == "__main__":
    sys.stdout.write(schema_json())
