"""A family of variants: the sections of its models and pseudo-labels, and the steps between them.

Source of the variants: method.md 1.1.
"""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, replace

from ich_ray.config import ExperimentConfig, ModelConfig, PseudoLabelConfig, Settings
from ich_ray.config_experiment import Variant
from ich_ray.config_model import RankerMode
from ich_ray.errors import ConfigError
from ich_ray.order import Step, steps_of

BASELINE = "baseline"

MODES: Mapping[Variant, RankerMode] = {
    "semi_supervised": "paper",
    "no_ranker": "none",
    "image_slice_oracle": "image_oracle",
    "pixel_oracle": "pixel_oracle",
    "ignore_band": "ignore_band",
    "soft": "soft",
}
"""Variant with pseudo-labels -> their mode."""


@dataclass(frozen=True, slots=True)
class Arm:
    """A row of the table: a variant, what its student starts from, and a round of the loop."""

    variant: Variant
    init: str = "teacher"
    round: int = 1

    @property
    def name(self) -> str:
        """What tables and sections call it.

        >>> Arm("soft", "random", 2).name
        'soft-random-r2'
        """
        start = "" if self.init == "teacher" else f"-{self.init}"
        return f"{self.variant}{start}{self.after}"

    @property
    def after(self) -> str:
        """What a later round adds to its name."""
        return "" if self.round == 1 else f"-r{self.round}"

    @property
    def before(self) -> "Arm":
        """The arm whose student is the teacher of this one."""
        return Arm("baseline") if self.round == 1 else replace(self, round=self.round - 1)

    @property
    def pool(self) -> str:
        """Name of its pseudo-labels: those of a first round know no student. Empty: it has none."""
        if self.variant not in MODES:
            return ""
        return self.variant if self.round == 1 else self.name


def section(name: str, seed: int) -> str:
    """Return the name of a section of one seed.

    >>> section("semi_supervised", 0)
    'semi_supervised-0'
    """
    return f"{name}-{seed}"


def arms_of(experiment: ExperimentConfig) -> tuple[Arm, ...]:
    """Return the rows of the table: the baseline, then the students, round by round."""
    students = (
        Arm(variant, init, number)
        for variant in experiment.students
        for init in experiment.student_init
        for number in range(1, experiment.rounds + 1)
    )
    return (Arm("baseline"), *students)


def with_family(settings: Settings) -> Settings:
    """Return settings that also have the sections of every variant, seed and round.

    The students of `image_slice_oracle` see pseudo-labelled slices whole: their `pseudo_crop` is
    `input.size`.

    Raises:
        ConfigError: There is no experiment or no evaluation, one of its sections is there already
            and says something else, or what is made of them is refused, as of an oracle whose
            slices have no one size.
    """
    experiment = experiment_of(settings)
    models: dict[str, ModelConfig] = {}
    pools: dict[str, PseudoLabelConfig] = {}
    for seed in experiment.seeds:
        models |= _teachers(settings, experiment, seed)
        for arm in arms_of(experiment)[1:]:
            if arm.pool:
                pools[section(arm.pool, seed)] = _pool(settings, experiment, arm, seed)
            models[section(arm.name, seed)] = _student(settings, experiment, arm, seed)
    _refuse_taken("models", models, settings.models)
    _refuse_taken("pseudo_labels", pools, settings.pseudo_labels)
    return replace(
        settings,
        models={**settings.models, **models},
        pseudo_labels={**settings.pseudo_labels, **pools},
    )


def of_seed(family: Settings, seed: int) -> Settings:
    """Return the settings of one seed: its sections alone, and an evaluation of its models.

    Args:
        family: As `with_family` returns them.
        seed: One of the experiment's.
    """
    experiment = experiment_of(family)
    assert family.evaluate is not None
    arms = arms_of(experiment)
    models = [*_teachers(family, experiment, seed), *(section(a.name, seed) for a in arms[1:])]
    pools = {section(arm.pool, seed): None for arm in arms if arm.pool}
    return replace(
        family,
        models={name: family.models[name] for name in models},
        pseudo_labels={name: family.pseudo_labels[name] for name in pools},
        evaluate=replace(
            family.evaluate,
            models={arm.name: section(arm.name, seed) for arm in arms},
            seeds={},
            report=f"{experiment.report.rstrip('/')}/seed-{seed}",
        ),
        experiment=None,
    )


