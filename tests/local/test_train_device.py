import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from benchmarks.packed_corpus import open_pack, pool_of, read_pack
from benchmarks.train_device import figures, headline, invented_pack

ROOT = Path(__file__).parents[2]
KEYS = {"step_over_roofline", "speedup_over_eager_float32", "speedup_over_eager_tf32"}


def run(*arguments: str) -> dict[str, Any]:
    answer = subprocess.run(
        [sys.executable, "-m", "benchmarks.train_device", *arguments],
        cwd=ROOT,
        # No GPU, and no second thread that a busy machine keeps waiting.
        env=os.environ | {"CUDA_VISIBLE_DEVICES": "", "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        check=True,
    )
    found: dict[str, Any] = json.loads(answer.stdout.splitlines()[-1])
    return found


def test_the_whole_benchmark_runs_on_a_cpu_in_tiny(tmp_path: Path) -> None:
    found = run("--tiny", "--out", str(tmp_path))
    assert all(found[key] > 0 for key in KEYS)
    assert all("ms" in way for way in found["device_steps"]["4"].values())
    assert set(found["device_training"]) >= {"float32", "bfloat16", "bfloat16_less_float32"}
    assert "convolution" in (tmp_path / "kernels-4.txt").read_text()


def test_it_needs_neither_ray_nor_the_packages_of_the_stores() -> None:
    unwanted = ("ray", "pyarrow", "pydicom", "deltalake", "safetensors")
    code = (
        f"import benchmarks.train_device, sys; print([m for m in {unwanted} if m in sys.modules])"
    )
    answer = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True
    )
    assert answer.stdout.strip() == "[]"


def test_without_cuda_every_figure_is_null_and_it_says_why(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("torch.cuda.is_available", lambda: False)
    found = figures(tmp_path)
    assert "no CUDA device" in found.pop("device_says")
    assert set(found) >= KEYS
    assert set(found.values()) == {None}


def test_the_headline_is_the_fastest_of_our_ways() -> None:
    ways = {
        "eager_float32": {"ms": 60.0, "over_roofline": 16.0},
        "eager_tf32": {"error": "out of memory"},
        "bfloat16": {"ms": 10.0, "over_roofline": 2.7},
        "bfloat16_compiled": {"ms": 6.0, "over_roofline": 1.6},
    }
    assert headline(ways) == {
        "step_over_roofline": 1.6,
        "device_way": "bfloat16_compiled",
        "speedup_over_eager_float32": 10.0,
        "speedup_over_eager_tf32": None,
    }


def test_some_folds_of_a_pack_keep_their_neighbours(tmp_path: Path) -> None:
    path = invented_pack(tmp_path / "pack.npz")
    whole, last = read_pack(path), pool_of(open_pack(path, folds=[1]))
    assert len(whole) == 2 * len(last)
    half = len(last)
    for name in ("previous", "next"):
        np.testing.assert_array_equal(getattr(last, name), getattr(whole, name)[half:] - half)
    np.testing.assert_array_equal(last.images[0], whole.images[half])
    assert last.names == whole.names[half:]
