"""The teacher predicts every unlabelled slice, the ranker cuts, and pseudo-labels are written."""

import json
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

import ray
import ray.data

from ich_ray.capacity import Need, Process
from ich_ray.config import PseudoLabelConfig
from ich_ray.distributed import records
from ich_ray.distributed.cache import label_part_name, part_name
from ich_ray.distributed.estimates import Planned, priced
from ich_ray.distributed.label_writer import LabelWriter
from ich_ray.distributed.lineage import (
    PseudoLabelLineage,
    TrainedModel,
    pseudo_label_lineage,
    refuse_shared_patients,
    unseen_by,
)
from ich_ray.distributed.metering import metered, reserved_by, tasks_at_once
from ich_ray.distributed.origin import here
from ich_ray.distributed.part_predictor import PredictionTask
from ich_ray.distributed.predict import (
    planned_work,
    pool_need,
    predict_all,
    prediction_task,
)
from ich_ray.distributed.progress import bar
from ich_ray.distributed.resources import check_fits, options
from ich_ray.distributed.session import Selection, Session, code_revision, select
from ich_ray.errors import QualityError, SurroundingsError
from ich_ray.ranker import Cut, Cuts, Ranking
from ich_ray.settings import resolved
from ich_ray.storage.corpus import index_table
from ich_ray.storage.leases import Lease
from ich_ray.storage.predictions import PSEUDO_LABELS
from ich_ray.storage.tables import Part, Table, commit_once, open_table, part_path, read_part
from ich_ray.storage.teacher_part import TeacherPart
from ich_ray.storage.urls import join

WRITER = Process(memory=800_000_000)
"""Measured: 0.4 GB, of 8 exams of 20 slices of 256 x 256; the rest is for longer exams."""

READERS = 8
"""Parts of which probabilities are read at once: each waits for the store."""

WRITING = Need(what="writing pseudo-labels", each=WRITER, pool=False)


@dataclass(frozen=True, slots=True)
class UnlabelledPart:
    """The patients of a selection in one part of its corpus, and what the teachers say of them."""

    selection: Selection
    url: str
    """Of the part of the corpus."""

    said: TeacherPart

    @property
    def name(self) -> str:
        """Of its pseudo-labels."""
        return label_part_name(self.selection, self.url)


@dataclass(frozen=True, slots=True)
class PseudoLabelSummary:
    """What a labelling run did."""

    name: str
    mode: str
    slices: int
    positive: int
    ignored: int
    cut: float
    teacher: str
    up_to_date: bool

    def line(self) -> str:
        """Return one line for a person."""
        done = "up to date, " if self.up_to_date else ""
        ignored = f", {self.ignored} ignored" if self.ignored else ""
        how = f"mode {self.mode}, " if self.mode != "paper" else ""
        return (
            f"pseudo-label {self.name}: {done}{self.positive} of {self.slices} slices positive"
            f"{ignored}, {how}cut at p = {self.cut:.4f}, teacher {self.teacher}"
        )


def plan_pseudo_label(run: Session, name: str) -> dict[str, Any]:
    """Return what --dry-run shows; touches nothing."""
    lineage = pseudo_label_lineage(run, name)
    slices = sum(s.corpus.num_rows for s in lineage.selections)
    work: list[Planned] = []
    if lineage.table is None:
        work = planned_work(run, prediction_tasks(run, lineage))
        work.append(_planned_labels(run, slices))
    return {
        "stage": "pseudo-label",
        "pseudo_labels": name,
        "up_to_date": lineage.table is not None,
        "teacher": lineage.teacher,
        "parts": sum(len(s.corpus.files) for s in lineage.selections),
        "slices_at_most": slices,
        **priced(run, work),
        "writes": lineage.url,
    }


def _planned_labels(run: Session, slices: int) -> Planned:
    return Planned(
        kind=kind_of_work(run),
        units=slices,
        setting="budget.label_seconds_per_1000_slices",
        seconds=run.settings.budget.label_seconds_per_1000_slices / 1000,
        each=reserved_by(WRITER, processes=1),
    )


def kind_of_work(run: Session) -> str:
    """Name what decides how long writing a pseudo-label takes."""
    return f"label {run.settings.input.size}"


