"""One process of the group that trains a model: data, network and checkpoints around epoch."""

import json
import logging
import os
import tempfile
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import ray
import ray.train.torch
import torch
import torch.distributed
from ray.train import Checkpoint
from torch import nn

from ich_ray.distributed import metrics
from ich_ray.distributed.cache import open_pool
from ich_ray.distributed.training_group import TrainingJob
from ich_ray.distributed.work import piece_of
from ich_ray.learning.epoch import NotANumberError, Training, sum_over_group
from ich_ray.learning.loading import slice_loader
from ich_ray.learning.optimization import averaged, make_optimizer
from ich_ray.learning.patchfcn import PatchFCN, placed
from ich_ray.learning.run import Curve, Snapshot, run
from ich_ray.learning.sampling import Worker
from ich_ray.learning.state import to_arrays, to_tensors
from ich_ray.settings import resolved
from ich_ray.stopwatch import Pace
from ich_ray.storage.checkpoints import (
    decode_tensors,
    encode_tensors,
    load_record,
    load_weights,
    save_weights,
)

_log = logging.getLogger(__name__)
NAMED = 16
"""Slices that an error names."""


def train(job: TrainingJob) -> None:
    """Train from the last checkpoint to the last step, or to where the budget ends."""
    with piece_of(job.origin):
        try:
            _train(job)
        except NotANumberError as error:
            # All processes see it at the same step. Raised, it would be tried again, in vain.
            _stop(job, error)


def _train(job: TrainingJob) -> None:
    context = ray.train.get_context()
    worker = Worker(rank=context.get_world_rank(), world=context.get_world_size())
    torch.set_num_threads(max(1, int(os.environ.get("OMP_NUM_THREADS", "1"))))
    training = _training(job, worker)
    since = _last_snapshot()
    first = 0 if since is None else since.step
    _log.info("training begins", extra={"rank": worker.rank, "world": worker.world, "step": first})
    if worker.rank == 0:
        job.board.begin.remote(first)
    listener = _Listener(job, worker, training.device)
    curve = run(training, worker=worker, total=sum_over_group, listener=listener, since=since)
    if worker.rank == 0 and curve is not None:
        learned = training.unwrapped if training.average is None else training.average.module
        ray.get(job.board.finish.remote(_finished(job, learned, curve)))
    torch.distributed.barrier()


def _training(job: TrainingJob, worker: Worker) -> Training:
    """Read the slices, and make the network with the weights that it starts from."""
    context, config = ray.train.get_context(), job.config
    local = Worker(rank=context.get_local_rank(), world=context.get_local_world_size())
    pools = tuple(
        open_pool(sources, job.cache, worker=local, barrier=torch.distributed.barrier)
        for sources in (job.model.sources, job.model.pseudo_sources)
        if sources
    )
    device = ray.train.torch.get_device()
    torch.manual_seed(config.seed)
    network = PatchFCN(config.network, in_channels=job.channels)
    if job.model.start_url:
        record = load_record(job.store, job.model.start_url)
        assert record is not None
        network.load_state_dict(to_tensors(load_weights(job.store, job.model.start_url, record)))
    if config.normalisation == "synchronised":
        # torch declares no types of it.
        nn.SyncBatchNorm.convert_sync_batchnorm(network)  # type: ignore[no-untyped-call]
    network = placed(network, device)
    return Training(
        optimizer=make_optimizer(config, network),
        average=averaged(config, network),
        network=ray.train.torch.prepare_model(network),
        loader=slice_loader(config, pools, channels=job.channels, worker=worker),
        config=config,
        device=device,
    )


@dataclass(slots=True)
class _Listener:
    """Tells metrics, log, board and Ray Train of a run."""

    job: TrainingJob
    worker: Worker
    device: torch.device
    pace: Pace = field(default_factory=Pace)
    """Since the last point of the curve."""

    def stepped(self, *, items: int, seconds: float, waited: float) -> None:
        """Count the slices, and the time."""
        metrics.slices(items)
        metrics.spent(seconds, waited)
        self.pace.add(items * self.worker.world, seconds=seconds, waited=waited)

    def reached(self, step: int, loss: float) -> None:
        """Tell how far the run is."""
        metrics.gpu_memory()
        if self.worker.rank == 0:
            self.job.board.put.remote(step, {"loss": f"{loss:.4f}", **self.pace.shown()})
        self.pace = Pace()

    def keep(self, snapshot: Snapshot, *, loss: float) -> bool:
        """Report a checkpoint; a barrier: every rank calls it, rank 0 writes."""
        # One clock decides for all: they must stop at the same step.
        over = self.job.allowance.over(time.time()) if self.worker.rank == 0 else ""
        stop = bool(sum_over_group(torch.tensor(float(bool(over)), device=self.device)) > 0)
        if self.worker.rank == 0 and over:
            self.job.board.put.remote(snapshot.step, {"loss": f"{loss:.4f}"})
        reached = {"step": snapshot.step, "over_budget": over}
        if self.worker.rank == 0:
            with tempfile.TemporaryDirectory() as folder:
                _write(snapshot, Path(folder))
                ray.train.report(reached, checkpoint=Checkpoint.from_directory(folder))
        else:
            ray.train.report(reached)
        _log.info("checkpoint", extra={"rank": self.worker.rank, "step": snapshot.step})
        return stop


def _stop(job: TrainingJob, error: NotANumberError) -> None:
    """Tell the driver why it ended, with the items of all processes that may be the cause."""
    items: list[Any] = [()] * torch.distributed.get_world_size()
    torch.distributed.all_gather_object(items, error.items)
    names = [name for mine in items for name in mine]
    more = f" and {len(names) - NAMED} more" if len(names) > NAMED else ""
    of = f", of {', '.join(names[:NAMED])}{more}" if names else ""
    if ray.train.get_context().get_world_rank() == 0:
        ray.get(job.board.stop.remote(f"{error}{of}"))


def _write(snapshot: Snapshot, folder: Path) -> None:
    for name, tensors in snapshot.tensors.items():
        (folder / f"{name}.safetensors").write_bytes(encode_tensors(to_arrays(tensors)))
    state = {"step": snapshot.step, "curve": snapshot.curve, "losses": snapshot.losses}
    (folder / "state.json").write_text(json.dumps(state))


def _last_snapshot() -> Snapshot | None:
    """Read the run's last checkpoint, if it has one."""
    checkpoint = ray.train.get_checkpoint()
    if checkpoint is None:
        return None
    with checkpoint.as_directory() as folder:
        state = json.loads(Path(folder, "state.json").read_text())
        return Snapshot(
            step=state["step"],
            curve=tuple((step, loss) for step, loss in state["curve"]),
            losses=tuple(state["losses"]),
            tensors={
                path.stem: to_tensors(decode_tensors(path.read_bytes(), name=path.name))
                for path in sorted(Path(folder).glob("*.safetensors"))
            },
        )


def _finished(job: TrainingJob, network: nn.Module, curve: Curve) -> dict[str, Any]:
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
