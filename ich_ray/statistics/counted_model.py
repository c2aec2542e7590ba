"""What the driver has of one model: scalars of each exam, and the pixels of all exams pooled."""

from dataclasses import dataclass, field

from ich_ray.statistics.exam_statistics import ExamStatistics
from ich_ray.statistics.pixel_pool import PixelPool


@dataclass(slots=True)
class CountedModel:
    """One model on all exams; its pixels by patient are elsewhere, where they were counted."""

    exams: dict[str, ExamStatistics] = field(default_factory=dict)
    pixels: PixelPool = field(default_factory=PixelPool)
    """Of slices with a reference mask."""

    positive_pixels: PixelPool = field(default_factory=PixelPool)
    """Of those whose reference holds a bleed."""
