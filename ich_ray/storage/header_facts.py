"""What a slice's header says of its series, read without converting what is not needed.

Every object's header is read before its series is chosen, so each microsecond counts: numbers and
codes are taken from the raw bytes, which are ASCII, and not through pydicom's values.
"""

import math
from functools import lru_cache

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
    orientation = _text(dataset, "ImageOrientationPatient")
    position, tilt = _place(orientation, _text(dataset, "ImagePositionPatient"))
    thickness = _numbers(_text(dataset, "SliceThickness"), 1)
    return HeaderFacts(
        position_mm=position,
        tilt_deg=tilt,
        thickness_mm=thickness[0] if thickness else None,
        series_number=_whole(_text(dataset, "SeriesNumber")),
        acquisition=_whole(_text(dataset, "AcquisitionNumber")),
        instance=_whole(_text(dataset, "InstanceNumber")),
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


def _place(orientation: str, corner: str) -> tuple[float | None, float | None]:
    directions, start = _numbers(orientation, 6), _numbers(corner, 3)
    if directions is None:
        return None, None
    try:
        normal = volume.normal_of(directions)
    except InvalidExam:
        return None, None
    position = None if start is None else volume.position_along(normal, start)
    return position, volume.tilt_of(normal)


def _text(dataset: Dataset | PlainDataset, name: str) -> str:
    if isinstance(dataset, PlainDataset):
        value = dataset.get(name)
    else:
        tag = tag_for_keyword(name)
        assert tag is not None, name
        value = dataset.get_item(tag).value if tag in dataset else None
    if isinstance(value, bytes):
        # What is looked for is ASCII; other letters need only not fail.
        return value.decode("latin-1").strip(" \0")
    if value is None or isinstance(value, str | int | float):
        return "" if value is None else str(value)
    return "\\".join(str(part) for part in value)


def _numbers(text: str, count: int) -> list[float] | None:
    try:
        numbers = [float(part) for part in text.split("\\")]
    except ValueError:
        return None
    fits = len(numbers) == count and all(math.isfinite(number) for number in numbers)
    return numbers if fits else None


def _whole(text: str) -> int | None:
    try:
        return int(text)
    except ValueError:
        return None
