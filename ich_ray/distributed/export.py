"""Export: what a model says of exams, as DICOM segmentations and a few numbers for a reading room.

Predictions that are missing are made on the cluster; then one exam after the other is read and
written in this process. The objects of an exam are found in the corpus's source by the pseudonyms
of their keys, so that a run needs the key of the pseudonyms.

A segmentation carries its source's patient and study, as it must to find its exam again. It is
written below `export.folder` alone, never into the store. Names of files and folders, summaries,
lines and messages hold pseudonyms only.
"""

import logging
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import groupby
from typing import Any

import numpy as np
from jaxtyping import Float32
from scipy.special import expit

from ich_ray.config import ExportConfig
from ich_ray.distributed.cache import part_name
from ich_ray.distributed.estimates import priced
from ich_ray.distributed.export_plan import planned_export
from ich_ray.distributed.predict import planned_work, predict_all
from ich_ray.distributed.progress import bar
from ich_ray.distributed.session import Selection, Session
from ich_ray.errors import InvalidExam, QualityError, Reason
from ich_ray.exam_summary import ExamSummary, MarkedSlice, extents_mm, summary_of, voxel_mm3
from ich_ray.identity import Pseudonyms
from ich_ray.storage import dicom_seg
from ich_ray.storage.dicom_seg import Author, Header
from ich_ray.storage.export_folder import (
    NOTHING_MARKED,
    WRITTEN,
    ExportedExam,
    write_exam,
    write_table,
)
from ich_ray.storage.fetching import fetch
from ich_ray.storage.objects import ListedObject, Store
from ich_ray.storage.predictions import decode_map
from ich_ray.storage.source import unnamed
from ich_ray.storage.tables import Table, iterate_groups, part_path
from ich_ray.windows import upsample

_log = logging.getLogger(__name__)
_SLICE = [
    *("exam", "slice", "series", "position_mm", "spacing_mm", "thickness_mm", "rows", "columns"),
    *("index", "source"),
]

Row = Mapping[str, Any]
"""Of a slice in the corpus, or of its prediction."""

Maps = Sequence[Float32[np.ndarray, "rows columns"]]
"""Probabilities of the pixels of each slice of an exam."""


@dataclass(frozen=True, kw_only=True, slots=True)
class ExportSummary:
    """What an export wrote."""

    corpus: str
    model: str
    folder: str
    exams: int
    written: int
    """Exams with marked pixels, and so with a segmentation of them."""

    nothing_marked: int
    refused: Mapping[str, str]
    """Exam -> the reason why it has none."""

    up_to_date: bool = field(default=False, init=False)

    def line(self) -> str:
        """Return one line for a person."""
        without = f", {len(self.refused)} refused" if self.refused else ""
        return (
            f"export {self.corpus}: {self.exams} exams, {self.written} with marks, "
            f"{self.nothing_marked} without{without}; folder: {self.folder}"
        )


def plan_export(run: Session, name: str, prefixes: Sequence[str] = ()) -> dict[str, Any]:
    """Return what --dry-run shows; touches nothing.

    Raises:
        ConfigError: As of `export`.
    """
    plan = planned_export(run, name, prefixes)
    tasks = {task.url: task for task in plan.tasks.values()}
    return {
        "stage": "export",
        "corpus": name,
        "exams": plan.num_exams,
        "model": plan.author.identity,
        **priced(run, planned_work(run, list(tasks.values()))),
        "writes": plan.folder,
    }


def export(run: Session, name: str, prefixes: Sequence[str] = ()) -> ExportSummary:
    """Write segmentations and summaries of the exams of a corpus; a rerun writes the same bytes.

    Args:
        run: Its settings say which model, and where to write.
        name: Of the corpus.
        prefixes: Pseudonyms of exams, or their first characters; none for all exams.

    Raises:
        ConfigError: The corpus is no DICOM, the model is not trained, an exam is not there, or the
            folder lies where the system reads.
        BudgetError: The budget is passed; the predictions that are written are kept.
        SurroundingsError: The store or the source is away.
    """
    plan = planned_export(run, name, prefixes)
    tasks = list({task.url: task for task in plan.tasks.values()}.values())
    tables = dict(zip((task.url for task in tasks), predict_all(run, tasks), strict=True))
    writer = ExamWriter(
        store=run.store,
        pseudonyms=run.pseudonyms,
        config=run.settings.export,
        author=plan.author,
        origin={
            "threshold": plan.author.threshold,
            "model": plan.author.identity,
            "model_name": plan.author.name,
            "corpus": name,
            "corpus_version": plan.corpus.version,
        },
        grid=run.settings.input.size,
        objects=_objects(run, name),
        folder=plan.folder,
    )
    done: list[ExportedExam] = []
    with bar(f"export {name}", total=plan.num_exams, unit="exam") as shown:
        for file, task in plan.tasks.items():
            exams = plan.exams[file]
            predicted = _predicted(run.store, tables[task.url], task.selection, file, exams)
            for rows in _slices(run.store, file, exams):
                done.append(writer.write(rows, predicted))
                shown.update(1)
    write_table(run.store, plan.folder, done)
    outcomes = {exam.found.exam: exam.outcome for exam in done}
    said = list(outcomes.values())
    return ExportSummary(
        corpus=name,
        model=plan.author.identity,
        folder=plan.folder,
        exams=len(done),
        written=said.count(WRITTEN),
        nothing_marked=said.count(NOTHING_MARKED),
        refused={k: v for k, v in outcomes.items() if v not in (WRITTEN, NOTHING_MARKED)},
    )


