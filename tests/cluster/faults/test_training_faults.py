"""Trainings that lose a process, or their way, and end as if nothing had been."""

import contextlib
import json
import re
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import psutil
import pytest
import ray

import ich_ray.distributed.train as stage
from ich_ray.distributed import metrics
from ich_ray.distributed.lineage import trained_model
from ich_ray.distributed.session import select
from ich_ray.distributed.train import train
from ich_ray.distributed.training_board import Board
from ich_ray.errors import QualityError, SurroundingsError
from ich_ray.storage.corpus import index_table
from ich_ray.storage.leases import claims
from ich_ray.storage.objects import Store
from tests.cluster.faults.processes import PATIENCE_S, killed_once
from tests.cluster.ray_telemetry import total, wait_until
from tests.cluster.tiny_experiment import copy_untrained, opened, settings_text

CHECKPOINTS = "store/checkpoints/teacher"
COMMAND = str(Path(sys.executable).parent / "ich-ray")


@pytest.fixture
def board(ray_cluster: None, monkeypatch: pytest.MonkeyPatch) -> Any:
    """An actor that keeps every step that a training reports, also those that it repeats."""

    # Within the function: a worker cannot import the module of a test.
    class RecordingBoard(Board):
        def __init__(self) -> None:
            super().__init__(2)
            self.kept: list[int] = []
            self.attempts = 0

        def begin(
            self, step: int, before: Sequence[tuple[int, Mapping[str, float]]], *, world: int
        ) -> None:
            super().begin(step, before, world=world)
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
    def watched(what: str, *, total: int, processes: int, show: Any) -> Iterator[Any]:
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
    copy_untrained(finished, root)
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
    copy_untrained(finished, root)

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


OUTLIVED = """
import sys
import ray
from ich_ray.distributed.training_group import OfLivingJob

class Controller:
    def start_group(self):
        OfLivingJob().before_worker_group_start(None)
        return "started"

ray.init(address=sys.argv[1], namespace="outlived", log_to_driver=False)
detached = ray.remote(num_cpus=0)(Controller).options(name="controller", lifetime="detached")
print(ray.get(detached.remote().start_group.remote()))
"""
"""Program whose actor is there when its driver has gone, for as long as a test needs."""


def test_a_controller_that_outlives_its_driver_starts_no_group(ray_cluster: None) -> None:
    address = ray.get_runtime_context().gcs_address
    ended = subprocess.run(
        [sys.executable, "-c", OUTLIVED, address], capture_output=True, text=True, check=False
    )
    assert ended.stdout.strip() == "started", ended.stderr
    outlived: Any = ray.get_actor("controller", namespace="outlived")
    try:
        with pytest.raises(SurroundingsError, match="job of this training is over"):
            ray.get(outlived.start_group.remote())
    finally:
        ray.kill(outlived)


def test_a_group_whose_worker_stands_still_goes_on_from_its_checkpoint(
    finished: Path, tmp_path: Path, board: Any
) -> None:
    root = tmp_path / "disturbed"
    copy_untrained(finished, root)
    with opened(finished) as run:
        undisturbed = trained_model(run, "teacher").record

    def is_past_a_checkpoint(_: psutil.Process) -> bool:
        return max(ray.get(board.seen.remote()), default=0) > 3

    with (
        opened(root, "models.teacher.checkpoint_every=3", "models.teacher.stall_s=5.0") as run,
        killed_once("ray::RayTrainWorker", when=is_past_a_checkpoint, by=signal.SIGSTOP) as stopped,
    ):
        train(run, "teacher")
        record = trained_model(run, "teacher").record
    assert stopped
    assert ray.get(board.begun.remote()) == 2
    assert record["model"] == undisturbed["model"]
    assert not psutil.pid_exists(stopped[0])


@contextlib.contextmanager
def small_disk(folder: Path) -> Iterator[None]:
    """Put a disk of 1 MB there for the block."""
    folder.mkdir(parents=True)
    mounted = ["mount", "-t", "tmpfs", "-o", "size=1m", "none", str(folder)]
    if subprocess.run(mounted, check=False, capture_output=True).returncode:
        pytest.skip("this user may not mount a small disk")
    try:
        yield
    finally:
        subprocess.run(["umount", "-l", str(folder)], check=True)


def test_a_full_store_ends_a_training_with_its_cause_and_room_lets_it_go_on(
    finished: Path, tmp_path: Path
) -> None:
    copy_untrained(finished, tmp_path)
    settings = ("models.teacher.checkpoint_every=3", "models.teacher.max_failures=0")
    with opened(tmp_path, *settings) as run:
        with small_disk(tmp_path / CHECKPOINTS):
            with pytest.raises(SurroundingsError, match=r"(?i)no space left on device") as raised:
                train(run, "teacher")
            assert "the same command continues from the last checkpoint" in str(raised.value)
        train(run, "teacher")
        record = trained_model(run, "teacher").record
    with opened(finished) as run:
        assert record["model"] == trained_model(run, "teacher").record["model"]
