"""The nouns: a slice of an exam, and the five types of hemorrhage."""

from dataclasses import dataclass
from typing import Literal

import numpy as np
from jaxtyping import Integer, UInt8

HEMORRHAGE_TYPES = (
    "epidural",
    "intraparenchymal",
    "intraventricular",
    "subarachnoid",
    "subdural",
)
"""In this order everywhere: subtype columns, and mask codes 1 to 5."""

IGNORED = 255
"""Mask value of pixels that take part in no loss and no count."""

Kind = Literal["hu", "window"]


@dataclass(frozen=True, kw_only=True, slots=True)
class Geometry:
    """Where a slice lies. Lengths in mm, angles in degrees; None where the source is silent."""

    position_mm: float | None
    """Along the normal of the slices; only the order and the differences mean anything."""

    spacing_mm: tuple[float, float] | None
    """(row, column)."""

    thickness_mm: float | None
    tilt_deg: float | None
    """Gantry tilt: the angle between the slice's normal and the patient's long axis."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Slice:
    """One slice with its pixels and what is known of its truth.

    `exam`, `key`, `patient` and `series` are pseudonyms (see identity.py).
    """

    exam: str
    key: str
    patient: str
    series: str
    stored: Integer[np.ndarray, "rows columns"]
    """Repaired stored values; HU = slope * stored + intercept (kind `hu`)."""

    slope: float
    intercept: float
    kind: Kind = "hu"
    """`window`: an 8-bit brain window; slope and intercept map it back over that window."""

    center: float | None = None
    width: float | None = None
    geometry: Geometry
    previous: str | None = None
    """Key of the physical neighbour before it in the exam, where a corpus was read."""

    next: str | None = None
    label: bool | None = None
    subtypes: tuple[bool, bool, bool, bool, bool] | None = None
    mask: UInt8[np.ndarray, "rows columns"] | None = None
    """0, 1 or a subtype code 1 to 5, IGNORED; aligned with `stored`."""
