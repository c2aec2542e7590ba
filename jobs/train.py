"""Train models: teacher and student alike. `python -m jobs.train SETTINGS.toml --only teacher`."""

import sys
from collections.abc import Sequence
from typing import Any

from ich_ray.distributed.estimates import priced
from ich_ray.distributed.session import Session
from ich_ray.distributed.train import plan_train, train
from jobs.stage import run_stage


def plan(run: Session, name: str) -> dict[str, Any]:
    """Say what would be read."""
    plan = plan_train(run, name)
    return plan.as_dict() | priced(run, plan.work)


def main(arguments: Sequence[str] | None = None) -> int:
    """Train each model of the settings, or those that --only names."""
    return run_stage("train", arguments, names=lambda s: s.models, plan=plan, work=train)


if __name__ == "__main__":
    sys.exit(main())
