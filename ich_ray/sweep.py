"""Several settings of one model over seeds: the trainings of a sweep, and the table of them."""

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from scipy.special import stdtrit

from ich_ray.capacity import Need, Nodes, room
from ich_ray.config import BudgetConfig, ModelConfig, Settings
from ich_ray.config_checks import at_least, require
from ich_ray.errors import ConfigError
from ich_ray.learning_curves import tuning_of
from ich_ray.settings import parse, read_section, resolved
from ich_ray.submission import SURROUNDINGS

METRICS = {
    "exam_auc": "exam AUC",
    "pixel_ap": "pixel AP",
    "dsc": "DSC",
    "loss": "training loss",
}
"""Key of a figure -> what a table calls it. All but the loss are of the tuning selections."""

FAILURES = {
    SURROUNDINGS: "the surroundings failed: try again",
    1: "a bug",
    2: "settings or usage",
    4: "a data or quality gate failed",
}
"""Exit codes of a training, the one that a sweep ends with first."""

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]*")


@dataclass(frozen=True, slots=True)
class Member:
    """One training of a sweep; its name is that of its section in the settings."""

    name: str
    variant: str
    seed: int


@dataclass(frozen=True, kw_only=True, slots=True)
class SweepConfig:
    """A sweep file: what varies of one model of the settings."""

    model: str
    """Name of a models section; every variant is this one with some settings changed."""

    seeds: tuple[int, ...]
    """`seed` of the trainings of each variant."""

    variants: Mapping[str, Mapping[str, object]]
    """Name -> the settings that it changes. The others are compared with the first."""

    at_once: int = 0
    """Trainings at the same time at most; 0: as many as the cluster has room for."""

    def __post_init__(self) -> None:
        """Check the names, and that every training is another one."""
        require(len(self.variants) > 0, "variants must hold at least one section")
        require(len(self.seeds) > 0, "seeds must name at least one")
        require(
            len(set(self.seeds)) == len(self.seeds), f"seeds={list(self.seeds)} holds one twice"
        )
        require(min(self.seeds) >= 0, f"seeds must be at least 0, got {min(self.seeds)}")
        at_least(0, self, "at_once")
        for name, changes in self.variants.items():
            require(
                _NAME.fullmatch(name) is not None,
                f"variants.{name}: a variant's name becomes part of a URL; use letters, digits, "
                "- and _",
            )
            require("seed" not in changes, f"variants.{name}.seed: the sweep's seeds say it")

    @property
    def members(self) -> tuple[Member, ...]:
        """All trainings, variant by variant."""
        return tuple(
            Member(f"{self.model}-{variant}-{seed}", variant, seed)
            for variant in self.variants
            for seed in self.seeds
        )


def read_sweep(text: str) -> SweepConfig:
    """Read a sweep file.

    Raises:
        ConfigError: It is no TOML, or a key is unknown, missing, or of another type.
    """
    try:
        return parse(SweepConfig, text)
    except ConfigError as error:
        raise ConfigError(f"the sweep: {error}") from None


def with_members(tree: Mapping[str, Any], sweep: SweepConfig) -> dict[str, Any]:
    """Return settings that also have a models section for each training of a sweep.

    Args:
        tree: Plain values of settings that have been checked.
        sweep: What varies.

    Raises:
        ConfigError: The settings lack its model, a variant holds what a model's section cannot,
            or a section of that name is there and says something else.
    """
    models: Mapping[str, Any] = tree.get("models", {})
    if sweep.model not in models:
        known = ", ".join(models) or "none"
        raise ConfigError(f"the sweep: model names {sweep.model!r}; known: {known}")
    added = {}
    for member in sweep.members:
        added[member.name] = _merged(models[sweep.model], sweep.variants[member.variant])
        added[member.name]["seed"] = member.seed
        try:
            built = read_section(ModelConfig, added[member.name], f"variants.{member.variant}")
        except ConfigError as error:
            raise ConfigError(f"the sweep: {error}") from None
        here = f"models.{member.name}"
        if member.name in models and built != read_section(ModelConfig, models[member.name], here):
            raise ConfigError(
                f"{here} stands in the settings and is not what the sweep makes of "
                f"models.{sweep.model}; rename one of them, or take the section out"
            )
    return {**tree, "models": {**models, **added}}


def spelled_out(sweep: SweepConfig, settings: Settings) -> SweepConfig:
    """Return the same sweep with every setting in each of its variants.

    Where settings travel with all defaults written out, what a variant leaves to a preset would be
    theirs. It is equal in what it makes of them.

    Args:
        sweep: As read.
        settings: With its members.
    """
    made = {
        member.variant: resolved(settings.models[member.name])
        for member in sweep.members
        if member.seed == sweep.seeds[0]
    }
    for variant in made.values():
        del variant["seed"]
    return replace(sweep, variants=made)


def share_of(budget: BudgetConfig, *, among: int) -> BudgetConfig:
    """Return the limits of each of some equal trainings that keep to a budget together.

    >>> share_of(BudgetConfig(max_gpu_hours=12.0), among=4).max_gpu_hours
    3.0
    """
    return replace(
        budget,
        max_gpu_hours=budget.max_gpu_hours / among,
        max_cpu_hours=budget.max_cpu_hours / among,
        max_cost=budget.max_cost / among,
    )


