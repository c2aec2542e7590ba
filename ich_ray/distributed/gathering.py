"""What map tasks tell the driver of the exams that they count: scalars, pools, and bundles.

Pixels by score level of an exam are pooled where they are counted. Those of patients are needed
again by whoever resamples them: a task writes them into bundles, and the driver knows where.
"""

from collections.abc import Iterator
from dataclasses import dataclass, field, replace

from ich_ray.statistics.counted_model import CountedModel
from ich_ray.statistics.exam_statistics import CountedExam, ExamStatistics
from ich_ray.statistics.pixel_histograms import SliceHistogram
from ich_ray.statistics.pixel_pool import PixelPool
from ich_ray.storage.objects import Store
from ich_ray.storage.pixel_shelves import MOST_EXAMS, Bundle, write_bundle
from ich_ray.storage.urls import join

BUNDLE_ENTRIES = 2**20
"""After so many a task writes a bundle: sorting it takes some 50 MB."""

POOL_PIXELS = 2**31
"""After so many a task tells its pool, whose counts have 32 bits."""


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class PooledPixels:
    """Pixels of some exams of a task."""

    model: str
    task: str
    number: int
    """Of those of the task and model: told twice, it counts once."""

    pixels: SliceHistogram
    positive_pixels: SliceHistogram
    bundle: Bundle | None


Told = ExamStatistics | PooledPixels


@dataclass(kw_only=True, slots=True)
class Pooling:
    """The pixels of one model in a task, told and written piece by piece."""

    model: str
    slot: int
    """The model's number, for names of files."""

    task: str
    """Its name: the same task writes the same bundles."""

    store: Store
    place: str | None
    """Folder of the bundles; None: nobody needs pixels by patient."""

    keeps: bool = False
    """Whether an exam's own pixels are told: of few levels."""

    number: int = 0
    entries: int = 0
    exams: list[tuple[str, SliceHistogram]] = field(default_factory=list)
    pixels: PixelPool = field(default_factory=PixelPool)
    positive_pixels: PixelPool = field(default_factory=PixelPool)

    def take(self, exam: CountedExam) -> Iterator[Told]:
        """Yield what is told once an exam is counted."""
        one = exam.statistics
        self.pixels.add(exam.pixels)
        self.positive_pixels.add(exam.positive_pixels)
        if self.keeps:
            one = replace(one, pixels=exam.pixels)
        elif self.place is not None and len(exam.pixels.level):
            self.exams.append((one.facts.exam, exam.pixels))
            self.entries += len(exam.pixels.level)
        yield one
        if (
            self.entries >= BUNDLE_ENTRIES
            or len(self.exams) == MOST_EXAMS
            or self.pixels.num_pixels >= POOL_PIXELS
        ):
            yield from self.rest()

    def rest(self) -> Iterator[Told]:
        """Yield what is left of the pixels."""
        if not self.pixels.num_pixels:
            return
        bundle = None
        if self.place is not None and self.exams:
            name = f"{self.slot}-{self.task}-{self.number}.bundle"
            bundle = write_bundle(self.store, join(self.place, "bundles", name), self.exams)
        yield PooledPixels(
            model=self.model,
            task=self.task,
            number=self.number,
            pixels=self.pixels.histogram(),
            positive_pixels=self.positive_pixels.histogram(),
            bundle=bundle,
        )
        self.number, self.entries, self.exams = self.number + 1, 0, []
        self.pixels, self.positive_pixels = PixelPool(), PixelPool()


@dataclass(slots=True)
class Gathered:
    """What all tasks have told."""

    models: dict[str, CountedModel]
    bundles: dict[str, list[Bundle]]
    seen: set[tuple[str, str, int]] = field(default_factory=set)

    @classmethod
    def of(cls, names: tuple[str, ...]) -> "Gathered":
        """Begin with nothing of some models."""
        return cls({name: CountedModel() for name in names}, {name: [] for name in names})

    def take(self, told: Told) -> None:
        """Take what a task has told."""
        model = self.models[told.model]
        if isinstance(told, ExamStatistics):
            model.exams[told.facts.exam] = told
            return
        key = (told.model, told.task, told.number)
        if key in self.seen:
            return
        self.seen.add(key)
        model.pixels.add(told.pixels)
        model.positive_pixels.add(told.positive_pixels)
        if told.bundle is not None:
            self.bundles[told.model].append(told.bundle)