def refuse_unwritten(summary: ExportSummary) -> None:
    """Let a command fail that could not write all that was asked for.

    Raises:
        QualityError: Exams with marked pixels have no segmentation.
    """
    if summary.refused:
        some = ", ".join(f"{e} ({why})" for e, why in list(summary.refused.items())[:3])
        raise QualityError(
            f"{len(summary.refused)} of {summary.exams} exams of corpus {summary.corpus} have no "
            f"segmentation: {some}; the others are written. Restore or repair their objects in "
            "the source, ingest it again, then run the same command"
        )


@dataclass(frozen=True, kw_only=True, slots=True)
class ExamWriter:
    """Turns the predictions of an exam into its folder."""

    store: Store
    pseudonyms: Pseudonyms
    config: ExportConfig
    author: Author
    origin: Mapping[str, Any]
    """See `ExportedExam.origin`."""

    grid: int
    """`input.size`."""

    objects: Mapping[str, ListedObject]
    """Pseudonym of the key -> object of the source."""

    folder: str

    def write(self, rows: Sequence[Row], predicted: Mapping[str, Row]) -> ExportedExam:
        """Write the folder of an exam.

        Args:
            rows: Of its slices in the corpus, in their order.
            predicted: Slice -> its row of a predictions table.
        """
        maps = [
            expit(
                upsample(
                    decode_map(predicted[row["slice"]]),
                    rows=row["rows"],
                    columns=row["columns"],
                    size=self.grid,
                )
            )
            for row in rows
        ]
        found = self._summary(rows, predicted, maps)
        files: dict[str, bytes] = {}
        outcome = WRITTEN if found.positive_slices else NOTHING_MARKED
        try:
            if found.positive_slices or self.config.probabilities:
                files = dict(self._segmentations(rows, maps))
        except InvalidExam as refusal:
            outcome = refusal.reason.value
            _log.warning("exam %s has no segmentation: %s", found.exam, refusal)
        exam = ExportedExam(found=found, outcome=outcome, origin=self.origin)
        write_exam(self.store, self.folder, exam, files)
        return exam

    def _summary(
        self, rows: Sequence[Row], predicted: Mapping[str, Row], maps: Maps
    ) -> ExamSummary:
        slices = [
            MarkedSlice(
                slice=row["slice"],
                number=number,
                p=float(predicted[row["slice"]]["p"]),
                pixels=int((p >= self.author.threshold).sum()),
            )
            for number, (row, p) in enumerate(zip(rows, maps, strict=True), start=1)
        ]
        return summary_of(
            rows[0]["exam"],
            slices,
            list(_voxels(rows)),
            score_slices=self.config.exam_score_slices,
            top_slices=self.config.top_slices,
        )

    def _segmentations(self, rows: Sequence[Row], maps: Maps) -> Iterator[tuple[str, bytes]]:
        """Yield name and bytes; more than one of a kind where slices have more than one grid."""
        headers = [self._header(row) for row in rows]
        for number, members in enumerate(dicom_seg.grids(headers), start=1):
            of_grid = [headers[i] for i in members]
            p = np.stack([maps[i] for i in members])
            ending = ".dcm" if number == 1 else f"-{number}.dcm"
            marked = dicom_seg.segmentation(of_grid, p >= self.author.threshold, self.author)
            if marked is not None:
                yield f"hemorrhage{ending}", marked
            if self.config.probabilities:
                shares = dicom_seg.segmentation(of_grid, p, self.author)
                if shares is not None:
                    yield f"probability{ending}", shares

    def _header(self, row: Row) -> Header:
        """Return the header of a slice, as it lies in the source now.

        Raises:
            InvalidExam: It is gone, is another one now, or no segmentation can lie on it.
        """
        item = self.objects.get(row["source"])
        if item is None:
            raise InvalidExam(Reason.UNREADABLE, f"slice {row['slice']} is gone from the source")
        header = dicom_seg.read_source(fetch(self.store, item.url, row["source"], item.size))
        same = self.pseudonyms.of(str(header.SOPInstanceUID)) == row["slice"]
        if not same or (header.get("Rows"), header.get("Columns")) != (row["rows"], row["columns"]):
            raise InvalidExam(
                Reason.UNREADABLE,
                f"the object of slice {row['slice']} has changed since it was ingested",
            )
        return header


def _voxels(rows: Sequence[Row]) -> Iterator[float | None]:
    """Yield what a pixel of each slice stands for, mm3."""
    for _, members in groupby(rows, key=lambda row: row["series"]):
        series = list(members)
        extents = extents_mm(
            [row["position_mm"] for row in series], [row["thickness_mm"] for row in series]
        )
        for row, extent in zip(series, extents, strict=True):
            yield voxel_mm3(row["spacing_mm"] and tuple(row["spacing_mm"]), extent)


def _objects(run: Session, name: str) -> dict[str, ListedObject]:
    """Return the objects of a source by the pseudonyms of their keys."""
    with unnamed(f"corpora.{name}.source"):
        listed = run.store.listing(run.settings.corpora[name].source)
    return {run.pseudonyms.of(item.key): item for item in listed}


def _predicted(
    store: Store, table: Table, selection: Selection, file: str, exams: frozenset[str]
) -> dict[str, Row]:
    """Return slice -> prediction, of some exams of a part."""
    wanted = part_path(part_name(selection, file))
    (url,) = (url for url in table.files if url.rsplit("/", 1)[1] == wanted)
    groups = iterate_groups(store, url, where=("exam", exams.__contains__))
    return {row["slice"]: row for group in groups for row in group.to_pylist()}


def _slices(store: Store, file: str, exams: frozenset[str]) -> Iterator[list[Row]]:
    """Yield the rows of some exams of a part, each exam's slices in order."""
    for group in iterate_groups(store, file, _SLICE, where=("exam", exams.__contains__)):
        yield sorted(group.to_pylist(), key=lambda row: row["index"])
