"""Teacher and student: Ray Train (DDP) around learning.epoch; they differ in their labels."""

import json
import logging
import os
import tempfile
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.fs
import ray.train
import torch
import torch.distributed
from ray.train import (
    Checkpoint,
    CheckpointConfig,
    FailureConfig,
    RunConfig,
    ScalingConfig,
    UserCallback,
)
from ray.train.torch import TorchConfig, TorchTrainer
from torch import Tensor, nn

from ich_ray.budget import Allowance
from ich_ray.config import ModelConfig
from ich_ray.distributed import logs, metrics, records
from ich_ray.distributed.cache import open_pool
from ich_ray.distributed.estimates import Planned
from ich_ray.distributed.lineage import ModelLineage, model_lineage
from ich_ray.distributed.metering import metered, reserved_by
from ich_ray.distributed.origin import Origin, here
from ich_ray.distributed.progress import watched
from ich_ray.distributed.resources import check_fits
from ich_ray.distributed.session import Selection, Session, code_revision
from ich_ray.distributed.training_needs import kind_of_work, planned_work, worker_of, workers_need
from ich_ray.distributed.work import piece_of
from ich_ray.errors import BudgetError, ConfigError, IchRayError, QualityError, SurroundingsError
from ich_ray.learning.epoch import Training, make_optimizer, train_steps
from ich_ray.learning.patchfcn import PatchFCN, placed
from ich_ray.learning.sampling import Worker
from ich_ray.learning.state import (
    optimizer_tensors,
    restore_optimizer,
    to_arrays,
    to_tensors,
)
from ich_ray.settings import resolved
from ich_ray.storage.checkpoints import (
    decode_tensors,
    encode_tensors,
    load_record,
    load_weights,
    save_record,
    save_weights,
)
from ich_ray.storage.corpus import index_table
from ich_ray.storage.objects import Store
from ich_ray.windows import side_of

_log = logging.getLogger(__name__)
CURVE_POINTS = 60
"""Points of the loss curve that a model's record keeps."""


@dataclass(frozen=True, slots=True)
class TrainSummary:
    """What a training run did."""

    name: str
    model: str
    steps: int
    loss: float
    up_to_date: bool

    def line(self) -> str:
        """Return one line for a person."""
        done = "up to date" if self.up_to_date else f"{self.steps} steps, loss {self.loss:.4f}"
        return f"train {self.name}: {done}, model {self.model}"


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
            "starts_from": self.model.start_url or "random weights",
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
    slices, positive = _count(run, name, tuple(source.selection for source in model.sources))
    work = () if model.record is not None else (planned_work(run, run.settings.models[name]),)
    return TrainPlan(name, model, slices, positive, work)


def train(run: Session, name: str) -> TrainSummary:
    """Train a model to its last step, from its last checkpoint where there is one.

    Raises:
        QualityError: The loss is no number.
        BudgetError: The budget is passed; the last checkpoint is kept, and a rerun continues there.
        ConfigError: The workers do not fit the cluster.
        SurroundingsError: Workers died more often than `max_failures`; run it again.
    """
    model = model_lineage(run, name)
    if model.record is not None:
        return _summary(model.record, up_to_date=True)
    plan_train(run, name)
    run.ensure_ray()
    check_fits(run.settings.cluster, workers_need(name, run.settings.models[name]))
    with run.writing(model.url) as lease:
        record = load_record(run.store, model.url)
        if record is not None:
            # Another run has finished it while this one waited.
            return _summary(record, up_to_date=True)
        record = _run_group(run, name, model)
        # From now on the stage is done, unless another run has taken it over.
        lease.check()
        save_record(run.store, model.url, record)
    _note(model, record)
    return _summary(record, up_to_date=False)


def _run_group(run: Session, name: str, model: ModelLineage) -> dict[str, Any]:
    """Train by a group of workers; return the record of the model, whose weights are written."""
    config = run.settings.models[name]
    each = worker_of(config)
    with (
        metered(run, kind_of_work(config), each, processes=config.num_workers) as meter,
        watched(f"train {name}", total=config.steps) as board,
    ):
        job = _Job(
            config=config,
            name=name,
            model=model,
            store=run.store,
            channels=run.settings.input.num_channels,
            cache=run.settings.cluster.cache,
            board=board,
            revision=code_revision(),
            origin=here().of("train", name),
            allowance=Allowance(
                budget=run.settings.budget,
                spent=run.spent,
                already_spent=run.spent_before,
                reserved=reserved_by(each, processes=config.num_workers),
                since=time.time(),
            ),
        )
        reported = _fit(job)
        record: dict[str, Any] | None = ray.get(board.result.remote())
        done = config.steps if record is not None else reported["step"]
        meter.finished(done - reported.get("first_step", 0), more=False)
        if record is None:
            raise BudgetError(
                f"model {name}: {reported['over_budget']}; its checkpoint of step "
                f"{reported['step']} is kept: raise the limit, and the same command goes on there"
            )
        return record


