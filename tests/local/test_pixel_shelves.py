"""Pixels by level and patient say the same from shelves in a store as from memory."""

from pathlib import Path

import numpy as np
import pytest

from ich_ray.distributed.gathering import Gathered, Pooling, Told
from ich_ray.errors import QualityError, SurroundingsError
from ich_ray.statistics import pixel_histograms
from ich_ray.statistics.average_precision import average_precisions_and_influences
from ich_ray.statistics.exam_slices import CountedSlice
from ich_ray.statistics.exam_statistics import CountedExam, ExamFacts, count_exam
from ich_ray.storage import pixel_shelves
from ich_ray.storage.leases import Lease, held, this_process
from ich_ray.storage.objects import Store
from ich_ray.storage.pixel_place import place_for_pixels
from ich_ray.storage.pixel_shelves import (
    StoredPixels,
    numbered,
    read_shelf,
    shelf_bins,
    shelf_of,
    write_shelf,
)

PATIENTS = 7
EXAMS = 12


def exam(number: int) -> CountedExam:
    """Every third patient bleeds, and the scores of some exams lie close together."""
    rng = np.random.default_rng(number)
    mask = (rng.random((24, 24)) < 0.1) & (number % PATIENTS % 3 == 0)
    spread = 60_000 if number % 2 else 300
    levels = rng.integers(2_000, 2_000 + spread, (24, 24)) + 3_000 * mask
    item = CountedSlice(
        key=f"s{number}", label=None, score=0.5, levels=levels.astype(np.uint16), reference=mask
    )
    facts = ExamFacts(
        exam=f"e{number:02d}", patient=f"p{number % PATIENTS}", corpus="c", label=bool(mask.any())
    )
    return count_exam("m", facts, [item], score=0.5)


def told(store: Store, task: str, exams: list[CountedExam]) -> list[Told]:
    pooling = Pooling(model="m", slot=0, task=task, store=store, place=store.url("pixels"))
    return [*(one for exam in exams for one in pooling.take(exam)), *pooling.rest()]


def gathered(store: Store, parts: int) -> Gathered:
    exams = [exam(i) for i in range(EXAMS)]
    found = Gathered.of(("m",))
    for part in range(parts):
        for one in told(store, f"t{part}", exams[part::parts]):
            found.take(one)
    return found


def shelved(store: Store, found: Gathered) -> StoredPixels:
    patient_of = {key: int(one.facts.patient[1:]) for key, one in found.models["m"].exams.items()}
    floors = found.models["m"].pixels.floors()
    urls = []
    for i, bins in enumerate(shelf_bins(found.bundles["m"], floors)):
        bundles = [(one, numbered(one, patient_of)) for one in found.bundles["m"]]
        urls.append(store.url("pixels", "shelves", str(i)))
        write_shelf(store, urls[-1], shelf_of(store, bundles, bins, num_patients=PATIENTS))
    return StoredPixels(store=store, urls=tuple(urls), levels=floors, num_clusters=PATIENTS)


def in_memory() -> pixel_histograms.HistogramStack:
    exams = [exam(i) for i in range(EXAMS)]
    return pixel_histograms.stack(
        [
            pixel_histograms.merge([exams[i].pixels for i in range(p, EXAMS, PATIENTS)])
            for p in range(PATIENTS)
        ]
    )


@pytest.mark.parametrize(("parts", "entries"), [(1, 2**21), (3, 700), (5, 1)])
def test_shelves_say_what_memory_says_to_the_last_bit(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, parts: int, entries: int
) -> None:
    """However exams fall to tasks, bundles and shelves: exams of a patient lie in several."""
    monkeypatch.setattr(pixel_shelves, "SHELF_ENTRIES", entries)
    monkeypatch.setattr("ich_ray.distributed.gathering.BUNDLE_ENTRIES", entries)
    found = gathered(Store(str(tmp_path)), parts)
    stored = shelved(Store(str(tmp_path)), found)
    assert (len(stored.urls) > 1) == (entries < 2**21)
    assert len(found.bundles["m"]) >= (parts if entries > 1 else EXAMS)
    weights = np.random.default_rng(1).integers(0, 4, (9, PATIENTS))
    of_shelves = average_precisions_and_influences(stored, weights)
    of_memory = average_precisions_and_influences(in_memory(), weights)
    for one, other in zip(of_shelves, of_memory, strict=True):
        np.testing.assert_array_equal(one, other)
    assert np.isfinite(of_shelves[0]).all()


