"""How exactly a network is computed is said, and changes what it says by little."""

import dataclasses
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from ich_ray.config import ModelConfig
from ich_ray.learning.epoch import train_steps
from ich_ray.learning.precision import set_precision
from ich_ray.learning.sampling import Worker
from tests.local.slice_pools import pool
from tests.local.trainings import training

pytestmark = pytest.mark.usefixtures("one_thread")

CONFIG = ModelConfig(
    labelled=("a",),
    network="drn_d_narrow",
    crop=32,
    batch=4,
    steps=20,
    num_workers=1,
    optimizer="adamw",
    learning_rate=0.003,
)


def losses(precision: Any) -> list[float]:
    todo = training(dataclasses.replace(CONFIG, precision=precision), pool(4, positive=2))
    steps = train_steps(todo, worker=Worker(), first_step=0, total=lambda value: value)
    found = [loss for _, loss in steps]
    # What is kept is in full: the mean of small steps needs its digits.
    values = [*todo.network.state_dict().values()]
    values += [v for state in todo.optimizer.state.values() for v in state.values()]
    assert {v.dtype for v in values if v.is_floating_point()} == {torch.float32}
    return found


def test_bfloat16_computes_other_digits_of_the_same_loss_and_learns_as_much() -> None:
    full, half = losses("float32"), losses("bfloat16")
    assert half[0] != full[0]
    assert half[0] == pytest.approx(full[0], rel=0.02)
    assert np.mean(half[-3:]) < half[0] / 2
    assert np.mean(half[-3:]) == pytest.approx(np.mean(full[-3:]), rel=0.3)


@pytest.fixture
def flags() -> Iterator[None]:
    """Gives torch's own settings back."""
    before = torch.backends.cuda.matmul.allow_tf32, torch.backends.cudnn.allow_tf32
    yield
    torch.backends.cuda.matmul.allow_tf32, torch.backends.cudnn.allow_tf32 = before


@pytest.mark.usefixtures("flags")
@pytest.mark.parametrize(
    ("precision", "shortened"), [("float32", False), ("tf32", True), ("bfloat16", False)]
)
def test_float32_on_a_gpu_has_all_its_digits_unless_tf32_is_asked_for(
    precision: Any,
    shortened: bool,  # noqa: FBT001  (of a table)
) -> None:
    torch.backends.cudnn.allow_tf32 = not shortened
    set_precision(dataclasses.replace(CONFIG, use_gpu=True, precision=precision))
    assert torch.backends.cudnn.allow_tf32 is shortened
    assert torch.backends.cuda.matmul.allow_tf32 is shortened


COMPILED = """
import dataclasses, json
import torch
from ich_ray.config import ModelConfig
from ich_ray.learning.epoch import train_steps
from ich_ray.learning.sampling import Worker
from tests.local.slice_pools import pool
from tests.local.trainings import training

torch.set_num_threads(1)
common = {"network": "drn_d_narrow", "crop": 32, "batch": 2, "steps": 4, "average_decay": 0.9}
for compiled in (False, True):
    config = ModelConfig(labelled=("a",), compiled=compiled, num_workers=1, **common)
    todo = training(config, pool(4, positive=2))
    steps = train_steps(todo, worker=Worker(), first_step=0, total=lambda value: value)
    losses = [loss for _, loss in steps]
    print(json.dumps([losses, list(todo.unwrapped.state_dict()), list(todo.learned.state_dict())]))
"""


@pytest.mark.skipif(shutil.which("g++") is None, reason="torch.compile needs a C++ compiler")
def test_a_fused_network_has_the_losses_and_the_tensors_of_the_same_network(
    tmp_path: Path,
) -> None:
    # In a process of its own: the checks of types that tests have cannot be compiled.
    done = subprocess.run(
        [sys.executable, "-c", COMPILED],
        check=True,
        capture_output=True,
        text=True,
        cwd=Path(__file__).parents[2],
        env={
            **os.environ,
            "TORCHINDUCTOR_CACHE_DIR": str(tmp_path),
            # Processes that compile beside it would each import torch first.
            "TORCHINDUCTOR_COMPILE_THREADS": "1",
        },
    )
    eager, fused = (json.loads(line) for line in done.stdout.splitlines())
    assert fused[0] == pytest.approx(eager[0], rel=1e-3)
    assert fused[1:] == eager[1:]
