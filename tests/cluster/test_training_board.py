"""What a training tells is kept in order, whatever its attempts and the clocks do."""

import time
from pathlib import Path

import pytest

from ich_ray.distributed.training_board import Board
from ich_ray.distributed.training_curves import Curves, curves_of
from ich_ray.errors import ConfigError, QualityError
from ich_ray.storage.objects import Store


def test_a_clock_that_jumps_changes_neither_the_time_spent_nor_the_order_of_what_was_told(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    board, real = Board(2), time.time
    board.tell(1, {"training/loss": 0.5})
    monkeypatch.setattr(time, "time", lambda: real() - 86_400)
    board.tell(2, {"training/loss": 0.4})
    monkeypatch.setattr(time, "time", lambda: real() + 86_400)
    board.tell(3, {"training/loss": 0.3})
    times = [told.at_s for told in board.told()]
    assert times == sorted(times)
    assert times[-1] - times[0] < 60
    assert 0 <= board.held() < 60


def test_an_attempt_that_goes_on_from_a_checkpoint_tells_the_steps_since_then_anew() -> None:
    board = Board(1)
    for step, loss in ((10, 0.5), (20, 0.4), (30, 0.9)):
        board.tell(step, {"training/loss": loss, "training/slices_per_s": 7.0})
    board.tell(20, {"tuning/dsc": 0.1})
    when = board.told()[0].at_s
    known = [(10, {"training/loss": 0.5}), (20, {"training/loss": 0.4}), (20, {"tuning/dsc": 0.1})]
    board.begin(20, known, world=1)
    board.tell(30, {"training/loss": 0.3})
    curves = curves_of(board.told())
    assert curves.scalars["training/loss"] == ((10, 0.5), (20, 0.4), (30, 0.3))
    assert curves.scalars["training/slices_per_s"] == ((10, 7.0), (20, 7.0))
    assert curves.scalars["tuning/dsc"] == ((20, 0.1),)
    assert board.told()[0].at_s == when


def test_a_driver_that_has_seen_nothing_knows_what_the_checkpoint_does() -> None:
    board = Board(1)
    board.begin(20, [(10, {"training/loss": 0.5}), (20, {"training/loss": 0.4})], world=1)
    assert curves_of(board.told()).scalars["training/loss"] == ((10, 0.5), (20, 0.4))


def test_processes_are_counted_for_as_long_as_they_are_reserved(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    now = 100.0
    monkeypatch.setattr(time, "monotonic", lambda: now)
    board = Board(4)
    now += 10
    board.begin(0, [], world=4)
    now += 10
    board.begin(5, [], world=1)
    now += 20
    assert board.held() == 4 * 20 + 20
    assert board.processes() == 100 / 40


def test_the_first_reason_why_nothing_can_come_of_a_run_is_kept() -> None:
    board = Board(1)
    assert board.stopped() is None
    board.stop(ConfigError, "no weights of this network")
    board.stop(QualityError, "the others stopped waiting")
    assert board.stopped() == (ConfigError, "no weights of this network")


def test_each_picture_takes_the_place_of_the_one_before(tmp_path: Path) -> None:
    store, board = Store(str(tmp_path)), Board(1)
    curves = Curves(store, store.url("models", "m"), title="m", steps=30)
    board.tell(10, {"training/loss": 0.5})
    curves.write(board.told())
    first = (tmp_path / "models" / "m" / "curves.svg").read_bytes()
    board.tell(20, {"training/loss": 0.4, "tuning/dsc": 0.2})
    curves.write(board.told())
    assert (tmp_path / "models" / "m" / "curves.svg").read_bytes() != first
    assert {path.name for path in (tmp_path / "models" / "m").rglob("*.*")} == {
        "curves.svg",
        "events.out.tfevents.0.ich_ray",
    }
