"""The map step of the report's gallery: small pictures and outlines of the exams that are shown.

Runs where the pixels lie; of other exams nothing is decoded, and of these little travels.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from jaxtyping import Bool

from ich_ray.display import BRAIN, grey_levels
from ich_ray.distributed import work
from ich_ray.distributed.origin import Origin
from ich_ray.distributed.part_statistics import predictions_of_part, reference_of
from ich_ray.exam import Slice
from ich_ray.exam_choice import evenly_with
from ich_ray.reporting.contents import GallerySlice
from ich_ray.reporting.scrolled_exam import MarkedSlice, ScrolledExam, scrolled_exam
from ich_ray.statistics.score_levels import quantise_logits
from ich_ray.storage.corpus import hounsfield, read_exams
from ich_ray.storage.objects import Store
from ich_ray.storage.predictions import decode_map
from ich_ray.windows import upsample

Rows = Mapping[str, Mapping[str, Mapping[str, Any]]]
"""Model -> slice -> its row of a predictions table."""


@dataclass(frozen=True, kw_only=True, slots=True)
class GalleryOfPart:
    """Makes the shown exams of one part of a corpus; a plain value, called by Ray Data."""

    store: Store
    corpus: str
    predictions: Mapping[str, tuple[str, ...]]
    """Name of the model in the report -> files of its predictions."""

    levels: Mapping[str, int]
    """Model -> its pixel threshold."""

    shown: Mapping[str, str]
    """Exam -> the slice to show of it to whoever cannot scroll."""

    patients: frozenset[str]
    """Whose exams they are."""

    slices: int
    """`evaluate.gallery_slices`."""

    grid: int
    """`input.size`."""

    origin: Origin
    """Whose work it is."""

    def __call__(self, batch: Mapping[str, np.ndarray]) -> Iterator[dict[str, list[Any]]]:
        """Yield one row an exam."""
        with work.piece_of(self.origin):
            for url in batch["url"]:
                for shown in self.of_part(str(url)):
                    yield {"shown": [shown]}

    def of_part(self, url: str) -> Iterator[GallerySlice]:
        """Yield the shown exams of a part whose slice has a reference mask."""
        rows = {
            name: predictions_of_part(
                self.store,
                files,
                corpus=self.corpus,
                url=url,
                where=("exam", self.shown.__contains__),
            )
            for name, files in self.predictions.items()
        }
        for exam in read_exams(self.store, url, splits=self.patients.__contains__):
            key = self.shown.get(exam[0].exam)
            for place, item in enumerate(exam):
                if item.key == key and item.mask is not None:
                    yield self._of_exam(exam, place, rows)

    def _of_exam(self, exam: Sequence[Slice], place: int, rows: Rows) -> GallerySlice:
        still = self._marked(exam, place, rows)
        assert still.reference is not None, exam[place].key
        return GallerySlice(
            exam=exam[place].exam,
            slice=exam[place].key,
            image=grey_levels(still.hounsfield, BRAIN),
            reference=still.reference,
            predictions=still.predictions,
            p=still.p,
            caption="",
            exam_slices=self._to_scroll(exam, place, rows),
        )

    def _to_scroll(self, exam: Sequence[Slice], place: int, rows: Rows) -> ScrolledExam | None:
        if not self.slices:
            return None
        chosen = evenly_with(place, self.slices, len(exam))
        return scrolled_exam(
            [self._marked(exam, i, rows) for i in chosen],
            first=chosen.index(place),
            of=len(exam),
            center=exam[0].center,
            width=exam[0].width,
        )

    def _marked(self, exam: Sequence[Slice], place: int, rows: Rows) -> MarkedSlice:
        item = exam[place]
        of_slice = {name: of_model[item.key] for name, of_model in rows.items()}
        return MarkedSlice(
            number=place + 1,
            hounsfield=hounsfield(item),
            reference=None if item.mask is None else reference_of(item),
            predictions={
                name: self._marks(row, item, level=self.levels[name])
                for name, row in of_slice.items()
            },
            p={name: float(row["p"]) for name, row in of_slice.items()},
        )

    def _marks(
        self, row: Mapping[str, Any], item: Slice, *, level: int
    ) -> Bool[np.ndarray, "rows columns"]:
        height, width = item.stored.shape
        full = upsample(decode_map(row), rows=height, columns=width, size=self.grid)
        return np.asarray(quantise_logits(full) >= level)
