"""What sections and steps the family of variants has, and which of them may start."""

from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ich_ray.capacity import GB, Need, Nodes, Process
from ich_ray.config import Settings
from ich_ray.errors import ConfigError
from ich_ray.experiment import MODES, arms_of, experiment_of, of_seed, steps_after, with_family
from ich_ray.order import Step
from ich_ray.settings import parse
from ich_ray.step_graph import Node, blocked, fit_together, startable, whole_of

REPOSITORY = Path(__file__).parents[2]

EXPERIMENT = """
store.root = "out"
input.size = 64
[corpora]
a = { layout = "folder", source = "a", splits = { f0 = 0.3, f1 = 0.3, f2 = 0.3, tune = 0.1 } }
b = { layout = "folder", source = "b" }
c = { layout = "folder", source = "c" }
[models.teacher]
labelled = ["a:f0", "a:f1", "a:f2"]
steps = 10
crop = 32
[models.student]
labelled = ["a:f0", "a:f1", "a:f2"]
init = "teacher"
pseudo_labelled = ["pool"]
steps = 5
crop = 32
[pseudo_labels.pool]
teacher = "teacher"
unlabelled = ["b"]
top_percent = 20.0
[evaluate]
models = { m = "teacher" }
test = ["c"]
[experiment]
teacher = "teacher"
student = "student"
pool = "pool"
variants = ["baseline", "semi_supervised", "pixel_oracle"]
seeds = [0, 7]
"""


def family(*overrides: str) -> Settings:
    return with_family(parse(Settings, EXPERIMENT, overrides))


def test_each_seed_has_one_teacher_and_a_student_a_variant() -> None:
    found = family()
    assert set(found.models) == {"teacher", "student"} | {
        f"{arm}-{seed}"
        for arm in ("baseline", "semi_supervised", "pixel_oracle")
        for seed in (0, 7)
    }
    student, pool = found.models["pixel_oracle-7"], found.pseudo_labels["pixel_oracle-7"]
    assert (student.seed, student.init) == (7, "baseline-7")
    assert student.pseudo_labelled == ("pixel_oracle-7",)
    assert (student.steps, pool.top_percent) == (5, 20.0)
    assert (pool.mode, pool.teacher, pool.unlabelled) == ("pixel_oracle", "baseline-7", ("b",))
    assert found.pseudo_labels["semi_supervised-0"].mode == "paper"


def test_the_baseline_is_there_though_no_one_names_it() -> None:
    found = family('experiment.variants=["soft"]')
    assert [arm.name for arm in arms_of(experiment_of(found))] == ["baseline", "soft"]
    assert "baseline-0" in found.models


def test_a_student_of_labelled_slices_alone_differs_by_its_pseudo_labels_only() -> None:
    found = family('experiment.variants=["semi_supervised", "labelled_alone"]')
    assert found.models["labelled_alone-0"].pseudo_labelled == ()
    assert "labelled_alone-0" not in found.pseudo_labels
    with_labels = found.models["semi_supervised-0"]
    assert found.models["labelled_alone-0"] == replace(with_labels, pseudo_labelled=())
    assert set(of_seed(found, 0).pseudo_labels) == {"semi_supervised-0"}
    after = steps_after(of_seed(found, 0))
    assert after[Step("train", "labelled_alone-0")] == {
        Step("ingest", "a"),
        Step("train", "baseline-0"),
    }


def test_the_student_of_one_round_is_the_teacher_of_the_next() -> None:
    found = family("experiment.rounds=3", 'experiment.student_init=["teacher", "random"]')
    assert found.pseudo_labels["semi_supervised-r2-0"].teacher == "semi_supervised-0"
    assert (
        found.pseudo_labels["semi_supervised-random-r3-0"].teacher == "semi_supervised-random-r2-0"
    )
    assert found.models["semi_supervised-r3-0"].init == "semi_supervised-r2-0"
    assert found.models["semi_supervised-random-r2-0"].init == "random"
    # In the first round both starts learn from one table.
    assert found.models["semi_supervised-random-0"].pseudo_labelled == ("semi_supervised-0",)


