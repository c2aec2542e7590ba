"""A published study as members of a family: one evaluation each for its tables.

Source: Lin & Yuh, sections 2.5 and 3.2 to 3.5.
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

from ich_ray.config import EvaluateConfig, ReproduceConfig, Settings
from ich_ray.config_reproduce import Contrast
from ich_ray.errors import ConfigError
from ich_ray.experiment import BASELINE, experiment_of, of_seed, section, with_family

STUDENT, NO_RANKER = "semi_supervised", "no_ranker"
OF_VALIDATION = (BASELINE, NO_RANKER, STUDENT)
"""Variants of tables 2 and 3, as far as the experiment has them."""


@dataclass(frozen=True, slots=True)
class Member:
    """One evaluation: of which table, with which seed, and of table 4 against which masks."""

    table: str
    """`1`, `2`, `3` or `4`."""

    seed: int
    masks: str = ""
    """Of table 4: the selection."""

    @property
    def name(self) -> str:
        """What graphs and folders call it; that of table 1 is the experiment's own.

        >>> Member("1", 0).name, Member("4", 2, "cq500:second").name
        ('seed-0', 'table-4-cq500-second-seed-2')
        """
        if self.table == "1":
            return f"seed-{self.seed}"
        of = f"-{self.masks.replace(':', '-')}" if self.masks else ""
        return f"table-{self.table}{of}-seed-{self.seed}"


def members_of(settings: Settings) -> dict[Member, Settings]:
    """Return the evaluations of the study, each with settings of its own.

    Raises:
        ConfigError: There is no reproduce section, or what it needs of others is not there.
    """
    config, experiment = reproduce_of(settings), experiment_of(settings)
    family = with_family(replace(settings, reproduce=None))
    found: dict[Member, Settings] = {}
    for seed in experiment.seeds:
        whole = of_seed(family, seed)
        assert whole.evaluate is not None
        models = {
            name: model for name, model in whole.evaluate.models.items() if name in OF_VALIDATION
        }
        both = {name: models[name] for name in (BASELINE, STUDENT)}
        found[Member("1", seed)] = whole
        found[Member("2", seed)] = _of_contrasts(whole, config, seed)
        ranker = _on(whole, models, config.validation, tuned=False)
        found[Member("3", seed)] = replace(whole, evaluate=ranker)
        for selection in config.segmentations:
            reading = _on(whole, both, (selection,), tuned=True)
            found[Member("4", seed, selection)] = replace(whole, evaluate=reading)
    return {
        member: _reported(one, f"{config.report.rstrip('/')}/{member.name}")
        for member, one in found.items()
    }


def reproduce_of(settings: Settings) -> ReproduceConfig:
    """Return the reproduce section.

    Raises:
        ConfigError: There is none, or the experiment lacks the two models that are compared.
    """
    if settings.reproduce is None:
        raise ConfigError(
            "the settings have no [reproduce] section; add validation to it, and segmentations, as "
            "in experiments/reproduce_lin2022.toml"
        )
    experiment = experiment_of(settings)
    if STUDENT not in experiment.variants or "teacher" not in experiment.student_init:
        raise ConfigError(
            f"a reproduction compares {BASELINE} and {STUDENT}: add {STUDENT!r} to "
            "experiment.variants, and let student_init name teacher"
        )
    assert settings.evaluate is not None
    if settings.reproduce.segmentations and len(settings.evaluate.test) > 1:
        raise ConfigError(
            f"reproduce.segmentations are of the exams of one selection, and evaluate.test names "
            f"{len(settings.evaluate.test)}: name one"
        )
    return settings.reproduce


def contrast_section(contrast: Contrast, seed: int, *, of_teacher: Contrast) -> str:
    """Return the models section of a row of table 2: the teacher's own is the baseline.

    >>> contrast_section("none", 0, of_teacher="all"), contrast_section("all", 0, of_teacher="all")
    ('contrast_none-0', 'baseline-0')
    """
    return section(BASELINE if contrast == of_teacher else f"contrast_{contrast}", seed)


def _of_contrasts(settings: Settings, config: ReproduceConfig, seed: int) -> Settings:
    """Return the evaluation of the augmentations; it trains nothing but them."""
    teacher = settings.models[section(BASELINE, seed)]
    names = {
        contrast: contrast_section(contrast, seed, of_teacher=teacher.contrast)
        for contrast in config.contrasts
    }
    return replace(
        settings,
        models={name: replace(teacher, contrast=contrast) for contrast, name in names.items()},
        pseudo_labels={},
        evaluate=_on(settings, names, config.validation, tuned=False),
    )


def _on(
    settings: Settings, models: Mapping[Any, str], test: tuple[str, ...], *, tuned: bool
) -> EvaluateConfig:
    """Return the evaluation of some models on other selections.

    Where what fixes thresholds may be what judges them, nothing does: AUC and AP need none.
    """
    assert settings.evaluate is not None
    evaluate = settings.evaluate
    return replace(
        evaluate,
        models=dict(models),
        test=test,
        tuning=evaluate.tuning if tuned else (),
        paper=evaluate.paper and tuned,
    )


def _reported(settings: Settings, report: str) -> Settings:
    assert settings.evaluate is not None
    return replace(settings, evaluate=replace(settings.evaluate, report=report))
