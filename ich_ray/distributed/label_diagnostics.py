"""Diagnose: what a table of pseudo-labels is like, against another round, a student, hidden labels.

It reads the labels that an unlabelled corpus may hold, and what it finds leads nowhere: page and
record go into a local folder, outside the store, and nothing that ranks, labels or trains imports
this module.
"""

import json
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from ich_ray.distributed import records
from ich_ray.distributed.cache import label_part_name
from ich_ray.distributed.estimates import priced
from ich_ray.distributed.label_volumes import exam_volumes
from ich_ray.distributed.lineage import (
    PseudoLabelLineage,
    TrainedModel,
    finished_pseudo_labels,
    model_lineage,
)
from ich_ray.distributed.part_predictor import PredictionTask
from ich_ray.distributed.predict import planned_work, predict_all, prediction_task
from ich_ray.distributed.pseudo_label import READERS
from ich_ray.distributed.session import Session, code_revision
from ich_ray.errors import ConfigError, QualityError, SurroundingsError
from ich_ray.exam import IGNORED
from ich_ray.label_diagnostics import (
    UNKNOWN,
    LabelledSlices,
    against_hidden,
    patient_shares,
    score_histograms,
    volumes_of,
)
from ich_ray.label_drift import Agreement, Drift, agreement, common, drift
from ich_ray.reporting.diagnostics_contents import Diagnostics, to_json
from ich_ray.reporting.diagnostics_page import headline, percent, to_html
from ich_ray.storage.tables import Table, open_table, part_path, read_part
from ich_ray.storage.urls import absolute, join

RECORD, PAGE = "diagnostics.json", "index.html"


class PartUrls(NamedTuple):
    """A part of a pseudo-label table, and of the corpus that it labels."""

    labels: str
    corpus: str
    name: str
    """Of the corpus."""


@dataclass(frozen=True, kw_only=True, slots=True)
class DiagnoseSummary:
    """Where the diagnostics lie, and the figures that matter first."""

    name: str
    page: str
    record: str
    said: str
    effective_patients: float
    median_ml: float | None
    jaccard: float | None
    hidden_auc: float | None
    precision: float | None
    """By hidden labels, as the next one."""

    recall: float | None
    notes: tuple[str, ...]
    up_to_date: bool = False

    def line(self) -> str:
        """Return a few lines for a person."""
        volume = "not known" if self.median_ml is None else f"{self.median_ml:.3g} mL"
        lines = [
            f"diagnose {self.name}: {self.said}",
            f"  effective patients {self.effective_patients:.1f}, median volume {volume}",
        ]
        if self.precision is not None or self.recall is not None:
            auc = "not defined" if self.hidden_auc is None else f"{self.hidden_auc:.3f}"
            lines.append(
                f"  by hidden labels, a diagnostic only: slice AUC {auc}, precision "
                f"{percent(self.precision)}, recall {percent(self.recall)}"
            )
        lines += [f"  {note}" for note in self.notes]
        return "\n".join([*lines, f"page: {self.page}"])


def plan_diagnose(run: Session, name: str, other: str = "") -> dict[str, Any]:
    """Return what --dry-run shows; touches nothing.

    Raises:
        ConfigError: As of `diagnose`.
    """
    lineage = finished_pseudo_labels(run, name)
    if other:
        finished_pseudo_labels(run, other)
    students, notes = _students(run, name)
    tasks = [task for student in students for task in _tasks(run, student, lineage)]
    missing = [task for task in tasks if open_table(run.store, task.url) is None]
    made = missing if run.settings.diagnose.predict else []
    return {
        "stage": "diagnose",
        "pseudo_labels": name,
        "against": other,
        "students": [student.name for student in students],
        "slices": 0 if lineage.table is None else lineage.table.rows,
        "predictions_to_make": len(made),
        "predictions_missing": len(missing) - len(made),
        **priced(run, planned_work(run, made)),
        "notes": notes,
        "writes": _folder(run, name),
    }


