"""A family of variants: its steps as a graph of processes on one cluster, and the table over seeds.

Each step is a stage of its own, so that the same command goes on where another one stopped.
"""

import contextlib
import json
import sys
import tempfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import ray

from ich_ray.capacity import Need, Process
from ich_ray.config import ExperimentConfig, Settings
from ich_ray.distributed import logs
from ich_ray.distributed.ingest import plan_ingest
from ich_ray.distributed.lineage import model_lineage, pseudo_label_lineage
from ich_ray.distributed.own_exams import READING
from ich_ray.distributed.phantoms import write_phantoms
from ich_ray.distributed.predict import pool_need
from ich_ray.distributed.processes import Walked, along_graph
from ich_ray.distributed.pseudo_label import WRITING
from ich_ray.distributed.report import make_report, plan_report
from ich_ray.distributed.resampling import RESAMPLER
from ich_ray.distributed.resources import capacity_of, check_fits
from ich_ray.distributed.session import Session, select
from ich_ray.distributed.submit import as_toml
from ich_ray.distributed.sweep import ADDRESS_VARIABLE, for_one
from ich_ray.distributed.training_needs import workers_need
from ich_ray.errors import ConfigError, IchRayError
from ich_ray.experiment import arms_of, experiment_of, of_seed, steps_after, with_family
from ich_ray.experiment_table import ArmRow, rows_of, table_lines
from ich_ray.order import Step
from ich_ray.reporting.figures.experiment_forest import experiment_forest
from ich_ray.settings import resolved
from ich_ray.step_graph import Node, blocked, whole_of
from ich_ray.storage.corpus import index_table
from ich_ray.sweep import FAILURES, exit_code_of_all

SETTINGS = "settings.toml"
"""Of a seed, beside its report: what review, rank, diagnose and export take."""

FILES = ("experiment.json", "experiment.txt", "differences.svg")
SHOWN = {"done": "done", "run": "would run", "refused": "would be refused"}


@dataclass(frozen=True, kw_only=True, slots=True)
class Family:
    """An experiment's steps, and the run of each seed that knows what is done of them."""

    config: ExperimentConfig
    runs: Mapping[int, Session]
    steps: Mapping[str, tuple[Step, int]]
    """Name in the graph -> the step, and the seed in whose settings it stands."""

    graph: tuple[Node, ...]


@dataclass(frozen=True, kw_only=True, slots=True)
class ExperimentSummary:
    """What an experiment did, and its table."""

    seeds: tuple[int, ...]
    """Those that are evaluated."""

    rows: tuple[ArmRow, ...]
    failed: Mapping[str, int]
    """Step -> its exit code."""

    waiting: tuple[str, ...]
    """Steps that need one that failed."""

    writes: str
    up_to_date: bool

    @property
    def exit_code(self) -> int:
        """Of the experiment, as of a sweep."""
        return exit_code_of_all(self.failed.values())

    def line(self) -> str:
        """Return the table for a person."""
        lines = table_lines(self.rows)
        if len(self.seeds) == 1:
            lines.append("one seed: no intervals over seeds")
        lines += [
            f"failed {name}: exit code {code} ({FAILURES.get(code, 'ended from outside')})"
            for name, code in self.failed.items()
        ]
        lines += [f"waits for what failed: {', '.join(self.waiting)}"] if self.waiting else []
        if any(name.startswith("evaluate ") for name in self.waiting):
            lines.append(
                "a seed has no figures before all its models are trained: mend what failed, or "
                "take its variant out of experiment.variants for a table of the others"
            )
        done = "up to date" if self.up_to_date else "incomplete" if self.failed else "done"
        what = f"experiment of {len(self.seeds)} seeds: {done}, table {self.writes}"
        return "\n".join([*lines, what])


