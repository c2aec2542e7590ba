import contextlib
import json
import re
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import psutil
import pytest
import ray

import ich_ray.distributed.train as stage
from ich_ray.distributed import metrics
from ich_ray.distributed.lineage import finished_pseudo_labels, trained_model
from ich_ray.distributed.progress import Board
from ich_ray.distributed.pseudo_label import pseudo_label
from ich_ray.distributed.session import select
from ich_ray.distributed.train import train
from ich_ray.errors import QualityError
from ich_ray.storage.corpus import index_table
from ich_ray.storage.leases import claims
from ich_ray.storage.objects import Store
from tests.cluster.ray_telemetry import total, wait_until
from tests.cluster.tiny_experiment import opened, rows_of, settings_text

PATIENCE_S = 90
CHECKPOINTS = "store/checkpoints/teacher"
COMMAND = str(Path(sys.executable).parent / "ich-ray")


def workers_of(name: str) -> list[psutil.Process]:
    """Return the processes of this cluster whose actors have this name."""
    found = []
    for process in psutil.Process().children(recursive=True):
        with contextlib.suppress(psutil.Error):
            if " ".join(process.cmdline()).startswith(name):
                found.append(process)
    return found


@contextlib.contextmanager
def killed_once(name: str, *, when: Callable[[psutil.Process], bool]) -> Iterator[list[int]]:
    """Kill one process of this name as soon as a condition holds; yields whom it killed."""
    killed: list[int] = []
    over = threading.Event()

    def kill() -> None:
        deadline = time.monotonic() + PATIENCE_S
        while not killed and not over.wait(0.005) and time.monotonic() < deadline:
            for process in workers_of(name):
                if when(process):
                    process.send_signal(signal.SIGKILL)
                    killed.append(process.pid)
                    break

    thread = threading.Thread(target=kill)
    thread.start()
    try:
        yield killed
    finally:
        over.set()
        thread.join()


@pytest.fixture
def board(ray_cluster: None, monkeypatch: pytest.MonkeyPatch) -> Any:
    """An actor that keeps every step that a training reports, also those that it repeats."""

    # Within the function: a worker cannot import the module of a test.
    class RecordingBoard(Board):
        def __init__(self) -> None:
            super().__init__()
            self.kept: list[int] = []
            self.attempts = 0

        def begin(self, step: int) -> None:
            super().begin(step)
            self.attempts += 1

        def begun(self) -> int:
            return self.attempts

        def put(self, step: int, beside: Mapping[str, str]) -> None:
            super().put(step, beside)
            self.kept.append(step)

        def seen(self) -> list[int]:
            return self.kept

    actor = ray.remote(num_cpus=0)(RecordingBoard).remote()

    @contextlib.contextmanager
    def watched(what: str, *, total: int) -> Iterator[Any]:
        yield actor

    monkeypatch.setattr(stage, "watched", watched)
    return actor


def test_a_killed_training_worker_costs_the_steps_since_its_checkpoint_and_nothing_else(
    finished: Path, tmp_path: Path, board: Any
) -> None:
    def is_past_a_checkpoint(_: psutil.Process) -> bool:
        snapshots = root.glob(f"{CHECKPOINTS}/*/checkpoint_manager_snapshot.json")
        saved = [re.findall(r'"step":(\d+)', path.read_text()) for path in snapshots]
        kept = max((int(step) for steps in saved for step in steps), default=12)
        return max(ray.get(board.seen.remote()), default=0) > kept

    root = tmp_path / "disturbed"
    shutil.copytree(finished / "store", root / "store")
    shutil.rmtree(root / "store" / "models")
    shutil.rmtree(root / "store" / "checkpoints")
    with opened(finished) as run:
        undisturbed = trained_model(run, "teacher").record
    # How often it is saved does not decide what a model learns.
    with (
        opened(root, "models.teacher.checkpoint_every=3") as run,
        killed_once("ray::RayTrainWorker", when=is_past_a_checkpoint) as killed,
    ):
        summary = train(run, "teacher")
        record = trained_model(run, "teacher").record
    steps = ray.get(board.seen.remote())
    _, beside = ray.get(board.get.remote())
    assert killed
    assert beside.keys() == {"loss", "slices/s", "waits for data"}
    assert float(beside["slices/s"]) > 0
    assert steps.count(1) == 1
    # At most what one interval of checkpoints holds is done twice.
    assert 0 < len(steps) - len(set(steps)) <= 3
    # And counted as work that was done.
    assert ray.get(board.steps.remote()) == len(steps)
    assert summary.steps == max(steps) == 12
    assert record["model"] == undisturbed["model"]
    assert json.dumps(record["curve"]) == json.dumps(undisturbed["curve"])
    counted = {"section": "teacher", "what": "train_workers"}
    wait_until(lambda: total(metrics.RETRIES.prometheus, **counted) >= 1)


