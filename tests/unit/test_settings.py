"""Settings are checked once, before anything runs, and say which key is wrong and why."""

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

import pytest

from ich_ray.config import CorpusConfig, ModelConfig, NiftiConfig, Settings, StoreConfig
from ich_ray.errors import ConfigError
from ich_ray.identity import Pseudonyms
from ich_ray.settings import for_record, parse, resolved
from ich_ray.training_presets import PRESETS


@dataclass(frozen=True, kw_only=True, slots=True)
class Bleed:
    kind: Literal["subdural", "epidural"]
    volume_ml: float = 1.0
    center: tuple[float, float] = (0.0, 0.0)

    def __post_init__(self) -> None:
        if self.volume_ml <= 0:
            raise ConfigError(f"volume_ml must be positive, got {self.volume_ml}")


@dataclass(frozen=True, kw_only=True, slots=True)
class Head:
    patient: str
    slices: int = 20
    tilted: bool = False
    tags: tuple[str, ...] = ()
    first: Bleed | None = None
    bleeds: Mapping[str, Bleed] = field(default_factory=dict)


MINIMAL = """
store.root = "out"
[corpora.a]
layout = "folder"
source = "in"
"""

HEAD = 'patient = "p"\n'

EXPERIMENT = """
store.root = "out"
corpora.a = { layout = "folder", source = "in", splits = { train = 1 } }
models.teacher = { labelled = ["a:train"], steps = 10 }
pseudo_labels.pool = { teacher = "teacher", unlabelled = ["a"] }
models.student = { labelled = ["a:train"], pseudo_labelled = ["pool"], init = "teacher" }
evaluate = { models = { baseline = "teacher" }, test = ["a"] }
"""


def flat(tree: Mapping[str, Any], path: str = "") -> Iterator[str]:
    """Write plain values as overrides: JSON of a leaf is TOML."""
    for key, value in tree.items():
        if isinstance(value, Mapping):
            yield from flat(value, f"{path}{key}.")
        elif value is not None:  # TOML has no null: a section that is not there is left out
            yield f"{path}{key}={json.dumps(value)}"


def test_defaults_fill_what_is_not_said() -> None:
    assert parse(Head, HEAD) == Head(patient="p")


def test_resolved_settings_read_back_are_the_same_settings() -> None:
    settings = parse(Settings, EXPERIMENT)
    assert parse(Settings, "", flat(resolved(settings))) == settings


