"""Every stage comes after what it reads."""

import pytest

from ich_ray.config import (
    CorpusConfig,
    EvaluateConfig,
    ModelConfig,
    PseudoLabelConfig,
    Settings,
    StoreConfig,
)
from ich_ray.errors import ConfigError
from ich_ray.order import Step, steps_of


def experiment(
    models: dict[str, ModelConfig], pools: dict[str, str], *, evaluated: str = ""
) -> Settings:
    """Models by name, and pools by name with their teachers, over one corpus."""
    return Settings(
        store=StoreConfig(root="out"),
        corpora={"a": CorpusConfig(layout="folder", source="in")},
        models=models,
        pseudo_labels={
            pool: PseudoLabelConfig(teacher=teacher, unlabelled=("a",))
            for pool, teacher in pools.items()
        },
        evaluate=EvaluateConfig(models={"m": evaluated}, test=("a",)) if evaluated else None,
    )


def model(*pools: str, init: str = "random") -> ModelConfig:
    return ModelConfig(labelled=("a",), pseudo_labelled=pools, init=init)


def test_corpora_then_teacher_then_pseudo_labels_then_student_then_the_comparison() -> None:
    settings = experiment(
        {"student": model("pool", init="teacher"), "teacher": model()},
        {"pool": "teacher"},
        evaluated="student",
    )
    assert steps_of(settings) == [
        Step("ingest", "a"),
        Step("train", "teacher"),
        Step("pseudo-label", "pool"),
        Step("train", "student"),
        Step("evaluate", ""),
    ]


def test_a_second_round_follows_the_first() -> None:
    settings = experiment(
        {"two": model("second", init="one"), "one": model("first"), "zero": model()},
        {"second": "one", "first": "zero"},
    )
    names = [step.name for step in steps_of(settings)]
    assert names == ["a", "zero", "first", "one", "second", "two"]


def test_what_two_models_share_is_done_once() -> None:
    settings = experiment(
        {"x": model("pool"), "y": model("pool"), "teacher": model()}, {"pool": "teacher"}
    )
    names = [step.name for step in steps_of(settings)]
    assert names == ["a", "teacher", "pool", "x", "y"]


def test_without_a_comparison_there_is_no_last_step() -> None:
    assert steps_of(experiment({"teacher": model()}, {}))[-1] == Step("train", "teacher")


def test_a_model_that_is_its_own_teacher_is_refused() -> None:
    settings = experiment({"m": model("pool")}, {"pool": "m"})
    with pytest.raises(ConfigError, match="models need each other in a circle: m -> m; give one"):
        steps_of(settings)


def test_a_circle_of_starting_weights_is_refused() -> None:
    settings = experiment({"m": model(init="n"), "n": model(init="m")}, {})
    with pytest.raises(ConfigError, match='m -> n -> m; give one of them init = "random"'):
        steps_of(settings)