def test_a_training_worker_killed_while_its_group_comes_up_leaves_room_for_the_next(
    finished: Path, tmp_path: Path
) -> None:
    """The group reserves every CPU: a second one cannot start beside what is left of it."""
    root = tmp_path / "disturbed"
    shutil.copytree(finished / "store", root / "store")
    shutil.rmtree(root / "store" / "models")
    shutil.rmtree(root / "store" / "checkpoints")

    def loads_torch(process: psutil.Process) -> bool:
        with contextlib.suppress(psutil.Error):
            return any("libtorch" in part.path for part in process.memory_maps())
        return False

    with opened(finished) as run:
        undisturbed = trained_model(run, "teacher").record
    began = time.monotonic()
    with (
        opened(root) as run,
        killed_once("ray::RayTrainWorker", when=loads_torch) as killed,
    ):
        train(run, "teacher")
        record = trained_model(run, "teacher").record
    assert killed
    assert record["model"] == undisturbed["model"]
    # Less than Ray Train waits for room: it had it at once.
    assert time.monotonic() - began < 120


def test_a_loss_that_is_no_number_ends_the_run_at_once_and_names_its_slices(
    finished: Path, tmp_path: Path, board: Any
) -> None:
    shutil.copytree(finished / "store", tmp_path / "store")
    shutil.rmtree(tmp_path / CHECKPOINTS)
    settings = ("optimizer='sgd'", "learning_rate=1e30", "checkpoint_every=1")
    with opened(tmp_path, *(f"models.teacher.{one}" for one in settings)) as run:
        (corpus,) = select(run, ["a:train"])
        index = index_table(run.store, corpus.corpus).to_pylist()
        known = {f"exam {row['exam']} slice {row['slice']}" for row in index}
        with pytest.raises(QualityError, match=r"the loss of step 1 is (nan|inf), of ") as raised:
            train(run, "teacher")
    said = str(raised.value)
    named = re.findall(r"exam \w+ slice \w+", said)
    assert len(named) == run.settings.models["teacher"].batch
    assert set(named) <= known
    assert "lower models.teacher.learning_rate=1e+30" in said
    assert ray.get(board.begun.remote()) == 1
    (snapshot,) = tmp_path.glob(f"{CHECKPOINTS}/*/checkpoint_manager_snapshot.json")
    assert '"step":1' in snapshot.read_text().replace(" ", "")


def test_a_driver_that_died_before_the_record_costs_the_steps_since_the_checkpoint(
    finished: Path, tmp_path: Path
) -> None:
    shutil.copytree(finished / "store", tmp_path / "store")
    with opened(tmp_path) as run:
        url = trained_model(run, "teacher").url
        before = Path(url, "model.json").read_bytes()
        Path(url, "model.json").unlink()
        assert not train(run, "teacher").up_to_date
        assert (
            json.loads(Path(url, "model.json").read_bytes())["model"] == json.loads(before)["model"]
        )
        assert train(run, "teacher").up_to_date


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


@pytest.mark.parametrize(("sent", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_a_training_that_is_told_to_stop_says_so_and_lets_go_of_its_model(
    finished: Path, tmp_path: Path, sent: signal.Signals, code: int
) -> None:
    root = tmp_path / "stopped"
    shutil.copytree(finished / "store", root / "store")
    shutil.rmtree(root / "store" / "models")
    (root / "settings.toml").write_text(settings_text(root))
    words = ["train", str(root / "settings.toml"), "--only", "teacher", "models.teacher.steps=9000"]
    process = subprocess.Popen(
        [COMMAND, *words],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
    )
    deadline = time.monotonic() + PATIENCE_S
    store = Store(str(root / "store"))
    # Claims of the finished run are there, and released.
    while all(
        claim.released for name, claim in claims(store).items() if name.startswith("models/")
    ):
        assert process.poll() is None
        assert time.monotonic() < deadline
        time.sleep(0.2)
    time.sleep(5)
    process.send_signal(sent)
    try:
        _, said = process.communicate(timeout=PATIENCE_S)
    finally:
        process.kill()
    assert process.returncode == code, said
    held = {name: claim for name, claim in claims(store).items() if name.startswith("models/")}
    assert all(claim.released for claim in held.values())
