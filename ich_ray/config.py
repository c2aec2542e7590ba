"""Every setting, as a field of one frozen dataclass per section; settings.py reads them.

The larger sections lie in files of their own beside this one, and are imported from here.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Literal

from ich_ray.config_budget import BudgetConfig
from ich_ray.config_checks import at_least, require
from ich_ray.config_cluster import ClusterConfig, StoreConfig, SubmitConfig, WorkersConfig
from ich_ray.config_corpus import (
    CorpusConfig,
    IngestConfig,
    MaskMeaning,
    NiftiConfig,
    PhantomConfig,
    template_names,
)
from ich_ray.config_diagnose import DiagnoseConfig
from ich_ray.config_evaluate import EvaluateConfig
from ich_ray.config_experiment import ExperimentConfig
from ich_ray.config_export import ExportConfig
from ich_ray.config_log import LogConfig
from ich_ray.config_model import InputConfig, PredictConfig, PseudoLabelConfig
from ich_ray.config_power import PowerConfig
from ich_ray.config_reproduce import ReproduceConfig
from ich_ray.config_training import ModelConfig, ValidationConfig
from ich_ray.errors import ConfigError

__all__ = [
    "AuditConfig",
    "BudgetConfig",
    "ClusterConfig",
    "CorpusConfig",
    "DiagnoseConfig",
    "EvaluateConfig",
    "ExperimentConfig",
    "ExportConfig",
    "IngestConfig",
    "InputConfig",
    "LogConfig",
    "MaskMeaning",
    "ModelConfig",
    "NiftiConfig",
    "PhantomConfig",
    "PowerConfig",
    "PredictConfig",
    "PseudoLabelConfig",
    "ReproduceConfig",
    "ReviewConfig",
    "Settings",
    "ShowConfig",
    "StoreConfig",
    "SubmitConfig",
    "ValidationConfig",
    "WorkersConfig",
    "template_names",
]


@dataclass(frozen=True, kw_only=True, slots=True)
class AuditConfig:
    """Where the audit of the corpora goes, and how much of them it shows."""

    report: str = "out/audit"
    """Local folder of audit.json and index.html."""

    thumbnails: int = 60
    """Exams of the contact sheet: those with findings, then others evenly over all."""

    def __post_init__(self) -> None:
        """Check the number of pictures."""
        at_least(0, self, "thumbnails")


@dataclass(frozen=True, kw_only=True, slots=True)
class ShowConfig:
    """Where the pages of exams go, and how large they may become."""

    folder: str = "out/show"
    """Local folder: one page an exam, and one a corpus."""

    thumbnails: int = 120
    """Exams that the page of a corpus shows a picture of, evenly over all."""

    max_slices: int = 400
    """Slices of one page; of a longer exam they are chosen evenly, and the page says so."""

    since: int = -1
    """Version of the corpus: its page lists exams that hold anything new since; -1 lists all."""

    def __post_init__(self) -> None:
        """Check the numbers of pictures."""
        at_least(0, self, "thumbnails")
        at_least(1, self, "max_slices")


@dataclass(frozen=True, kw_only=True, slots=True)
class ReviewConfig:
    """Which slices of a teacher's ranking a reader looks at, and what he must not find."""

    folder: str = "out/review"
    """Local folder of the pages."""

    percentiles: tuple[float, ...] = (5.0, 10.0, 15.0, 20.0, 25.0, 30.0)
    """Values of C around which slices are drawn. Source: Lin & Yuh, section 2.2."""

    slices_per_percentile: int = 20
    seed: int = 0
    """Of the draw, and of the order in which slices are shown."""

    max_false_positive_rate: float = 0.5
    """C grows while at most this share of the slices at its edge is false."""

    def __post_init__(self) -> None:
        """Check the percentiles and the limit."""
        edges = (0.0, *self.percentiles, 100.0)
        rising = all(a < b for a, b in pairwise(edges))
        require(
            len(self.percentiles) > 0 and rising,
            "percentiles must rise, and lie between 0 and 100; got "
            f"{', '.join(f'{percent:g}' for percent in self.percentiles) or 'none'}",
        )
        at_least(1, self, "slices_per_percentile")
        at_least(0, self, "seed")
        require(
            0 < self.max_false_positive_rate < 1,
            f"max_false_positive_rate must lie between 0 and 1, got {self.max_false_positive_rate}",
        )


