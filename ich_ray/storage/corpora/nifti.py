"""Image-and-mask NIfTI by path templates: CT-ICH 1.3.1, BHSD, Seg-CQ500, INSTANCE22 and the like.

One file is an exam, and each of its axial planes a slice. The settings of the public corpora stand
in experiments/public_nifti.toml.
"""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import UInt8

from ich_ray import volume
from ich_ray.config import NiftiConfig
from ich_ray.errors import InvalidExam, Reason
from ich_ray.exam import HEMORRHAGE_TYPES, Geometry, Kind, Slice
from ich_ray.identity import Pseudonyms
from ich_ray.ingest_plan import Truth
from ich_ray.storage import nifti
from ich_ray.storage.corpora.ct_ich import RAW_LABELS, diagnoses
from ich_ray.storage.corpora.layout import Place, Role, add
from ich_ray.storage.nifti_volume import Volume


@dataclass(frozen=True)
class Nifti:
    """The key says whose exam it is, the affine where each slice lies."""

    config: NiftiConfig
    kind: Kind = "hu"
    window: tuple[float, float] | None = None
    zero_masks: bool = True

    def role(self, key: str) -> Role:
        """Tell images from masks by the templates."""
        if self.config.labels != "none" and key == RAW_LABELS:
            return "labels"
        if names_in(self.config.image, key) is not None:
            return "slice"
        return "mask" if names_in(self.config.mask, key) is not None else "unknown"

    def place(self, key: str) -> Place | None:
        """Return the exam, for an image and for its mask."""
        names = names_in(self.config.image, key) or names_in(self.config.mask, key)
        assert names is not None
        patient, exam = self._identifiers(names)
        return Place(patient, exam, f"{exam}/volume")

    def label_files(self) -> Sequence[str]:
        """Return where the labels lie, if the corpus has any."""
        return () if self.config.labels == "none" else (RAW_LABELS,)

    def read_labels(self, text: str) -> dict[str, Truth]:
        """Read CT-ICH 1.3.1's table: slices are numbered from 1 in the file's own order."""
        labels: dict[str, Truth] = {}
        for line, patient, number, truth in diagnoses(text):
            name, _ = self._identifiers({"patient": f"{patient:03d}"})
            add(labels, line, f"{name}/{number}", truth)
        return labels

    def expected_key(self, slice_id: str) -> str:
        """Return the file of a slice that the labels name."""
        patient, _, _ = slice_id.removeprefix(self.config.prefix).rpartition("/")
        return self.config.image.format(patient=patient)

    def read_slices(self, key: str, data: bytes, pseudonyms: Pseudonyms) -> list[Slice]:
        """Decode a volume into its axial slices, from the feet to the head."""
        names = names_in(self.config.image, key)
        assert names is not None
        patient, exam = self._identifiers(names)
        # As CT-ICH's labels name a slice: by its patient, where a patient has one exam.
        named_by = exam if "exam" in names and "patient" in names else patient
        read = nifti.read_image(data)
        return [
            Slice(
                exam=pseudonyms.of(exam),
                key=pseudonyms.of(f"{named_by}/{number}"),
                patient=pseudonyms.of(patient),
                series=pseudonyms.of(exam),
                stored=read.values[index],
                slope=read.slope,
                intercept=read.intercept,
                geometry=_geometry(read, index),
            )
            for index, number in enumerate(read.numbers)
        ]

    def read_masks(
        self, key: str, data: bytes, slices: Mapping[str, Slice], pseudonyms: Pseudonyms
    ) -> dict[str, UInt8[np.ndarray, "rows columns"]]:
        """Decode a mask and lay its planes on the slices of its exam."""
        mask = nifti.read_mask(data, codes=mask_codes(self.config))
        found = nifti.masks_on(mask, slices)
        if len(found) < len(slices):
            raise InvalidExam(Reason.MASK_MISMATCH, "mask and image have another number of slices")
        return found

    def _identifiers(self, names: Mapping[str, str]) -> tuple[str, str]:
        """Return patient and exam; a bare number names others elsewhere, so it has a prefix."""
        patient = self.config.prefix + names.get("patient", names.get("exam", ""))
        both = "patient" in names and "exam" in names
        return patient, self.config.prefix + names["exam"] if both else f"{patient}/exam"


def names_in(template: str, key: str) -> dict[str, str] | None:
    """Return what stands in a key where a template has braces, or None if the two differ.

    >>> names_in("images/ID_{patient}_ID_{exam}.nii.gz", "images/ID_0a_ID_1b.nii.gz")
    {'patient': '0a', 'exam': '1b'}
    >>> names_in("ct_scans/{patient}.nii", "masks/049.nii")
    """
    pieces = re.split(r"\{(\w+)\}", template)
    pattern, seen = "", set()
    for number, piece in enumerate(pieces):
        if number % 2 == 0:
            pattern += re.escape(piece)
        else:
            pattern += f"(?P={piece})" if piece in seen else f"(?P<{piece}>[^/]+?)"
            seen.add(piece)
    match = re.fullmatch(pattern, key) if template else None
    return None if match is None else match.groupdict()


def mask_codes(config: NiftiConfig) -> dict[int, int]:
    """Return what a corpus's mask values are in `Slice.mask`; empty: any value is 1."""
    types = ("", *HEMORRHAGE_TYPES)
    return {
        int(value): 1 if meaning == "any" else types.index(meaning)
        for value, meaning in config.mask_values.items()
    }


def _geometry(read: Volume, index: int) -> Geometry:
    plane = read.plane(index)
    between_columns, between_rows = np.linalg.norm(read.affine[:3, :2], axis=0)
    row, column = read.affine[:3, 0] / between_columns, read.affine[:3, 1] / between_rows
    normal = volume.normal_of([*row, *column])
    return Geometry(
        position_mm=volume.position_along(normal, plane.corner_mm),
        spacing_mm=(float(between_rows), float(between_columns)),
        # The file knows the step between slices, not their nominal thickness.
        thickness_mm=abs(volume.position_along(normal, read.affine[:3, 2].tolist())),
        tilt_deg=volume.tilt_of(normal),
        plane=plane,
    )