@dataclass(frozen=True, kw_only=True, slots=True)
class _Job:
    """All that a worker needs."""

    config: ModelConfig
    name: str
    model: ModelLineage
    store: Store
    channels: int
    cache: str
    board: Any
    revision: str
    allowance: Allowance
    origin: Origin


class _Failures(UserCallback):
    """Counts the worker groups that failed; Ray Train calls it in its controller."""

    def __init__(self, origin: Origin) -> None:
        self.origin = origin

    def after_exception(self, run_context: Any, worker_exceptions: Mapping[int, Any]) -> None:
        """Count a failure and name the ranks."""
        logs.in_worker(self.origin)
        metrics.retries("train_workers")
        ranks = {str(rank): type(error).__name__ for rank, error in worker_exceptions.items()}
        _log.warning("workers failed", extra={"ranks": ranks})


def _note(model: ModelLineage, record: Mapping[str, Any]) -> None:
    """Note what a model was made of, for the record of the run; its corpora are noted already."""
    for labels in dict.fromkeys(source.pseudo_labels for source in model.pseudo_sources):
        records.read("pseudo-labels", labels, labels.rsplit("/", 1)[1])
    if model.start_url:
        records.read("model", model.start_url, model.inputs["start"])
    records.wrote("model", model.url, record["model"])


class _Trainer(TorchTrainer):
    """Leaves Ctrl-C to Python, and so to whoever holds leases and the cluster.

    Ray Train 2.60 answers it by an abort that is lost while workers start, and by exit code 0.
    """

    def _register_sigint_handler(self, controller: Any) -> None:
        pass


def _fit(job: _Job) -> dict[str, Any]:
    """Run the group to its end; return what it reported last, nothing before a checkpoint."""
    config, filesystem, path = job.config, *_checkpoint_folder(job)
    each = worker_of(config)
    trainer = _Trainer(
        _work,
        train_loop_config={"job": job},
        torch_config=TorchConfig(backend="nccl" if config.use_gpu else "gloo", timeout_s=600),
        scaling_config=ScalingConfig(
            num_workers=config.num_workers,
            use_gpu=config.use_gpu,
            resources_per_worker={
                "CPU": each.cpus,
                "memory": each.memory,
                **({"GPU": each.gpus} if each.gpus else {}),
            },
            accelerator_type=each.gpu_kind or None,
        ),
        run_config=RunConfig(
            name=job.model.url.rsplit("/", 1)[1],
            storage_path=path,
            storage_filesystem=filesystem,
            failure_config=FailureConfig(max_failures=config.max_failures),
            checkpoint_config=CheckpointConfig(num_to_keep=2),
            # The declared type is that of Train V1, whose callbacks V2 refuses.
            callbacks=[_Failures(job.origin)],  # type: ignore[list-item]
        ),
    )
    try:
        return dict(trainer.fit().metrics or {})
    except ray.train.TrainingFailedError as error:
        raise _reason(job, error) from error


def _reason(job: _Job, error: ray.train.TrainingFailedError) -> IchRayError:
    """Say what ended the run: what a worker named, or that workers died."""
    for failure in getattr(error, "worker_failures", {}).values():
        if isinstance(failure, IchRayError):
            return type(failure)(f"model {job.name}: {failure}")
        if isinstance(failure, FloatingPointError):
            return QualityError(f"model {job.name}: {failure}; lower its learning_rate")
    return SurroundingsError(
        f"model {job.name}: its workers failed more than max_failures="
        f"{job.config.max_failures} times ({_last_line(error)}); the same command continues "
        "from the last checkpoint"
    )


def _checkpoint_folder(job: _Job) -> tuple[pyarrow.fs.FileSystem | None, str]:
    """Return where Ray Train keeps the checkpoints of the run: beside the model."""
    return job.store.arrow_file_system(job.store.url("checkpoints", job.name))


def _work(arguments: dict[str, Any]) -> None:
    """Train in one process of the group (Ray Train calls it in each)."""
    job: _Job = arguments["job"]
    with piece_of(job.origin):
        _train(job)


