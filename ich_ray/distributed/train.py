"""Teacher and student: planned here, trained by training_group; they differ in their labels."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import ray

from ich_ray.budget import Allowance
from ich_ray.distributed import records
from ich_ray.distributed.estimates import Planned
from ich_ray.distributed.lineage import (
    ModelLineage,
    chosen_by_tuning,
    keep_trunk,
    known_to,
    model_lineage,
    refuse_shared_patients,
)
from ich_ray.distributed.metering import metered, reserved_by
from ich_ray.distributed.origin import here
from ich_ray.distributed.resources import check_fits
from ich_ray.distributed.session import Selection, Session, code_revision
from ich_ray.distributed.training_board import watched
from ich_ray.distributed.training_curves import PICTURE, Curves
from ich_ray.distributed.training_group import TrainingJob, fit
from ich_ray.distributed.training_needs import kind_of_work, planned_work, worker_of, workers_need
from ich_ray.errors import (
    BudgetError,
    ConfigError,
    IchRayError,
    QualityError,
    SurroundingsError,
)
from ich_ray.learning_curves import tuning_of
from ich_ray.storage.checkpoints import load_record, save_record
from ich_ray.storage.corpus import index_table
from ich_ray.storage.urls import join
from ich_ray.windows import side_of


@dataclass(frozen=True, slots=True)
class TrainSummary:
    """What a training run did."""

    name: str
    model: str
    steps: int
    loss: float
    up_to_date: bool
    curves: str
    """URL of their picture."""

    tuning: Mapping[str, float]
    """What the tuning selections say of the model; empty: it was not measured."""

    def line(self) -> str:
        """Return one line for a person."""
        done = "up to date" if self.up_to_date else f"{self.steps} steps, loss {self.loss:.4f}"
        told = "".join(f", {name} {value:.3f}" for name, value in self.tuning.items())
        return f"train {self.name}: {done}{told}, model {self.model}, curves {self.curves}"


@dataclass(frozen=True, slots=True)
class TrainPlan:
    """What a training run would read and do."""

    name: str
    model: ModelLineage
    slices: int
    positive_slices: int
    work: tuple[Planned, ...]

    def as_dict(self) -> dict[str, Any]:
        """Return what --dry-run shows."""
        return {
            "stage": "train",
            "model": self.name,
            "up_to_date": self.model.record is not None,
            "labelled_slices": self.slices,
            "labelled_positive_slices": self.positive_slices,
            "parts": sum(
                len(source.selection.corpus.files)
                for source in self.model.sources + self.model.pseudo_sources
            ),
            "starts_from": self.model.start_url or self.model.inputs["start"],
            "writes": self.model.url,
        }


def plan_train(run: Session, name: str) -> TrainPlan:
    """Find what a model is trained from, and whether it has been; touches nothing.

    Raises:
        ConfigError: A corpus, a pseudo-label table or a model that it needs does not exist yet, or
            `input.size` is 0 and the slices differ in size.
        QualityError: No labelled slice holds a positive pixel.
    """
    model = model_lineage(run, name)
    _check_grid(run, model)
    slices, positive = _count(
        run, f"models.{name}.labelled", tuple(source.selection for source in model.sources)
    )
    _check_tuning(run, name, model)
    work = () if model.record is not None else (planned_work(run, run.settings.models[name]),)
    return TrainPlan(name, model, slices, positive, work)


def train(run: Session, name: str) -> TrainSummary:
    """Train a model to its last step, from its last checkpoint where there is one.

    Raises:
        QualityError: The loss, or a weight, is no number; the last good checkpoint is kept.
        BudgetError: The budget is passed; the last checkpoint is kept, and a rerun continues there.
        ConfigError: The workers do not fit the cluster.
        SurroundingsError: Workers died more often than `max_failures`; run it again.
    """
    model = model_lineage(run, name)
    if model.record is not None:
        return _summary(model.record, model.url, up_to_date=True)
    plan_train(run, name)
    run.ensure_ray()
    check_fits(run.settings.cluster, workers_need(name, run.settings.models[name]))
    with run.writing(model.url) as lease:
        record = load_record(run.store, model.url)
        if record is not None:
            # Another run has finished it while this one waited.
            return _summary(record, model.url, up_to_date=True)
        keep_trunk(run, name, model)
        record = _run_group(run, name, model)
        # From now on the stage is done, unless another run has taken it over.
        lease.check()
        save_record(run.store, model.url, record)
    _note(model, record)
    return _summary(record, model.url, up_to_date=False)


def _run_group(run: Session, name: str, model: ModelLineage) -> dict[str, Any]:
    """Train by a group of workers; return the record of the model, whose weights are written."""
    config = run.settings.models[name]
    each = worker_of(config)
    curves = Curves(run.store, model.url, title=name, steps=config.steps)
    with (
        watched(
            f"train {name}",
            total=config.steps,
            processes=config.num_workers,
            show=curves.write,
        ) as board,
        metered(
            run,
            kind_of_work(config),
            each,
            processes=lambda: float(ray.get(board.processes.remote())),
        ) as meter,
    ):
        job = TrainingJob(
            config=config,
            name=name,
            model=model,
            store=run.store,
            input=run.settings.input,
            cache=run.settings.cluster.cache,
            board=board,
            revision=code_revision(),
            origin=here().of("train", name),
            allowance=Allowance(
                budget=run.settings.budget,
                spent=run.spent,
                already_spent=run.spent_before,
                reserved=reserved_by(each, processes=1),
            ),
        )
        try:
            reported = fit(job)
        except SurroundingsError:
            # Of the attempts, the one that knew why is the one to be told.
            _refuse_stopped(board, name)
            raise
        record: dict[str, Any] | None = ray.get(board.result.remote())
        curves.best_step = None if record is None else record["best_step"]
        meter.finished(ray.get(board.steps.remote()), more=False)
        _refuse_stopped(board, name)
        if record is None:
            raise BudgetError(
                f"model {name}: {reported['over_budget']}; its checkpoint of step "
                f"{reported['step']} is kept: raise the limit, and the same command goes on there"
            )
        return record


def _refuse_stopped(board: Any, name: str) -> None:
    """Raise what a worker has found that no other attempt can mend."""
    stopped: tuple[type[IchRayError], str] | None = ray.get(board.stopped.remote())
    if stopped is not None:
        kind, why = stopped
        raise kind(f"model {name}: {why}")


def _note(model: ModelLineage, record: Mapping[str, Any]) -> None:
    """Note what a model was made of, for the record of the run; its corpora are noted already."""
    for labels in dict.fromkeys(source.pseudo_labels for source in model.pseudo_sources):
        records.read("pseudo-labels", labels, labels.rsplit("/", 1)[1])
    if model.start_url:
        records.read("model", model.start_url, model.inputs["start"])
    if model.trunk:
        records.read("published weights", model.trunk, model.trunk.rsplit("/", 1)[1])
    records.wrote("model", model.url, record["model"])


def _check_tuning(run: Session, name: str, model: ModelLineage) -> None:
    """Refuse tuning selections that tell nothing, or that hold whom the model learns from."""
    config = run.settings.models[name]
    if not model.tuning:
        return
    where = f"models.{name}.validation.tuning"
    _count(run, where, model.tuning)
    if chosen_by_tuning(config) and config.validation.metric == "exam_auc":
        _check_both_classes(run, where, model.tuning)
    known = known_to(run.settings, name)
    learned = {k: v for k, v in known.items() if not k.endswith("validation.tuning")}
    refuse_shared_patients(run, learned, where, config.validation.tuning)


def _check_both_classes(run: Session, where: str, selections: tuple[Selection, ...]) -> None:
    """Refuse selections whose exam AUC is undefined."""
    bleeds: dict[str, bool] = {}
    for selection in selections:
        index = index_table(run.store, selection.corpus)
        rows = zip(*(index[c].to_pylist() for c in ("exam", "patient", "label")), strict=True)
        for exam, patient, label in rows:
            if label is not None and selection.holds(patient):
                bleeds[exam] = bleeds.get(exam, False) or bool(label)
    if len(set(bleeds.values())) < 2:
        raise QualityError(
            f"{where} holds {sum(bleeds.values())} exams that bleed of {len(bleeds)}: both kinds "
            "are needed to choose by exam_auc; add exams, or set validation.metric='pixel_ap'"
        )


def _count(run: Session, where: str, selections: tuple[Selection, ...]) -> tuple[int, int]:
    """Count the slices with a mask of some selections, and the positive ones among them."""
    slices = positive = 0
    for selection in selections:
        index = index_table(run.store, selection.corpus)
        mine = [selection.holds(p) for p in index["patient"].to_pylist()]
        truth = zip(index["label"].to_pylist(), index["has_mask"].to_pylist(), mine, strict=True)
        known = [label for label, has_mask, here in truth if here and has_mask]
        slices += len(known)
        positive += sum(map(bool, known))
    if positive == 0:
        raise QualityError(
            f"{where} holds {slices} slices with a mask and not one that is positive: nothing to "
            f"learn from; look at the masks of {', '.join(s.corpus.name for s in selections)} with "
            "ich-ray audit"
        )
    return slices, positive


def _check_grid(run: Session, model: ModelLineage) -> None:
    """Refuse slices of several sizes before a worker meets them."""
    size = run.settings.input.size
    sides: set[int] = set()
    for source in () if size else model.sources + model.pseudo_sources:
        index = index_table(run.store, source.selection.corpus)
        shapes = zip(index["rows"].to_pylist(), index["columns"].to_pylist(), strict=True)
        mine = (source.selection.holds(patient) for patient in index["patient"].to_pylist())
        sides |= {side_of(shape, size=0) for shape, here in zip(shapes, mine, strict=True) if here}
    if len(sides) > 1:
        raise ConfigError(
            f"the slices that a model learns from have grids of {sorted(sides)} pixels; "
            "set input.size, one grid for the whole run"
        )


def _summary(record: Mapping[str, Any], url: str, *, up_to_date: bool) -> TrainSummary:
    return TrainSummary(
        record["name"],
        record["model"],
        record["steps"],
        record["curve"][-1][1],
        up_to_date,
        join(url, PICTURE),
        tuning_of(record),
    )
