"""Settings of an evaluation: what is compared on which exams, and how."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from ich_ray.config_checks import at_least, require

RIVALS = ("intensity_threshold", "empty_masks")
METRICS = ("exam_auc", "dsc", "pixel_ap")


@dataclass(frozen=True, kw_only=True, slots=True)
class EvaluateConfig:
    """Which models are compared on which exams, and how: this store's, or other software's."""

    models: Mapping[str, str] = field(default_factory=dict)
    """Name in the report -> name of the model, e.g. baseline = "teacher"."""

    test: tuple[str, ...] = ()
    """Selections with masks that no model has seen."""

    tuning: tuple[str, ...] = ()
    """Selections on which each model's thresholds are fixed, of pixels, slices and exams; empty:
    p = 0.5 for pixels and slices, and no operating points of exams."""

    predictions: Mapping[str, str] = field(default_factory=dict)
    """Instead of models: name in the report -> predictions of any software, a table or a folder
    (storage/foreign_sources.py says how they look)."""

    reference: str = ""
    """Of predictions: the truth, a table or a folder of the same kind."""

    tuning_reference: str = ""
    """The truth of other exams of the same predictions, which fix thresholds as `tuning` does."""

    ignored_value: int = 255
    """Of predictions' and references' NIfTI masks: the value that takes part in no count; 0: there
    is none, every value but 0 is a hemorrhage, as in masks of 0 and 255."""

    seeds: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    """Recipe -> its trainings, by their names in models or predictions, as many of each; then the
    report also says what other trainings would give. Those of one place belong together, as a
    student and its own teacher."""

    lesion_voxels: int = 1
    """Lesions, and marks of a model, of fewer voxels are neither missed nor false."""

    margins: Mapping[str, float] = field(default_factory=dict)
    """Non-inferiority: metric (exam_auc, dsc, pixel_ap) -> the loss that is not to be borne, stated
    before the test exams were looked at."""

    paper: bool = False
    """Whether the published procedure of Lin & Yuh stands beside ours, with its known faults. It
    takes the pixels of every slice to the driver: 2 GB for 1,600 slices."""

    exam_score_slices: int = 1
    """An exam's score is the mean of this many highest slice probabilities; 1 is the maximum."""

    sensitivities: tuple[float, ...] = (0.9, 0.92, 0.95)
    """Operating points: exam thresholds that reach these on the tuning exams; 0.92 is Lin & Yuh's.
    """

    specificities: tuple[float, ...] = (0.8, 0.9, 0.95)
    """The same of specificities."""

    prevalence: float = 0.0
    """Share of positive exams that predictive values are given for; 0: that of the test exams."""

    resamples: int = 2_000
    seed: int = 0
    actors: int = 2
    gallery: int = 12
    """Exams that the report shows, a slice of each."""

    gallery_slices: int = 40
    """Slices of each of them to scroll through, evenly chosen where it has more; 0: none."""

    report: str = "out/report"
    """Local folder of report.json and index.html."""

    def __post_init__(self) -> None:
        """Check that something can be compared, and an interval made."""
        require(self.resamples >= 100, f"resamples={self.resamples}: an interval needs 100")
        at_least(1, self, "actors", "exam_score_slices", "lesion_voxels")
        at_least(0, self, "seed", "gallery", "gallery_slices", "ignored_value")
        for name in ("sensitivities", "specificities"):
            for one in getattr(self, name):
                require(0 < one <= 1, f"{name} holds {one}: a share above 0, at most 1")
        require(0 <= self.prevalence < 1, f"prevalence={self.prevalence}: a share below 1")
        for metric, margin in self.margins.items():
            require(metric in METRICS, f"margins.{metric}: known are {', '.join(METRICS)}")
            require(0 < margin < 1, f"margins.{metric}={margin}: a loss above 0, below 1")
        require(self.ignored_value <= 255, f"ignored_value={self.ignored_value}: at most 255")
        self._check_subjects()
        self._check_seeds()

    def in_order(self, names: Sequence[str]) -> tuple[str, ...]:
        """Return models as they are reported: trainings of a place side by side, and first.

        >>> seeds = {"baseline": ("t0", "t1"), "ours": ("s0", "s1")}
        >>> names = dict.fromkeys(("t0", "t1", "s0", "s1", "other"), "")
        >>> config = EvaluateConfig(predictions=names, reference="truth.csv", seeds=seeds)
        >>> config.in_order(list(names))
        ('t0', 's0', 't1', 's1', 'other')
        """
        by_place = (name for place in zip(*self.seeds.values(), strict=True) for name in place)
        return tuple(dict.fromkeys((*by_place, *names)))

    def _check_seeds(self) -> None:
        """Check that each recipe names as many trainings, and none that is another's."""
        known = (*self.models, *self.predictions)
        named = [name for of in self.seeds.values() for name in of]
        for name in named:
            require(
                name in known, f"seeds names {name}, which is not compared: known are {list(known)}"
            )
            require(
                named.count(name) == 1, f"seeds names {name} twice: a training is of one recipe"
            )
        counts = {recipe: len(of) for recipe, of in self.seeds.items()}
        require(
            len(set(counts.values())) < 2 and 0 not in counts.values(),
            f"seeds has other numbers of trainings by recipe, {counts}: name as many of each, "
            "those of one place belonging together, or leave the shorter recipe out",
        )

    def _check_subjects(self) -> None:
        """Check that models and predictions come with what belongs to them."""
        for name in (*self.models, *self.predictions):
            require(name not in RIVALS, f"{name} is the name of a rival: give the model another")
        require(
            not self.paper or len(self.models) + len(self.predictions) > 1,
            "paper=true compares two models, and there is one",
        )
        require(
            bool(self.models) != bool(self.predictions),
            "name either models of this store, with test, or predictions of other software, with "
            "reference",
        )
        if self.models:
            require(bool(self.test), "models need test: selections that none of them has seen")
            for name in ("reference", "tuning_reference"):
                require(not getattr(self, name), f"{name} belongs to predictions, not to models")
        else:
            require(bool(self.reference), "predictions need reference: the truth of their exams")
            require(
                not self.test and not self.tuning,
                "test and tuning belong to models; predictions have reference, tuning_reference",
            )
