"""The hours that a run holds CPUs and GPUs, what they cost, and when they pass the budget."""

from dataclasses import dataclass

from ich_ray.config_budget import ANY_KIND, BudgetConfig
from ich_ray.errors import BudgetError, ConfigError


@dataclass(frozen=True, kw_only=True, slots=True)
class Hours:
    """Hours of what was reserved, used or not, and their cost."""

    gpu: float = 0.0
    cpu: float = 0.0
    cost: float = 0.0

    def __add__(self, other: "Hours") -> "Hours":
        return Hours(
            gpu=self.gpu + other.gpu, cpu=self.cpu + other.cpu, cost=self.cost + other.cost
        )

    def __sub__(self, other: "Hours") -> "Hours":
        return Hours(
            gpu=self.gpu - other.gpu, cpu=self.cpu - other.cpu, cost=self.cost - other.cost
        )


NO_HOURS = Hours()


@dataclass(frozen=True, kw_only=True, slots=True)
class Reserved:
    """What is reserved at once, by all processes of a pool together."""

    cpus: float = 0.0
    gpus: float = 0.0
    gpu_kind: str = ""


def held(reserved: Reserved, *, seconds: float, prices: BudgetConfig) -> Hours:
    """Return the hours that a reservation has lasted.

    Raises:
        ConfigError: A cost is limited, and GPUs of this kind have no price.

    >>> prices = BudgetConfig(price_per_cpu_hour=1.0)
    >>> held(Reserved(cpus=2.0, gpus=4.0), seconds=1800.0, prices=prices)
    Hours(gpu=2.0, cpu=1.0, cost=1.0)
    """
    hours = seconds / 3600
    gpu, cpu = reserved.gpus * hours, reserved.cpus * hours
    price = price_of_gpu(reserved.gpu_kind, prices) if reserved.gpus else 0.0
    return Hours(gpu=gpu, cpu=cpu, cost=gpu * price + cpu * prices.price_per_cpu_hour)


def price_of_gpu(kind: str, prices: BudgetConfig) -> float:
    """Return the price of a GPU hour; 0 where none is given and none is needed.

    Raises:
        ConfigError: A cost is limited, and GPUs of this kind have no price.
    """
    table = prices.price_per_gpu_hour
    price = table.get(kind or ANY_KIND, table.get(ANY_KIND))
    if price is None and prices.max_cost > 0:
        raise ConfigError(
            f"budget.max_cost limits the cost, and budget.price_per_gpu_hour has no price of "
            f"{kind or ANY_KIND}; known: {', '.join(table) or 'none'}"
        )
    return price or 0.0


def over(budget: BudgetConfig, spent: Hours, *, already_spent: Hours) -> str:
    """Return which limit is passed and by what, or nothing.

    Args:
        budget: The limits.
        spent: By this attempt.
        already_spent: By earlier attempts of the same job.
    """
    total = spent + already_spent
    limits = [
        ("max_gpu_hours", budget.max_gpu_hours, total.gpu, already_spent.gpu, "GPU hours"),
        ("max_cpu_hours", budget.max_cpu_hours, total.cpu, already_spent.cpu, "CPU hours"),
        ("max_cost", budget.max_cost, total.cost, already_spent.cost, "of cost"),
    ]
    for name, limit, used, before, unit in limits:
        if 0 < limit <= used:
            earlier = f" ({before:.4g} by earlier attempts)" if before else ""
            return f"{used:.4g} {unit}{earlier} pass budget.{name}={limit:g}"
    return ""


def refuse_over(budget: BudgetConfig, spent: Hours, *, already_spent: Hours) -> None:
    """Stop what has passed its budget.

    Raises:
        BudgetError: It has; what was committed stays, and a rerun goes on from there.
    """
    passed = over(budget, spent, already_spent=already_spent)
    if passed:
        raise BudgetError(
            f"{passed}; what was finished is kept: raise the limit, and the same command goes on "
            "from there"
        )


@dataclass(frozen=True, kw_only=True, slots=True)
class Allowance:
    """A budget as a process elsewhere can watch it."""

    budget: BudgetConfig
    spent: Hours
    """By this attempt before the reservation."""

    already_spent: Hours
    reserved: Reserved

    def over(self, held_s: float) -> str:
        """Return which limit is passed once it was held so long, or nothing."""
        lasted = held(self.reserved, seconds=held_s, prices=self.budget)
        return over(self.budget, self.spent + lasted, already_spent=self.already_spent)
