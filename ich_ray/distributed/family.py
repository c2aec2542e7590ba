"""The steps of several settings as one graph of processes on one cluster.

Settings that name the same sections share their steps: each is a stage of its own and is run once,
so that the same command goes on where another one stopped.
"""

import contextlib
import sys
import tempfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import ray

from ich_ray.capacity import Need, Process
from ich_ray.config import Settings
from ich_ray.distributed import logs
from ich_ray.distributed.ingest import plan_ingest
from ich_ray.distributed.lineage import model_lineage, pseudo_label_lineage
from ich_ray.distributed.own_exams import READING
from ich_ray.distributed.phantoms import write_phantoms
from ich_ray.distributed.predict import pool_need
from ich_ray.distributed.processes import Walked, along_graph
from ich_ray.distributed.pseudo_label import WRITING
from ich_ray.distributed.report import plan_report
from ich_ray.distributed.resampling import RESAMPLER
from ich_ray.distributed.resources import capacity_of, check_fits
from ich_ray.distributed.session import Session, select
from ich_ray.distributed.submit import as_toml
from ich_ray.distributed.sweep import ADDRESS_VARIABLE, for_one
from ich_ray.distributed.training_needs import workers_need
from ich_ray.errors import ConfigError, IchRayError
from ich_ray.experiment import steps_after
from ich_ray.order import Step
from ich_ray.step_graph import Node, whole_of
from ich_ray.storage.corpus import index_table

SETTINGS = "settings.toml"
"""Of a member, beside its report: what review, rank, diagnose and export take."""

SHOWN = {"done": "done", "run": "would run", "refused": "would be refused"}


@dataclass(frozen=True, kw_only=True, slots=True)
class Family:
    """The members' steps, and the run of each member that knows what is done of them."""

    runs: Mapping[str, Session]
    """Member -> its run; each evaluates once."""

    steps: Mapping[str, tuple[Step, str]]
    """Name in the graph -> the step, and the first member in whose settings it stands."""

    graph: tuple[Node, ...]
    at_once: int
    """Steps at the same time at most; 0: as many as the cluster has room for."""


def family_of(run: Session, members: Mapping[str, Settings], *, at_once: int) -> Family:
    """Return the steps of some settings; touches nothing.

    Args:
        run: Whose store and pseudonyms are theirs.
        members: Name -> settings. Where two name a section alike, it is the same.
        at_once: Steps at the same time at most; 0: as many as the cluster has room for.

    Raises:
        ConfigError: A section is refused.
    """
    runs = {name: replace(run, settings=settings) for name, settings in members.items()}
    steps: dict[str, tuple[Step, str]] = {}
    graph: dict[str, Node] = {}
    for member, one in runs.items():
        for step, after in steps_after(one.settings).items():
            name = name_of(step, member)
            if name not in graph:
                steps[name] = (step, member)
                graph[name] = Node(
                    name=name,
                    after=frozenset(name_of(each, member) for each in after),
                    need=_need(one.settings, step),
                    lock=_lock(one.settings, step),
                )
    return Family(runs=runs, steps=steps, graph=tuple(graph.values()), at_once=at_once)


def name_of(step: Step, member: str) -> str:
    """Return what the graph calls a step.

    >>> name_of(Step("train", "soft-0"), "seed-0"), name_of(Step("evaluate", ""), "seed-3")
    ('train soft-0', 'evaluate seed-3')
    """
    return f"{step.stage} {step.name or member}"


def plan_family(family: Family) -> dict[str, str]:
    """Return step -> what would become of it, for --dry-run; touches nothing."""
    found: dict[str, str] = {}
    for node in family.graph:
        done = all(found[name] == SHOWN["done"] for name in node.after)
        code = _known(family, node.name, say=False) if done else None
        found[node.name] = SHOWN["run" if code is None else "refused" if code else "done"]
    return found


def carry_out(
    run: Session, family: Family, tell: Callable[[str], None], *, as_json: bool
) -> Walked:
    """Do what is missing, several steps at once where they fit.

    A step that fails stops only what needs it; the same command then does what is missing.

    Args:
        run: With the phantoms that corpora come from.
        family: Of its settings.
        tell: Receives the lines that the steps write to standard error.
        as_json: Whether each prints its result as JSON.

    Raises:
        ConfigError: Something is refused before it starts, or does not fit the cluster.
    """
    for name in run.settings.phantoms:
        write_phantoms(run, name)
    _write_settings(family)
    missing = [name for name, shown in plan_family(family).items() if shown != SHOWN["done"]]
    if not missing:
        return Walked(skipped=tuple(node.name for node in family.graph), codes={})
    run.ensure_ray()
    check_fits(run.settings.cluster, *(node.need for node in family.graph))
    # An ingest takes minutes; the budget is for what comes after.
    spending = sum(family.steps[name][0].stage != "ingest" for name in missing)
    return _walk(run, family, tell, among=max(1, spending), as_json=as_json)


def evaluated(family: Family, walked: Walked) -> dict[str, Session]:
    """Return the members whose evaluation is there."""
    return {
        member: one
        for member, one in family.runs.items()
        if name_of(Step("evaluate", ""), member) in walked.done
    }


def _walk(
    run: Session, family: Family, tell: Callable[[str], None], *, among: int, as_json: bool
) -> Walked:
    """Run what is missing; each step may spend its share of the budget, `among` that many."""
    config = run.settings.cluster
    with tempfile.TemporaryDirectory(prefix="ich-ray-family-") as folder:
        # Of all settings as they are now: the user may change his file meanwhile.
        files = {member: Path(folder, f"{member}.toml") for member in family.runs}
        for member, one in family.runs.items():
            settings = for_one(one.settings, among=among)
            files[member].write_text(as_toml(settings))

        def command(name: str) -> Sequence[str]:
            step, member = family.steps[name]
            only = ["--only", step.name] if step.name else []
            words = [step.stage, str(files[member]), *only, *(["--json"] if as_json else [])]
            return [sys.executable, "-m", "jobs", *words]

        return along_graph(
            family.graph,
            nodes=capacity_of(config).at_most,
            at_once=family.at_once,
            known=lambda name: _known(family, name, say=True),
            command=command,
            tell=tell,
            variables={ADDRESS_VARIABLE: ray.get_runtime_context().gcs_address},
        )


def _known(family: Family, name: str, *, say: bool) -> int | None:
    """Return 0 of a step that is done, its exit code if it is refused, or None: it is to run."""
    step, member = family.steps[name]
    run = family.runs[member]
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


def _write_settings(family: Family) -> None:
    """Write the settings of each member, with the sections that were made for it."""
    for one in family.runs.values():
        assert one.settings.evaluate is not None
        place = Path(one.settings.evaluate.report, SETTINGS)
        place.parent.mkdir(parents=True, exist_ok=True)
        place.write_text(as_toml(one.settings))
