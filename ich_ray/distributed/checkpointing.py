"""Snapshots of a run as Ray Train's checkpoints: tensors as safetensors, and JSON beside them."""

import json
import shutil
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import ray.train
from ray.train import Checkpoint, CheckpointUploadMode

from ich_ray.learning.run import Snapshot
from ich_ray.learning.state import to_arrays, to_tensors
from ich_ray.storage.checkpoints import decode_tensors, encode_tensors

STATE = "state.json"


class Outgoing:
    """A folder of this node's, from which checkpoints are uploaded while training goes on."""

    def __init__(self, name: str) -> None:
        """Make it, empty: a process that was killed has left its own there.

        Args:
            name: Of the run.
        """
        self.root = Path(tempfile.gettempdir(), "ich_ray-outgoing", name)
        shutil.rmtree(self.root, ignore_errors=True)
        self.root.mkdir(parents=True)

    def report(
        self, snapshot: Snapshot, metrics: Mapping[str, Any], *, of: Mapping[str, Any], wait: bool
    ) -> None:
        """Write a snapshot, and have Ray Train upload it.

        Args:
            snapshot: Its tensors are copied before this returns.
            metrics: What is told with it.
            of: Where it comes from, which is kept in it.
            wait: Whether to return only when it lies in the store.
        """
        folder = Path(tempfile.mkdtemp(dir=self.root))
        write_snapshot(snapshot, folder, of=of)
        ray.train.report(
            dict(metrics),
            checkpoint=Checkpoint.from_directory(folder),
            checkpoint_upload_mode=CheckpointUploadMode.SYNC
            if wait
            else CheckpointUploadMode.ASYNC,
            delete_local_checkpoint_after_upload=True,
        )


def write_snapshot(snapshot: Snapshot, folder: Path, *, of: Mapping[str, Any]) -> None:
    """Write a snapshot as files of a folder."""
    for name, tensors in snapshot.tensors.items():
        (folder / f"{name}.safetensors").write_bytes(encode_tensors(to_arrays(tensors)))
    state = {
        "step": snapshot.step,
        "curve": snapshot.curve,
        "losses": snapshot.losses,
        "validations": snapshot.validations,
        "of": of,
    }
    (folder / STATE).write_text(json.dumps(state))


def read_snapshot(folder: Path) -> Snapshot:
    """Return the snapshot that was written to a folder.

    Raises:
        ConfigError: A file of tensors is anything else.
    """
    state = json.loads((folder / STATE).read_text())
    return Snapshot(
        step=state["step"],
        curve=tuple((step, loss) for step, loss in state["curve"]),
        losses=tuple(state["losses"]),
        validations=tuple((step, values) for step, values in state["validations"]),
        tensors={
            path.stem: to_tensors(decode_tensors(path.read_bytes(), name=path.name))
            for path in sorted(folder.glob("*.safetensors"))
        },
    )


def last_snapshot() -> Snapshot | None:
    """Read the run's last checkpoint, if it has one."""
    checkpoint = ray.train.get_checkpoint()
    if checkpoint is None:
        return None
    with checkpoint.as_directory() as folder:
        return read_snapshot(Path(folder))
