"""How long work takes: measured in earlier runs, else as the settings say."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from ich_ray.budget import NO_HOURS, Hours, Reserved, held, over
from ich_ray.config_budget import BudgetConfig

ENOUGH_SECONDS = 60.0
"""Less work than this measures how processes start."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Work:
    """What one pool has done; the runs table keeps it."""

    kind: str
    """Work of the same kind takes the same time, about, e.g. `predict drn_d_38 512 gpu A10G`."""

    units: int
    """Slices, steps or resamples."""

    seconds: float
    """Of all processes together."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Rate:
    """Seconds of one process for one unit, and who says so."""

    seconds: float
    origin: str


@dataclass(frozen=True, kw_only=True, slots=True)
class Estimate:
    """What something would take."""

    hours: Hours = NO_HOURS
    origins: tuple[str, ...] = ()

    def __add__(self, other: "Estimate") -> "Estimate":
        return Estimate(
            hours=self.hours + other.hours,
            origins=tuple(dict.fromkeys((*self.origins, *other.origins))),
        )


def rate_of(kind: str, earlier: Iterable[Work], *, otherwise: Rate) -> Rate:
    """Return the rate of a kind of work: over all earlier work, if that was enough."""
    same = [work for work in earlier if work.kind == kind and work.units > 0]
    seconds = sum(work.seconds for work in same)
    if seconds < ENOUGH_SECONDS:
        return otherwise
    units = sum(work.units for work in same)
    return Rate(seconds=seconds / units, origin=f"measured on {units} of earlier runs")


def estimate(units: int, rate: Rate, each: Reserved, prices: BudgetConfig) -> Estimate:
    """Estimate work by the hours of the processes that do it, however many they are."""
    if units == 0:
        return Estimate()
    return Estimate(
        hours=held(each, seconds=units * rate.seconds, prices=prices), origins=(rate.origin,)
    )


def warning(budget: BudgetConfig, hours: Hours, *, already_spent: Hours) -> str:
    """Say that an estimate passes the budget, or nothing."""
    passed = over(budget, hours, already_spent=already_spent)
    return f"estimated over the budget: {passed}" if passed else ""


def work_of(figures: Mapping[str, Any]) -> list[Work]:
    """Read what a row of the runs table says of its work; rows of earlier versions say nothing."""
    return [Work(**work) for work in figures.get("work", ())]
