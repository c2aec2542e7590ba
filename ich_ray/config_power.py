"""Settings of a power analysis: which test corpora are planned, and what they should show."""

from dataclasses import dataclass

from ich_ray.config_checks import at_least, require


@dataclass(frozen=True, kw_only=True, slots=True)
class PowerConfig:
    """Of `ich-ray power`, whose pilot is what the evaluate section compares."""

    exams: tuple[int, ...] = (100, 200, 500, 1_000, 2_000, 5_000)
    """Sizes of the test corpora that are planned; for a DSC, in patients."""

    auc_differences: tuple[float, ...] = (0.01, 0.02, 0.03, 0.05)
    """True differences of the exam AUC to ask about."""

    dsc_differences: tuple[float, ...] = (0.01, 0.02, 0.05)
    """True differences of the DSC to ask about."""

    prevalence: float = 0.0
    """Share of positive exams, and of patients with a mask, that is planned; 0: the pilot's own."""

    correlation: float = -1.0
    """Of one model's placements of exams with those of another that does not exist yet, from 0 up
    to below 1; needed where one model is compared, negative: not assumed."""

    report: str = "out/power"
    """Local folder of power.txt, power.json and power.svg."""

    def __post_init__(self) -> None:
        """Check that something is asked."""
        require(bool(self.exams), "exams must name the size of a corpus")
        require(bool(self.auc_differences), "auc_differences must name a difference")
        require(bool(self.dsc_differences), "dsc_differences must name a difference")
        for name in ("auc_differences", "dsc_differences"):
            require(all(getattr(self, name)), f"{name} holds 0: every corpus shows no difference")
        require(min(self.exams, default=1) > 0, "exams must be above 0")
        require(0 <= self.prevalence < 1, f"prevalence={self.prevalence}: a share below 1")
        require(self.correlation < 1, f"correlation={self.correlation}: below 1")
        at_least(-1, self, "correlation")
