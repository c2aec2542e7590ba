import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.cluster.test_cli import refused

REPOSITORY = Path(__file__).parents[2]

ANEW = {
    "pseudo-label": "pseudo_labels.pool.top_percent=20.0",
    "train": "models.teacher.seed=7",
    "evaluate": "evaluate.resamples=300",
}
"""Settings that make a stage's output another one, which is not there yet."""


@pytest.fixture
def root(root: Path) -> Path:
    """A finished experiment of the test's own, but for the predictions."""
    shutil.rmtree(root / "store" / "predictions")
    return root


POOL = r"each on one node; the cluster has 2 CPUs, 0 GPUs, [\d.]+ GB on 1 node: room for 2; "


@pytest.mark.parametrize(
    ("stage", "settings", "match"),
    [
        ("pseudo-label", ["predict.actors=8"], rf"predict.actors=8 needs 8 x .*{POOL}set it to 2"),
        ("evaluate", ["predict.actors=3"], rf"predict.actors=3 needs 3 x .*{POOL}set it to 2"),
        ("evaluate", ["evaluate.actors=5"], rf"evaluate.actors=5 needs 5 x .*{POOL}set it to 2"),
        ("train", ["models.teacher.num_workers=4"], rf"num_workers=4 needs 4 x .*{POOL}set it to"),
    ],
)
def test_a_pool_larger_than_the_cluster_is_refused_with_figures(
    root: Path, stage: str, settings: list[str], match: str, capsys: pytest.CaptureFixture[str]
) -> None:
    command = (stage, str(root / "settings.toml"), ANEW[stage], *settings)
    refused(capsys, *command, code=2, match=match, folder=root)


@pytest.mark.parametrize(
    ("stage", "settings", "match"),
    [
        (
            "pseudo-label",
            ["predict.memory_gb=4000.0"],
            r"\(1 CPU \+ 4000.0 GB\).*not one fits",
        ),
        ("evaluate", ["predict.memory_gb=4000.0"], r"lower predict\.memory_gb"),
        ("train", ["models.teacher.memory_gb=4000.0"], r"lower models\.teacher\.memory_gb"),
    ],
)
def test_memory_that_no_node_has_is_refused(
    root: Path, stage: str, settings: list[str], match: str, capsys: pytest.CaptureFixture[str]
) -> None:
    command = (stage, str(root / "settings.toml"), ANEW[stage], *settings)
    refused(capsys, *command, code=2, match=match, folder=root)


GPU = ["predict.gpus_per_actor=1.0"]
WORKERS = "cluster.workers.gpu={max=3, cpus=4.0, gpus=1.0, gpu_kind='A10G', memory_gb=14.0}"


@pytest.mark.parametrize(
    ("stage", "settings", "match"),
    [
        ("pseudo-label", GPU, r"1 GPU \+ 1\.5 GB\).*the largest node has 2 CPUs, 0 GPUs"),
        ("train", ["models.teacher.use_gpu=true"], r"1 CPU \+ 1 GPU \+ 2\.0 GB\).*not one fits"),
        (
            "evaluate",
            [*GPU, 'predict.gpu_kind="H100"'],
            "no node has a GPU of kind H100; kinds there: none",
        ),
        (
            "train",
            ["models.teacher.use_gpu=true", 'models.teacher.gpu_kind="H100"', WORKERS],
            "no node has a GPU of kind H100; kinds there: A10G",
        ),
        (
            "pseudo-label",
            [*GPU, "predict.actors=4", WORKERS],
            r"and can grow to 14 CPUs, 3 GPUs \(A10G\), .* on 4 nodes: room for 3; set it to 3 or",
        ),
    ],
)
def test_more_gpus_than_exist_or_may_come_or_of_another_kind_are_refused(
    root: Path, stage: str, settings: list[str], match: str, capsys: pytest.CaptureFixture[str]
) -> None:
    command = (stage, str(root / "settings.toml"), ANEW[stage], *settings)
    refused(capsys, *command, code=2, match=match, folder=root)


