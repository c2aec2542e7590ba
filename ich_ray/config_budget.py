"""What a run may spend, what an hour costs, and rates by which --dry-run estimates."""

from collections.abc import Mapping
from dataclasses import dataclass, field

from ich_ray.errors import ConfigError

ANY_KIND = "any"
"""The price of a GPU of no kind in particular."""


@dataclass(frozen=True, kw_only=True, slots=True)
class BudgetConfig:
    """Limits over all steps and attempts of a job, prices in your currency, and rates.

    Hours are those of what is reserved, used or not, from the start of a pool to its end. The rates
    are of one process; they are used until runs in the store have measured better ones.
    """

    max_gpu_hours: float = 0.0
    """A job that passes it stops at its last commit, with exit code 4; 0: no limit."""

    max_cpu_hours: float = 0.0
    """The same of CPUs; 0: no limit."""

    max_cost: float = 0.0
    """The same of the cost of all hours; 0: no limit."""

    price_per_gpu_hour: Mapping[str, float] = field(default_factory=dict)
    """By the kind that predict.gpu_kind and models.X.gpu_kind ask for; `any` where they do not."""

    price_per_cpu_hour: float = 0.05
    """The default is about what clouds ask in USD for an hour of one vCPU."""

    train_seconds_per_step: float = 14.0
    """Measured: drn_d_38, 16 items of 240 x 240, one core of 2.5 GHz. On GPUs set your own."""

    predict_seconds_per_1000_slices: float = 1450.0
    """Measured: drn_d_38, 512 x 512, one core of 2.5 GHz. On GPUs set your own."""

    label_seconds_per_1000_slices: float = 10.0
    """Measured: 7 s where all are positive, 512 x 512; the rest is reading and writing."""

    statistics_seconds_per_1000_slices: float = 20.0
    """Of one model. Measured: 12 s of arithmetic, 512 x 512; the rest is reading."""

    resample_seconds_per_1000: float = 24.0
    """Resamples of one model. Measured: 11 s with 300 test exams, and as much for their errors."""

    def __post_init__(self) -> None:
        """Check that nothing is negative."""
        for name in self.__dataclass_fields__:
            value = getattr(self, name)
            numbers = value.values() if isinstance(value, Mapping) else [value]
            if not all(number >= 0 for number in numbers):
                raise ConfigError(f"{name} must be at least 0, got {value}")
