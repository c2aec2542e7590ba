from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from ich_ray.distributed.origin import here
from ich_ray.distributed.part_statistics import StatisticsOfPart, exam_label
from ich_ray.distributed.session import Selection
from ich_ray.exam import Geometry, Slice
from ich_ray.statistics.exam_statistics import Counting, ExamStatistics
from ich_ray.stopwatch import Stopwatch
from ich_ray.storage import corpus, slice_rows
from ich_ray.storage.objects import Store
from ich_ray.storage.tables import commit, write_part


def a_slice(exam: str, number: int, **truth: object) -> Slice:
    item = Slice(
        exam=exam,
        key=f"{exam}{number}",
        patient=exam,
        series="s",
        stored=np.full((8, 8), 40, np.int16),
        slope=1.0,
        intercept=0.0,
        geometry=Geometry(
            position_mm=5.0 * number, spacing_mm=(0.5, 0.5), thickness_mm=5.0, tilt_deg=0.0
        ),
    )
    return replace(item, **truth)


@pytest.mark.parametrize(
    ("labels", "whole", "expected"),
    [
        ((None, None), 1, True),
        ((None, None), 0, False),
        ((False, True), None, True),
        ((False, None), 1, False),
        ((True, None), 0, True),
    ],
)
def test_the_exam_as_a_whole_counts_where_no_slice_has_a_label(
    labels: tuple[bool | None, ...], whole: int | None, expected: object
) -> None:
    said = None if whole is None else bool(whole)
    exam = [a_slice("e", i, label=v, exam_label=said) for i, v in enumerate(labels)]
    assert exam_label(exam) is expected


def statistics(folder: Path, exams: list[list[Slice]]) -> list[ExamStatistics]:
    """What evaluation would know of the exams of a corpus, by the plain threshold."""
    store = Store(str(folder))
    url = corpus.slices_url(store, "c")
    part = write_part(store, url, "a", slice_rows.to_table(exams), [len(exam) for exam in exams])
    properties = {
        "schema_version": corpus.SCHEMA_VERSION,
        "kind": "hu",
        "key_fingerprint": "f",
    }
    commit(store, url, schema=corpus.SCHEMA, parts=[part], properties=properties)
    found = corpus.open_corpus(store, "c")
    of_part = StatisticsOfPart(
        store=store,
        selection=Selection(found, None, (), 0),
        number=0,
        predictions={},
        levels={},
        counting=Counting(),
        grid=0,
        threshold=True,
        score_slices=1,
        place=None,
        origin=here(),
    )
    told = [item for file in found.files for item in of_part.of_part(file, Stopwatch())]
    # Exams without a mask have no pixels to pool.
    return [item for item in told if isinstance(item, ExamStatistics)]


def test_exams_that_readers_saw_as_a_whole_are_evaluated_without_pixels(tmp_path: Path) -> None:
    exams = [
        [a_slice("a", i, exam_label=True) for i in range(3)],
        [a_slice("b", i, exam_label=False) for i in range(3)],
        [a_slice("c", i) for i in range(3)],
    ]
    found = {item.facts.exam: item for item in statistics(tmp_path, exams)}
    assert {exam: item.facts.label for exam, item in found.items()} == {"a": True, "b": False}
    assert all(item.pixels is not None and not item.pixels.level.size for item in found.values())
