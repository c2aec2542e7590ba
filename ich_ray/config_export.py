"""Settings of the export: predictions as objects that a reading room can show."""

from dataclasses import dataclass

from ich_ray.config_checks import at_least, require


@dataclass(frozen=True, kw_only=True, slots=True)
class ExportConfig:
    """Which predictions become DICOM segmentations, and where these go."""

    model: str = "student"
    """Name of the model whose predictions are exported."""

    threshold: float = 0.5
    """A pixel is marked where its probability is at least this. The report of an evaluation names
    the one that is best on its tuning selections."""

    probabilities: bool = False
    """Whether a second, fractional segmentation holds the probabilities themselves."""

    exam_score_slices: int = 1
    """As evaluate.exam_score_slices."""

    top_slices: int = 3
    """Slices of the highest probabilities that the summary of an exam names."""

    folder: str = "out/export"
    """Below it each exam has a folder, named by pseudonyms; the segmentations in it carry the
    patient's own name, as their source does."""

    def __post_init__(self) -> None:
        """Check the threshold and the numbers of slices."""
        require(0 < self.threshold < 1, f"threshold={self.threshold}: must lie between 0 and 1")
        at_least(1, self, "exam_score_slices", "top_slices")
