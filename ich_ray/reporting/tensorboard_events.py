"""A training's learning curves as the bytes of one TensorBoard event file."""

import io
from collections.abc import Mapping

import numpy as np
from tensorboard.compat.proto.event_pb2 import Event
from tensorboard.compat.proto.summary_pb2 import Summary
from tensorboard.summary.writer.record_writer import RecordWriter

from ich_ray.learning_curves import LearningCurves

FILE_NAME = "events.out.tfevents.0.ich_ray"
"""TensorBoard looks for `tfevents` in a name; the name of the folder becomes the run's."""


def tensorboard_events(
    curves: LearningCurves, *, since_s: float, seconds_at: Mapping[int, float]
) -> bytes:
    """Return all scalars as one event file, which replaces the one that was written before.

    Events are ordered by step and name, so that of a run that goes on, the file begins with the
    bytes of the one before: a TensorBoard that shows it reads on where it was. Where the file is
    replaced by renaming, start it with `--load_fast=false`: its fast reader holds the old one.

    Args:
        curves: Values; what is not finite is kept, and TensorBoard marks it.
        since_s: When step 0 began, in seconds since 1970 (UTC).
        seconds_at: By step, when it was done, in seconds after `since_s`. Steps between two of
            them get a time between theirs, and steps after the last one its time.

    Source: TFRecord of Event messages, tensorboard/compat/proto/event.proto, version 2.
    """
    known = {0: 0.0, **seconds_at}
    steps = sorted(known)
    seconds = [known[step] for step in steps]
    points = sorted(
        (step, name, value) for name, curve in curves.scalars.items() for step, value in curve
    )
    buffer = io.BytesIO()
    writer = RecordWriter(buffer)
    writer.write(Event(wall_time=since_s, file_version="brain.Event:2").SerializeToString())
    for step, name, value in points:
        summary = Summary(value=[Summary.Value(tag=name, simple_value=value)])
        time_s = since_s + float(np.interp(step, steps, seconds))
        writer.write(Event(wall_time=time_s, step=step, summary=summary).SerializeToString())
    return buffer.getvalue()
