"""Settings of the diagnostics of pseudo-labels; they decide a page, and nothing else."""

from dataclasses import dataclass
from itertools import pairwise

from ich_ray.config_checks import require


@dataclass(frozen=True, kw_only=True, slots=True)
class DiagnoseConfig:
    """Where the diagnostics of pseudo-labels go, and what they may compute."""

    folder: str = "out/diagnose"
    """Local folder; each pseudo_labels section has a folder in it, by its name."""

    percentiles: tuple[float, ...] = (1.0, 2.0, 5.0, 10.0, 15.0, 20.0, 25.0, 30.0, 50.0)
    """Values of C at which a ranking is compared with hidden labels, where a corpus has any."""

    predict: bool = False
    """Whether predictions of a student on the unlabelled selections are made where they are
    missing; else it is not compared with its teacher, and the page says so."""

    def __post_init__(self) -> None:
        """Check the percentiles."""
        rising = all(a < b for a, b in pairwise((0.0, *self.percentiles, 100.0)))
        require(
            len(self.percentiles) > 0 and rising,
            "percentiles must rise, and lie between 0 and 100; got "
            f"{', '.join(f'{percent:g}' for percent in self.percentiles) or 'none'}",
        )