def family_of(run: Session) -> Family:
    """Return the steps of the experiment of some settings; touches nothing.

    Raises:
        ConfigError: There is no experiment, or a section of it is refused.
    """
    config = experiment_of(run.settings)
    family = with_family(run.settings)
    runs = {seed: replace(run, settings=of_seed(family, seed)) for seed in config.seeds}
    steps: dict[str, tuple[Step, int]] = {}
    graph: dict[str, Node] = {}
    for seed, one in runs.items():
        for step, after in steps_after(one.settings).items():
            name = name_of(step, seed)
            if name not in graph:
                steps[name] = (step, seed)
                graph[name] = Node(
                    name=name,
                    after=frozenset(name_of(each, seed) for each in after),
                    need=_need(one.settings, step),
                    lock=_lock(one.settings, step),
                )
    return Family(config=config, runs=runs, steps=steps, graph=tuple(graph.values()))


def name_of(step: Step, seed: int) -> str:
    """Return what the graph calls a step.

    >>> name_of(Step("train", "soft-0"), 0), name_of(Step("evaluate", ""), 3)
    ('train soft-0', 'evaluate seed-3')
    """
    return f"{step.stage} {step.name or f'seed-{seed}'}"


def plan_experiment(run: Session) -> dict[str, str]:
    """Return step -> what would become of it, for --dry-run; touches nothing."""
    family = family_of(run)
    found: dict[str, str] = {}
    for node in family.graph:
        done = all(found[name] == SHOWN["done"] for name in node.after)
        code = _known(family, node.name, say=False) if done else None
        found[node.name] = SHOWN["run" if code is None else "refused" if code else "done"]
    return found


def run_experiment(
    run: Session, tell: Callable[[str], None], *, as_json: bool
) -> ExperimentSummary:
    """Do what is missing of an experiment, several steps at once where they fit, and tabulate.

    A step that fails stops only what needs it; the same command then does what is missing.

    Args:
        run: Of settings with an experiment.
        tell: Receives the lines that the steps write to standard error.
        as_json: Whether each prints its result as JSON.

    Raises:
        ConfigError: Something is refused before it starts, or does not fit the cluster.
    """
    family = family_of(run)
    for name in run.settings.phantoms:
        write_phantoms(run, name)
    _write_settings(family)
    missing = [name for name, shown in plan_experiment(run).items() if shown != SHOWN["done"]]
    walked = Walked(skipped=tuple(node.name for node in family.graph), codes={})
    if missing:
        run.ensure_ray()
        check_fits(run.settings.cluster, *(node.need for node in family.graph))
        # An ingest takes minutes; the budget is for what comes after.
        spending = sum(family.steps[name][0].stage != "ingest" for name in missing)
        walked = _walk(run, family, tell, among=max(1, spending), as_json=as_json)
    reports = {
        seed: _report_of(one)
        for seed, one in family.runs.items()
        if name_of(Step("evaluate", ""), seed) in walked.done
    }
    rows = rows_of([arm.name for arm in arms_of(family.config)], reports) if reports else ()
    summary = ExperimentSummary(
        seeds=tuple(reports),
        rows=rows,
        failed=walked.failed,
        waiting=tuple(blocked(family.graph, walked.failed)),
        writes=str(Path(family.config.report, FILES[1])),
        up_to_date=not walked.codes,
    )
    _write(family, summary)
    return summary


def _walk(
    run: Session, family: Family, tell: Callable[[str], None], *, among: int, as_json: bool
) -> Walked:
    """Run what is missing; each step may spend its share of the budget, `among` that many."""
    config = run.settings.cluster
    with tempfile.TemporaryDirectory(prefix="ich-ray-experiment-") as folder:
        # Of all settings as they are now: the user may change his file meanwhile.
        files = {seed: Path(folder, f"seed-{seed}.toml") for seed in family.runs}
        for seed, one in family.runs.items():
            settings = for_one(one.settings, among=among)
            files[seed].write_text(as_toml(settings))

        def command(name: str) -> Sequence[str]:
            step, seed = family.steps[name]
            only = ["--only", step.name] if step.name else []
            words = [step.stage, str(files[seed]), *only, *(["--json"] if as_json else [])]
            return [sys.executable, "-m", "jobs", *words]

        return along_graph(
            family.graph,
            nodes=capacity_of(config).at_most,
            at_once=family.config.at_once,
            known=lambda name: _known(family, name, say=True),
            command=command,
            tell=tell,
            variables={ADDRESS_VARIABLE: ray.get_runtime_context().gcs_address},
        )


