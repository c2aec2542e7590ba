"""Our ingest with pydicom alone: takes the arguments of `python -m jobs.ingest`."""

import logging
import sys
from contextvars import ContextVar

import ray

from ich_ray.config import ClusterConfig
from ich_ray.storage import dicom
from jobs.ingest import main


def pydicom_alone() -> None:
    """Make pydicom the reader of this process, in every thread."""
    dicom.READER = ContextVar("READER", default="pydicom")


if __name__ == "__main__":
    cluster = ClusterConfig()
    ray.init(
        address="local",
        num_cpus=cluster.num_cpus,
        object_store_memory=cluster.object_store_mb * 1024**2,
        include_dashboard=False,
        logging_level=logging.WARNING,
        log_to_driver=False,
        configure_logging=False,
        runtime_env={"worker_process_setup_hook": pydicom_alone},
    )
    sys.exit(main())