def steps_after(settings: Settings) -> dict[Step, frozenset[Step]]:
    """Return each step of some settings with those that must be done before it.

    A training needs the corpora that it names. Pseudo-labels and evaluations look for patients on
    two sides, and need all corpora.

    Raises:
        ConfigError: A model needs itself.
    """
    ingests = frozenset(Step("ingest", name) for name in settings.corpora)
    trainings = frozenset(Step("train", name) for name in settings.models)
    after: dict[Step, frozenset[Step]] = {}
    for step in steps_of(settings):
        match step.stage:
            case "ingest":
                after[step] = frozenset()
            case "train":
                after[step] = frozenset(_before_training(settings, settings.models[step.name]))
            case "pseudo-label":
                teachers = settings.pseudo_labels[step.name].teachers
                after[step] = ingests | {Step("train", teacher) for teacher in teachers}
            case "evaluate":
                after[step] = ingests | trainings
    return after


def experiment_of(settings: Settings) -> ExperimentConfig:
    """Return the experiment section.

    Raises:
        ConfigError: There is none, or no evaluation.
    """
    if settings.experiment is None:
        raise ConfigError(
            "the settings have no [experiment] section; add teacher, student, pool, variants and "
            "seeds to it, as in experiments/lin2022.toml"
        )
    if settings.evaluate is None:
        raise ConfigError(
            "the settings have no [evaluate] section: an experiment needs its test selections"
        )
    return settings.experiment


def _teachers(
    settings: Settings, experiment: ExperimentConfig, seed: int
) -> dict[str, ModelConfig]:
    """Return the baseline of a seed, and a teacher for each fold, by name."""
    template = settings.models[experiment.teacher]
    found = {section(BASELINE, seed): replace(template, seed=seed)}
    if experiment.folds and set(experiment.folds) != set(template.labelled):
        raise ConfigError(
            f"experiment.folds={list(experiment.folds)} are not what models.{experiment.teacher} "
            f"learns from, {list(template.labelled)}: let labelled name the same selections"
        )
    for number, fold in enumerate(experiment.folds):
        others = tuple(name for name in experiment.folds if name != fold)
        found[section(f"fold_{number}", seed)] = replace(template, seed=seed, labelled=others)
    return found


def _pool(
    settings: Settings, experiment: ExperimentConfig, arm: Arm, seed: int
) -> PseudoLabelConfig:
    teachers = [section(f"fold_{i}", seed) for i in range(len(experiment.folds))]
    teacher, *others = teachers or [section(arm.before.name, seed)]
    return replace(
        settings.pseudo_labels[experiment.pool],
        mode=MODES[arm.variant],
        teacher=teacher,
        other_teachers=tuple(others),
    )


def _student(settings: Settings, experiment: ExperimentConfig, arm: Arm, seed: int) -> ModelConfig:
    template = settings.models[experiment.student]
    if arm.init == "teacher":
        template = replace(template, init=section(arm.before.name, seed), init_trunk="")
    else:
        template = replace(template, init="random")
    if arm.variant == "image_slice_oracle" and settings.input.size:
        template = replace(template, pseudo_crop=settings.input.size)
    pseudo_labelled = (section(arm.pool, seed),) if arm.pool else ()
    return replace(template, seed=seed, pseudo_labelled=pseudo_labelled)


def _refuse_taken(kind: str, made: Mapping[str, object], there: Mapping[str, object]) -> None:
    for name, value in made.items():
        if name in there and there[name] != value:
            raise ConfigError(
                f"{kind}.{name} stands in the settings and is not what the experiment makes; "
                "rename it, or take the section out"
            )


def _before_training(settings: Settings, model: ModelConfig) -> Iterator[Step]:
    yield from _ingests((*model.labelled, *model.validation.tuning))
    for pool in model.pseudo_labelled:
        yield Step("pseudo-label", pool)
    if model.init != "random":
        yield Step("train", model.init)


def _ingests(selections: Iterable[str]) -> Iterator[Step]:
    for selection in selections:
        yield Step("ingest", selection.partition(":")[0])
