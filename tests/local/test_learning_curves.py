import math
from collections.abc import Mapping
from pathlib import Path
from xml.etree import ElementTree

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from tensorboard.backend.event_processing.io_wrapper import GetLogdirSubdirectories

from ich_ray.learning_curves import LearningCurves, Points
from ich_ray.reporting.figures.learning_curves import learning_curves_figure
from ich_ray.reporting.tensorboard_events import FILE_NAME, tensorboard_events

NAN = float("nan")
TRAINING: dict[str, Points] = {
    "training/loss": tuple((step, 50 / step) for step in range(100, 1100, 100)),
    "training/learning_rate": tuple((step, 0.01) for step in range(100, 1100, 100)),
    "training/slices_per_s": ((500, 210.5), (1000, 198.0)),
}
TUNING: dict[str, Points] = {
    "tuning/exam_auc": ((500, 0.81), (1000, 0.93)),
    "tuning/dsc": ((500, 0.6), (1000, 0.7)),
}
CURVES = LearningCurves(scalars={**TRAINING, **TUNING}, best_step=500)
SINCE_S = 1_790_000_000.0

told = st.lists(
    st.tuples(
        st.sampled_from(["training/loss", "tuning/dsc"]), st.integers(0, 20), st.floats(width=32)
    )
)


def as_told(points: list[tuple[str, int, float]]) -> LearningCurves:
    curves = LearningCurves(scalars={})
    for point in points:
        curves = curves.with_point(*point)
    return curves


@given(told)
def test_every_step_of_a_curve_is_there_once_and_in_order(
    points: list[tuple[str, int, float]],
) -> None:
    for curve in as_told(points).scalars.values():
        steps = [step for step, _ in curve]
        assert steps == sorted(set(steps))


@given(told, st.integers(0, 20))
def test_a_run_that_goes_on_from_a_checkpoint_tells_the_same_curves(
    points: list[tuple[str, int, float]], checkpoint: int
) -> None:
    points.sort(key=lambda point: point[1])
    again = [point for point in points if point[1] > checkpoint]
    assert repr(as_told([*points, *again])) == repr(as_told(points))


def test_a_point_changes_its_own_curve_of_a_new_value_only() -> None:
    longer = CURVES.with_point("tuning/dsc", 1000, 0.8)
    assert longer.scalars["tuning/dsc"] == ((500, 0.6), (1000, 0.8))
    assert longer.scalars["tuning/exam_auc"] == TUNING["tuning/exam_auc"]
    assert longer.best_step == 500
    assert CURVES.scalars["tuning/dsc"] == TUNING["tuning/dsc"]


def test_what_is_not_defined_is_kept_but_not_drawn() -> None:
    curves = CURVES.with_point("tuning/exam_auc", 1000, NAN)
    assert math.isnan(curves.scalars["tuning/exam_auc"][-1][1])
    assert curves.finite("tuning/exam_auc") == ((500, 0.81),)
    assert curves.finite("tuning/never_told") == ()


def read_back(folder: Path) -> EventAccumulator:
    """Read by TensorBoard's own reader, all points of each curve."""
    return EventAccumulator(str(folder), size_guidance={"scalars": 0}).Reload()


def scalars_of(read: EventAccumulator) -> dict[str, Points]:
    return {
        name: tuple((event.step, event.value) for event in read.Scalars(name))
        for name in read.Tags()["scalars"]
    }


def as_float32(scalars: Mapping[str, Points]) -> dict[str, Points]:
    return {
        name: tuple((step, float(np.float32(value))) for step, value in curve)
        for name, curve in scalars.items()
    }


def test_tensorboard_reads_every_scalar_at_its_step(tmp_path: Path) -> None:
    (tmp_path / FILE_NAME).write_bytes(tensorboard_events(CURVES, since_s=SINCE_S, seconds_at={}))
    assert scalars_of(read_back(tmp_path)) == as_float32(CURVES.scalars)


def test_tensorboard_finds_the_file_below_its_folder_and_shows_what_is_no_number(
    tmp_path: Path,
) -> None:
    curves = CURVES.with_point("tuning/exam_auc", 1000, NAN)
    run = tmp_path / "models" / "baseline"
    run.mkdir(parents=True)
    (run / FILE_NAME).write_bytes(tensorboard_events(curves, since_s=SINCE_S, seconds_at={}))
    assert list(GetLogdirSubdirectories(str(tmp_path))) == [str(run)]
    assert math.isnan(read_back(run).Scalars("tuning/exam_auc")[-1].value)


