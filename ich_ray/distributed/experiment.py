"""A family of variants over seeds: its steps on one cluster, and the table of what came of it."""

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ich_ray.distributed.experiment_trainings import over_seeds
from ich_ray.distributed.family import Family, carry_out, evaluated, family_of, plan_family
from ich_ray.distributed.report import make_report
from ich_ray.distributed.session import Session
from ich_ray.experiment import arms_of, experiment_of, of_seed, with_family
from ich_ray.experiment_table import ArmRow, rows_of, table_lines
from ich_ray.reporting.figures.experiment_forest import experiment_forest
from ich_ray.settings import resolved
from ich_ray.step_graph import blocked
from ich_ray.sweep import FAILURES, exit_code_of_all

FILES = ("experiment.json", "experiment.txt", "differences.svg")


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


def plan_experiment(run: Session) -> dict[str, str]:
    """Return step -> what would become of it, for --dry-run; touches nothing."""
    return plan_family(seeds_of(run))


def seeds_of(run: Session) -> Family:
    """Return the steps of the experiment of some settings, a member a seed; touches nothing.

    Raises:
        ConfigError: There is no experiment, or a section of it is refused.
    """
    config, whole = experiment_of(run.settings), with_family(run.settings)
    members = {member_of(seed): of_seed(whole, seed) for seed in config.seeds}
    return family_of(run, members, at_once=config.at_once)


def member_of(seed: int) -> str:
    """Return what a family calls the member of a seed."""
    return f"seed-{seed}"


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
    config, family = experiment_of(run.settings), seeds_of(run)
    walked = carry_out(run, family, tell, as_json=as_json)
    finished = evaluated(family, walked)
    reports = {
        seed: report_of(finished[member_of(seed)])
        for seed in config.seeds
        if member_of(seed) in finished
    }
    over = over_seeds({seed: finished[member_of(seed)] for seed in reports})
    rows = rows_of([arm.name for arm in arms_of(config)], reports, over) if reports else ()
    summary = ExperimentSummary(
        seeds=tuple(reports),
        rows=rows,
        failed=walked.failed,
        waiting=tuple(blocked(family.graph, walked.failed)),
        writes=str(Path(config.report, FILES[1])),
        up_to_date=not walked.codes,
    )
    _write(run, family, summary, over)
    return summary


def report_of(run: Session) -> Mapping[str, Any]:
    """Copy the finished report of a member from the store, and read it."""
    page = make_report(run).page
    found: dict[str, Any] = json.loads(Path(page).with_name("report.json").read_text())
    return found


def _write(
    run: Session, family: Family, summary: ExperimentSummary, over: Mapping[str, Any] | None
) -> None:
    """Write the table for machines and for people, and its picture."""
    config = experiment_of(run.settings)
    folder = Path(config.report)
    folder.mkdir(parents=True, exist_ok=True)
    content = {
        "experiment": resolved(config),
        "seeds": list(summary.seeds),
        "rows": resolved(list(summary.rows)),
        "over_trainings": over,
        "steps": {node.name: sorted(node.after) for node in family.graph},
        "failed": dict(summary.failed),
        "waiting": list(summary.waiting),
    }
    texts = (json.dumps(content, indent=1) + "\n", summary.line() + "\n")
    for name, text in zip(FILES, texts, strict=False):
        (folder / name).write_text(text)
    if any(row.less_baseline for row in summary.rows):
        (folder / FILES[2]).write_bytes(experiment_forest(summary.rows))
