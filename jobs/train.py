"""Train models: teacher and student alike. `python -m jobs.train SETTINGS.toml --only teacher`."""

import argparse
import sys
from collections.abc import Sequence
from typing import Any

from ich_ray.distributed.estimates import priced
from ich_ray.distributed.session import Session
from ich_ray.distributed.sweep import run_sweep
from ich_ray.distributed.train import plan_train, train
from ich_ray.sweep import SweepConfig
from jobs.stage import (
    arguments_of,
    guarded,
    opened,
    report,
    resolved_summary,
    run_sections,
    settings_of,
    sweep_of,
)


def plan(run: Session, name: str) -> dict[str, Any]:
    """Say what would be read."""
    plan = plan_train(run, name)
    return plan.as_dict() | priced(run, plan.work)


def main(arguments: Sequence[str] | None = None) -> int:
    """Train each model of the settings, those that --only names, or those of a sweep."""

    def inside() -> int:
        options = arguments_of("train", arguments)
        sweep = sweep_of(options)
        if sweep is not None and not options.only:
            if not options.dry_run:
                return _sweep(options, sweep)
            options.only = [member.name for member in sweep.members]
        return run_sections("train", options, names=lambda s: s.models, plan=plan, work=train)

    return guarded(inside)


def _sweep(options: argparse.Namespace, sweep: SweepConfig) -> int:
    """Train all of a sweep, each in a process of its own."""
    with opened(settings_of(options)) as run:
        summary = run_sweep(run, sweep, _tell, as_json=options.json)
    report(options, resolved_summary(summary), summary.line())
    return summary.exit_code


def _tell(line: str) -> None:
    sys.stderr.write(f"{line}\n")
    sys.stderr.flush()


if __name__ == "__main__":
    sys.exit(main())
