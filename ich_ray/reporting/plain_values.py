"""Dataclasses, arrays and mappings as the plain values that JSON knows."""

import dataclasses
import math
from collections.abc import Mapping
from typing import Any

import numpy as np


def plain(value: Any) -> Any:
    """Return a value as JSON knows it: numpy and dataclasses unpacked, None for no number.

    >>> plain({"p": np.array([0.5, np.nan], np.float32), "count": np.int64(3)})
    {'p': [0.5, None], 'count': 3}
    """
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return {one.name: plain(getattr(value, one.name)) for one in in_record(value)}
    if isinstance(value, Mapping):
        return {str(key): plain(item) for key, item in value.items()}
    if isinstance(value, np.ndarray | np.generic):
        return plain(value.tolist())
    if isinstance(value, tuple | list):
        return [plain(item) for item in value]
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return value


def in_record(record: Any) -> list["dataclasses.Field[Any]"]:
    """Return the fields that a record keeps: all but those whose metadata says `record: False`."""
    return [one for one in dataclasses.fields(record) if one.metadata.get("record", True)]