@dataclass(frozen=True, kw_only=True, slots=True)
class Settings:
    """A whole experiment: named corpora, models and pseudo-labels, and one comparison."""

    store: StoreConfig
    cluster: ClusterConfig = field(default_factory=ClusterConfig)
    log: LogConfig = field(default_factory=LogConfig)
    identity: Literal["public", "environment"] = "environment"
    """Where the pseudonyms' key comes from: the public one, or ICH_RAY_HMAC_KEY."""

    submit: SubmitConfig = field(default_factory=SubmitConfig)
    budget: BudgetConfig = field(default_factory=BudgetConfig)
    ingest: IngestConfig = field(default_factory=IngestConfig)
    input: InputConfig = field(default_factory=InputConfig)
    predict: PredictConfig = field(default_factory=PredictConfig)
    phantoms: Mapping[str, PhantomConfig] = field(default_factory=dict)
    corpora: Mapping[str, CorpusConfig] = field(default_factory=dict)
    models: Mapping[str, ModelConfig] = field(default_factory=dict)
    pseudo_labels: Mapping[str, PseudoLabelConfig] = field(default_factory=dict)
    evaluate: EvaluateConfig | None = None
    experiment: ExperimentConfig | None = None
    reproduce: ReproduceConfig | None = None
    audit: AuditConfig = AuditConfig()
    show: ShowConfig = ShowConfig()
    review: ReviewConfig = ReviewConfig()
    power: PowerConfig = field(default_factory=PowerConfig)
    diagnose: DiagnoseConfig = field(default_factory=DiagnoseConfig)
    export: ExportConfig = field(default_factory=ExportConfig)

    def __post_init__(self) -> None:
        """Check that every name that one section uses is a section of its kind."""
        for name, model in self.models.items():
            self._selections(f"models.{name}.labelled", model.labelled)
            self._selections(f"models.{name}.validation.tuning", model.validation.tuning)
            for pool in model.pseudo_labelled:
                self._known(f"models.{name}.pseudo_labelled", pool, self.pseudo_labels)
            self._targets(name, model)
            if model.init != "random":
                self._known(f"models.{name}.init", model.init, self.models)
        for name, labels in self.pseudo_labels.items():
            for teacher in labels.teachers:
                self._known(f"pseudo_labels.{name}.teacher", teacher, self.models)
            self._selections(f"pseudo_labels.{name}.unlabelled", labels.unlabelled)
            self._selections(f"pseudo_labels.{name}.prevalence_of", labels.prevalence_of)
        if self.evaluate is not None:
            for model_name in self.evaluate.models.values():
                self._known("evaluate.models", model_name, self.models)
            self._selections("evaluate.test", self.evaluate.test)
            self._selections("evaluate.tuning", self.evaluate.tuning)
        if self.experiment is not None:
            self._known("experiment.teacher", self.experiment.teacher, self.models)
            self._known("experiment.student", self.experiment.student, self.models)
            self._known("experiment.pool", self.experiment.pool, self.pseudo_labels)
            self._selections("experiment.folds", self.experiment.folds)
        if self.reproduce is not None:
            self._selections("reproduce.validation", self.reproduce.validation)
            self._selections("reproduce.segmentations", self.reproduce.segmentations)

    def _targets(self, name: str, model: ModelConfig) -> None:
        """Check that the pseudo-labels of a model are of one kind, and fit its crops."""
        modes = {pool: self.pseudo_labels[pool].mode for pool in model.pseudo_labelled}
        if len({mode == "soft" for mode in modes.values()}) > 1:
            said = ", ".join(f"{pool} (mode {mode})" for pool, mode in modes.items())
            raise ConfigError(
                f"models.{name}.pseudo_labelled joins probabilities and labels: {said}; make all "
                "of them soft, or none"
            )
        whole = [pool for pool, mode in modes.items() if mode == "image_oracle"]
        crop = model.pseudo_crop or model.crop
        if whole and not 0 < self.input.size <= crop:
            raise ConfigError(
                f"models.{name}.pseudo_crop={crop} is smaller than the slices of "
                f"{', '.join(whole)} (input.size={self.input.size or 'their own'}), of which mode "
                "image_oracle labels only the whole: set input.size, and pseudo_crop to it"
            )

    def _known(self, where: str, name: str, section: Mapping[str, object]) -> None:
        if name not in section:
            raise ConfigError(f"{where} names {name!r}; known: {', '.join(section) or 'none'}")

    def _selections(self, where: str, selections: tuple[str, ...]) -> None:
        for selection in selections:
            corpus, _, split = selection.partition(":")
            self._known(where, corpus, self.corpora)
            if split:
                self._known(f"{where} ({corpus})", split, self.corpora[corpus].splits)
            if selections.count(selection) > 1 or (split and corpus in selections):
                raise ConfigError(
                    f"{where} names patients of {selection} twice: take one of its names out"
                )