def _train(job: _Job) -> None:
    context = ray.train.get_context()
    rank, world = context.get_world_rank(), context.get_world_size()
    torch.set_num_threads(max(1, int(os.environ.get("OMP_NUM_THREADS", "1"))))
    local = Worker(rank=context.get_local_rank(), world=context.get_local_world_size())
    pools = tuple(
        open_pool(sources, job.cache, worker=local, barrier=torch.distributed.barrier)
        for sources in (job.model.sources, job.model.pseudo_sources)
        if sources
    )
    device = ray.train.torch.get_device()
    torch.manual_seed(job.config.seed)
    network = PatchFCN(job.config.network, in_channels=job.channels)
    if job.model.start_url:
        record = load_record(job.store, job.model.start_url)
        assert record is not None
        network.load_state_dict(to_tensors(load_weights(job.store, job.model.start_url, record)))
    network = placed(network, device)
    optimizer = make_optimizer(job.config, network)
    first, curve = _restore(network, optimizer)
    _log.info("training begins", extra={"rank": rank, "world": world, "step": first})
    training = Training(
        network=ray.train.torch.prepare_model(network),
        optimizer=optimizer,
        pools=pools,
        config=job.config,
        channels=job.channels,
        device=device,
    )
    worker = Worker(rank=rank, world=world)
    losses: list[float] = []
    training.watch.lap()
    for step, loss in train_steps(training, worker=worker, first_step=first, total=_total):
        losses.append(loss)
        metrics.slices(len(worker.items(job.config.batch)))
        metrics.spent(*training.watch.lap())
        if step % -(-job.config.steps // CURVE_POINTS) == 0 or step == job.config.steps:
            curve.append([step, float(np.mean(losses))])
            losses.clear()
            metrics.gpu_memory()
            if rank == 0:
                job.board.put.remote(step, curve[-1][1])
        if step % job.config.checkpoint_every == 0 and step < job.config.steps:
            # One clock decides for all: they must stop at the same step.
            over = job.allowance.over(time.time()) if rank == 0 else ""
            stop = _total(torch.tensor(float(bool(over)), device=device)) > 0
            reached = {"step": step, "first_step": first, "over_budget": over}
            _checkpoint(network, optimizer, metrics=reached, curve=curve, rank=rank)
            _log.info("checkpoint", extra={"rank": rank, "step": step})
            if stop:
                return
    if rank == 0:
        ray.get(job.board.finish.remote(_finished(job, network, curve)))
    torch.distributed.barrier()


def _total(value: Tensor) -> Tensor:
    """Sum over all workers."""
    summed = value.clone()
    if torch.distributed.is_initialized():
        torch.distributed.all_reduce(summed)
    return summed


def _checkpoint(
    network: nn.Module,
    optimizer: torch.optim.Optimizer,
    *,
    metrics: dict[str, Any],
    curve: list[list[float]],
    rank: int,
) -> None:
    """Report a checkpoint; a barrier: every rank calls it, rank 0 writes."""
    if rank != 0:
        ray.train.report(metrics)
        return
    with tempfile.TemporaryDirectory() as folder:
        weights, state = to_arrays(network.state_dict()), to_arrays(optimizer_tensors(optimizer))
        Path(folder, "weights.safetensors").write_bytes(encode_tensors(weights))
        Path(folder, "optimizer.safetensors").write_bytes(encode_tensors(state))
        Path(folder, "state.json").write_text(json.dumps({"step": metrics["step"], "curve": curve}))
        ray.train.report(metrics, checkpoint=Checkpoint.from_directory(folder))


def _restore(network: nn.Module, optimizer: torch.optim.Optimizer) -> tuple[int, list[list[float]]]:
    """Load the run's last checkpoint, if it has one; return its step and loss curve."""
    checkpoint = ray.train.get_checkpoint()
    if checkpoint is None:
        return 0, []
    with checkpoint.as_directory() as folder:
        state = json.loads(Path(folder, "state.json").read_text())
        network.load_state_dict(_read(Path(folder, "weights.safetensors")))
        restore_optimizer(optimizer, _read(Path(folder, "optimizer.safetensors")))
    return state["step"], state["curve"]


def _read(path: Path) -> dict[str, Tensor]:
    return to_tensors(decode_tensors(path.read_bytes(), name=path.name))


def _finished(job: _Job, network: nn.Module, curve: list[list[float]]) -> dict[str, Any]:
    """Write the weights; return the record, which the driver writes if the output is still its."""
    return {
        "model": save_weights(job.store, job.model.url, to_arrays(network.state_dict())),
        "name": job.name,
        "network": job.config.network,
        "in_channels": job.channels,
        "crop": job.config.crop,
        "steps": job.config.steps,
        "curve": curve,
        "preprocessing": job.model.inputs["preprocessing"],
        "inputs": job.model.inputs,
        "settings": resolved(job.config),
        "code_revision": job.revision,
        "stage": "train",
    }


def _count(run: Session, name: str, labelled: tuple[Selection, ...]) -> tuple[int, int]:
    """Count labelled slices and the positive ones among those with a mask."""
    slices = positive = 0
    for selection in labelled:
        index = index_table(run.store, selection.corpus)
        mine = [selection.holds(p) for p in index["patient"].to_pylist()]
        truth = zip(index["label"].to_pylist(), index["has_mask"].to_pylist(), mine, strict=True)
        known = [label for label, has_mask, here in truth if here and has_mask]
        slices += len(known)
        positive += sum(map(bool, known))
    if positive == 0:
        raise QualityError(
            f"models.{name}.labelled={list(run.settings.models[name].labelled)} holds {slices} "
            "slices with a mask and not one that is positive: nothing to learn from; "
            "check the corpus's labels and masks with ich-ray ingest --dry-run"
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


def _summary(record: Mapping[str, Any], *, up_to_date: bool) -> TrainSummary:
    return TrainSummary(
        record["name"],
        record["model"],
        record["steps"],
        record["curve"][-1][1],
        up_to_date,
    )


def _last_line(error: BaseException) -> str:
    return str(error).strip().splitlines()[-1]
