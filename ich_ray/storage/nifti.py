"""NIfTI files as images or as masks on slices, within the limits of one object.

What a file holds plainly is read here: time and memory are in proportion to its bytes. What is
deflated may be a bomb, and is read in a guarded process, whose time grows with the volume.
"""

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
from jaxtyping import Float64, UInt8

from ich_ray.errors import InvalidExam, Reason
from ich_ray.exam import Slice
from ich_ray.storage import nifti_volume
from ich_ray.storage.guarded import Answer, guarded
from ich_ray.storage.nifti_volume import GZIP, MAX_BYTES, Volume
from ich_ray.volume import OFF_GRID

LARGEST_TIME_FACTOR = 6.0
"""Of a volume of `MAX_BYTES`; smaller ones in proportion. 400 slices of 512 x 512 in 64 bits, whose
file goes from left to right, so that each slice is gathered from all of it, took 6 s on an idle
core: too close to the 10 s of one object. By their size they have 49 s."""


def read_image(data: bytes) -> Volume:
    """Return an axial volume whose values are 16-bit integers, each exactly what the file holds.

    Raises:
        InvalidExam: It cannot be read (see `nifti_volume.read_volume`), is not axial, or its
            values are fractions, not finite, of more than 16 bits, or no HU.
    """
    return read_as(nifti_volume.decode_image, data)


def read_mask(data: bytes, *, codes: Mapping[int, int]) -> Volume:
    """Return a mask whose values are codes of `Slice.mask`.

    Args:
        data: The file.
        codes: Value of the mask -> code; empty: every value above 0 is 1.

    Raises:
        InvalidExam: It cannot be read, or holds anything but known whole numbers.
    """
    return read_as(nifti_volume.decode_mask, data, codes=list(codes.items()))


def read_as(decode: Callable[..., Answer], data: bytes, **arguments: Any) -> Volume:
    """Return what a function of ours makes of a file: plainly, or in a guarded process.

    Args:
        decode: Of a module's own; takes the bytes and the arguments, and returns the facts and the
            arrays of a `Volume`, as `nifti_volume.decode_image` does.
        data: The file.
        arguments: That JSON can say.

    Raises:
        InvalidExam: The function refused it, or it took too much time or memory.
    """
    if data.startswith(GZIP):
        share = nifti_volume.promised_bytes(data) / MAX_BYTES
        facts, (values, affine) = guarded(
            f"{decode.__module__}:{decode.__name__}",
            data,
            time_factor=1 + (LARGEST_TIME_FACTOR - 1) * share,
            **arguments,
        )
    else:
        facts, (values, affine) = decode(data, **arguments)
    return Volume(values, facts["slope"], facts["intercept"], affine, tuple(facts["numbers"]))


def masks_on(
    mask: Volume, slices: Mapping[str, Slice]
) -> dict[str, UInt8[np.ndarray, "row column"]]:
    """Return the planes of a mask by the key of the slice that each lies on in the patient.

    Args:
        mask: As `read_mask` returns it.
        slices: Of its exam, by key; those of other series or places have no plane of it.

    Raises:
        InvalidExam: It marks a place where no slice is, or no slice at all has its frame, its
            size and its pixels.
    """
    planes, to_index = mask.values, np.linalg.inv(mask.affine)
    numbers = {key: _plane_number(to_index, planes.shape, item) for key, item in slices.items()}
    found = {key: planes[number] for key, number in numbers.items() if number is not None}
    if not found:
        raise InvalidExam(
            Reason.MASK_MISMATCH,
            "no slice of the exam lies on a plane of the mask with the same pixels; draw it on "
            "the series as it is, or resample it to the series",
        )
    marked = set(np.flatnonzero(planes.any(axis=(1, 2))).tolist())
    if not marked <= set(numbers.values()):
        raise InvalidExam(Reason.MASK_MISMATCH, "the mask marks a plane where there is no slice")
    return found


def _plane_number(
    to_index: Float64[np.ndarray, "4 4"], shape: tuple[int, ...], item: Slice
) -> int | None:
    """Return which plane of a volume lies on a slice, pixel on pixel; None if none does."""
    plane, (rows, columns) = item.geometry.plane, item.stored.shape
    if plane is None or (rows, columns) != shape[1:]:
        return None
    pixels = np.array([(0, 0), (columns - 1, 0), (0, rows - 1)], np.float64)
    steps = np.array([plane.column_step_mm, plane.row_step_mm])
    places = np.column_stack([np.array(plane.corner_mm) + pixels @ steps, np.ones(3)])
    found = (to_index @ places.T)[:3].T
    number = round(float(found[0, 2]))
    expected = np.column_stack([pixels, np.full(3, number)])
    fits = bool((np.abs(found - expected) <= OFF_GRID).all()) and 0 <= number < shape[0]
    return number if fits else None
