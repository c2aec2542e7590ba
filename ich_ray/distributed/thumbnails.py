"""Exams of a corpus as small pictures: which slice stands for an exam, and what it shows."""

from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from ich_ray.display import BRAIN, grey_levels, windows_within
from ich_ray.exam import Slice
from ich_ray.findings import Gravity
from ich_ray.reporting.thumbnails import Thumbnail
from ich_ray.storage.corpus import hounsfield, read_exams
from ich_ray.storage.objects import Store


@dataclass(frozen=True, kw_only=True, slots=True)
class ChosenExam:
    """An exam to show, and where it is."""

    corpus: str
    exam: str
    patient: str
    file: str
    """URL of its part."""

    slice: str = ""
    """The slice to show; empty: the middle one."""

    lines: tuple[str, ...] = ()
    """What to say of it beside its slices and label."""

    gravity: Gravity | None = None


def thumbnails(store: Store, chosen: Sequence[ChosenExam]) -> list[Thumbnail]:
    """Return the pictures of exams, in the order asked for; reads one exam at a time."""
    by_file: dict[str, list[ChosenExam]] = defaultdict(list)
    for item in chosen:
        by_file[item.file].append(item)
    made: dict[tuple[str, str], Thumbnail] = {}
    for file, items in by_file.items():
        for item, exam in _read(store, file, {item.exam: item for item in items}):
            made[item.corpus, item.exam] = _thumbnail(item, exam)
    return [made[item.corpus, item.exam] for item in chosen]


def _read(
    store: Store, file: str, wanted: Mapping[str, ChosenExam]
) -> Iterator[tuple[ChosenExam, list[Slice]]]:
    patients = {item.patient for item in wanted.values()}
    for exam in read_exams(store, file, splits=patients.__contains__):
        if exam[0].exam in wanted:
            yield wanted[exam[0].exam], exam


def _thumbnail(item: ChosenExam, exam: Sequence[Slice]) -> Thumbnail:
    places = {s.key: i for i, s in enumerate(exam)}
    place = places.get(item.slice, len(exam) // 2)
    shown = exam[place]
    usable = windows_within(shown.center, shown.width) if shown.kind == "window" else (BRAIN,)
    window = BRAIN if BRAIN in usable else usable[0]
    labels = [s.label for s in exam if s.label is not None]
    positive = sum(labels)
    truth = f"{positive} of {len(labels)} positive" if labels else "no label"
    return Thumbnail(
        corpus=item.corpus,
        exam=item.exam,
        image=grey_levels(hounsfield(shown), window),
        mask=shown.mask,
        subtypes=shown.subtypes,
        lines=(f"slice {place + 1} of {len(exam)}", truth, *item.lines),
        gravity=item.gravity or "",
    )