def _known(family: Family, name: str, *, say: bool) -> int | None:
    """Return 0 of a step that is done, its exit code if it is refused, or None: it is to run."""
    step, seed = family.steps[name]
    run = family.runs[seed]
    # What else is wrong with a step it says itself.
    with contextlib.suppress(IchRayError):
        if _is_done(run, step):
            return 0
    try:
        _refuse_oracle(run, step)
    except ConfigError as error:
        if say:
            logs.tell(error)
        return error.exit_code
    return None


def _is_done(run: Session, step: Step) -> bool:
    match step.stage:
        case "ingest":
            run.corpus(step.name)
            return plan_ingest(run.settings, step.name, run.pseudonyms).new_objects == 0
        case "train":
            return model_lineage(run, step.name).record is not None
        case "pseudo-label":
            return pseudo_label_lineage(run, step.name).table is not None
        case "evaluate":
            return bool(plan_report(run)["up_to_date"])


def _refuse_oracle(run: Session, step: Step) -> None:
    """Refuse an oracle over slices without labels before its teacher predicts any.

    Raises:
        ConfigError: Some have none.
    """
    if step.stage != "pseudo-label" or not run.settings.pseudo_labels[step.name].truthful:
        return
    for selection in select(run, run.settings.pseudo_labels[step.name].unlabelled):
        index = index_table(run.store, selection.corpus)
        rows = zip(index["patient"].to_pylist(), index["label"].to_pylist(), strict=True)
        without = sum(label is None for patient, label in rows if selection.holds(patient))
        if without:
            mode = run.settings.pseudo_labels[step.name].mode
            raise ConfigError(
                f"pseudo_labels.{step.name} has mode={mode}, an oracle, and {without} slices of "
                f"corpus {selection.corpus.name} have no label of their own: give "
                f"corpora.{selection.corpus.name} its labels and ingest it anew, or take the "
                "oracles out of experiment.variants"
            )


def _need(settings: Settings, step: Step) -> Need:
    """Return what a step reserves of the cluster."""
    match step.stage:
        case "ingest":
            # Its tasks take what is free, and give it back.
            return Need(what="an ingest", each=Process(), pool=False)
        case "train":
            return workers_need(step.name, settings.models[step.name])
        case "pseudo-label":
            return whole_of(pool_need(settings.predict), WRITING)
        case "evaluate":
            assert settings.evaluate is not None
            actors = settings.evaluate.actors
            resampling = Need(what="evaluate.actors", processes=actors, each=RESAMPLER)
            return whole_of(pool_need(settings.predict), READING, resampling)


def _lock(settings: Settings, step: Step) -> str:
    """Let one table of a teacher's pseudo-labels be made at a time: they share its predictions."""
    if step.stage != "pseudo-label":
        return ""
    return "predictions of " + "+".join(settings.pseudo_labels[step.name].teachers)


def _report_of(run: Session) -> Mapping[str, Any]:
    """Copy the finished report of a seed from the store, and read it."""
    page = make_report(run).page
    found: dict[str, Any] = json.loads(Path(page).with_name("report.json").read_text())
    return found


def _write_settings(family: Family) -> None:
    """Write the settings of each seed, with the sections that the experiment makes."""
    for one in family.runs.values():
        assert one.settings.evaluate is not None
        place = Path(one.settings.evaluate.report, SETTINGS)
        place.parent.mkdir(parents=True, exist_ok=True)
        place.write_text(as_toml(one.settings))


def _write(family: Family, summary: ExperimentSummary) -> None:
    """Write the table for machines and for people, and its picture."""
    folder = Path(family.config.report)
    folder.mkdir(parents=True, exist_ok=True)
    content = {
        "experiment": resolved(family.config),
        "seeds": list(summary.seeds),
        "rows": resolved(list(summary.rows)),
        "steps": {node.name: sorted(node.after) for node in family.graph},
        "failed": dict(summary.failed),
        "waiting": list(summary.waiting),
    }
    texts = (json.dumps(content, indent=1) + "\n", summary.line() + "\n")
    for name, text in zip(FILES, texts, strict=False):
        (folder / name).write_text(text)
    if any(row.less_baseline for row in summary.rows):
        (folder / FILES[2]).write_bytes(experiment_forest(summary.rows))