def pseudo_label(run: Session, name: str) -> PseudoLabelSummary:
    """Label the unlabelled selections of one pseudo_labels section.

    Raises:
        QualityError: A labelled, tuning or test patient is among the unlabelled, or the teacher
            says the same for every slice.
        BudgetError: The budget is passed; the predictions that are written are kept.
        ConfigError: The pool, or a task, does not fit the cluster.
    """
    lineage = pseudo_label_lineage(run, name)
    if lineage.table is not None:
        return _summary(name, lineage, lineage.table, up_to_date=True)
    _refuse_known_patients(run, name)
    run.ensure_ray()
    check_fits(run.settings.cluster, pool_need(run.settings.predict), WRITING)
    with run.writing(lineage.url) as lease:
        done = pseudo_label_lineage(run, name).table
        if done is None:
            return _summary(name, lineage, _label(run, name, lineage, lease), up_to_date=False)
        # Another run has finished it while this one waited.
        return _summary(name, lineage, done, up_to_date=True)


def _label(run: Session, name: str, lineage: PseudoLabelLineage, lease: Lease) -> Table:
    config = run.settings.pseudo_labels[name]
    percent = _top_percent(run, name)
    predict_all(run, prediction_tasks(run, lineage))
    found = unlabelled_parts(run, name, lineage)
    parts = [part.said for part in found]
    ranking = ranking_of(parts)
    cuts = _cuts(config, ranking, parts, percent)
    writer = LabelWriter(
        store=run.store,
        url=lineage.url,
        config=config,
        side=run.settings.input.size,
        ranking=ray.put(ranking),
        cuts=cuts,
        teacher=lineage.teacher,
        origin=here().of("pseudo-label", name),
        parts=parts,
        names=[part.name for part in found],
        corpus_files=[part.url for part in found],
    )
    written, counts = _write(run, writer)
    figures = {
        "slices": len(ranking),
        **counts,
        "cut": cuts.positive.p,
        "top_percent": percent,
        "mode": config.mode,
    }
    lease.check()
    return _commit(run, name, lineage, written, figures)


def prediction_tasks(run: Session, lineage: PseudoLabelLineage) -> list[PredictionTask]:
    """Name the predictions of every teacher on every selection, teacher by teacher."""
    return [
        prediction_task(run, teacher, selection)
        for teacher in lineage.teachers
        for selection in lineage.selections
    ]


def unlabelled_parts(run: Session, name: str, lineage: PseudoLabelLineage) -> list[UnlabelledPart]:
    """Return what the teachers say of each part of the selections' corpora, in their order.

    Raises:
        SurroundingsError: A part of a prediction table is missing.
        QualityError: All teachers know a patient, or the selections hold nobody.
    """
    unseen = unseen_by(run, name)
    said_by = [_predicted(run, teacher, lineage.selections) for teacher in lineage.teachers]
    found = []
    for number, selection in enumerate(lineage.selections):
        for url in selection.corpus.files:
            urls = [predictions[number].get(url) for predictions in said_by]
            # A part without a patient of the selection has no rows, whoever the teacher is.
            if None not in urls:
                places = tuple(url for url in urls if url is not None)
                said = TeacherPart(store=run.store, urls=places, unseen_by=unseen)
                found.append(UnlabelledPart(selection, url, said))
    if not found:
        raise QualityError(
            f"pseudo_labels.{name}.unlabelled holds no slice of any patient; give its split a "
            "larger share, or ingest more exams"
        )
    return found


def _predicted(
    run: Session, teacher: TrainedModel, selections: Sequence[Selection]
) -> list[dict[str, str]]:
    """Return, for each selection, part of its corpus -> predictions, where it holds a patient."""
    found = []
    for selection in selections:
        task = prediction_task(run, teacher, selection)
        table = open_table(run.store, task.url)
        by_name = {url.rsplit("/", 1)[1]: url for url in (table.files if table else ())}
        mine = {}
        for url in selection.corpus.files:
            path = part_path(part_name(selection, url))
            if path in by_name:
                mine[url] = by_name[path]
            elif not _is_empty(run, join(task.url, path)):
                raise SurroundingsError(
                    f"{task.url} lacks {path}: the predictions of {teacher.name} on "
                    f"{selection.corpus.name} are not whole; remove that folder, and they are "
                    "made again"
                )
        found.append(mine)
    return found


def _is_empty(run: Session, url: str) -> bool:
    """Tell whether a part was written without a row: such are not committed."""
    return run.store.exists(url) and read_part(run.store, url, ("slice",)).num_rows == 0


def ranking_of(parts: Sequence[TeacherPart]) -> Ranking:
    """Put the probabilities of all slices in order: 4 bytes a slice come to this process."""
    with ThreadPoolExecutor(READERS) as readers:
        return Ranking.of(list(readers.map(TeacherPart.probabilities, parts)))


