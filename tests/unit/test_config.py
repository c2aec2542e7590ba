"""Each section refuses what it could not carry out; names must be sections of their kind."""

import re
from collections.abc import Callable
from typing import Any

import pytest

from ich_ray.config import (
    CorpusConfig,
    EvaluateConfig,
    InputConfig,
    ModelConfig,
    PhantomConfig,
    PowerConfig,
    PredictConfig,
    PseudoLabelConfig,
    Settings,
    StoreConfig,
    ValidationConfig,
)
from ich_ray.config_log import LogConfig
from ich_ray.errors import ConfigError


def corpus(**changed: Any) -> CorpusConfig:
    return CorpusConfig(**{"layout": "folder", "source": "in", **changed})


def model(**changed: Any) -> ModelConfig:
    return ModelConfig(**{"labelled": ("a",), **changed})


def labels(**changed: Any) -> PseudoLabelConfig:
    return PseudoLabelConfig(**{"teacher": "teacher", "unlabelled": ("a",), **changed})


def evaluation(**changed: Any) -> EvaluateConfig:
    return EvaluateConfig(**{"models": {"baseline": "teacher"}, "test": ("a",), **changed})


def phantoms(**changed: Any) -> PhantomConfig:
    return PhantomConfig(**{"site": "a", "folder": "f", "num_exams": 1, **changed})


def experiment(**changed: Any) -> Settings:
    sections: dict[str, Any] = {
        "store": StoreConfig(root="out"),
        "corpora": {"a": corpus(splits={"train": 0.8, "tune": 0.2})},
        "models": {"teacher": model(labelled=("a:train",))},
        "pseudo_labels": {"pool": labels()},
        "evaluate": evaluation(),
    }
    return Settings(**(sections | changed))


REFUSED: list[tuple[Callable[..., object], dict[str, Any], str]] = [
    (InputConfig, {"window": (80.0, 0.0)}, "need low < high in window, got (80.0, 0.0)"),
    (InputConfig, {"size": 250}, "size must be a multiple of the network's stride 8, got 250"),
    (InputConfig, {"size": -8}, "size must be a multiple of the network's stride 8, got -8"),
    (corpus, {"splits": {"train": 0.8, "tune": 0.3}}, "splits must be positive shares"),
    (corpus, {"splits": {"train": 0.0}}, "that add up to 1 at most, got {'train': 0.0}"),
    (corpus, {"slices_per_part": 0}, "slices_per_part must be at least 1, got 0"),
    (corpus, {"max_rejected_share": 1.5}, "max_rejected_share must lie in [0, 1], got 1.5"),
    (model, {"crop": 100}, "crop must be a multiple of 8: 100"),
    (model, {"crop": 0}, "crop must be a multiple of 8: 0"),
    (model, {"pseudo_crop": 100}, "pseudo_crop must be 0 or a multiple of 8: 100"),
    (
        model,
        {"pseudo_crop": 512, "normalisation": "synchronised", "use_gpu": True},
        "normalisation='synchronised' needs crops of one size: pseudo_crop=512 is not crop=240",
    ),
    (model, {"batch": 1}, "batch=1 leaves some of num_workers=2 without an item"),
    (model, {"min_workers": 3}, "min_workers=3 is more than num_workers=2"),
    (model, {"precision": "tf32"}, "precision='tf32' needs use_gpu=true"),
    (model, {"checkpoints_kept": 0}, "checkpoints_kept must be at least 1, got 0"),
    (model, {"stall_s": -1.0}, "stall_s must be at least 0, got -1.0"),
    (
        model,
        {"init": "teacher", "init_trunk": "drn.pth"},
        "init=teacher and init_trunk both say where the weights come from",
    ),
    (ValidationConfig, {"keep": "best"}, "keep='best' needs tuning"),
    (ValidationConfig, {"patience": 3}, "patience needs tuning"),
    (ValidationConfig, {"every": 0}, "every must be at least 1, got 0"),
    (model, {"labelled": ()}, "labelled must name at least one corpus"),
    (
        model,
        {"pseudo_labelled": ("pool",), "labelled_share": 1.0},
        "labelled_share must lie between 0 and 1, got 1.0",
    ),
    (model, {"steps": 0}, "steps must be at least 1, got 0"),
    (model, {"num_workers": 0}, "num_workers must be at least 1, got 0"),
    (model, {"checkpoint_every": 0}, "checkpoint_every must be at least 1, got 0"),
    (model, {"seed": -1}, "seed must be at least 0, got -1"),
    (model, {"max_failures": -1}, "max_failures must be at least 0, got -1"),
    (model, {"learning_rate": 0.0}, "learning_rate must be positive, got 0.0"),
    (model, {"positive_slice_share": 1.1}, "positive_slice_share must lie in [0, 1], got 1.1"),
    (labels, {"top_percent": 0.0}, "top_percent must lie between 0 and 100, got 0.0"),
    (labels, {"top_percent": 100.0}, "0 would leave no positive, 100 no negative"),
    (
        labels,
        {"positive_above": 0.2},
        "need 0 <= negative_below <= positive_above <= 1, got 0.3 and 0.2",
    ),
    (evaluation, {"resamples": 99}, "resamples=99: an interval needs 100"),
    (evaluation, {"models": {}}, "name either models of this store, with test, or predictions"),
    (evaluation, {"actors": 0}, "actors must be at least 1, got 0"),
    (PredictConfig, {"actors": 0}, "actors must be at least 1, got 0"),
    (PredictConfig, {"batch": 0}, "batch must be at least 1, got 0"),
    (phantoms, {"num_exams": 0}, "num_exams must be at least 1, got 0"),
]


