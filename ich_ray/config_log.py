"""How a run logs: the settings section `log`."""

from dataclasses import dataclass
from typing import Literal

from ich_ray.errors import ConfigError


@dataclass(frozen=True, kw_only=True, slots=True)
class LogConfig:
    """What the lines of a run look like, and how often it tells how far it is."""

    format: Literal["auto", "text", "json"] = "auto"
    """Of the driver's lines on standard error, and of its workers' in their log files.

    `auto`: the driver writes text, or JSON where it is the entrypoint of a job that a cluster runs;
    workers always write JSON, since their lines end in files."""

    progress_every_s: float = 15.0
    """Seconds between two lines of progress where standard error is no terminal."""

    def __post_init__(self) -> None:
        """Check the interval."""
        if self.progress_every_s <= 0:
            raise ConfigError(f"progress_every_s must be above 0, got {self.progress_every_s}")