def _cuts(
    config: PseudoLabelConfig, ranking: Ranking, parts: Sequence[TeacherPart], percent: float
) -> Cuts:
    """Return where the ranking is cut; a mode that does not rank calls p >= 0.5 positive."""
    if not config.ranked:
        return Cuts(Cut(0.5, ""))
    positive = ranking.cut(ranking.num_positive(percent), parts)
    if config.mode != "ignore_band":
        return Cuts(positive)
    band = min(percent * config.band_times, 100.0)
    return Cuts(positive, ranking.cut(ranking.num_positive(band), parts))


def _write(run: Session, writer: LabelWriter) -> tuple[list[Part], dict[str, int]]:
    """Write the parts, a part that was written before the same again; count the labels."""
    num_parts = len(writer.parts)
    labelled = ray.data.from_items(
        [{"part": number} for number in range(num_parts)], override_num_blocks=num_parts
    ).map_batches(writer, batch_size=1, batch_format="numpy", **options(WRITER))
    parts = []
    counts = {"positive": 0, "ignored": 0}
    with (
        bar(f"label {writer.origin.section}", total=num_parts, unit="part") as shown,
        metered(run, kind_of_work(run), WRITER, processes=tasks_at_once(num_parts)) as meter,
    ):
        for row in records.rows("pseudo-label", labelled):
            parts.append(Part(row["path"], row["size"], row["rows"]))
            for label in counts:
                counts[label] += row[label]
            shown.update(1)
            meter.finished(row["rows"], more=len(parts) < num_parts)
    return parts, counts


def _top_percent(run: Session, name: str) -> float:
    """Return C: as set, or the prevalence of labelled slices.

    Raises:
        QualityError: The prevalence is unknown, or no place to cut.
    """
    config = run.settings.pseudo_labels[name]
    if not config.prevalence_of or not config.ranked:
        return config.top_percent
    labels: list[bool | None] = []
    for selection in select(run, config.prevalence_of):
        index = index_table(run.store, selection.corpus)
        rows = zip(index["patient"].to_pylist(), index["label"].to_pylist(), strict=True)
        labels += [label for patient, label in rows if selection.holds(patient)]
    known = [label for label in labels if label is not None]
    percent = 100 * sum(known) / max(1, len(known))
    times = config.band_times if config.mode == "ignore_band" else 1.0
    if not 0 < percent * times < 100:
        band = f", and {times:g} times as much as a band," if times > 1 else ""
        raise QualityError(
            f"pseudo_labels.{name}.prevalence_of holds {len(labels)} slices, {len(known)} with a "
            f"label, {sum(known)} of them positive: C = {percent:.4g} %{band} is no place to cut; "
            "name other selections, or set top_percent instead"
        )
    return percent


def _refuse_known_patients(run: Session, name: str) -> None:
    """No patient on two sides: every labelled, tuning or test patient leaves the pool.

    With several teachers a labelled patient may be in it: see `unseen_by`.
    """
    known: dict[str, Sequence[str]] = {}
    several = bool(run.settings.pseudo_labels[name].other_teachers)
    for model, config in run.settings.models.items():
        if not several:
            known[f"models.{model}.labelled"] = config.labelled
        known[f"models.{model}.validation.tuning"] = config.validation.tuning
    if run.settings.evaluate is not None:
        known["evaluate.test"] = run.settings.evaluate.test
        known["evaluate.tuning"] = run.settings.evaluate.tuning
    unlabelled = run.settings.pseudo_labels[name].unlabelled
    refuse_shared_patients(run, known, f"pseudo_labels.{name}.unlabelled", unlabelled)


def _commit(
    run: Session,
    name: str,
    lineage: PseudoLabelLineage,
    parts: list[Part],
    figures: Mapping[str, Any],
) -> Table:
    properties = {
        "stage": "pseudo-label",
        "schema_version": "1",
        "teacher": lineage.teacher,
        "settings": json.dumps(resolved(run.settings.pseudo_labels[name]), sort_keys=True),
        "inputs": json.dumps(lineage.inputs, sort_keys=True),
        "figures": json.dumps(figures, sort_keys=True),
        "key_fingerprint": run.pseudonyms.fingerprint,
        "code_revision": code_revision(),
    }
    table = commit_once(
        run.store, lineage.url, schema=PSEUDO_LABELS, parts=parts, properties=properties
    )
    for teacher in lineage.teachers:
        records.read("model", teacher.url, teacher.identity)
    records.wrote("pseudo-labels", table.url, table.version)
    return table


def _summary(
    name: str, lineage: PseudoLabelLineage, table: Table, *, up_to_date: bool
) -> PseudoLabelSummary:
    figures = json.loads(table.properties["figures"])
    return PseudoLabelSummary(
        name,
        figures.get("mode", "paper"),
        figures["slices"],
        figures["positive"],
        figures.get("ignored", 0),
        figures["cut"],
        lineage.teacher,
        up_to_date,
    )
