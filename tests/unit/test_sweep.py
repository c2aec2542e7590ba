"""The trainings of a sweep, what they are called, and what is said of them over seeds."""

import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from ich_ray.capacity import GB, Need, Nodes, Process
from ich_ray.config import BudgetConfig, Settings
from ich_ray.errors import ConfigError
from ich_ray.settings import parse, resolved
from ich_ray.sweep import (
    METRICS,
    SweepConfig,
    exit_code_of_all,
    figures_of,
    over_seeds,
    read_sweep,
    rows_of,
    share_of,
    spelled_out,
    table_lines,
    trainings_at_once,
    with_members,
)

REPOSITORY = Path(__file__).parents[2]

EXPERIMENT = """
store.root = "out"
corpora.a = { layout = "folder", source = "in", splits = { train = 0.8, tune = 0.2 } }

[models.teacher]
labelled = ["a:train"]
steps = 10
validation = { tuning = ["a:tune"], every = 5 }
"""

SWEEP = """
model = "teacher"
seeds = [0, 7]
[variants.plain]
[variants.quick]
learning_rate = 0.5
validation = { every = 2 }
"""

finite = st.integers(-10_000, 10_000).map(lambda value: value / 100)


def expanded(sweep: str, text: str = EXPERIMENT, *overrides: str) -> Settings:
    config = read_sweep(sweep)
    return parse(Settings, text, overrides, change=lambda tree: with_members(tree, config))


def test_a_training_is_the_model_with_its_variant_s_settings_and_its_seed() -> None:
    models = expanded(SWEEP).models
    assert list(models) == [
        "teacher",
        *("teacher-plain-0", "teacher-plain-7", "teacher-quick-0", "teacher-quick-7"),
    ]
    base = resolved(parse(Settings, EXPERIMENT).models["teacher"])
    assert resolved(models["teacher"]) == base
    assert resolved(models["teacher-plain-7"]) == base | {"seed": 7}
    # Of a section within it only what the variant names is another.
    validation = base["validation"] | {"every": 2}
    changed = {"seed": 0, "learning_rate": 0.5, "validation": validation}
    assert resolved(models["teacher-quick-0"]) == base | changed


def test_overrides_change_the_model_before_its_variants() -> None:
    models = expanded(SWEEP, EXPERIMENT, "models.teacher.steps=3").models
    assert {model.steps for model in models.values()} == {3}


def test_a_variant_may_choose_a_preset_which_the_model_s_own_settings_win_over() -> None:
    sweep = 'model = "teacher"\nseeds = [0]\nvariants.cpu = { preset = "cpu" }'
    model = expanded(sweep).models["teacher-cpu-0"]
    assert (model.crop, model.steps) == (160, 10)


@pytest.mark.parametrize("variants", [SWEEP, SWEEP.replace("quick]", "quick]\npreset = 'cpu'")])
def test_a_sweep_that_travels_makes_the_same_of_settings_that_do(variants: str) -> None:
    here = expanded(variants)
    sweep = spelled_out(read_sweep(variants), here)
    written = json.loads(json.dumps(resolved(here)))
    there = parse(
        Settings,
        "",
        [f"{key}={json.dumps(value)}" for key, value in flat(written)],
        change=lambda tree: with_members(tree, sweep),
    )
    assert there == here
    assert sweep.members == read_sweep(variants).members


def flat(tree: dict[str, Any], path: str = "") -> list[tuple[str, Any]]:
    found = []
    for key, value in tree.items():
        if isinstance(value, dict):
            found += flat(value, f"{path}{key}.")
        elif value is not None:
            found.append((f"{path}{key}", value))
    return found


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        (("learning_rate", "lerning_rate"), r"variants\.quick\.lerning_rate; did you mean "),
        (("0.5", '"much"'), r"variants\.quick\.learning_rate must be float; got 'much'"),
        (("0.5", "-0.5"), r"variants\.quick: learning_rate must be positive, got -0\.5"),
        (("every = 2", "evry = 2"), r"variants\.quick\.validation\.evry; did you mean variants"),
        (("learning_rate = 0.5", "seed = 3"), r"variants\.quick\.seed: the sweep's seeds say it"),
        (("seeds", "seds"), r"^the sweep: unknown setting seds; did you mean seeds\?"),
        (("[0, 7]", "[]"), "seeds must name at least one"),
        (("[0, 7]", "[7, 0, 7]"), r"seeds=\[7, 0, 7\] holds one twice"),
        (("[0, 7]", "[-1]"), "seeds must be at least 0, got -1"),
        (('"teacher"', '"techer"'), "model names 'techer'; known: teacher$"),
        (("variants.quick", "variants.'a/b'"), r"variants\.a/b: a variant's name becomes part of"),
        (("variants.quick", "variants.'../b'"), "use letters, digits, - and _"),
    ],
)
def test_what_no_training_could_have_is_refused(changed: tuple[str, str], message: str) -> None:
    with pytest.raises(ConfigError, match=message) as raised:
        expanded(SWEEP.replace(*changed))
    assert str(raised.value).startswith("the sweep: ")


