"""Where a DICOM slice lies in the patient, and whether a segmentation lies there too."""

import math
from collections.abc import Mapping, Sequence
from typing import Any

from ich_ray import volume
from ich_ray.errors import InvalidExam, Reason
from ich_ray.exam import Geometry, Plane, Slice
from ich_ray.identity import Pseudonyms
from ich_ray.storage.dicom_pixels import Tags


def geometry_of(dataset: Tags, pseudonyms: Pseudonyms) -> Geometry:
    """Return what a slice's header says of its place in the patient.

    Raises:
        InvalidExam: A tag holds no such numbers.
    """
    orientation = numbers_of(dataset, "ImageOrientationPatient", 6)
    corner = numbers_of(dataset, "ImagePositionPatient", 3)
    spacing = numbers_of(dataset, "PixelSpacing", 2)
    thickness = numbers_of(dataset, "SliceThickness", 1)
    position = tilt = None
    if orientation is not None:
        normal = volume.normal_of(orientation)
        tilt = volume.tilt_of(normal)
        position = None if corner is None else volume.position_along(normal, corner)
    if spacing is not None and min(spacing) <= 0:
        raise InvalidExam(Reason.BAD_HEADER, "Pixel Spacing (0028,0030) is not positive")
    plane = None
    if orientation is not None and corner is not None and spacing is not None:
        plane = Plane.of(corner, orientation, spacing)
    frame = text_of(dataset, "FrameOfReferenceUID")
    return Geometry(
        position_mm=position,
        spacing_mm=None if spacing is None else (spacing[0], spacing[1]),
        thickness_mm=None if thickness is None else thickness[0],
        tilt_deg=tilt,
        plane=plane,
        frame=pseudonyms.shared(frame) if frame else None,
    )


def check_place(
    found: Mapping[str, Any],
    keys: Sequence[str],
    slices: Mapping[str, Slice],
    pseudonyms: Pseudonyms,
) -> None:
    """Refuse a segmentation that lies elsewhere than its slices, as far as both say where.

    Args:
        found: Facts of `dicom_masks.decode_masks`.
        keys: Pseudonyms of the slices that it names, in its order.
        slices: Of its exam, by key.
        pseudonyms: Of its identifiers.

    Raises:
        InvalidExam: Another frame of reference, or other places in the same one.
    """
    frames = {slices[key].geometry.frame for key in keys if key in slices} - {None}
    if found["frame"] and frames - {pseudonyms.of(found["frame"])}:
        raise InvalidExam(
            Reason.MASK_MISMATCH,
            "the segmentation and its slices have different frames of reference (0020,0052); "
            "draw it on the series itself, or copy the series' frame of reference",
        )
    for number, *where in found["planes"]:
        item = slices.get(keys[number])
        if item is None or item.geometry.plane is None:
            continue
        rows, columns = item.stored.shape
        if not volume.same_pixels(item.geometry.plane, Plane.of(*where), (rows, columns)):
            raise InvalidExam(
                Reason.MASK_MISMATCH,
                "a frame of the segmentation lies elsewhere than the slice that it names; "
                "export it in the series' own grid",
            )


def text_of(dataset: Tags, name: str) -> str:
    """Return the value of a tag without its padding, empty where it is absent."""
    value = dataset.get(name)
    return "" if value is None else str(value).strip().strip("\0").strip()


def values_of(dataset: Tags, name: str) -> Sequence[Any]:
    """Return the values of a tag, none where it is absent or empty."""
    value = dataset.get(name)
    if value is None or value == "":
        return []
    return [value] if isinstance(value, str | int | float) else list(value)


def numbers_of(dataset: Tags, name: str, count: int) -> list[float] | None:
    """Return the numbers of a tag, or None where it is absent or empty.

    Raises:
        InvalidExam: They are not so many, or not finite.
    """
    values = values_of(dataset, name)
    if not values:
        return None
    numbers = [float(value) for value in values]
    if len(numbers) != count or not all(map(math.isfinite, numbers)):
        raise InvalidExam(Reason.BAD_HEADER, f"{name} does not hold {count} finite numbers")
    return numbers
