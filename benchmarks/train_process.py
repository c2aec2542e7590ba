"""One process of a group that trains for `train_speed`: the same under Ray Train and torchrun.

Under torchrun it is a program of its own, and knows no Ray Train:

    python -m torch.distributed.run --standalone --nproc-per-node 2 \
        -m benchmarks.train_process SETTINGS.toml OUT.json [--mock]
"""

import argparse
import dataclasses
import json
import os
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import psutil
import torch
import torch.distributed
from torch import nn
from torch.nn.parallel import DistributedDataParallel

from ich_ray.config import Settings
from ich_ray.distributed.cache import open_pool
from ich_ray.distributed.lineage import model_lineage
from ich_ray.distributed.session import session
from ich_ray.identity import PUBLIC_KEY, Pseudonyms
from ich_ray.learning.epoch import Training, sum_over_group
from ich_ray.learning.loading import Loader, Minibatches, slice_loader
from ich_ray.learning.optimization import averaged, make_optimizer
from ich_ray.learning.patchfcn import PatchFCN, placed
from ich_ray.learning.precision import set_precision
from ich_ray.learning.run import Snapshot, run
from ich_ray.learning.sampling import Worker
from ich_ray.settings import parse

MODEL = "teacher"
WARM_UP = 10
"""Steps of a run that are left out."""


@dataclass
class _Timed:
    """A loader, and the CPU time that this thread spent in it."""

    loader: Loader
    cpu_s: float = 0.0

    def __call__(self, step: int) -> Minibatches:
        """Load, and count the time."""
        before = time.thread_time()
        found = self.loader(step)
        self.cpu_s += time.thread_time() - before
        return found


class _Mock:
    """Has the minibatches of one step in memory, and gives them for every step."""

    def __init__(self, loader: Loader) -> None:
        self.minibatches = loader(0)

    def __call__(self, step: int) -> Minibatches:
        """Return them."""
        return self.minibatches


@dataclass
class _Times:
    """Keeps how long each step took; `also` is told too, as training's metrics are."""

    also: Callable[[int, float, float], None]
    look: Callable[[int], bool]
    """Looks for a node that is about to go, as training does."""

    seconds: list[float] = field(default_factory=list)
    waited: list[float] = field(default_factory=list)
    since: tuple[float, ...] = ()
    """Time, and CPU seconds of this process and of the machine, when the first steps were over."""

    def stepped(self, *, items: int, seconds: float, waited: float) -> None:
        """Keep a step."""
        if len(self.seconds) == WARM_UP:
            self.since = _clocks()
        self.seconds.append(seconds)
        self.waited.append(waited)
        self.also(items, seconds, waited)

    def reached(self, step: int, loss: float) -> None:
        """Nothing: the curve is of no interest."""

    def measured(self, step: int, metrics: Mapping[str, float]) -> None:
        """Never told: there are no tuning selections."""
        raise AssertionError(step)

    def hurried(self, step: int) -> bool:
        """Look."""
        return self.look(step)

    def keep(self, snapshot: Snapshot, *, loss: float) -> bool:
        """Never asked: there is no checkpoint within a run."""
        raise AssertionError(snapshot.step)


def _clocks() -> tuple[float, float, float]:
    """Return the time, and what this process and the whole machine have used of the CPU."""
    machine = psutil.cpu_times()
    return (
        time.monotonic(),
        time.process_time(),
        sum(machine) - machine.idle - getattr(machine, "iowait", 0.0),
    )


def train(  # noqa: PLR0913  (what the two groups differ in)
    settings: str,
    *,
    worker: Worker,
    local: Worker,
    device: torch.device,
    wrap: Callable[[nn.Module], nn.Module],
    also: Callable[[int, float, float], None],
    look: Callable[[int], bool],
    mock: bool,
) -> dict[str, Any]:
    """Train in this process; return seconds and waiting of every step, and what used the CPU."""
    torch.set_num_threads(1)
    with session(parse(Settings, settings), Pseudonyms(PUBLIC_KEY)) as opened:
        lineage = model_lineage(opened, MODEL)
        config, channels = opened.settings.models[MODEL], opened.settings.input.num_channels
        pool = open_pool(
            lineage.sources,
            opened.settings.cluster.cache,
            worker=local,
            barrier=torch.distributed.barrier,
        )
    config = dataclasses.replace(config, checkpoint_every=config.steps)
    set_precision(config)
    torch.manual_seed(config.seed)
    network = placed(PatchFCN(config.network, in_channels=channels), device)
    real = slice_loader(config, (pool,), channels=channels, worker=worker)
    loader = _Timed(_Mock(real) if mock else real)
    times = _Times(also, look)

    training = Training(
        optimizer=make_optimizer(config, network),
        average=averaged(config, network),
        network=wrap(network),
        loader=loader,
        config=config,
        device=device,
    )
    run(training, worker=worker, total=sum_over_group, listener=times)
    passed_s, own_s, machine_s = (
        now - then for now, then in zip(_clocks(), times.since, strict=True)
    )
    crops, steps = config.steps * len(worker.items(config.batch)), config.steps - WARM_UP - 1
    return {
        "seconds": times.seconds,
        "waited": times.waited,
        "own_cpu_s_per_step": own_s / steps,
        "others_cpu_share": (machine_s - local.world * own_s) / (passed_s * (os.cpu_count() or 1)),
        "loader_us_per_crop": 1e6 * loader.cpu_s / crops,
    }


def main() -> None:
    """Train as a process of torchrun, and write what it took."""
    parser = argparse.ArgumentParser()
    parser.add_argument("settings", type=Path)
    parser.add_argument("out", type=Path)
    parser.add_argument("--mock", action="store_true")
    options = parser.parse_args()
    on_gpu = torch.cuda.is_available()
    local = Worker(rank=int(os.environ["LOCAL_RANK"]), world=int(os.environ["LOCAL_WORLD_SIZE"]))
    device = torch.device("cuda", local.rank) if on_gpu else torch.device("cpu")
    torch.distributed.init_process_group("nccl" if on_gpu else "gloo")
    worker = Worker(rank=torch.distributed.get_rank(), world=torch.distributed.get_world_size())
    found = train(
        options.settings.read_text(),
        worker=worker,
        local=local,
        device=device,
        wrap=DistributedDataParallel if worker.world > 1 else lambda network: network,
        also=lambda items, seconds, waited: None,
        look=lambda step: False,
        mock=options.mock,
    )
    torch.distributed.destroy_process_group()
    if worker.rank == 0:
        options.out.write_text(json.dumps(found))


if __name__ == "__main__":
    main()
