"""Show: an exam of a corpus, or the corpus's exams, as a page for a person.

Reads one exam at a time in this process; pseudonyms are read and never made, so no key is needed.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa

from ich_ray import exam_rules, volume
from ich_ray.display import grey_levels, windows_within
from ich_ray.distributed.session import Session
from ich_ray.distributed.thumbnails import ChosenExam, thumbnails
from ich_ray.errors import ConfigError
from ich_ray.exam import HEMORRHAGE_TYPES, Slice
from ich_ray.exam_choice import evenly
from ich_ray.findings import MEANINGS, worst_first
from ich_ray.reporting import corpus_page, exam_page
from ich_ray.reporting.corpus_page import CorpusPage, ListedExam
from ich_ray.reporting.exam_page import ExamPage, ShownSlice
from ich_ray.reporting.outlines import name_of
from ich_ray.slice_facts import facts_of
from ich_ray.storage.corpus import Corpus, hounsfield, index_table, open_corpus, read_exams
from ich_ray.storage.new_since import new_since
from ich_ray.storage.urls import absolute, join

SHORTEST_PREFIX = 4
SILENT = "not known"


@dataclass(frozen=True, kw_only=True, slots=True)
class ShowSummary:
    """Where a page lies, and what it shows."""

    page: str
    corpus: str
    exams: int
    slices: int

    def line(self) -> str:
        """Return one line for a person."""
        exams = "1 exam" if self.exams == 1 else f"{self.exams} exams"
        return f"show {self.corpus}: {exams}, {self.slices} slices; page: {self.page}"


def plan_show(run: Session, name: str, prefix: str = "") -> dict[str, Any]:
    """Return what --dry-run shows; touches nothing.

    Raises:
        ConfigError: There is no such exam.
    """
    corpus = open_corpus(run.store, name)
    shown: dict[str, Any] = {"slices": corpus.num_rows}
    if prefix:
        shown = {"exam": find_exam(index_table(run.store, corpus), name, prefix)["exam"]}
    return {"stage": "show", "corpus": name, **shown, "writes": run.settings.show.folder}


def show_corpus(run: Session, name: str, *, command: str) -> ShowSummary:
    """Write the page of a corpus: all exams in a table, some of them as pictures.

    Args:
        run: Its settings say where, and how many pictures.
        name: Of the corpus.
        command: What the page says writes the page of an exam.
    """
    corpus = open_corpus(run.store, name)
    index = _shown(run, corpus)
    exams = _listed(index)
    places = {row["exam"]: row for row in index.select(["exam", "patient", "file"]).to_pylist()}
    chosen = [
        ChosenExam(
            corpus=name, exam=exam, patient=places[exam]["patient"], file=places[exam]["file"]
        )
        for exam in (exams[i].exam for i in evenly(run.settings.show.thumbnails, len(exams)))
    ]
    page = CorpusPage(
        corpus=name,
        facts=_corpus_facts(corpus, exams),
        exams=exams,
        thumbnails=thumbnails(run.store, chosen),
        command=command,
    )
    url = _write(run, f"{name}.html", corpus_page.to_html(page))
    return ShowSummary(page=url, corpus=name, exams=len(exams), slices=index.num_rows)


def _shown(run: Session, corpus: Corpus) -> pa.Table:
    """Return the index of the exams that a page lists: all, or those with anything new."""
    index = index_table(run.store, corpus)
    since = run.settings.show.since
    if since < 0:
        return index
    exams = new_since(run.store, corpus, since)["exam"].unique()
    if not len(exams):
        raise ConfigError(
            f"corpus {corpus.name} is at version {corpus.version}, and no slice of it is new since "
            f"show.since={since}; name an earlier version, or -1 for all exams"
        )
    return index.filter(pa.compute.is_in(index["exam"], value_set=exams))


def show_exam(run: Session, name: str, prefix: str) -> ShowSummary:
    """Write the page of one exam.

    Args:
        run: Its settings say where.
        name: Of the corpus.
        prefix: The exam's pseudonym, or the first characters of it.

    Raises:
        ConfigError: No exam, or several, begin so.
    """
    corpus = open_corpus(run.store, name)
    found = find_exam(index_table(run.store, corpus), name, prefix)
    of_patient = read_exams(run.store, found["file"], splits=lambda p: p == found["patient"])
    exam = next(slices for slices in of_patient if slices[0].exam == found["exam"])
    page = _exam_page(run, corpus, exam)
    url = _write(run, f"{name}-{found['exam'][:12]}.html", exam_page.to_html(page))
    return ShowSummary(page=url, corpus=name, exams=1, slices=len(exam))


def find_exam(index: pa.Table, corpus: str, prefix: str) -> dict[str, Any]:
    """Return the first row of the one exam whose name begins so.

    Args:
        index: Of the corpus (see `index_table`), or columns of it.
        corpus: Its name.
        prefix: The exam's pseudonym, or the first characters of it.

    Raises:
        ConfigError: No exam, or several, begin so.
    """
    exams = sorted(index["exam"].unique().to_pylist())
    matching = [exam for exam in exams if exam.startswith(prefix)]
    if len(prefix) < SHORTEST_PREFIX or not matching:
        raise ConfigError(
            f"corpus {corpus} has no exam {prefix!r}: give {SHORTEST_PREFIX} or more first "
            f"characters of one, e.g. {', '.join(e[:8] for e in exams[:3])}; without an exam, "
            "ich-ray show lists all"
        )
    if len(matching) > 1:
        raise ConfigError(
            f"{len(matching)} exams of corpus {corpus} begin with {prefix!r}: "
            f"{', '.join(matching[:3])}; give more characters"
        )
    (row, *_) = index.filter(pa.compute.equal(index["exam"], matching[0])).slice(0, 1).to_pylist()
    return dict(row)


def _listed(index: pa.Table) -> list[ListedExam]:
    columns = ["exam", "patient", "label", "subtypes", "has_mask"]
    rows = index.select(columns).sort_by("exam").to_pylist()
    starts = [i for i in range(len(rows)) if i == 0 or rows[i]["exam"] != rows[i - 1]["exam"]]
    listed = []
    for start, end in zip(starts, [*starts[1:], len(rows)], strict=True):
        exam = rows[start:end]
        named = [row["subtypes"] for row in exam if row["subtypes"] is not None]
        types = [t for i, t in enumerate(HEMORRHAGE_TYPES) if any(flags[i] for flags in named)]
        listed.append(
            ListedExam(
                exam=exam[0]["exam"],
                patient=exam[0]["patient"],
                slices=len(exam),
                labelled=sum(row["label"] is not None for row in exam),
                positive=sum(row["label"] is True for row in exam),
                types=", ".join(types),
                masked=sum(row["has_mask"] for row in exam),
            )
        )
    return listed


def _corpus_facts(corpus: Corpus, exams: Sequence[ListedExam]) -> list[tuple[str, str]]:
    positive = sum(exam.positive > 0 for exam in exams)
    return [
        ("version", str(corpus.version)),
        ("layout", corpus.properties.get("layout", SILENT)),
        ("pixels", _pixels(corpus)),
        ("patients", f"{len({exam.patient for exam in exams}):,}"),
        ("exams", f"{len(exams):,}, {positive:,} with a positive slice"),
        ("slices", f"{corpus.num_rows:,}, {sum(exam.positive for exam in exams):,} positive"),
        ("key of the pseudonyms", corpus.key_fingerprint),
    ]


def _pixels(corpus: Corpus) -> str:
    if corpus.kind == "hu":
        return "Hounsfield units"
    center, width = (float(corpus.properties[key]) for key in ("center", "width"))
    return f"only the window C {center:g} W {width:g}, 8 bit"


def _exam_page(run: Session, corpus: Corpus, exam: Sequence[Slice]) -> ExamPage:
    # One list of windows for the page: what every slice can show.
    windows = windows_within(exam[0].center, exam[0].width)
    notes = []
    if corpus.kind == "window":
        notes.append(
            f"This corpus holds {_pixels(corpus)}: what lies outside was lost before it was "
            "published, so there is no bone window, nor any other that reaches beyond."
        )
    chosen = evenly(run.settings.show.max_slices, len(exam))
    if len(chosen) < len(exam):
        notes.append(
            f"{len(chosen)} of {len(exam)} slices, evenly chosen; show.max_slices shows more."
        )
    numbers = {item.key: i + 1 for i, item in enumerate(exam)}
    slices = []
    for i in chosen:
        hu = hounsfield(exam[i])
        slices.append(
            ShownSlice(
                key=exam[i].key,
                pictures={window.name: grey_levels(hu, window) for window in windows},
                mask=exam[i].mask,
                subtypes=exam[i].subtypes,
                label=exam[i].label,
                facts=list(_slice_facts(exam, i, numbers, (float(hu.min()), float(hu.max())))),
            )
        )
    return ExamPage(
        corpus=corpus.name,
        exam=exam[0].exam,
        facts=list(_exam_facts(corpus, exam)),
        windows=[(w.name, f"C {w.center:g} W {w.width:g}") for w in windows],
        slices=slices,
        notes=notes,
    )


def _slice_facts(
    exam: Sequence[Slice], index: int, numbers: dict[str, int], reach: tuple[float, float]
) -> Iterator[tuple[str, str]]:
    item = exam[index]
    rows, columns = item.stored.shape
    yield "slice", item.key
    yield "label", {True: "positive", False: "negative", None: "none"}[item.label]
    if item.subtypes is not None:
        types = [t for t, named in zip(HEMORRHAGE_TYPES, item.subtypes, strict=True) if named]
        yield "types", ", ".join(types) or "none"
    yield "mask", _mask(item)
    yield "previous", _neighbour(exam, item, item.previous, numbers)
    yield "next", _neighbour(exam, item, item.next, numbers)
    yield "position", _mm(item.geometry.position_mm)
    yield "thickness", _mm(item.geometry.thickness_mm)
    spacing = item.geometry.spacing_mm
    yield "pixel", SILENT if spacing is None else f"{spacing[0]:.4g} x {spacing[1]:.4g} mm"
    tilt = item.geometry.tilt_deg
    yield "tilt", SILENT if tilt is None else f"{tilt:.1f} degrees"
    yield "matrix", f"{rows} x {columns}"
    yield "range", f"{reach[0]:g} to {reach[1]:g} HU"


def _mask(item: Slice) -> str:
    if item.mask is None:
        return "none"
    values, counts = np.unique(item.mask[item.mask > 0], return_counts=True)
    if not len(values):
        return "empty"
    spacing = item.geometry.spacing_mm
    said = []
    for value, count in zip(values.tolist(), counts.tolist(), strict=True):
        area = "" if spacing is None else f", {count * spacing[0] * spacing[1]:.0f} mm²"
        said.append(f"{name_of(value, item.subtypes)} {count:,} pixels{area}")
    return "; ".join(said)


def _neighbour(exam: Sequence[Slice], item: Slice, key: str | None, numbers: dict[str, int]) -> str:
    if key is None:
        return "none: an end, a gap, or no position"
    number = numbers[key]
    here, there = item.geometry.position_mm, exam[number - 1].geometry.position_mm
    assert here is not None, item.key
    assert there is not None, key
    return f"slice {number}, {abs(there - here):.4g} mm away"


def _exam_facts(corpus: Corpus, exam: Sequence[Slice]) -> Iterator[tuple[str, str]]:
    yield "corpus", f"{corpus.name}, version {corpus.version}"
    yield "patient", exam[0].patient
    yield "series", ", ".join(sorted({item.series for item in exam}))
    labels = [item.label for item in exam if item.label is not None]
    yield "slices", f"{len(exam)}, {len(labels)} labelled, {sum(labels)} positive"
    yield "with mask", str(sum(item.mask is not None for item in exam))
    step = volume.spacing_mm([item.geometry.position_mm for item in exam])
    yield "usual step", SILENT if step is None else f"{step:.4g} mm"
    yield "pixels", _pixels(corpus)
    facts = [facts_of(item, hounsfield(item)) for item in exam]
    for finding in worst_first(exam_rules.of_exam(corpus.name, facts)):
        meaning = MEANINGS[finding.oddity]
        detail = f": {finding.detail}" if finding.detail else ""
        yield meaning.gravity, f"{meaning.title}{detail} ({finding.count} slices)"


def _mm(value: float | None) -> str:
    return SILENT if value is None else f"{value:.4g} mm"


def _write(run: Session, name: str, html: str) -> str:
    url = join(absolute(run.settings.show.folder), name)
    run.store.write_bytes(url, html.encode())
    return url
