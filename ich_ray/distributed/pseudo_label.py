"""The teacher predicts every unlabelled slice, the ranker cuts, and pseudo-labels are written."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
import ray.data

from ich_ray.capacity import Need, Process
from ich_ray.config import PseudoLabelConfig
from ich_ray.distributed import records, work
from ich_ray.distributed.estimates import Planned, priced
from ich_ray.distributed.lineage import (
    PseudoLabelLineage,
    pseudo_label_lineage,
    refuse_shared_patients,
)
from ich_ray.distributed.metering import metered, reserved_by, tasks_at_once
from ich_ray.distributed.origin import Origin, here
from ich_ray.distributed.predict import (
    PredictionTask,
    planned_work,
    pool_need,
    predict_all,
    prediction_task,
)
from ich_ray.distributed.progress import bar
from ich_ray.distributed.resources import check_fits, options
from ich_ray.distributed.session import Session, code_revision, select
from ich_ray.ranker import rank_slices, ternary_mask
from ich_ray.settings import resolved
from ich_ray.stopwatch import Stopwatch
from ich_ray.storage.corpus import index_table
from ich_ray.storage.leases import Lease
from ich_ray.storage.objects import Store
from ich_ray.storage.predictions import (
    MASK_CODEC,
    PSEUDO_LABELS,
    decode_map,
    encode_mask,
)
from ich_ray.storage.tables import Part, Table, commit_once, iterate_groups, read_rows, write_part
from ich_ray.windows import upsample

WRITER = Process(memory=800_000_000)
"""Measured: 0.4 GB, of 8 exams of 20 slices of 256 x 256; the rest is for longer exams."""

WRITING = Need(what="writing pseudo-labels", each=WRITER, pool=False)


@dataclass(frozen=True, slots=True)
class PseudoLabelSummary:
    """What a labelling run did."""

    name: str
    slices: int
    positive: int
    cut: float
    teacher: str
    up_to_date: bool

    def line(self) -> str:
        """Return one line for a person."""
        done = "up to date, " if self.up_to_date else ""
        return (
            f"pseudo-label {self.name}: {done}{self.positive} of {self.slices} slices positive, "
            f"cut at p = {self.cut:.4f}, teacher {self.teacher}"
        )


def plan_pseudo_label(run: Session, name: str) -> dict[str, Any]:
    """Return what --dry-run shows; touches nothing."""
    lineage = pseudo_label_lineage(run, name)
    slices = sum(s.corpus.num_rows for s in lineage.selections)
    work: list[Planned] = []
    if lineage.table is None:
        work = planned_work(
            run, [prediction_task(run, lineage.teacher, s) for s in lineage.selections]
        )
        work.append(_planned_labels(run, slices))
    return {
        "stage": "pseudo-label",
        "pseudo_labels": name,
        "up_to_date": lineage.table is not None,
        "teacher": lineage.teacher.identity,
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
    tasks = [prediction_task(run, lineage.teacher, s) for s in lineage.selections]
    tables = predict_all(run, tasks)
    slices = pa.concat_tables(
        [read_rows(run.store, table, ["slice", "p"]) for table in tables]
    ).to_pydict()
    percent = _top_percent(run, config)
    ranking = rank_slices(
        np.array(slices["p"], np.float32), np.array(slices["slice"]), top_percent=percent
    )
    rank = dict(zip(slices["slice"], ranking.rank.tolist(), strict=True))
    num_positive = int(ranking.positive.sum())
    writer = LabelWriter(
        store=run.store,
        url=lineage.url,
        config=config,
        side=run.settings.input.size,
        num_positive=num_positive,
        cut=ranking.cut,
        teacher=lineage.teacher.identity,
        origin=here().of("pseudo-label", name),
    )
    rows = _rank_rows(run.store, tasks, tables, rank)
    parts = _write(run, writer, rows)
    figures = {
        "slices": len(rank),
        "positive": num_positive,
        "cut": ranking.cut,
        "top_percent": percent,
    }
    lease.check()
    return _commit(run, name, lineage, parts, figures)


def _write(run: Session, writer: "LabelWriter", rows: list[dict[str, Any]]) -> list[Part]:
    """Write the parts; a part that was written before is the same again."""
    labelled = ray.data.from_items(rows, override_num_blocks=len(rows)).map_batches(
        writer, batch_size=1, batch_format="numpy", **options(WRITER)
    )
    parts = []
    with (
        bar(f"label {writer.origin.section}", total=len(rows), unit="part") as shown,
        metered(run, kind_of_work(run), WRITER, processes=tasks_at_once(len(rows))) as meter,
    ):
        for row in records.rows("pseudo-label", labelled):
            parts.append(Part(row["path"], row["size"], row["rows"]))
            shown.update(1)
            meter.finished(row["rows"], more=len(parts) < len(rows))
    return parts


def _rank_rows(
    store: Store, tasks: list[PredictionTask], tables: list[Table], rank: Mapping[str, int]
) -> list[dict[str, Any]]:
    """Return one row a predictions part, with the ranks of its slices."""
    rows = []
    for table in tables:
        for url in table.files:
            keys = [
                key
                for group in iterate_groups(store, url, ["slice"])
                for key in group["slice"].to_pylist()
            ]
            rows.append({"url": url, "rank": [rank[key] for key in keys]})
    return rows


@dataclass(frozen=True, kw_only=True, slots=True)
class LabelWriter:
    """Turns a predictions part and the ranks of its slices into a pseudo-label part."""

    store: Store
    url: str
    config: PseudoLabelConfig
    side: int
    num_positive: int
    cut: float
    teacher: str
    origin: Origin

    def __call__(self, batch: Mapping[str, np.ndarray]) -> dict[str, list[Any]]:
        """Write the parts that a batch names."""
        with work.piece_of(self.origin) as watch:
            parts = [
                self._part(str(url), list(rank), watch)
                for url, rank in zip(batch["url"], batch["rank"], strict=True)
            ]
        return {
            "path": [part.path for part in parts],
            "size": [part.size for part in parts],
            "rows": [part.rows for part in parts],
        }

    def _part(self, url: str, rank: list[int], watch: Stopwatch) -> Part:
        rows: list[dict[str, Any]] = []
        sizes = []
        for group in iterate_groups(self.store, url):
            for row in group.to_pylist():
                rows.append(self._row(row, int(rank[len(rows)])))
            sizes.append(group.num_rows)
        name = url.rsplit("/", 1)[1].removeprefix("part-").removesuffix(".parquet")
        table = pa.Table.from_pylist(rows, schema=PSEUDO_LABELS)
        part = write_part(self.store, self.url, name, table, sizes)
        work.tell("part labelled", watch, part=name, slices=part.rows)
        return part

    def _row(self, row: Mapping[str, Any], rank: int) -> dict[str, Any]:
        positive = rank < self.num_positive
        mask = self._mask(row) if positive else None
        return {
            "exam": row["exam"],
            "slice": row["slice"],
            "label": positive,
            "mask": None if mask is None else encode_mask(mask),
            "mask_codec": None if mask is None else MASK_CODEC,
            "mask_side": None if mask is None else mask.shape[0],
            "teacher": self.teacher,
            "rank": rank,
            "p": row["p"],
            "cut": self.cut,
        }

    def _mask(self, row: Mapping[str, Any]) -> np.ndarray:
        logits = decode_map(row)
        side = self.side or 8 * logits.shape[0]
        full = upsample(logits, rows=side, columns=side, size=side)
        return ternary_mask(
            1 / (1 + np.exp(-full)),
            positive_above=self.config.positive_above,
            negative_below=self.config.negative_below,
        )


def _top_percent(run: Session, config: PseudoLabelConfig) -> float:
    """Return C: as set, or the prevalence of labelled slices."""
    if not config.prevalence_of:
        return config.top_percent
    labels: list[bool] = []
    for selection in select(run, config.prevalence_of):
        index = index_table(run.store, selection.corpus)
        rows = zip(index["patient"].to_pylist(), index["label"].to_pylist(), strict=True)
        labels += [bool(label) for patient, label in rows if selection.holds(patient)]
    return 100 * float(np.mean(labels))


def _refuse_known_patients(run: Session, name: str) -> None:
    """No patient on two sides: every labelled, tuning or test patient leaves the pool."""
    known: dict[str, Sequence[str]] = {}
    for model, config in run.settings.models.items():
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
        "teacher": lineage.teacher.identity,
        "settings": json.dumps(resolved(run.settings.pseudo_labels[name]), sort_keys=True),
        "inputs": json.dumps(lineage.inputs, sort_keys=True),
        "figures": json.dumps(figures, sort_keys=True),
        "key_fingerprint": run.pseudonyms.fingerprint,
        "code_revision": code_revision(),
    }
    table = commit_once(
        run.store, lineage.url, schema=PSEUDO_LABELS, parts=parts, properties=properties
    )
    records.read("model", lineage.teacher.url, lineage.teacher.identity)
    records.wrote("pseudo-labels", table.url, table.version)
    return table


def _summary(
    name: str, lineage: PseudoLabelLineage, table: Table, *, up_to_date: bool
) -> PseudoLabelSummary:
    figures = json.loads(table.properties["figures"])
    return PseudoLabelSummary(
        name,
        figures["slices"],
        figures["positive"],
        figures["cut"],
        lineage.teacher.identity,
        up_to_date,
    )
