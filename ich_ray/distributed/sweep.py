"""A sweep: trainings of their own beside each other on one cluster, and the table of them.

Each is a process, since leases, records and signals of a stage are a process's own.
"""

import json
import sys
import tempfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import ray

from ich_ray.config import Settings
from ich_ray.distributed.lineage import ModelLineage, model_lineage
from ich_ray.distributed.processes import side_by_side
from ich_ray.distributed.resources import capacity_of, check_fits
from ich_ray.distributed.session import Session, fingerprint
from ich_ray.distributed.submit import SETTINGS_FILE, as_toml
from ich_ray.distributed.train import plan_train
from ich_ray.distributed.training_needs import workers_need
from ich_ray.settings import resolved
from ich_ray.storage.checkpoints import load_record
from ich_ray.sweep import (
    FAILURES,
    Row,
    SweepConfig,
    exit_code_of_all,
    figures_of,
    rows_of,
    share_of,
    table_lines,
    trainings_at_once,
)

ADDRESS_VARIABLE = "RAY_ADDRESS"
"""Which cluster `cluster.address = "auto"` means."""


@dataclass(frozen=True, kw_only=True, slots=True)
class SweepSummary:
    """What a sweep did, and its table."""

    sweep: str
    """The model that was varied."""

    rows: tuple[Row, ...]
    failed: Mapping[str, int]
    """Training -> its exit code."""

    writes: str
    up_to_date: bool

    @property
    def exit_code(self) -> int:
        """Of the sweep."""
        return exit_code_of_all(self.failed.values())

    def line(self) -> str:
        """Return the table for a person."""
        lines = table_lines(self.rows)
        figures = {key for row in self.rows for key in row.figures}
        if any(each.low is not None for row in self.rows for each in row.figures.values()):
            lines.append("in brackets: 95 % t-interval over seeds of training, on the same exams")
        elif figures:
            lines.append("one seed a variant: no intervals")
        if figures == {"loss"}:
            lines.append(
                f"models.{self.sweep}.validation.tuning names selections to measure AUC, AP and "
                "DSC on; without it there is the training loss alone"
            )
        lines += [
            f"failed {name}: exit code {code} ({FAILURES.get(code, 'ended from outside')})"
            for name, code in self.failed.items()
        ]
        done = "up to date" if self.up_to_date else "done"
        return "\n".join([*lines, f"sweep {self.sweep}: {done}, table {self.writes}"])


def run_sweep(
    run: Session, sweep: SweepConfig, tell: Callable[[str], None], *, as_json: bool
) -> SweepSummary:
    """Train what is missing of a sweep, several at once where they fit, and tabulate all.

    A training that fails leaves the others alone; the same command then trains what is missing.

    Args:
        run: Of settings that have a section for each training.
        sweep: What varies.
        tell: Receives the lines that the trainings write to standard error.
        as_json: Whether each prints its result as JSON.

    Raises:
        ConfigError: A training lacks something that it learns from, or does not fit the cluster;
            nothing was started.
        QualityError: One has nothing to learn from; nothing was started.
    """
    models = {member.name: model_lineage(run, member.name) for member in sweep.members}
    missing = [name for name, model in models.items() if model.record is None]
    for name in missing:
        plan_train(run, name)
    codes: dict[str, int] = {}
    if missing:
        run.ensure_ray()
        codes = _train(run, sweep, missing, tell, as_json=as_json)
    records = {name: load_record(run.store, model.url) for name, model in models.items()}
    done = {name: record for name, record in records.items() if record is not None}
    rows = rows_of(sweep, {name: figures_of(record) for name, record in done.items()})
    return SweepSummary(
        sweep=sweep.model,
        rows=rows,
        failed={name: code for name, code in codes.items() if code},
        writes=_write(run, sweep, models, done, rows),
        up_to_date=not missing,
    )


def _train(
    run: Session,
    sweep: SweepConfig,
    names: Sequence[str],
    tell: Callable[[str], None],
    *,
    as_json: bool,
) -> dict[str, int]:
    """Run a process for each of these models; return their exit codes."""
    config = run.settings.cluster
    needs = [workers_need(name, run.settings.models[name]) for name in names]
    check_fits(config, *needs)
    at_once = trainings_at_once(needs, capacity_of(config).at_most)
    if sweep.at_once:
        at_once = min(at_once, sweep.at_once)
    with tempfile.TemporaryDirectory(prefix="ich-ray-sweep-") as folder:
        # Of all settings as they are now: the user may change his files while the sweep runs.
        file = Path(folder, SETTINGS_FILE)
        file.write_text(as_toml(for_one(run.settings, among=len(sweep.members))))
        command = [sys.executable, "-m", "jobs", "train", str(file)]
        command += ["--json"] if as_json else []
        return side_by_side(
            {name: [*command, "--only", name] for name in names},
            at_once=at_once,
            tell=tell,
            variables={ADDRESS_VARIABLE: ray.get_runtime_context().gcs_address},
        )


def for_one(settings: Settings, *, among: int) -> Settings:
    """Return the settings of a process that joins this run's cluster and has its share of all."""
    return replace(
        settings,
        cluster=replace(settings.cluster, address="auto"),
        budget=share_of(settings.budget, among=among),
    )


def _write(
    run: Session,
    sweep: SweepConfig,
    models: Mapping[str, ModelLineage],
    records: Mapping[str, Mapping[str, Any]],
    rows: Sequence[Row],
) -> str:
    """Write the table beside the models; equal trainings replace their own."""
    content = {
        **resolved(sweep),
        "trainings": [
            {
                "name": member.name,
                "variant": member.variant,
                "seed": member.seed,
                "url": models[member.name].url,
                "model": records[member.name]["model"] if member.name in records else None,
                "figures": figures_of(records[member.name]) if member.name in records else {},
            }
            for member in sweep.members
        ],
        "rows": resolved(list(rows)),
    }
    members = [[member.variant, member.seed] for member in sweep.members]
    name = fingerprint(members=members, models=[model.url for model in models.values()])
    url = run.store.url("sweeps", sweep.model, f"{name}.json")
    run.store.write_bytes(url, json.dumps(content, indent=1).encode())
    return url
