"""Files of other software, NIfTI or DICOM SEG -> probabilities of the voxels of one exam."""

import numpy as np
from jaxtyping import Float64

from ich_ray.errors import ConfigError, InvalidExam, QualityError
from ich_ray.exam import IGNORED, Plane, Vector
from ich_ray.scored_volume import ScoredVolume
from ich_ray.storage import nifti, scored_nifti
from ich_ray.storage.guarded import guarded
from ich_ray.storage.nifti_volume import MAX_BYTES, check_axial
from ich_ray.storage.objects import Store
from ich_ray.storage.source import unnamed

SEG_TIME_FACTOR = 3.0
"""A segmentation is many slices: 400 frames of 512 x 512 took about 4 s, compressed ones more."""

_DICOM = slice(128, 132), b"DICM"


def read_map(store: Store, url: str, *, name: str, ignored: int | None = IGNORED) -> ScoredVolume:
    """Return the probabilities, or the mask, of one exam (see `foreign_sources`).

    What the file is, its content says; what may be hostile is decoded in a guarded process.

    Args:
        store: Reaches the file.
        url: Of the file.
        name: What messages call it: its file and row or the exam's pseudonym, not the exam's name.
        ignored: Value of a NIfTI mask that takes part in no count; None: every value but 0 is a
            hemorrhage, as in masks of 0 and 255.

    Raises:
        ConfigError: It does not exist.
        QualityError: It is neither, cannot be read, or holds anything but probabilities or masks.
        SurroundingsError: The disk or the store failed.
    """
    try:
        with unnamed(name):
            size = store.size(url)
            if size > MAX_BYTES:
                raise QualityError(
                    f"{name}: {size} bytes, and at most {MAX_BYTES} are read; write 8 or 32 bits "
                    "a voxel on the exam's own grid"
                )
            data = store.read_bytes(url, once=True)
        return volume_of(data, ignored=ignored)
    except FileNotFoundError:
        raise ConfigError(f"{name}: its map does not exist; correct its path") from None
    except InvalidExam as error:
        raise QualityError(f"{name}: its map is not used ({error.reason}): {error}") from None


def volume_of(data: bytes, *, ignored: int | None = IGNORED) -> ScoredVolume:
    """Return what a file holds (see `read_map`).

    Raises:
        InvalidExam: It is neither, cannot be read, or holds anything but probabilities or masks.
    """
    where, magic = _DICOM
    return _of_seg(data) if data[where] == magic else _of_nifti(data, ignored)


def _of_nifti(data: bytes, ignored: int | None) -> ScoredVolume:
    found = nifti.read_as(scored_nifti.decode_scores, data, ignored=ignored)
    check_axial(found)
    values, left_out = found.values, None
    if values.dtype == np.uint8:
        left_out = values == IGNORED
        values = (values == 1).astype(np.float32)
    return ScoredVolume(
        values=np.ascontiguousarray(values, np.float32),
        ignored=left_out if left_out is not None and left_out.any() else None,
        planes=tuple(map(found.plane, range(len(values)))),
        sparse=False,
    )


def _of_seg(data: bytes) -> ScoredVolume:
    facts, (levels, places) = guarded(
        "ich_ray.storage.scored_seg:decode_scores", data, time_factor=SEG_TIME_FACTOR
    )
    return ScoredVolume(
        values=levels.astype(np.float32) / np.float32(facts["levels"]),
        ignored=None,
        planes=tuple(Plane(*map(_vector, place)) for place in places),
        sparse=True,
        automatic=facts["automatic"],
    )


def _vector(values: Float64[np.ndarray, " axis"]) -> Vector:
    x, y, z = (float(value) for value in values)
    return x, y, z
