"""One process of the group that trains a model: data, network and checkpoints around epoch."""

import logging
import math
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import ray
import ray.train.torch
import torch
import torch.distributed
from torch import nn

from ich_ray.distributed.cache import open_pool
from ich_ray.distributed.checkpointing import Outgoing, last_snapshot
from ich_ray.distributed.stall import stall_watch
from ich_ray.distributed.training_group import TrainingJob
from ich_ray.distributed.training_listener import TrainingListener, values_before
from ich_ray.distributed.validation import Validation
from ich_ray.distributed.work import piece_of
from ich_ray.errors import ConfigError, QualityError
from ich_ray.learning.drn_layout import trunk_from_published
from ich_ray.learning.epoch import NotANumberError, Training, sum_over_group
from ich_ray.learning.loading import Loader, slice_loader
from ich_ray.learning.optimization import averaged, make_optimizer
from ich_ray.learning.patchfcn import PatchFCN, placed
from ich_ray.learning.precision import fuse, set_precision
from ich_ray.learning.read_ahead import ReadAhead
from ich_ray.learning.run import Learned, run
from ich_ray.learning.sampling import Worker
from ich_ray.learning.state import to_arrays, to_tensors
from ich_ray.learning.weight_file import read_state
from ich_ray.storage.checkpoints import load_record, load_weights, save_weights

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
        except (ConfigError, QualityError) as error:
            # Of one process alone the others wait for it: raised, and not tried another time.
            ray.get(job.board.stop.remote(type(error), str(error)))
            raise


def _train(job: TrainingJob) -> None:
    if ray.get(job.board.stopped.remote()) is not None:
        return
    context = ray.train.get_context()
    worker = Worker(rank=context.get_world_rank(), world=context.get_world_size())
    torch.set_num_threads(max(1, int(os.environ.get("OMP_NUM_THREADS", "1"))))
    set_precision(job.config)
    device = ray.train.torch.get_device()
    with stall_watch(job.config.stall_s) as alive, _loader(job, worker, device) as loader:
        training = _training(job, loader, device)
        since = last_snapshot(job.origin_of_model)
        first = 0 if since is None else since.step
        facts = {"rank": worker.rank, "world": worker.world, "step": first}
        _log.info("training begins", extra=facts)
        if worker.rank == 0:
            job.board.begin.remote(first, values_before(since), world=worker.world)
        alive()
        outgoing = Outgoing(job.cache) if worker.rank == 0 else None
        learned = run(
            training,
            worker=worker,
            total=sum_over_group,
            listener=TrainingListener(job, worker, training, alive, outgoing=outgoing),
            since=since,
            measure=_measure(job, worker, device, alive),
        )
        if outgoing is not None:
            outgoing.close()
    if worker.rank == 0 and learned is not None:
        ray.get(job.board.finish.remote(_finished(job, learned)))
    torch.distributed.barrier()


@contextmanager
def _loader(job: TrainingJob, worker: Worker, device: torch.device) -> Iterator[Loader]:
    """Open the slices of this process."""
    context, config = ray.train.get_context(), job.config
    local = Worker(rank=context.get_local_rank(), world=context.get_local_world_size())
    pools = tuple(
        open_pool(sources, job.cache, worker=local, barrier=torch.distributed.barrier)
        for sources in (job.model.sources, job.model.pseudo_sources)
        if sources
    )
    loader = slice_loader(config, pools, channels=job.input.num_channels, worker=worker)
    if not config.read_ahead:
        yield loader
        return
    threads, cuda = config.read_ahead, device.type == "cuda"
    with ReadAhead(
        loader, last=config.steps, threads=threads, depth=2 * threads, pin=cuda
    ) as ahead:
        yield ahead


def _training(job: TrainingJob, loader: Loader, device: torch.device) -> Training:
    """Make the network with the weights that it starts from, and what trains it."""
    config = job.config
    torch.manual_seed(config.seed)
    network = PatchFCN(config.network, in_channels=job.input.num_channels)
    if job.model.start_url:
        record = load_record(job.store, job.model.start_url)
        assert record is not None
        network.load_state_dict(to_tensors(load_weights(job.store, job.model.start_url, record)))
    if job.model.trunk:
        state = read_state(job.store.read_bytes(job.model.trunk), name=job.model.trunk)
        network.trunk.load_state_dict(
            trunk_from_published(state, network=config.network, in_channels=job.input.num_channels)
        )
    if config.normalisation == "synchronised":
        # torch declares no types of it.
        nn.SyncBatchNorm.convert_sync_batchnorm(network)  # type: ignore[no-untyped-call]
    network = placed(network, device)
    average = averaged(config, network)
    fuse(config, network)
    return Training(
        optimizer=make_optimizer(config, network),
        average=average,
        network=ray.train.torch.prepare_model(network),
        loader=loader,
        config=config,
        device=device,
    )


def _measure(
    job: TrainingJob, worker: Worker, device: torch.device, alive: Callable[[], None]
) -> Validation | None:
    if not job.model.tuning:
        return None
    return Validation(
        store=job.store,
        selections=job.model.tuning,
        input=job.input,
        config=job.config.validation,
        crop=job.config.crop,
        worker=worker,
        device=device,
        alive=alive,
    )


def _stop(job: TrainingJob, error: NotANumberError) -> None:
    """Tell the driver why it ended, with the items of all processes that may be the cause."""
    items: list[Any] = [()] * torch.distributed.get_world_size()
    torch.distributed.all_gather_object(items, error.items)
    names = [name for mine in items for name in mine]
    more = f" and {len(names) - NAMED} more" if len(names) > NAMED else ""
    of = f", of {', '.join(names[:NAMED])}{more}" if names else ""
    if ray.train.get_context().get_world_rank() == 0:
        why = (
            f"{error}{of}; its checkpoint before that is kept: lower models.{job.name}."
            f"learning_rate={job.config.learning_rate:g}, or look at those exams with ich-ray show"
        )
        ray.get(job.board.stop.remote(QualityError, why))


def _finished(job: TrainingJob, learned: Learned) -> dict[str, Any]:
    """Write the weights; return the record, which the driver writes if the output is still its."""
    return {
        "model": save_weights(job.store, job.model.url, to_arrays(learned.weights)),
        "name": job.name,
        "network": job.config.network,
        "in_channels": job.input.num_channels,
        "crop": job.config.crop,
        "steps": learned.step,
        "curve": learned.curve,
        # JSON has no NaN.
        "validations": [
            {"step": step} | {name: v if math.isfinite(v) else None for name, v in values.items()}
            for step, values in learned.validations
        ],
        "best_step": learned.best_step,
        "preprocessing": job.model.inputs["preprocessing"],
        "inputs": job.model.inputs,
        "settings": job.shown_settings,
        "code_revision": job.revision,
        "stage": "train",
    }
