import json
import os
import subprocess
import sys
from pathlib import Path

from benchmarks.label_device import WAYS, figures

ROOT = Path(__file__).parents[2]


def test_the_whole_benchmark_runs_on_a_cpu_in_tiny_without_ray_or_the_stores_packages(
    tmp_path: Path,
) -> None:
    missing = ("ray", "pyarrow", "deltalake", "pydicom", "fsspec", "s3fs")
    program = (
        "import sys\n"
        f"sys.modules.update(dict.fromkeys({missing!r}))\n"
        "from benchmarks.label_device import main\n"
        f"sys.argv = ['label_device', '--tiny', '--batches', '3', '--price', '2', "
        f"'--out', {str(tmp_path)!r}]\n"
        "main()\n"
    )
    answer = subprocess.run(
        [sys.executable, "-c", program],
        cwd=ROOT,
        env=os.environ | {"CUDA_VISIBLE_DEVICES": "", "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        check=True,
    )
    found = json.loads(answer.stdout.splitlines()[-1])
    ways = found["device_inference"]["3"]
    assert ways.keys() == WAYS.keys()
    assert all("ms" in row for row in ways.values())
    assert found["inference_way"] in WAYS
    assert found["windows_over_whole_slice"] > 1
    hours = found["corpus_gpu_hours"]
    assert abs(found["corpus_cost"] - hours * 2) < 0.1
    seconds = found["corpus_seconds_on_gpus"]
    assert abs(seconds["1"] / seconds["8"] - 8) < 0.1
    assert (tmp_path / "inference-kernels-3.txt").exists()


def test_without_a_gpu_every_figure_is_null(tmp_path: Path) -> None:
    found = figures(tmp_path, batches=[2])
    assert set(found.values()) == {None}