def test_an_event_has_the_time_of_its_step_or_one_between_its_neighbours(tmp_path: Path) -> None:
    events = tensorboard_events(CURVES, since_s=SINCE_S, seconds_at={600: 60.0, 800: 160.0})
    (tmp_path / FILE_NAME).write_bytes(events)
    read = read_back(tmp_path)
    assert read.FirstEventTimestamp() == SINCE_S
    after = {event.step: event.wall_time - SINCE_S for event in read.Scalars("training/loss")}
    assert after[100] == pytest.approx(10)
    assert (after[600], after[700], after[800]) == (60, 110, 160)
    assert after[1000] == 160


def test_equal_curves_are_equal_bytes_however_they_were_told() -> None:
    backwards = LearningCurves(scalars=dict(reversed(CURVES.scalars.items())), best_step=500)
    assert backwards == CURVES
    for seconds_at in ({}, {1000: 60.0}):
        events = tensorboard_events(CURVES, since_s=SINCE_S, seconds_at=seconds_at)
        assert tensorboard_events(backwards, since_s=SINCE_S, seconds_at=seconds_at) == events
    picture = learning_curves_figure("Baseline", CURVES, steps=1000)
    assert learning_curves_figure("Baseline", backwards, steps=1000) == picture


def test_a_longer_run_begins_with_the_bytes_of_the_shorter() -> None:
    shorter = tensorboard_events(CURVES, since_s=SINCE_S, seconds_at={1000: 100.0})
    goes_on = CURVES.with_point("tuning/dsc", 1100, 0.7).with_point("training/loss", 1100, 0.04)
    longer = tensorboard_events(goes_on, since_s=SINCE_S, seconds_at={1000: 100.0, 1100: 110.0})
    assert longer.startswith(shorter)
    assert len(longer) > len(shorter)


def panels_of(picture: bytes) -> int:
    root = ElementTree.fromstring(picture)
    assert root.tag.endswith("}svg")
    return sum(element.get("id", "").startswith("axes_") for element in root.iter())


@pytest.mark.parametrize(
    ("scalars", "panels"),
    [
        ({**TRAINING, **TUNING}, 3),
        (TRAINING, 2),
        ({"training/loss": TRAINING["training/loss"]}, 1),
        ({"training/loss": ((10, -0.5),), "tuning/dsc": ((10, 0.1),)}, 2),
        ({}, 1),
    ],
)
def test_loss_rate_and_tuning_metrics_have_a_panel_each_where_they_were_told(
    scalars: dict[str, Points], panels: int
) -> None:
    curves = LearningCurves(scalars=scalars, best_step=10)
    assert panels_of(learning_curves_figure("Baseline", curves, steps=1000)) == panels


def words_of(picture: bytes) -> list[str]:
    """Return the texts of a picture: letters are drawn, and each text is a comment beside them."""
    parser = ElementTree.XMLParser(target=ElementTree.TreeBuilder(insert_comments=True))
    root = ElementTree.fromstring(picture, parser)
    return [(node.text or "").strip() for node in root.iter() if node.tag is ElementTree.Comment]


def test_the_best_step_and_what_is_left_out_are_told_in_words() -> None:
    whole = words_of(learning_curves_figure("Baseline", CURVES, steps=1000))
    assert {"Baseline", "exam AUC", "DSC", "best step: 500"} <= set(whole)
    lacking = CURVES.with_point("tuning/exam_auc", 1000, NAN)
    lacking = lacking.with_point("tuning/pixel_ap", 1000, NAN)
    words = words_of(learning_curves_figure("Baseline", lacking, steps=1000))
    assert {"exam AUC (1 not defined)", "pixel AP (1 not defined)", "DSC"} <= set(words)


def test_a_value_that_is_not_finite_does_not_move_the_picture() -> None:
    loss = {"training/loss": ((10, 0.7), (20, 0.5), (30, 0.4))}
    broken = {"training/loss": (*loss["training/loss"], (40, NAN), (50, float("inf")))}
    without, with_it = (
        words_of(learning_curves_figure("Baseline", LearningCurves(scalars=scalars), steps=60))
        for scalars in (loss, broken)
    )
    assert set(with_it) ^ set(without) == {"Training loss", "Training loss (2 not defined)"}


def test_the_loss_has_a_log_scale_where_all_of_it_is_positive() -> None:
    for least, label in ((0.1, "(log scale)"), (0.0, "Training loss")):
        curves = LearningCurves(scalars={"training/loss": ((10, 0.7), (20, least))})
        words = words_of(learning_curves_figure("Baseline", curves, steps=20))
        assert ("(log scale)" in words) == (least > 0)
        assert label in words