def trainings_at_once(needs: Iterable[Need], nodes: Sequence[Nodes]) -> int:
    """Return how many trainings fit some nodes at once, whichever of them they are.

    At least one: whoever checks that each fits has asked before.
    """
    return max(1, min(room(need.each, nodes) // need.processes for need in needs))


def exit_code_of_all(codes: Iterable[int]) -> int:
    """Return the exit code of a sweep whose trainings ended so.

    5 (try again) comes before all others: the same command then does what is missing, and ends with
    the others' code once nothing can be gained by another try. Killed by a signal is 5 too.

    >>> exit_code_of_all([0, 4, 5]), exit_code_of_all([0, 4, -9]), exit_code_of_all([4, 0, 1])
    (5, 5, 1)
    """
    told = {code if 0 <= code < 128 else SURROUNDINGS for code in codes} - {0}
    return next((code for code in FAILURES if code in told), 1 if told else 0)


@dataclass(frozen=True, slots=True)
class OverSeeds:
    """A figure over the seeds of a variant."""

    mean: float
    low: float | None
    """Of the 95 % t-interval of the mean; None of one seed, which tells nothing of others."""

    high: float | None
    seeds: int

    def text(self, *, sign: str = "") -> str:
        """Return it for a table.

        >>> OverSeeds(0.9, 0.85, 0.95, 3).text(), OverSeeds(0.01, None, None, 1).text(sign="+")
        ('0.9000 [0.8500, 0.9500]', '+0.0100')
        """
        shown = f"{self.mean:{sign}.4f}"
        return shown if self.low is None else f"{shown} [{self.low:.4f}, {self.high:.4f}]"


@dataclass(frozen=True, kw_only=True, slots=True)
class Row:
    """What came of one variant; keys are those of METRICS."""

    variant: str
    trained: int
    """Seeds whose training has ended well."""

    figures: Mapping[str, OverSeeds]
    less_first: Mapping[str, OverSeeds]
    """Differences to the first variant, paired by seed; empty of the first itself."""


def figures_of(record: Mapping[str, Any]) -> dict[str, float]:
    """Return the figures of a finished model: of its own weights, and its last training loss.

    Args:
        record: Of the model. Without tuning selections it holds no validations. A figure that is
            undefined there, as an AUC of exams that all bleed, is left out.
    """
    found = {**tuning_of(record), "loss": float(record["curve"][-1][1])}
    return {key: found[key] for key in METRICS if key in found and np.isfinite(found[key])}


def over_seeds(values: Sequence[float]) -> OverSeeds:
    """Return the mean of some figures, and its 95 % interval by Student's t.

    It is an interval over seeds: what another seed of training would give on the same exams. It
    says nothing of other patients.

    Args:
        values: One a seed, at least one.
    """
    mean, n = float(np.mean(values)), len(values)
    if n == 1:
        return OverSeeds(mean, None, None, n)
    half = float(stdtrit(n - 1, 0.975) * np.std(values, ddof=1) / np.sqrt(n))
    return OverSeeds(mean, mean - half, mean + half, n)


def rows_of(sweep: SweepConfig, figures: Mapping[str, Mapping[str, float]]) -> tuple[Row, ...]:
    """Return the table of a sweep, a row a variant.

    Args:
        sweep: Whose.
        figures: Name of a member -> its figures; of those that have been trained.
    """
    first, *_ = sweep.variants
    by_seed = {
        variant: {
            member.seed: figures[member.name]
            for member in sweep.members
            if member.variant == variant and member.name in figures
        }
        for variant in sweep.variants
    }
    return tuple(
        Row(
            variant=variant,
            trained=len(mine),
            figures=_summarised(
                {key: [each[key] for each in mine.values() if key in each] for key in METRICS}
            ),
            less_first={} if variant == first else _less(mine, by_seed[first]),
        )
        for variant, mine in by_seed.items()
    )


def table_lines(rows: Sequence[Row]) -> list[str]:
    """Return rows as text: a block a figure, its variants below each other."""
    first = rows[0].variant
    width = max(len("variant"), *(len(row.variant) for row in rows))
    lines = []
    for key, title in METRICS.items():
        if not any(key in row.figures for row in rows):
            continue
        lines.append(f"{'variant':{width}}  seeds  {title:26}  less {first}")
        for row in rows:
            figure, less = row.figures.get(key), row.less_first.get(key)
            cells = [
                f"{row.variant:{width}}  {figure.seeds if figure else 0:5}",
                f"{figure.text() if figure else '':26}",
                less.text(sign="+") if less else "",
            ]
            lines.append("  ".join(cells).rstrip())
        lines.append("")
    return lines[:-1]


def _less(
    mine: Mapping[int, Mapping[str, float]], first: Mapping[int, Mapping[str, float]]
) -> dict[str, OverSeeds]:
    both = [(mine[seed], first[seed]) for seed in mine if seed in first]
    return _summarised(
        {key: [a[key] - b[key] for a, b in both if key in a and key in b] for key in METRICS}
    )


def _summarised(values: Mapping[str, Sequence[float]]) -> dict[str, OverSeeds]:
    return {key: over_seeds(found) for key, found in values.items() if found}


def _merged(base: Mapping[str, Any], changes: Mapping[str, Any]) -> dict[str, Any]:
    """Return a section with some values changed, and of sections within it those they name."""
    found = dict(base)
    for key, value in changes.items():
        both = isinstance(value, Mapping) and isinstance(found.get(key), Mapping)
        found[key] = _merged(found[key], value) if both else value
    return found
