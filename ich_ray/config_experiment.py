"""A family of variants over seeds: what differs, how often, and from which sections."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, get_args

from ich_ray.config_checks import at_least, require

Variant = Literal[
    "baseline",
    "semi_supervised",
    "no_ranker",
    "image_slice_oracle",
    "pixel_oracle",
    "ignore_band",
    "soft",
    "labelled_alone",
]
VARIANTS: tuple[Variant, ...] = get_args(Variant)


@dataclass(frozen=True, kw_only=True, slots=True)
class ExperimentConfig:
    """Which variants of the loop are trained and compared (method.md 1.1)."""

    teacher: str
    """Name of a models section: the baseline of each seed is this one with that seed."""

    student: str
    """Name of a models section: the students are this one with the seed and the variant's
    pseudo-labels. Its own `pseudo_labelled` and `init` count for nothing here."""

    pool: str
    """Name of a pseudo_labels section: the pseudo-labels of a variant are this one with its mode.
    """

    variants: tuple[Variant, ...]
    """The first column of the table. The baseline is the teacher of all others, and always there.
    `labelled_alone` is a student too, of no pseudo-labels: what a student has beyond it are not the
    steps that it was trained longer."""

    seeds: tuple[int, ...]
    """Each trains everything anew. Source: statistics.md, at least three where a claim is made."""

    rounds: int = 1
    """Of the loop: the student of one is the teacher of the next. Each has its row."""

    student_init: tuple[Literal["teacher", "random"], ...] = ("teacher",)
    """What students start from; of two, both are trained, and have their rows."""

    folds: tuple[str, ...] = ()
    """Selections of labelled corpora, without a patient in common, that together are what the
    teacher learns from: for each a teacher more is trained on all others, and these label the pool,
    so that a labelled patient may be in it. Empty: the baseline labels, and none may."""

    at_once: int = 0
    """Steps at the same time at most; 0: as many as the cluster has room for."""

    report: str = "out/experiment"
    """Local folder of the table, its picture, and the reports of the seeds."""

    def __post_init__(self) -> None:
        """Check that there is a family, and that each of it is another one."""
        require(len(self.variants) > 0, "variants must name at least one")
        require(len(self.seeds) > 0, "seeds must name at least one")
        require(len(self.student_init) > 0, "student_init must name teacher, random or both")
        require(min(self.seeds) >= 0, f"seeds must be at least 0, got {min(self.seeds)}")
        for name in ("variants", "seeds", "student_init", "folds"):
            values: Sequence[object] = getattr(self, name)
            require(len(set(values)) == len(values), f"{name}={list(values)} holds one twice")
        at_least(1, self, "rounds")
        at_least(0, self, "at_once")
        require(len(self.folds) != 1, "folds names one selection; name two or more, or none")
        require(
            not self.folds or self.rounds == 1,
            f"folds with rounds={self.rounds}: a student has seen the whole pool, so that no "
            "teacher of a second round is a stranger to its patients; set rounds=1, or no folds",
        )

    @property
    def students(self) -> tuple[Variant, ...]:
        """The variants that have a student."""
        return tuple(name for name in self.variants if name != "baseline")
