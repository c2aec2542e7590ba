"""What an audit remembers of a slice: truth, geometry, range, and a fingerprint of its image."""

import hashlib
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float32

from ich_ray.exam import IGNORED, Geometry, Kind, Slice

AIR_HU, DENSEST_HU = -1000, 3071
"""An image is compared between these: exporters differ in what they write for padding (-1000 to
-3024), and in whether metal ends at the 12-bit scale."""


@dataclass(frozen=True, kw_only=True, slots=True)
class SliceFacts:
    """One slice without its pixels; `exam`, `slice`, `patient` and `series` are pseudonyms."""

    exam: str
    slice: str
    patient: str
    series: str
    kind: Kind
    rows: int
    columns: int
    geometry: Geometry
    label: bool | None
    subtypes: tuple[bool, bool, bool, bool, bool] | None
    marked: tuple[int, ...] | None
    """Values of the mask's marked pixels, ascending; None where there is no mask."""

    low_hu: float
    high_hu: float
    image: str
    """See `image_fingerprint`."""

    @property
    def blank(self) -> bool:
        """Whether all pixels are the same: such images are alike without being copies."""
        return self.low_hu == self.high_hu


def facts_of(item: Slice, hounsfield: Float32[np.ndarray, "rows columns"]) -> SliceFacts:
    """Return what is remembered of a slice.

    Args:
        item: Read with its truth.
        hounsfield: Its pixels in HU; at least one.
    """
    marked = None
    if item.mask is not None:
        values = np.flatnonzero(np.bincount(item.mask.ravel(), minlength=256))
        marked = tuple(int(value) for value in values if value not in (0, IGNORED))
    rows, columns = hounsfield.shape
    return SliceFacts(
        exam=item.exam,
        slice=item.key,
        patient=item.patient,
        series=item.series,
        kind=item.kind,
        rows=rows,
        columns=columns,
        geometry=item.geometry,
        label=item.label,
        subtypes=item.subtypes,
        marked=marked,
        low_hu=float(hounsfield.min()),
        high_hu=float(hounsfield.max()),
        image=image_fingerprint(hounsfield),
    )


def image_fingerprint(hounsfield: Float32[np.ndarray, "rows columns"]) -> str:
    """Return 32 hex digits that are the same for the same image in HU, however it is stored.

    Turning by quarter turns and mirroring change nothing: corpora made from others differ so
    (BHSD from RSNA 2019). The hash is of what these leave: how many pixels have each HU, and the
    sums along both axes, sorted. A change of one pixel by 1 HU changes it; an image that was
    resized, resampled, windowed or compressed with loss has another.

    >>> image = np.arange(6, dtype=np.float32).reshape(2, 3)
    >>> image_fingerprint(image) == image_fingerprint(image.T[::-1])
    True
    """
    values = np.rint(np.clip(hounsfield, AIR_HU, DENSEST_HU)).astype(np.int64) - AIR_HU
    counts = np.bincount(values.ravel(), minlength=DENSEST_HU - AIR_HU + 1)
    sums = sorted(np.sort(values.sum(axis)).astype("<i8").tobytes() for axis in (0, 1))
    content = hashlib.blake2b(digest_size=16)
    for piece in (*sums, counts.astype("<i8").tobytes()):
        content.update(len(piece).to_bytes(8, "little"))
        content.update(piece)
    return content.hexdigest()