def test_resolved_settings_are_json_with_every_default() -> None:
    shown = json.loads(json.dumps(resolved(parse(Settings, EXPERIMENT))))
    assert shown["models"]["teacher"]["batch"] == 16
    assert shown["input"]["window"] == [-40.0, 160.0]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("slises = 3", r"unknown setting slises; did you mean slices\?"),
        ("xyzzy = 3", "unknown setting xyzzy; known: patient, slices, tilted, tags"),
        ("[bleeds.a]\nkind = 'subdural'\nvolume = 3", r"bleeds.a.volume; did you mean "),
    ],
)
def test_an_unknown_key_is_refused_and_the_nearest_offered(text: str, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        parse(Head, HEAD + text)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("slices = 2.0", r"^slices must be int; got 2\.0$"),
        ("slices = true", "^slices must be int; got True$"),
        ("slices = '2'", "^slices must be int; got '2'$"),
        ("tilted = 1", "^tilted must be bool; got 1$"),
        ("tags = 'a'", "^tags must be a list; got 'a'$"),
        ("tags = ['a', 1]", r"^tags\[1\] must be str; got 1$"),
        ("bleeds = 3", "^bleeds must be a section; got 3$"),
        ("bleeds.a = 3", "^bleeds.a must be a section; got 3$"),
        ("first = {}", "^the setting first.kind is missing; it has no default$"),
        ("first.kind = 'deep'", "^first.kind must be one of subdural, epidural; got 'deep'$"),
        (
            "first = {kind = 'subdural', center = [1]}",
            r"^first.center must be a list of 2; got \[1\]$",
        ),
        (
            "first = {kind = 'subdural', volume_ml = true}",
            "^first.volume_ml must be float; got True$",
        ),
        (
            "bleeds.a = {kind = 'subdural', volume_ml = -1}",
            r"^bleeds.a: volume_ml must be positive, got -1\.0$",
        ),
    ],
)
def test_a_value_of_another_type_is_refused_by_its_path(text: str, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        parse(Head, HEAD + text)


def test_a_whole_number_is_a_number() -> None:
    bleed = parse(Bleed, "kind = 'subdural'\nvolume_ml = 2\ncenter = [1, 2]")
    assert (bleed.volume_ml, bleed.center) == (2.0, (1.0, 2.0))
    assert isinstance(bleed.volume_ml, float)


def test_a_setting_without_a_default_must_be_given() -> None:
    with pytest.raises(ConfigError, match=r"^the setting patient is missing; it has no default$"):
        parse(Head, "slices = 3")


def test_text_that_is_no_toml_is_refused() -> None:
    with pytest.raises(ConfigError, match=r"^the settings are no valid TOML: "):
        parse(Head, "patient = ")


def test_overrides_win_over_the_text_and_later_ones_over_earlier_ones() -> None:
    overrides = ["slices=5", "slices=6", "first.kind=epidural", "bleeds.a.kind=subdural"]
    head = parse(Head, HEAD, [*overrides, "tags=['x']", "patient=s3://a b"])
    assert (head.slices, head.patient, head.tags) == (6, "s3://a b", ("x",))
    assert head.first == Bleed(kind="epidural")
    assert head.bleeds == {"a": Bleed(kind="subdural")}


def test_an_override_may_empty_a_string() -> None:
    assert parse(Head, HEAD, ["patient="]).patient == ""


@pytest.mark.parametrize("override", ["patient", "=3", ""])
def test_an_override_that_sets_nothing_is_refused(override: str) -> None:
    with pytest.raises(ConfigError, match=r"cannot read the override .*write section.key=value"):
        parse(Head, HEAD, [override])


def test_an_override_cannot_go_below_a_value() -> None:
    with pytest.raises(ConfigError, match=r"^slices.deep: slices is a value, not a section$"):
        parse(Head, HEAD + "slices = 3", ["slices.deep=1"])


def test_a_record_of_settings_names_no_place_of_a_corpus() -> None:
    corpus = CorpusConfig(
        layout="nifti",
        source="s3://exports/doe_jane",
        nifti=NiftiConfig(image="doe_jane/{exam}.nii"),
    )
    settings = Settings(store=StoreConfig(root="s3://ich/run"), corpora={"c": corpus})
    names = Pseudonyms(b"a key")
    record = for_record(settings, names)
    assert record["corpora"]["c"]["source"] == names.of("s3://exports/doe_jane")
    assert record["corpora"]["c"]["labels"] == ""
    assert record["corpora"]["c"]["layout"] == "nifti"
    assert "doe" not in json.dumps(record)
    assert record["store"]["root"] == "s3://ich/run"


def test_a_preset_gives_the_settings_that_a_model_does_not_give_itself() -> None:
    text = '[models.m]\npreset = "cpu"\nlabelled = ["a"]\nsteps = 7\n'
    model = parse(Settings, MINIMAL + text).models["m"]
    given = {**PRESETS["cpu"], "steps": 7}
    assert {name: getattr(model, name) for name in given} == given


@pytest.mark.parametrize("name", PRESETS)
def test_every_preset_is_a_model_that_its_own_machine_takes(name: str) -> None:
    gpu = name != "cpu"
    text = f'[models.m]\npreset = "{name}"\nlabelled = ["a"]\nuse_gpu = {str(gpu).lower()}\n'
    assert parse(Settings, MINIMAL + text).models["m"].preset == name


def test_the_paper_is_the_default_of_all_that_decides_weights() -> None:
    plain = ModelConfig(labelled=("a",))
    paper = {**PRESETS["lin2022"], "read_ahead": plain.read_ahead}
    assert {name: getattr(plain, name) for name in paper} == paper


def test_a_preset_that_is_none_is_refused() -> None:
    text = '[models.m]\npreset = "lin2021"\nlabelled = ["a"]\n'
    with pytest.raises(ConfigError, match=r"preset must be one of none, lin2022, fast, cpu"):
        parse(Settings, MINIMAL + text)
