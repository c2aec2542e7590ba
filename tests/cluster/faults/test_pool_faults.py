"""A pool of actors that loses one, and labels as if it had not."""

import shutil
from pathlib import Path

import psutil

from ich_ray.distributed.lineage import finished_pseudo_labels
from ich_ray.distributed.pseudo_label import pseudo_label
from tests.cluster.faults.processes import killed_once
from tests.cluster.tiny_experiment import opened, rows_of


def test_a_killed_actor_of_the_pool_changes_no_pseudo_label(finished: Path, tmp_path: Path) -> None:
    root = tmp_path / "disturbed"
    shutil.copytree(finished / "store", root / "store")
    shutil.rmtree(root / "store" / "predictions")
    shutil.rmtree(root / "store" / "pseudo_labels")

    def predicts(process: psutil.Process) -> bool:
        return ".submit" in " ".join(process.cmdline())

    with (
        opened(root) as run,
        killed_once("ray::MapWorker(MapBatches(PartPredictor))", when=predicts) as killed,
    ):
        pseudo_label(run, "pool")
        rows = rows_of(run, finished_pseudo_labels(run, "pool").table)
    with opened(finished) as run:
        undisturbed = rows_of(run, finished_pseudo_labels(run, "pool").table)
    assert killed
    assert rows == undisturbed