@pytest.mark.parametrize(("section", "changed", "message"), REFUSED)
def test_a_section_says_why_it_refuses_a_value(
    section: Callable[..., object], changed: dict[str, Any], message: str
) -> None:
    with pytest.raises(ConfigError, match=re.escape(message)):
        section(**changed)


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        (
            {"models": {"teacher": model(labelled=("b",))}},
            "models.teacher.labelled names 'b'; known: a",
        ),
        (
            {"models": {"teacher": model(labelled=("a:test",))}},
            "models.teacher.labelled (a) names 'test'; known: train, tune",
        ),
        (
            {"models": {"teacher": model(), "student": model(pseudo_labelled=("pol",))}},
            "models.student.pseudo_labelled names 'pol'; known: pool",
        ),
        (
            {"models": {"teacher": model(init="nobody")}},
            "models.teacher.init names 'nobody'; known: teacher",
        ),
        (
            {"pseudo_labels": {"pool": labels(teacher="nobody")}},
            "pseudo_labels.pool.teacher names 'nobody'; known: teacher",
        ),
        (
            {"pseudo_labels": {"pool": labels(unlabelled=("b",))}},
            "pseudo_labels.pool.unlabelled names 'b'; known: a",
        ),
        (
            {"pseudo_labels": {"pool": labels(prevalence_of=("a:rest",))}},
            "pseudo_labels.pool.prevalence_of (a) names 'rest'; known: train, tune",
        ),
        (
            {"evaluate": evaluation(models={"baseline": "nobody"})},
            "evaluate.models names 'nobody'; known: teacher",
        ),
        ({"evaluate": evaluation(test=("b",))}, "evaluate.test names 'b'; known: a"),
        ({"evaluate": evaluation(tuning=("b",))}, "evaluate.tuning names 'b'; known: a"),
        (
            {"corpora": {}, "evaluate": None, "pseudo_labels": {}},
            "models.teacher.labelled names 'a'; known: none",
        ),
    ],
)
def test_a_name_must_be_a_section_of_its_kind(changed: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=re.escape(message)):
        experiment(**changed)


def test_the_experiment_that_the_refusals_change_is_accepted() -> None:
    assert experiment().models["teacher"].labelled == ("a:train",)


def test_the_paper_s_defaults_stand_where_it_names_them() -> None:
    paper, ranker = model(), labels()
    assert (paper.network, paper.crop, paper.batch, paper.steps) == ("drn_d_38", 240, 16, 144_000)
    assert (paper.optimizer, paper.momentum, paper.weight_decay) == ("sgd", 0.9, 1e-4)
    assert (paper.labelled_share, paper.learning_rate) == (0.6, 0.01)
    assert (ranker.top_percent, ranker.positive_above, ranker.negative_below) == (10, 0.7, 0.3)


def test_the_input_has_three_channels_with_neighbours_and_one_without() -> None:
    assert InputConfig().num_channels == 3
    assert InputConfig(channels="single").num_channels == 1


def test_progress_that_would_be_told_without_end_is_refused() -> None:
    with pytest.raises(ConfigError, match=r"^progress_every_s must be above 0, got 0\.0$"):
        LogConfig(progress_every_s=0.0)


def of_seeds(**seeds: tuple[str, ...]) -> dict[str, Any]:
    return {"predictions": dict.fromkeys("abe", "p.csv"), "reference": "r", "seeds": seeds}


@pytest.mark.parametrize(
    ("evaluate", "match"),
    [
        ({"models": {"a": "a"}}, "models need test"),
        ({"predictions": {"a": "a.csv"}}, "predictions need reference"),
        ({"models": {"a": "a"}, "test": ("c",), "reference": "r"}, "reference belongs to pred"),
        (
            {"predictions": {"a": "a.csv"}, "reference": "r", "tuning": ("c",)},
            "test and tuning belong to models",
        ),
        ({"models": {"a": "a"}, "test": ("c",), "margins": {"auc": 0.1}}, "known are exam_auc"),
        ({"models": {"a": "a"}, "test": ("c",), "margins": {"dsc": 0.0}}, "a loss above 0"),
        ({"models": {"a": "a"}, "test": ("c",), "paper": True}, "compares two models, and there"),
        ({"models": {"empty_masks": "a"}, "test": ("c",)}, "is the name of a rival"),
        ({"predictions": {"a": "a"}, "reference": "r", "ignored_value": 256}, "at most 255"),
        (of_seeds(a=("a", "c"), b=("b", "d")), "names c, which is not compared: known are"),
        (of_seeds(a=("a",), b=("a",)), "names a twice"),
        (
            of_seeds(a=("a", "b"), b=("e",)),
            "other numbers of trainings by recipe, {'a': 2, 'b': 1}",
        ),
        (of_seeds(a=(), b=()), "name as many of each"),
    ],
)
def test_an_evaluation_names_what_it_compares_and_what_belongs_to_it(
    evaluate: dict[str, Any], match: str
) -> None:
    with pytest.raises(ConfigError, match=match):
        EvaluateConfig(**evaluate)


@pytest.mark.parametrize(
    ("power", "match"),
    [
        ({"exams": ()}, "name the size"),
        ({"auc_differences": ()}, "auc_differences must name"),
        ({"prevalence": 1.0}, "a share below 1"),
        ({"dsc_differences": (0.0,)}, "every corpus shows no difference"),
        ({"correlation": 1.0}, "below 1"),
    ],
)
def test_a_power_analysis_asks_something(power: dict[str, Any], match: str) -> None:
    with pytest.raises(ConfigError, match=match):
        PowerConfig(**power)
