"""The nouns: a slice of an exam, and the five types of hemorrhage."""

from collections.abc import Sequence
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

SURE = 254
"""Probability 1 in a mask of a teacher's probabilities; 0 is probability 0."""

Kind = Literal["hu", "window"]


Vector = tuple[float, float, float]
"""In the patient, mm: to the left, to the back, to the head (DICOM's axes)."""


@dataclass(frozen=True, slots=True)
class Plane:
    """Where the pixels of a slice lie in the patient."""

    corner_mm: Vector
    """Centre of the pixel of row 0 and column 0."""

    column_step_mm: Vector
    """From a pixel to the next of its row."""

    row_step_mm: Vector
    """From a pixel to the next of its column."""

    @classmethod
    def of(
        cls, corner: Sequence[float], orientation: Sequence[float], spacing: Sequence[float]
    ) -> "Plane":
        """Return the plane of a slice.

        Args:
            corner: Image Position (Patient) (0020,0032), mm.
            orientation: Image Orientation (Patient) (0020,0037): of a row, then of a column.
            spacing: Pixel Spacing (0028,0030): between rows, then between columns, mm.

        >>> Plane.of([0.0, 0.0, 5.0], [1.0, 0.0, 0.0, 0.0, 1.0, 0.0], [2.0, 3.0]).column_step_mm
        (3.0, 0.0, 0.0)
        """
        x, y, z = (float(value) for value in corner)
        a, b, c, d, e, f = (float(value) for value in orientation)
        between_rows, between_columns = (float(value) for value in spacing)
        return cls(
            (x, y, z),
            (a * between_columns, b * between_columns, c * between_columns),
            (d * between_rows, e * between_rows, f * between_rows),
        )


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

    plane: Plane | None = None
    """Known while a source is read; a corpus does not keep it."""

    frame: str | None = None
    """Pseudonym of the Frame of Reference UID (0020,0052), likewise."""


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
    exam_label: bool | None = None
    """What is said of the exam as a whole: readers of CQ500 name no slices."""

    exam_subtypes: tuple[bool, bool, bool, bool, bool] | None = None
    mask: UInt8[np.ndarray, "rows columns"] | None = None
    """0, 1 or a subtype code 1 to 5, IGNORED; aligned with `stored`."""
