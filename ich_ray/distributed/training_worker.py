"""One process of the group that trains a model: data, network and checkpoints around epoch."""

import json
import logging
import os
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
import ray
import ray.train.torch
import torch
import torch.distributed
from ray.train import Checkpoint
from torch import Tensor, nn

from ich_ray.distributed import metrics
from ich_ray.distributed.cache import open_pool
from ich_ray.distributed.training_group import TrainingJob
from ich_ray.distributed.work import piece_of
from ich_ray.learning.epoch import Training, make_optimizer, train_steps
from ich_ray.learning.patchfcn import PatchFCN, placed
from ich_ray.learning.sampling import Worker
from ich_ray.learning.state import optimizer_tensors, restore_optimizer, to_arrays, to_tensors
from ich_ray.settings import resolved
from ich_ray.storage.checkpoints import (
    decode_tensors,
    encode_tensors,
    load_record,
    load_weights,
    save_weights,
)

_log = logging.getLogger(__name__)
CURVE_POINTS = 60
"""Points of the loss curve that a model's record keeps."""


def train(job: TrainingJob) -> None:
    """Train from the last checkpoint to the last step, or to where the budget ends."""
    with piece_of(job.origin):
        _train(job)


def _train(job: TrainingJob) -> None:
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
    if rank == 0:
        job.board.begin.remote(first)
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
            if rank == 0 and over:
                job.board.put.remote(step, loss)
            reached = {"step": step, "over_budget": over}
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


def _finished(job: TrainingJob, network: nn.Module, curve: list[list[float]]) -> dict[str, Any]:
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
