"""What a report tells: plain values, the only input of this package."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from jaxtyping import Bool, Float, UInt8

from ich_ray.reporting.scrolled_exam import ScrolledExam
from ich_ray.statistics.bootstrap import Difference, Interval
from ich_ray.statistics.calibration.calibration import ModelCalibration
from ich_ray.statistics.comparison import METRICS, Metric
from ich_ray.statistics.further_figures import FurtherFigures
from ich_ray.statistics.masks.agreement import VolumeAgreement
from ich_ray.statistics.masks.lesion_detection import LesionDetection
from ich_ray.statistics.masks.surfaces import SurfaceDistances
from ich_ray.statistics.operating_points import OperatingPoint, PairedCalls
from ich_ray.statistics.paper.figures import PaperFigures
from ich_ray.statistics.pooled_exams import EMPTY, THRESHOLD
from ich_ray.statistics.resampled_change import ResampledChange
from ich_ray.statistics.seeds.pooled import OverTrainings

TITLES = {
    "baseline": "Teacher (baseline)",
    "semi_supervised": "Student (semi-supervised)",
    "labelled_alone": "Student (labelled slices alone)",
    "no_ranker": "Student (no ranker)",
    "ignore_band": "Student (ignore band)",
    "soft": "Student (soft labels)",
    "image_slice_oracle": "Image slice oracle",
    "pixel_oracle": "Pixel oracle",
    THRESHOLD: "Plain intensity threshold",
    EMPTY: "Empty masks",
}
"""Names of models for a person; others keep theirs."""


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class Roc:
    """A ROC curve of exams, one point a threshold."""

    fpr: Float[np.ndarray, " point"]
    """1 - specificity, ascending from 0 to 1."""

    tpr: Float[np.ndarray, " point"]
    """Sensitivity."""


@dataclass(frozen=True, kw_only=True, slots=True)
class ModelResult:
    """What one model reaches on the test corpus; None where a metric is not defined for it."""

    name: str
    """`baseline`, `semi_supervised`, `intensity_threshold`, `empty_masks`, ..."""

    title: str
    """The name for a person."""

    kind: Literal["network", "rival"]
    """A rival needs no training: what a network must beat to have learned anything."""

    exam_auc: Interval | None = None
    dsc: Interval | None = None
    pixel_ap: Interval | None = None
    roc: Roc | None = None
    pixel_threshold: float | None = None
    """Pixels at or above this are called hemorrhage."""

    note: str = ""

    def metrics(self) -> dict[Metric, Interval | None]:
        """Return metric -> value."""
        return {metric: getattr(self, metric) for metric in METRICS}


@dataclass(frozen=True, kw_only=True, slots=True)
class NamedDifference:
    """Metrics of model a minus those of model b, on the same exams."""

    a: str
    b: str
    exam_auc: Difference | None = None
    dsc: Difference | None = None
    pixel_ap: Difference | None = None
    bootstrap_auc: Difference | None = None
    """Of the exam AUC, by another method: the percentiles of the resamples."""

    bca_auc: Difference | None = None
    """The same, the percentiles bias-corrected and accelerated."""

    def metrics(self) -> dict[Metric, Difference | None]:
        """Return metric -> difference."""
        return {metric: getattr(self, metric) for metric in METRICS}


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class PseudoLabels:
    """How a teacher's ranking of unlabelled slices became labels."""

    p: Float[np.ndarray, " slice"]
    """The teacher's probability of every unlabelled slice."""

    cut: float
    """Slices at or above this became positive."""

    top_percent: float
    """C: the share that was asked for."""

    num_positive: int
    num_slices: int
    teacher: str
    """Origin of the labels: the teacher's title or content hash."""

    sources: str
    """Selections of corpora that were labelled."""


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class GallerySlice:
    """One slice to look at, with the reference and what each model marks."""

    exam: str
    slice: str
    image: UInt8[np.ndarray, "rows columns"]
    """In the brain window."""

    reference: Bool[np.ndarray, "rows columns"]
    predictions: Mapping[str, Bool[np.ndarray, "rows columns"]]
    """Model's name -> pixels it marks."""

    p: Mapping[str, float]
    """Model's name -> probability of the slice."""

    caption: str
    exam_slices: ScrolledExam | None = None
    """The other slices too, to scroll through; None: there is this one alone."""


@dataclass(frozen=True, kw_only=True, slots=True)
class CorpusFacts:
    """A corpus and the part it played; counts of positives are None where it has no labels."""

    name: str
    role: str
    """E.g. training, tuning, test, unlabelled."""

    exams: int
    positive_exams: int | None
    slices: int
    positive_slices: int | None
    kind: str
    """`hu` or `window`, see exam.py; of other software's files a dash."""

    version: int | None
    """Of the table that was read; None of other software's files."""


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class Report:
    """Everything that the report says."""

    title: str
    question: str
    """What the experiment asks, in a sentence."""

    models: tuple[ModelResult, ...]
    differences: tuple[NamedDifference, ...]
    operating_points: tuple[OperatingPoint, ...]
    paired_calls: tuple[PairedCalls, ...]
    patients: tuple[int, int]
    """Of the test corpus: with a positive exam, and without."""

    marked_patients: int
    """Those whose reference masks hold a bleed."""

    margins: Mapping[Metric, float]
    """Losses that are not to be borne, for non-inferiority."""

    prevalence: float
    """Of positive exams, that predictive values are given for."""

    further: FurtherFigures | None
    """Of the networks, beside the three metrics."""

    resampled: ResampledChange | None
    """Of the exam AUCs of the headline's models."""

    over_trainings: OverTrainings | None
    """Recipes of several trainings."""

    calibration: tuple[ModelCalibration, ...]
    lesions: tuple[LesionDetection, ...]
    surfaces: tuple[SurfaceDistances, ...]
    volumes: tuple[VolumeAgreement, ...]
    paper: PaperFigures | None
    """The published procedure on the headline's two models, with its known faults."""

    pseudo_labels: PseudoLabels | None
    gallery: tuple[GallerySlice, ...]
    corpora: tuple[CorpusFacts, ...]
    ledger: Mapping[str, Mapping[str, int]]
    """Corpus -> outcome or reason -> number of input objects."""

    training: Mapping[str, Sequence[tuple[int, float]]]
    """Model -> (step, loss) along the training."""

    methods: tuple[str, ...]
    """Sentences: intervals, clusters, empty masks, where thresholds were fixed."""

    provenance: Mapping[str, str]
    """Code revision, hash of the settings, versions of tables, seeds."""

    settings: Mapping[str, Any]
    """The resolved settings, as plain values."""

    def title_of(self, name: str) -> str:
        """Return the title of a model or a recipe, or its name where it has none."""
        known = (model.title for model in self.models if model.name == name)
        return next(known, TITLES.get(name, name))

    def difference(self, a: str, b: str) -> NamedDifference | None:
        """Return a - b, turned round where the report has b - a; None where it has neither."""
        for pair in self.differences:
            if (pair.a, pair.b) == (a, b):
                return pair
            if (pair.a, pair.b) == (b, a):
                metrics = {metric: negated(value) for metric, value in pair.metrics().items()}
                return NamedDifference(
                    a=a,
                    b=b,
                    **metrics,
                    bootstrap_auc=negated(pair.bootstrap_auc),
                    bca_auc=negated(pair.bca_auc),
                )
        return None


def negated(value: Difference | None) -> Difference | None:
    """Turn a difference round."""
    if value is None:
        return None
    return Difference(-value.estimate, -value.high, -value.low, value.p, value.num_undefined)
