"""What a slice's header says of its series, read without converting what is not needed.

Every object's header is read before its series is chosen, so each microsecond counts: numbers and
codes are taken from the raw bytes, which are ASCII, and not through pydicom's values.
"""

import math
from functools import lru_cache
from typing import Any

from pydicom.datadict import tag_for_keyword
from pydicom.dataset import Dataset

from ich_ray import volume
from ich_ray.errors import InvalidExam
from ich_ray.series import HeaderFacts
from ich_ray.series_signs import Sign, signs_of
from ich_ray.storage.plain_dicom import PlainDataset


def header_facts(dataset: Dataset | PlainDataset) -> HeaderFacts:
    """Return what decides whether a slice's series is read.

    Whatever is absent, or no number, is None: whether the slice itself can be used is decided when
    it is decoded, by its own reasons.

    Raises:
        Unsure: A plain data set leaves an odd value to pydicom.
    """
    orientation = _numbers(dataset, "ImageOrientationPatient", 6)
    position, tilt = _place(orientation, _numbers(dataset, "ImagePositionPatient", 3))
    thickness = _numbers(dataset, "SliceThickness", 1)
    return HeaderFacts(
        position_mm=position,
        tilt_deg=tilt,
        thickness_mm=thickness[0] if thickness else None,
        series_number=_whole(dataset, "SeriesNumber"),
        acquisition=_whole(dataset, "AcquisitionNumber"),
        instance=_whole(dataset, "InstanceNumber"),
        signs=_signs(
            _text(dataset, "SeriesDescription"),
            _text(dataset, "ConvolutionKernel"),
            _text(dataset, "ImageType"),
            _text(dataset, "ContrastBolusAgent"),
        ),
    )


@lru_cache(maxsize=1024)
def _signs(description: str, kernel: str, image_type: str, agent: str) -> frozenset[Sign]:
    """Look at the text of a series once, and not for each of its slices."""
    return signs_of(
        description=description,
        # Siemens writes kernel and strength: the first names the kernel.
        kernel=kernel.partition("\\")[0],
        image_type=image_type.split("\\"),
        contrast_agent=agent,
    )


def _place(
    directions: list[float] | None, start: list[float] | None
) -> tuple[float | None, float | None]:
    if directions is None:
        return None, None
    try:
        normal = volume.normal_of(directions)
    except InvalidExam:
        return None, None
    position = None if start is None else volume.position_along(normal, start)
    return position, volume.tilt_of(normal)


def _value(dataset: Dataset | PlainDataset, name: str) -> Any:
    if isinstance(dataset, PlainDataset):
        return dataset.get(name)
    tag = tag_for_keyword(name)
    assert tag is not None, name
    return dataset.get_item(tag).value if tag in dataset else None


def _text(dataset: Dataset | PlainDataset, name: str) -> str:
    return _as_text(_value(dataset, name))


def _as_text(value: Any) -> str:
    if isinstance(value, str):
        return value
    if isinstance(value, bytes):
        # What is looked for is ASCII; other letters need only not fail.
        return value.decode("latin-1").strip(" \0")
    if value is None or isinstance(value, int | float):
        return "" if value is None else str(value)
    return "\\".join(str(part) for part in value)


def _numbers(dataset: Dataset | PlainDataset, name: str, count: int) -> list[float] | None:
    value = _value(dataset, name)
    if isinstance(value, float):
        numbers = [value]
    elif isinstance(value, list) and isinstance(value[0], float):
        numbers = value
    else:
        try:
            numbers = [float(part) for part in _as_text(value).split("\\")]
        except ValueError:
            return None
    fits = len(numbers) == count and all(map(math.isfinite, numbers))
    return numbers if fits else None


def _whole(dataset: Dataset | PlainDataset, name: str) -> int | None:
    value = _value(dataset, name)
    try:
        return value if isinstance(value, int) else int(_as_text(value))
    except ValueError:
        return None