def test_a_shelf_is_read_as_it_was_written(tmp_path: Path) -> None:
    store, shelf = Store(str(tmp_path)), in_memory()
    write_shelf(store, store.url("one"), shelf)
    found = read_shelf(store, store.url("one"), num_patients=PATIENTS)
    for name in ("level", "cluster", "pos", "neg"):
        np.testing.assert_array_equal(getattr(found, name), getattr(shelf, name))
    assert store.size(store.url("one")) < 5 * len(shelf.level)


def test_levels_below_the_lowest_positive_pixel_lie_on_no_shelf(tmp_path: Path) -> None:
    found = gathered(Store(str(tmp_path)), 2)
    floors = found.models["m"].pixels.floors()
    stored = shelved(Store(str(tmp_path)), found)
    lowest = min(int(shelf.level.min()) for shelf in stored.shelves())
    assert lowest >= floors[-1] // pixel_shelves.LEVELS_PER_BIN * pixel_shelves.LEVELS_PER_BIN
    assert lowest > 2_000


def test_what_a_task_tells_twice_counts_once(tmp_path: Path) -> None:
    """A task that is tried again writes the same files, and tells the same."""
    store = Store(str(tmp_path))
    found, exams = Gathered.of(("m",)), [exam(i) for i in range(EXAMS)]
    files = []
    for _ in range(2):
        for one in told(store, "t", exams):
            found.take(one)
        files.append({item.key: item.etag[:5] for item in store.listing(store.url("pixels"))})
    assert files[0].keys() == files[1].keys()
    assert len(found.models["m"].exams) == EXAMS
    assert found.models["m"].pixels.num_pixels == EXAMS * 24 * 24
    assert [one.exams for one in found.bundles["m"]] == [tuple(f"e{i:02d}" for i in range(EXAMS))]


def test_exams_without_masks_make_no_bundle_and_an_undefined_precision(tmp_path: Path) -> None:
    store = Store(str(tmp_path))
    facts = ExamFacts(exam="e00", patient="p0", corpus="c", label=True)
    unmarked = count_exam("m", facts, [CountedSlice(key="s", label=True, score=0.5)], score=0.5)
    found = Gathered.of(("m",))
    for one in told(store, "t", [unmarked]):
        found.take(one)
    assert found.models["m"].exams["e00"].score == 0.5
    stored = shelved(store, found)
    assert stored.urls == ()
    values, influences = average_precisions_and_influences(stored, np.ones((2, PATIENTS)))
    assert np.isnan(values).all()
    assert np.isnan(influences).all()


def test_a_place_is_kept_for_a_block_and_begins_empty(tmp_path: Path) -> None:
    store = Store(str(tmp_path))
    place = store.url("pixels")
    store.write_bytes(store.url("pixels", "bundles", "of a run that was killed"), b"")
    with held(store, "x", holder=this_process(), expires_s=60.0) as lease:
        with place_for_pixels(store, place, lease):
            assert not store.listing(place)
            shelved(store, gathered(store, 2))
            assert store.listing(place)
        assert not store.listing(place)
        with pytest.raises(QualityError):
            fill(store, lease, QualityError("the comparison failed"))
        assert not store.listing(place)


def test_who_lost_the_lease_removes_nothing(tmp_path: Path) -> None:
    store = Store(str(tmp_path))
    with held(store, "x", holder=this_process(), expires_s=60.0) as lease:
        pass
    lease.lost = "another run took over"
    with pytest.raises(SurroundingsError, match="another run took over"):
        fill(store, lease, QualityError("the comparison failed"))
    assert store.listing(store.url("pixels"))


def fill(store: Store, lease: Lease, error: Exception) -> None:
    with place_for_pixels(store, store.url("pixels"), lease):
        store.write_bytes(store.url("pixels", "one"), b"")
        raise error