def diagnose(run: Session, name: str, other: str = "") -> DiagnoseSummary:
    """Write the page and the record of a table of pseudo-labels.

    Args:
        run: Opens the tables; its settings say where to write.
        name: Of the pseudo-labels.
        other: Of those of another round, to compare with; empty: none.

    Raises:
        ConfigError: A table of pseudo-labels does not exist yet, or a task does not fit.
        QualityError: The two rounds have no slice in common.
        BudgetError: The budget is passed while predictions of a student are made.
        SurroundingsError: A table lacks a part, or holds slices that its corpus does not.
    """
    lineage = finished_pseudo_labels(run, name)
    assert lineage.table is not None, name
    records.read_table("pseudo-labels", lineage.table)
    parts = _parts(lineage)
    with ThreadPoolExecutor(READERS) as readers:
        pieces = list(readers.map(lambda part: _slices_of(run, part), parts))
    slices = _joined(pieces)
    against = _agreement(run, slices, other) if other else None
    students, notes = _drifts(run, name, lineage, slices)
    config = run.settings.pseudo_labels[name]
    if config.truthful:
        notes.append(
            f"mode {config.mode} takes its labels from the corpus' own: what hidden labels say of "
            "precision and recall is true by construction, but for the ranking by percentile."
        )
    volumes = exam_volumes(run, name, [(part.labels, part.corpus) for part in parts])
    found = Diagnostics(
        name=name,
        mode=config.mode,
        cut=float(json.loads(lineage.table.properties["figures"])["cut"]),
        exams=len(np.unique(slices.exam)),
        slices=len(slices.p),
        positive=int((slices.label == 1).sum()),
        ignored=int((slices.label == IGNORED).sum()),
        patients=patient_shares(slices.patient, slices.label == 1),
        volumes=volumes_of(volumes),
        exam_volumes=volumes,
        scores=score_histograms(slices.p, slices.label),
        against=None if against is None else (other, against),
        students=students,
        hidden=against_hidden(slices, run.settings.diagnose.percentiles),
        notes=notes,
        provenance=_provenance(lineage),
    )
    return _write(run, found)


def _write(run: Session, found: Diagnostics) -> DiagnoseSummary:
    folder = _folder(run, found.name)
    run.store.write_bytes(join(folder, RECORD), to_json(found).encode())
    run.store.write_bytes(join(folder, PAGE), to_html(found).encode())
    hidden, median = found.hidden, found.volumes.quartiles_ml[1]
    return DiagnoseSummary(
        name=found.name,
        page=join(folder, PAGE),
        record=join(folder, RECORD),
        said=headline(found),
        effective_patients=found.patients.effective,
        median_ml=_number(median),
        jaccard=None if found.against is None else _number(found.against[1].jaccard),
        hidden_auc=None if hidden is None else hidden.auc,
        precision=None if hidden is None else _number(hidden.precision.estimate),
        recall=None if hidden is None else _number(hidden.recall.estimate),
        notes=tuple(found.notes),
    )


def _number(value: float) -> float | None:
    return value if np.isfinite(value) else None


def _parts(lineage: PseudoLabelLineage) -> list[PartUrls]:
    """Pair the parts of a pseudo-label table with those of the corpora, in their order."""
    assert lineage.table is not None
    by_path = _by_path(lineage.table)
    found: dict[str, PartUrls] = {}
    for selection in lineage.selections:
        for url in selection.corpus.files:
            path = part_path(label_part_name(selection, url))
            # A part without a patient of the selection has no rows, and was not committed.
            if path in by_path:
                found[path] = PartUrls(by_path[path], url, selection.corpus.name)
    return list(found.values())


def _by_path(table: Table) -> dict[str, str]:
    return {url.rsplit("/", 1)[1]: url for url in table.files}


def _slices_of(run: Session, part: PartUrls) -> LabelledSlices:
    """Read the columns of one part, and what its corpus knows of the same slices."""
    said = read_part(run.store, part.labels, ("exam", "slice", "label", "p"))
    known = read_part(run.store, part.corpus, ("slice", "patient", "label"))
    rows = pc.index_in(said["slice"], value_set=known["slice"].combine_chunks())
    if rows.null_count:
        raise SurroundingsError(
            f"{part.labels} labels {rows.null_count} slices that {part.corpus} does not hold; "
            "restore the corpus, or remove the table, and it is made again"
        )
    known = known.take(rows)
    return LabelledSlices(
        key=_keys(said, part.name),
        exam=_keys(said, part.name, "exam"),
        patient=np.array(known["patient"].to_pylist(), np.bytes_),
        label=_codes(said["label"], none=IGNORED).astype(np.uint8),
        p=said["p"].to_numpy().astype(np.float32),
        hidden=_codes(known["label"], none=UNKNOWN).astype(np.int8),
    )


def _keys(rows: pa.Table, corpus: str, column: str = "slice") -> np.ndarray:
    """Return pseudonyms, then their corpus: the ranker's order where probabilities are equal."""
    return np.array([f"{key} {corpus}".encode() for key in rows[column].to_pylist()], np.bytes_)


def _codes(column: pa.ChunkedArray, *, none: int) -> np.ndarray:
    """Return 1, 0 or `none` for true, false and null."""
    return np.asarray(pc.fill_null(column.cast(pa.int16()), none).to_numpy())


def _joined(pieces: Sequence[LabelledSlices]) -> LabelledSlices:
    names = ("key", "exam", "patient", "label", "p", "hidden")
    return LabelledSlices(**{n: np.concatenate([getattr(p, n) for p in pieces]) for n in names})