def test_a_sweep_without_variants_is_refused() -> None:
    with pytest.raises(ConfigError, match="variants must hold at least one section"):
        expanded('model = "teacher"\nseeds = [0]\nvariants = {}')


def test_what_is_wrong_with_the_settings_themselves_is_told_of_them() -> None:
    with pytest.raises(ConfigError, match=r"^unknown setting models\.teacher\.stps; did you mean"):
        expanded(SWEEP, EXPERIMENT.replace("steps", "stps"))


def test_a_section_of_a_training_s_name_must_say_what_the_sweep_does() -> None:
    own = '[models.teacher-plain-7]\nseed = 7\nlabelled = ["a:train"]\nsteps = {}\n'
    own += 'validation = {{ tuning = ["a:tune"], every = 5 }}\n'
    assert expanded(SWEEP, EXPERIMENT + own.format(10)) == expanded(SWEEP)
    with pytest.raises(ConfigError, match=r"models\.teacher-plain-7 stands in the settings and is"):
        expanded(SWEEP, EXPERIMENT + own.format(11))


@given(
    variants=st.sets(st.from_regex(r"[a-z0-9][a-z0-9_-]{0,3}", fullmatch=True), min_size=1),
    seeds=st.sets(st.integers(0, 99), min_size=1),
)
def test_no_two_trainings_share_a_name(variants: set[str], seeds: set[int]) -> None:
    sweep = SweepConfig(model="m", seeds=tuple(seeds), variants={name: {} for name in variants})
    assert len({member.name for member in sweep.members}) == len(variants) * len(seeds)


def test_the_paper_s_table_fits_the_demo() -> None:
    text = (REPOSITORY / "experiments" / "sweeps" / "lin2022_table2.toml").read_text()
    models = expanded(text, (REPOSITORY / "experiments" / "demo.toml").read_text()).models
    contrasts = {models[f"teacher-{c}-2"].contrast for c in ("none", "power", "log", "all")}
    assert contrasts == {"none", "power", "log", "all"}
    assert sum(name.startswith("teacher-") for name in models) == 12


@pytest.mark.parametrize("path", sorted((REPOSITORY / "experiments" / "sweeps").glob("*.toml")))
def test_every_sweep_fits_the_demo_and_compares_the_same_number_of_crops(path: Path) -> None:
    models = expanded(
        path.read_text(), (REPOSITORY / "experiments" / "demo.toml").read_text()
    ).models
    swept = [model for name, model in models.items() if name.startswith("teacher-")]
    assert len(swept) % 3 == 0
    assert len({model.steps * model.batch for model in swept}) == 1


@given(st.lists(finite, min_size=2, max_size=6))
def test_the_interval_is_scipy_s(values: list[float]) -> None:
    found = over_seeds(values)
    assert found.low is not None
    assert found.high is not None
    if len(set(values)) == 1:
        assert found.low == pytest.approx(values[0])
        assert found.high == pytest.approx(values[0])
        return
    interval = stats.t.interval(0.95, len(values) - 1, np.mean(values), stats.sem(values))
    assert (found.low, found.high) == pytest.approx(interval, rel=1e-9, abs=1e-9)


def test_an_interval_of_three_seeds_by_hand() -> None:
    # Of 1, 2, 3: mean 2, standard deviation 1, and t of two degrees of freedom is 4.3027.
    found = over_seeds([1.0, 2.0, 3.0])
    assert (found.mean, found.seeds) == (2.0, 3)
    assert found.high == pytest.approx(2 + 4.302653 / math.sqrt(3), abs=1e-6)


def test_one_seed_has_no_interval() -> None:
    assert (over_seeds([0.5]).low, over_seeds([0.5]).high) == (None, None)


def sweep_of(*variants: str, seeds: tuple[int, ...] = (0, 1, 2)) -> SweepConfig:
    return SweepConfig(model="m", seeds=seeds, variants={name: {} for name in variants})


@given(st.lists(st.tuples(finite, finite), min_size=2, max_size=5))
def test_a_difference_is_paired_by_seed(pairs: list[tuple[float, float]]) -> None:
    sweep = sweep_of("a", "b", seeds=tuple(range(len(pairs))))
    figures = {f"m-a-{seed}": {"dsc": a} for seed, (a, _) in enumerate(pairs)}
    figures |= {f"m-b-{seed}": {"dsc": b} for seed, (_, b) in enumerate(pairs)}
    first, second = rows_of(sweep, figures)
    assert first.less_first == {}
    assert second.less_first["dsc"] == over_seeds([b - a for a, b in pairs])


def test_what_all_seeds_share_does_not_widen_a_difference() -> None:
    easy_or_hard = {0: 0.5, 1: 0.7, 2: 0.9}
    figures = {f"m-a-{seed}": {"dsc": base} for seed, base in easy_or_hard.items()}
    figures |= {f"m-b-{seed}": {"dsc": base + 0.01} for seed, base in easy_or_hard.items()}
    _, second = rows_of(sweep_of("a", "b"), figures)
    less = second.less_first["dsc"]
    assert (less.low, less.high) == pytest.approx((0.01, 0.01))


