"""Compare models on test corpora and write the report. `python -m jobs.evaluate SETTINGS.toml`."""

import sys
from collections.abc import Sequence
from typing import Any

from ich_ray.distributed.report import ReportSummary, make_report, plan_report
from ich_ray.distributed.session import Session
from jobs.stage import run_stage


def plan(run: Session, name: str) -> dict[str, Any]:
    """Say what would be compared."""
    return plan_report(run)


def work(run: Session, name: str) -> ReportSummary:
    """Compare, and write report.json and index.html."""
    return make_report(run)


def main(arguments: Sequence[str] | None = None) -> int:
    """Evaluate the one comparison of the settings."""
    return run_stage("evaluate", arguments, names=lambda s: ["evaluate"], plan=plan, work=work)


if __name__ == "__main__":
    sys.exit(main())