def _agreement(run: Session, slices: LabelledSlices, other: str) -> Agreement:
    lineage = finished_pseudo_labels(run, other)
    assert lineage.table is not None, other
    records.read_table("pseudo-labels", lineage.table)

    def read(part: PartUrls) -> tuple[np.ndarray, ...]:
        rows = read_part(run.store, part.labels, ("slice", "label", "p"))
        labels = _codes(rows["label"], none=IGNORED).astype(np.uint8)
        return _keys(rows, part.name), labels, rows["p"].to_numpy().astype(np.float32)

    with ThreadPoolExecutor(READERS) as readers:
        pieces = list(readers.map(read, _parts(lineage)))
    keys, labels, p = (np.concatenate(column) for column in zip(*pieces, strict=True))
    found = agreement((slices.key, slices.label, slices.p), (keys, labels, p))
    if not found.slices:
        raise QualityError(
            f"pseudo_labels.{other} labels none of the slices that are diagnosed: give --against "
            "another round on the same corpora"
        )
    return found


def _students(run: Session, name: str) -> tuple[list[TrainedModel], list[str]]:
    """Return the trained models that have learned from pseudo-labels, and why others are not."""
    found, notes = [], []
    for model, config in run.settings.models.items():
        if name not in config.pseudo_labelled:
            continue
        try:
            lineage = model_lineage(run, model)
        except ConfigError as missing:
            notes.append(f"Model {model} is not compared: {missing}.")
            continue
        if lineage.record is None:
            notes.append(f"Model {model} is not compared: it has not been trained.")
        else:
            found.append(TrainedModel(name=model, url=lineage.url, record=lineage.record))
    return found, notes


def _tasks(
    run: Session, student: TrainedModel, lineage: PseudoLabelLineage
) -> list[PredictionTask]:
    return [prediction_task(run, student, selection) for selection in lineage.selections]


def _drifts(
    run: Session, name: str, lineage: PseudoLabelLineage, slices: LabelledSlices
) -> tuple[dict[str, Drift], list[str]]:
    """Compare each student with its teacher, where it has predicted what its teacher labelled."""
    students, notes = _students(run, name)
    tasks = {student.name: _tasks(run, student, lineage) for student in students}
    if run.settings.diagnose.predict:
        predict_all(run, [task for of_student in tasks.values() for task in of_student])
    drifts = {}
    for student, of_student in tasks.items():
        tables = [open_table(run.store, task.url) for task in of_student]
        if None in tables:
            notes.append(
                f"Model {student} is not compared: it has not predicted all of "
                f"{', '.join(run.settings.pseudo_labels[name].unlabelled)}; "
                "diagnose.predict=true makes these predictions."
            )
            continue
        keys, p = _predicted(run, of_student, [table for table in tables if table is not None])
        rows, others = common(slices.key, keys)
        if len(rows) < len(slices.key):
            raise SurroundingsError(
                f"the predictions of {student} lack {len(slices.key) - len(rows)} slices of "
                f"pseudo_labels.{name}; remove {tables[0].url if tables[0] else student}, and they "
                "are made again"
            )
        drifts[student] = drift(slices.p[rows], p[others], slices.label[rows])
    return drifts, notes


def _predicted(
    run: Session, tasks: Sequence[PredictionTask], tables: Sequence[Table]
) -> tuple[np.ndarray, np.ndarray]:
    """Return keys and probabilities of all slices that a model has predicted; no maps."""
    places = [
        (url, task.selection.corpus.name)
        for task, table in zip(tasks, tables, strict=True)
        for url in table.files
    ]

    def read(place: tuple[str, str]) -> tuple[np.ndarray, np.ndarray]:
        rows = read_part(run.store, place[0], ("slice", "p"))
        return _keys(rows, place[1]), rows["p"].to_numpy().astype(np.float32)

    for table in tables:
        records.read_table("predictions", table)
    with ThreadPoolExecutor(READERS) as readers:
        keys, p = zip(*readers.map(read, places), strict=True)
    return np.concatenate(keys), np.concatenate(p)


def _provenance(lineage: PseudoLabelLineage) -> Mapping[str, str]:
    assert lineage.table is not None
    return dict(_said(lineage, lineage.table))


def _said(lineage: PseudoLabelLineage, table: Table) -> Iterator[tuple[str, str]]:
    yield "code revision", code_revision()
    yield "pseudo-labels", f"{table.url.rsplit('/', 1)[1]}, version {table.version}"
    yield "teacher", lineage.teacher
    for selection in lineage.selections:
        split = f":{selection.split}" if selection.split else ""
        yield f"corpus {selection.corpus.name}{split}", f"version {selection.corpus.version}"


def _folder(run: Session, name: str) -> str:
    return join(absolute(run.settings.diagnose.folder), name)