def test_a_training_that_failed_takes_its_pair_out_of_the_difference_alone() -> None:
    figures = {f"m-{variant}-{seed}": {"dsc": float(seed)} for variant in "ab" for seed in range(3)}
    del figures["m-a-1"]
    first, second = rows_of(sweep_of("a", "b"), figures)
    assert (first.trained, second.trained) == (2, 3)
    assert (second.figures["dsc"].seeds, second.less_first["dsc"].seeds) == (3, 2)


def test_a_variant_that_failed_throughout_keeps_its_row() -> None:
    rows = rows_of(sweep_of("a", "b"), {"m-b-0": {"loss": 1.0}})
    assert [(row.variant, row.trained) for row in rows] == [("a", 0), ("b", 1)]
    assert rows[1].less_first == {}
    assert [line.split() for line in table_lines(rows)] == [
        ["variant", "seeds", "training", "loss", "less", "a"],
        ["a", "0"],
        ["b", "1", "1.0000"],
    ]


def test_the_table_of_nothing_is_empty() -> None:
    assert table_lines(rows_of(sweep_of("a"), {})) == []


def test_the_table_has_a_block_a_figure_and_aligned_columns() -> None:
    figures = {
        f"m-{variant}-{seed}": {"exam_auc": 0.8 + 0.01 * seed + more, "loss": 0.3}
        for variant, more in (("none", 0.0), ("power_law", 0.05))
        for seed in range(3)
    }
    lines = table_lines(rows_of(sweep_of("none", "power_law"), figures))
    assert lines == [
        "variant    seeds  exam AUC                    less none",
        "none           3  0.8100 [0.7852, 0.8348]",
        "power_law      3  0.8600 [0.8352, 0.8848]     +0.0500 [0.0500, 0.0500]",
        "",
        "variant    seeds  training loss               less none",
        "none           3  0.3000 [0.3000, 0.3000]",
        "power_law      3  0.3000 [0.3000, 0.3000]     +0.0000 [0.0000, 0.0000]",
    ]


VALIDATIONS = [
    {"step": 50, "exam_auc": 0.9, "pixel_ap": 0.8, "dsc": 0.7},
    {"step": 100, "exam_auc": 0.6, "pixel_ap": 0.5, "dsc": 0.4},
]


@pytest.mark.parametrize(("best", "auc"), [(None, 0.6), (100, 0.6), (50, 0.9)])
def test_the_figures_are_those_of_the_weights_that_the_model_has(
    best: int | None, auc: float
) -> None:
    record = {"curve": [[50, 0.2], [100, 0.1]], "validations": VALIDATIONS, "best_step": best}
    found = figures_of(record)
    assert list(found) == list(METRICS)
    assert (found["exam_auc"], found["loss"]) == (auc, 0.1)


def test_a_model_without_tuning_selections_has_its_loss_alone() -> None:
    assert figures_of({"curve": [[10, 0.25]]}) == {"loss": 0.25}
    assert figures_of({"curve": [[10, 0.25]], "validations": [], "best_step": None}) == {
        "loss": 0.25
    }


@pytest.mark.parametrize("undefined", [None, math.nan])
def test_an_undefined_figure_is_left_out(undefined: float | None) -> None:
    validations = [VALIDATIONS[0] | {"exam_auc": undefined}]
    assert "exam_auc" not in figures_of({"curve": [[50, 0.1]], "validations": validations})


@pytest.mark.parametrize(
    ("codes", "code"),
    [
        ([0, 0], 0),
        ([], 0),
        ([0, 4], 4),
        ([4, 2], 2),
        ([4, 1, 2], 1),
        ([1, 5, 4], 5),
        ([4, -9], 5),
        ([137, 4], 5),
        ([143], 5),
        ([3, 0], 1),
        ([3, 4], 4),
    ],
)
def test_another_try_comes_first_then_what_a_person_must_look_at(
    codes: list[int], code: int
) -> None:
    assert exit_code_of_all(codes) == code


def need(processes: int, **each: Any) -> Need:
    return Need(what="models.m.num_workers", each=Process(**each), processes=processes)


def test_as_many_trainings_run_as_whole_groups_fit() -> None:
    nodes = [Nodes(cpus=4.0, memory=int(8 * GB)), Nodes(cpus=3.0, memory=int(8 * GB))]
    assert trainings_at_once([need(2, memory=int(2 * GB))], nodes) == 3
    assert trainings_at_once([need(2, memory=int(4 * GB))], nodes) == 2
    # Whichever of them run beside each other: those that need most decide.
    assert trainings_at_once([need(1), need(3)], nodes) == 2
    assert trainings_at_once([need(8)], nodes) == 1


def test_trainings_keep_to_the_budget_together() -> None:
    whole = BudgetConfig(max_gpu_hours=12.0, max_cost=6.0)
    each = share_of(whole, among=3)
    assert (each.max_gpu_hours, each.max_cpu_hours, each.max_cost) == (4.0, 0.0, 2.0)
    assert each.price_per_cpu_hour == whole.price_per_cpu_hour
