"""Which differences can a test corpus show? `python -m jobs.power SETTINGS.toml`."""

import sys
from collections.abc import Sequence
from typing import Any

from ich_ray.distributed.power import PowerSummary, plan_power, tell_power
from ich_ray.distributed.session import Session
from jobs.stage import run_stage


def plan(run: Session, name: str) -> dict[str, Any]:
    """Say what the pilot would be."""
    return plan_power(run)


def work(run: Session, name: str) -> PowerSummary:
    """Tell it, and write the tables."""
    return tell_power(run)


def main(arguments: Sequence[str] | None = None) -> int:
    """Tell it from the one comparison of the settings."""
    return run_stage("power", arguments, names=lambda s: ["power"], plan=plan, work=work)


if __name__ == "__main__":
    sys.exit(main())