SUBMITTED = """
import json, os, sys
from ray._private.runtime_env.constants import RAY_JOB_CONFIG_JSON_ENV_VAR
os.environ[RAY_JOB_CONFIG_JSON_ENV_VAR] = json.dumps(
    {"metadata": {"job_submission_id": "train-0"}}
)
import ray
from ray.core.generated.autoscaler_pb2 import ClusterConfig
from ich_ray.capacity import Process, room
from ich_ray.config import ClusterConfig as Config
from ich_ray.distributed.resources import DRIVER, capacity_of
from jobs.cli import main

ray.init(
    address="local", num_cpus=3, num_gpus=2, _memory=450_000_000, include_dashboard=False,
    object_store_memory=100_000_000, resources={"accelerator_type:H100": 1}, log_to_driver=False,
)
before = capacity_of(Config())

class Driver:
    def ready(self):
        return True

driver = ray.remote(num_cpus=1, memory=10_000_000)(Driver).options(name=DRIVER + "train-0").remote()
ray.get(driver.ready.remote())
held = capacity_of(Config())
told = ClusterConfig()
node = {"CPU": 8, "GPU": 1, "memory": 4 * 10**8, "accelerator_type:L4": 1}
told.node_group_configs.add(name="gpu", max_count=4, resources=node)
told.node_group_configs.add(name="spot", max_count=-1, resources={"CPU": 1})
ray._private.worker.global_worker.gcs_client.report_cluster_config(told.SerializeToString())
grown = capacity_of(Config())
found = {
    "before": room(Process(), before.now),
    "memory": room(Process(cpus=0.5, memory=225_000_000), before.now),
    "memory_beside_the_driver": room(Process(cpus=0.5, memory=225_000_000), held.now),
    "beside_the_driver": room(Process(), held.now),
    "h100": room(Process(gpus=0.5, gpu_kind="H100", cpus=0.0), held.now),
    "l4_now": room(Process(gpus=1.0, gpu_kind="L4"), grown.now),
    "l4_at_most": room(Process(gpus=1.0, gpu_kind="L4", memory=10**8), grown.at_most),
    "with_memory": room(Process(memory=10**8), grown.at_most),
    "unbounded": room(Process(), grown.at_most) > 10**5,
}
print(json.dumps(found))
sys.exit(main(["ingest", *sys.argv[1:]]))
"""


def test_what_a_cluster_says_of_itself_counts_and_a_part_too_large_for_it_is_refused(
    root: Path,
) -> None:
    shutil.rmtree(root / "store")
    done = subprocess.run(
        [sys.executable, "-c", SUBMITTED, str(root / "settings.toml"), "--only", "c"],
        capture_output=True,
        text=True,
        check=False,
        cwd=REPOSITORY,
    )
    assert json.loads(done.stdout.splitlines()[0]) == {
        "before": 3,
        "memory": 2,
        "memory_beside_the_driver": 1,
        "beside_the_driver": 2,
        "h100": 4,
        "l4_now": 0,
        "l4_at_most": 4,
        "with_memory": 16 + 2,
        "unbounded": True,
    }, done.stderr
    # Within a job lines are JSON.
    said = json.loads(done.stderr.splitlines()[-1])["message"]
    assert done.returncode == 2
    assert said.startswith("a part of c with 67 slices and masks needs 1 CPU + 0.5 GB")
    assert "lower corpora.c.slices_per_part (a patient is never divided)" in said


JOINING = """
import json, time
import ray
from concurrent.futures import ThreadPoolExecutor
from ray.cluster_utils import Cluster
from ich_ray.capacity import Need, Process
from ich_ray.config import ClusterConfig
from ich_ray.distributed.resources import check_fits
from ich_ray.errors import ConfigError

small = {"num_cpus": 1, "object_store_memory": 80_000_000}
cluster = Cluster(
    initialize_head=True,
    connect=True,
    head_node_args={"num_cpus": 0, "object_store_memory": 80_000_000, "include_dashboard": False},
)
need = Need(what="a task", each=Process(), pool=False)
patient = ClusterConfig(address="auto", join_s=60.0)
with ThreadPoolExecutor(1) as pool:
    waits = pool.submit(check_fits, patient, need)
    time.sleep(3)
    assert not waits.done()
    cluster.add_node(**small)
    waits.result()
began = time.monotonic()
try:
    two = Need(what="n", each=Process(), processes=2)
    check_fits(ClusterConfig(address="auto", join_s=2.0), two)
except ConfigError as refusal:
    print(json.dumps([str(refusal), time.monotonic() - began]))
ray.shutdown()
cluster.shutdown()
"""


def test_what_does_not_fit_waits_for_nodes_that_join_and_is_refused_in_the_end() -> None:
    done = subprocess.run(
        [sys.executable, "-c", JOINING],
        capture_output=True,
        text=True,
        check=False,
        cwd=REPOSITORY,
        env=os.environ | {"RAY_USAGE_STATS_ENABLED": "0"},
    )
    assert done.returncode == 0, done.stderr
    said, seconds = json.loads(done.stdout.splitlines()[-1])
    assert said.startswith(
        "n=2 needs 2 x (1 CPU + 0.0 GB), each on one node; the cluster has 1 CPUs"
    )
    assert seconds >= 2
    # Both waited, and say for what.
    assert done.stderr.count("s for nodes to join") == 2
