"""What a guarded process is asked to do in the tests."""

import ctypes
import os
import time

import numpy as np

from ich_ray.errors import InvalidExam, Reason
from ich_ray.storage.guarded import Answer


def size_of(data: bytes, *, times: int) -> Answer:
    return {"size": len(data) * times, "process": os.getpid()}, [np.frombuffer(data, "<u2")]


def refuse(data: bytes) -> Answer:
    raise InvalidExam(Reason.NOT_CT, "no head")


def crash(data: bytes) -> Answer:
    ctypes.string_at(0)
    raise AssertionError


def wait(data: bytes) -> Answer:
    time.sleep(60)
    raise AssertionError


def spin(data: bytes) -> Answer:
    while True:
        pass


def fill(data: bytes) -> Answer:
    return None, [np.ones(2**40, np.uint8)]


def crash_second(data: bytes) -> Answer:
    """Damage the process without a sign, so that the next object ends it."""
    os.environ["DAMAGED"] = "1" if "DAMAGED" in os.environ else ""
    if os.environ["DAMAGED"]:
        ctypes.string_at(0)
    return "survived", []
