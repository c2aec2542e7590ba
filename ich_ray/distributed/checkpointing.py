"""Snapshots of a run as Ray Train's checkpoints: tensors as safetensors, and JSON beside them."""

import contextlib
import fcntl
import json
import os
import shutil
import tempfile
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import ray.train
from ray.train import Checkpoint, CheckpointUploadMode

from ich_ray.errors import ConfigError
from ich_ray.learning.run import Snapshot
from ich_ray.learning.state import to_arrays, to_tensors
from ich_ray.storage.checkpoints import decode_tensors, encode_tensors

STATE = "state.json"
POLL_S = 0.1


class Outgoing:
    """A folder of this process's, from which checkpoints are uploaded while training goes on."""

    def __init__(self, cache: str) -> None:
        """Make it, and remove those of processes that were killed.

        Args:
            cache: `cluster.cache`; empty: in the system's temporary folder.
        """
        parent = Path(cache or Path(tempfile.gettempdir(), "ich_ray-cache"), "outgoing")
        parent.mkdir(parents=True, exist_ok=True)
        for other in parent.iterdir():
            with contextlib.suppress(OSError):
                # Whoever uses it holds it.
                os.close(_held(other))
                shutil.rmtree(other, ignore_errors=True)
        self.root = Path(tempfile.mkdtemp(dir=parent))
        self._handle = _held(self.root)

    def close(self) -> None:
        """Remove it, once nothing is on its way any more."""
        self._wait(left=0, alive=lambda: None)
        shutil.rmtree(self.root, ignore_errors=True)
        os.close(self._handle)

    def report(
        self,
        snapshot: Snapshot,
        metrics: Mapping[str, Any],
        *,
        of: Mapping[str, Any],
        wait: bool,
        alive: Callable[[], None],
    ) -> None:
        """Write a snapshot, and have Ray Train upload it; two at most are on their way at once.

        Args:
            snapshot: Its tensors are copied before this returns.
            metrics: What is told with it.
            of: Where it comes from, which is kept in it.
            wait: Whether to return only when it lies in the store.
            alive: Is called while earlier ones are waited for.
        """
        self._wait(left=0 if wait else 1, alive=alive)
        mode = CheckpointUploadMode.SYNC if wait else CheckpointUploadMode.ASYNC
        folder = Path(tempfile.mkdtemp(dir=self.root))
        write_snapshot(snapshot, folder, of=of)
        ray.train.report(
            dict(metrics),
            checkpoint=Checkpoint.from_directory(folder),
            checkpoint_upload_mode=mode,
            delete_local_checkpoint_after_upload=True,
        )

    def _wait(self, *, left: int, alive: Callable[[], None]) -> None:
        while len(list(self.root.iterdir())) > left:
            alive()
            time.sleep(POLL_S)


def _held(folder: Path) -> int:
    """Hold a folder for as long as what is returned is open; OSError if another process does."""
    handle = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        os.close(handle)
        raise
    return handle


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


def last_snapshot(origin: Mapping[str, Any]) -> Snapshot | None:
    """Read the run's last checkpoint, if it has one.

    Raises:
        ConfigError: It is of another model, or no checkpoint at all.
    """
    checkpoint = ray.train.get_checkpoint()
    if checkpoint is None:
        return None
    with checkpoint.as_directory() as folder:
        refuse_others(Path(folder), origin, named=checkpoint.path)
        return read_snapshot(Path(folder))


def refuse_others(folder: Path, origin: Mapping[str, Any], *, named: str) -> None:
    """Refuse a checkpoint that is not of this model.

    Args:
        folder: Of the checkpoint.
        origin: What one of this model names.
        named: Where it lies, for the message.

    Raises:
        ConfigError: Its network, or what it was trained from, is another.
    """
    state = folder / STATE
    of = json.loads(state.read_text()).get("of", {}) if state.exists() else {}
    theirs = of.get("inputs"), of.get("settings", {}).get("network")
    if theirs != (json.loads(json.dumps(origin["inputs"])), origin["settings"]["network"]):
        raise ConfigError(
            f"{named} is no checkpoint of model {origin['name']} with these settings and corpora; "
            "remove the folder that it lies in, and the training begins anew"
        )