FOLDS = 'experiment.folds=["a:f0", "a:f1", "a:f2"]'


def test_each_fold_s_teacher_learns_from_the_others_and_all_of_them_label() -> None:
    found = family(FOLDS)
    assert found.models["fold_1-7"].labelled == ("a:f0", "a:f2")
    pool = found.pseudo_labels["semi_supervised-7"]
    assert pool.teachers == ("fold_0-7", "fold_1-7", "fold_2-7")
    assert found.models["semi_supervised-7"].init == "baseline-7"
    assert found.models["baseline-7"].labelled == ("a:f0", "a:f1", "a:f2")
    assert "fold_2-7" in of_seed(found, 7).models


def test_an_image_oracle_s_student_sees_unlabelled_slices_whole() -> None:
    found = family('experiment.variants=["image_slice_oracle"]')
    student = found.models["image_slice_oracle-0"]
    assert (student.crop, student.pseudo_crop) == (32, 64)
    message = r"models\.image_slice_oracle-0\.pseudo_crop=32 is smaller"
    with pytest.raises(ConfigError, match=message):
        family('experiment.variants=["image_slice_oracle"]', "input.size=0")


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (("experiment.seeds=[]",), "experiment: seeds must name at least one"),
        (("experiment.seeds=[1, 1]",), r"seeds=\[1, 1\] holds one twice"),
        (('experiment.variants=["magic"]',), r"experiment\.variants\[0\] must be one of baseline,"),
        (("experiment.rounds=0",), "rounds must be at least 1"),
        (('experiment.folds=["a:f0"]',), "folds names one selection"),
        (('experiment.folds=["a:f0", "a:f1"]',), r"are not what models\.teacher learns from"),
        ((FOLDS, "experiment.rounds=2"), "folds with rounds=2: a student has seen the whole pool"),
        (("experiment.teacher=nobody",), r"experiment\.teacher names 'nobody'; known: teacher"),
        (
            ('models.soft-0.labelled=["a"]', 'experiment.variants=["soft"]'),
            r"models\.soft-0 stands in the settings and is not what the experiment makes",
        ),
    ],
)
def test_what_is_no_family_is_refused(overrides: tuple[str, ...], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        family(*overrides)


def test_settings_without_an_experiment_or_an_evaluation_say_what_to_add() -> None:
    with pytest.raises(ConfigError, match=r"no \[experiment\] section; add teacher, student"):
        with_family(parse(Settings, EXPERIMENT.partition("[experiment]")[0]))
    without = "".join(EXPERIMENT.partition("[evaluate]")[::2]).replace(
        '\nmodels = { m = "teacher" }\ntest = ["c"]\n', "\n"
    )
    with pytest.raises(ConfigError, match=r"no \[evaluate\] section"):
        with_family(parse(Settings, without))


def test_a_seed_s_settings_hold_its_own_sections_and_compare_them() -> None:
    one = of_seed(family("experiment.report=here/"), 7)
    assert set(one.models) == {"baseline-7", "semi_supervised-7", "pixel_oracle-7"}
    assert set(one.pseudo_labels) == {"semi_supervised-7", "pixel_oracle-7"}
    assert one.evaluate is not None
    assert next(iter(one.evaluate.models.items())) == ("baseline", "baseline-7")
    assert one.evaluate.report == "here/seed-7"
    assert one.experiment is None


def test_every_step_comes_after_those_that_it_needs() -> None:
    after = steps_after(of_seed(family(FOLDS), 0))
    seen: set[Step] = set()
    for step, needed in after.items():
        assert needed <= seen
        seen.add(step)
    ingests = {Step("ingest", name) for name in "abc"}
    assert after[Step("train", "fold_0-0")] == {Step("ingest", "a")}
    assert Step("train", "fold_2-0") in after[Step("pseudo-label", "semi_supervised-0")]
    assert Step("pseudo-label", "semi_supervised-0") in after[Step("train", "semi_supervised-0")]
    assert after[Step("evaluate", "")] >= ingests


@pytest.mark.parametrize("name", ["lin2022", "lin2022_phantoms", "lin2022_ct_ich"])
def test_the_families_of_the_repository_are_whole(name: str) -> None:
    text = (REPOSITORY / "experiments" / f"{name}.toml").read_text()
    found = with_family(parse(Settings, text))
    experiment = experiment_of(found)
    for seed in experiment.seeds:
        one = of_seed(found, seed)
        assert one.evaluate is not None
        assert len(one.evaluate.models) == len(arms_of(experiment))
        assert {labels.mode for labels in one.pseudo_labels.values()} == {
            MODES[variant] for variant in experiment.students if variant != "labelled_alone"
        }


def need(processes: int = 1, **each: float) -> Need:
    memory = int(each.pop("memory", 0))
    return Need(what="a step", each=Process(memory=memory, **each), processes=processes)


def node(name: str, *after: str, lock: str = "") -> Node:
    return Node(name=name, after=frozenset(after), need=need(), lock=lock)


GRAPH = (node("a"), node("b"), node("c", "a", "b"), node("d", "c"), node("e", "b"))


def names(nodes: list[Node]) -> list[str]:
    return [each.name for each in nodes]


def test_a_step_starts_once_all_that_it_needs_are_done() -> None:
    assert names(startable(GRAPH, codes={}, running=())) == ["a", "b"]
    assert names(startable(GRAPH, codes={"b": 0}, running=("a",))) == ["e"]
    assert names(startable(GRAPH, codes={"b": 0, "a": 0}, running=())) == ["c", "e"]


def test_what_failed_stops_only_what_needs_it() -> None:
    assert names(startable(GRAPH, codes={"a": 4, "b": 0}, running=())) == ["e"]
    assert blocked(GRAPH, {"a"}) == ["c", "d"]


def test_of_steps_with_one_lock_one_runs() -> None:
    graph = (node("a", lock="x"), node("b", lock="x"), node("c", lock="y"))
    assert names(startable(graph, codes={}, running=())) == ["a", "c"]
    assert names(startable(graph, codes={}, running=("a",))) == ["c"]
    assert names(startable(graph, codes={"a": 0}, running=())) == ["b", "c"]


def test_steps_fit_together_as_their_processes_find_places() -> None:
    two = [Nodes(cpus=2.0, memory=int(4 * GB)), Nodes(cpus=2.0, memory=int(4 * GB))]
    assert fit_together([need(2), need(2)], two)
    assert not fit_together([need(2), need(3)], two)
    assert fit_together([need(2, memory=3 * GB)], two)
    assert not fit_together([need(3, memory=3 * GB)], two)
    # 3 GB are left, on no one node.
    assert not fit_together([need(2, memory=2.5 * GB), need(1, memory=3 * GB)], two)


def test_shares_of_a_gpu_lie_on_one_gpu() -> None:
    nodes = [Nodes(cpus=16.0, gpus=2.0)]
    assert fit_together([need(2, gpus=0.5), need(1, gpus=1.0)], nodes)
    assert fit_together([need(2, gpus=0.6)], nodes)
    assert not fit_together([need(3, gpus=0.6)], nodes)
    assert not fit_together([need(1, gpus=0.5), need(1, gpus=2.0)], nodes)
    assert fit_together([need(16, gpus=0.1)], nodes)


@given(
    needs=st.lists(st.tuples(st.integers(1, 3), st.integers(1, 3)), min_size=1, max_size=5),
    cpus=st.lists(st.integers(1, 4), min_size=1, max_size=4),
)
def test_what_fits_together_never_takes_more_than_there_is(
    needs: list[tuple[int, int]], cpus: list[int]
) -> None:
    wanted = [need(processes, cpus=float(each)) for processes, each in needs]
    if fit_together(wanted, [Nodes(cpus=float(n)) for n in cpus]):
        assert sum(processes * each for processes, each in needs) <= sum(cpus)
        assert max(each for _, each in needs) <= max(cpus)


def test_a_step_of_several_phases_reserves_what_covers_each() -> None:
    whole = whole_of(need(2, memory=GB, gpus=1.0), need(1, memory=2 * GB))
    assert (whole.processes, whole.each) == (2, Process(gpus=1.0, memory=int(2 * GB)))
