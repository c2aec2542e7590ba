"""The paper's study as evaluations: which models on which exams, and what is shared."""

from dataclasses import replace
from pathlib import Path

import pytest

from ich_ray.config import Settings
from ich_ray.errors import ConfigError
from ich_ray.reproduction import Member, members_of
from ich_ray.reproduction_data import data_of
from ich_ray.settings import parse

EXPERIMENTS = Path(__file__).parents[2] / "experiments"


def settings_of(*overrides: str, name: str = "reproduce_lin2022") -> Settings:
    return parse(Settings, (EXPERIMENTS / f"{name}.toml").read_text(), overrides)


def models_of(settings: Settings) -> dict[str, str]:
    assert settings.evaluate is not None
    return dict(settings.evaluate.models)


def test_each_table_is_an_evaluation_a_seed() -> None:
    members = members_of(settings_of("experiment.seeds=[0,3]"))
    assert [member.name for member in members if member.seed == 3] == [
        "seed-3",
        "table-2-seed-3",
        "table-3-seed-3",
        "table-4-site_c_second-seed-3",
        "table-4-site_c_third-seed-3",
    ]
    assert len(members) == 10


def test_tables_2_and_3_are_of_validation_exams_without_a_threshold_fixed_on_them() -> None:
    members = members_of(settings_of())
    for table in ("2", "3"):
        evaluate = members[Member(table, 0)].evaluate
        assert evaluate is not None
        assert (evaluate.test, evaluate.tuning) == (("validation",), ())
    assert list(models_of(members[Member("3", 0)])) == ["baseline", "semi_supervised", "no_ranker"]


def test_the_contrast_that_the_teacher_has_is_the_baseline_itself() -> None:
    one = members_of(settings_of())[Member("2", 0)]
    assert models_of(one) == {
        "none": "contrast_none-0",
        "power": "contrast_power-0",
        "log": "contrast_log-0",
        "all": "baseline-0",
    }
    teacher = one.models["baseline-0"]
    for contrast, name in models_of(one).items():
        assert one.models[name] == replace(teacher, contrast=contrast)
    assert not one.pseudo_labels


def test_other_segmentations_judge_the_same_models_with_the_same_thresholds() -> None:
    members = members_of(settings_of())
    first, second = members[Member("1", 0)], members[Member("4", 0, "site_c_second")]
    assert first.evaluate is not None
    assert second.evaluate is not None
    assert second.evaluate.test == ("site_c_second",)
    assert second.evaluate.tuning == first.evaluate.tuning == ("site_a:tune",)
    assert set(models_of(second)) == {"baseline", "semi_supervised"}
    assert second.models == first.models


@pytest.mark.parametrize(
    ("override", "match"),
    [
        ('experiment.variants=["no_ranker"]', "add 'semi_supervised' to experiment.variants"),
        ('experiment.student_init=["random"]', "let student_init name teacher"),
        ('evaluate.test=["site_c","site_b"]', "evaluate.test names 2: name one"),
    ],
)
def test_what_a_reproduction_cannot_do_without_is_named(override: str, match: str) -> None:
    with pytest.raises(ConfigError, match=match):
        members_of(settings_of(override))


def test_settings_without_the_section_are_told_what_to_add() -> None:
    with pytest.raises(ConfigError, match=r"no \[reproduce\] section; add validation"):
        members_of(settings_of(name="lin2022_phantoms"))


def test_validation_must_name_a_selection_that_exists() -> None:
    with pytest.raises(ConfigError, match=r"reproduce\.validation names 'site_x'"):
        settings_of('reproduce.validation=["site_x"]')
    with pytest.raises(ConfigError, match="validation must name at least one"):
        settings_of("reproduce.validation=[]")


def test_the_tables_say_on_what_they_are_made() -> None:
    assert data_of(settings_of()).startswith("Made on synthetic heads (site_a, site_b,")
    public = data_of(settings_of(name="reproduce_lin2022_public"))
    assert public.startswith("Made on ct_ich (nifti), instance22 (nifti), rsna (rsna), cq500")
    assert "are private" in public
    mixed = data_of(settings_of('corpora.site_b.source="/data/own"'))
    assert "Of them site_a, site_c, validation, site_c_second" in mixed
