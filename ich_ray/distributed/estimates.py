"""What --dry-run says of hours and cost: by earlier runs of this store, else by the settings."""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from ich_ray.budget import Hours, Reserved
from ich_ray.distributed.session import Session
from ich_ray.rates import Estimate, Rate, Work, estimate, rate_of, warning, work_of
from ich_ray.storage.tables import open_table, read_rows


@dataclass(frozen=True, kw_only=True, slots=True)
class Planned:
    """Some work that a stage would do."""

    kind: str
    """As ich_ray.rates.Work names it."""

    units: int
    setting: str
    """That holds the rate where no run has measured it."""

    seconds: float
    """Of one process for one unit, by this setting."""

    each: Reserved
    """By one process."""


def priced(run: Session, planned: Sequence[Planned]) -> dict[str, Any]:
    """Estimate what a step would take, and compare all that was planned so far with the budget.

    Returns:
        Hours, cost, where the rates come from, and a warning where the budget would be passed.
    """
    found = estimated(run, planned)
    shown: dict[str, Any] = {
        "gpu_hours": round(found.hours.gpu, 4),
        "cpu_hours": round(found.hours.cpu, 4),
        "cost": round(found.hours.cost, 4),
        "estimated_by": ", ".join(found.origins) or "nothing to do",
    }
    said = warned(run, found.hours)
    return {**shown, "warning": said} if said else shown


def estimated(run: Session, planned: Sequence[Planned]) -> Estimate:
    """Estimate what some work would take."""
    earlier = measured(run)
    total = Estimate()
    for item in planned:
        rate = rate_of(
            item.kind, earlier, otherwise=Rate(seconds=item.seconds, origin=item.setting)
        )
        total += estimate(item.units, rate, item.each, run.settings.budget)
    return total


def warned(run: Session, hours: Hours) -> str:
    """Add hours to those that the run plans; return a warning where they pass the budget."""
    run.planned += hours
    return warning(run.settings.budget, run.planned, already_spent=run.spent_before)


def measured(run: Session) -> list[Work]:
    """Read what earlier runs of this store have done, and how long it took them."""
    table = open_table(run.store, run.store.url("runs"))
    if table is None:
        return []
    figures = read_rows(run.store, table, ["figures"])["figures"].to_pylist()
    return [work for text in figures for work in work_of(json.loads(text))]
