"""Any prefix of DICOM objects: CT slices, masks, and a `labels.csv` in its root.

Masks are DICOM SEG objects, which name their slices, or NIfTI files, which lie on them by their
places in the patient.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
from jaxtyping import UInt8

from ich_ray.config import NiftiConfig
from ich_ray.exam import HEMORRHAGE_TYPES, Kind, Slice
from ich_ray.identity import Pseudonyms
from ich_ray.ingest_plan import Truth, is_volume
from ich_ray.storage import dicom, nifti
from ich_ray.storage.corpora.layout import (
    Beside,
    Role,
    add,
    flag,
    label_rows,
    subtypes_of,
    truth_of,
)
from ich_ray.storage.corpora.nifti import mask_codes, names_in

LABELS = "labels.csv"
MANIFEST = "phantom.json"


@dataclass(frozen=True)
class Folder:
    """A hospital's own export, or phantoms: names mean nothing, headers everything."""

    config: NiftiConfig = field(default_factory=NiftiConfig)
    kind: Kind = "hu"
    window: tuple[float, float] | None = None
    zero_masks: bool = True
    automatic_masks: bool = False

    def role(self, key: str) -> Role:
        """Only the labels, the phantoms' manifest and NIfTI masks are known by name."""
        if key == LABELS:
            return "labels"
        if is_volume(key):
            named = not self.config.mask or names_in(self.config.mask, key) is not None
            return "mask" if named else "unknown"
        return "manifest" if key == MANIFEST else "object"

    def place(self, key: str) -> Beside | None:
        """Only the header says, but of a NIfTI mask, whose exam lies beside it."""
        if not is_volume(key):
            return None
        names = names_in(self.config.mask, key)
        if names is None:
            return Beside(key.rpartition("/")[0], climb=True)
        return Beside(self.config.image.format(**names).rstrip("/"), climb=False)

    def label_files(self) -> Sequence[str]:
        """In the root of the prefix."""
        return (LABELS,)

    def read_labels(self, text: str) -> dict[str, Truth]:
        """Read `SOPInstanceUID,any` and the five subtypes."""
        labels: dict[str, Truth] = {}
        for line, row in label_rows(text, ("SOPInstanceUID", "any", *HEMORRHAGE_TYPES)):
            subtypes = subtypes_of(line, row, HEMORRHAGE_TYPES)
            truth = truth_of(line, flag(line, row, "any"), subtypes)
            add(labels, line, row["SOPInstanceUID"], truth)
        return labels

    def expected_key(self, slice_id: str) -> str:
        """Return a name for what has none: files are not named by their slices here."""
        return f"{LABELS}#{slice_id}"

    def read_slices(self, key: str, data: bytes, pseudonyms: Pseudonyms) -> list[Slice]:
        """Decode the DICOM object."""
        return [dicom.read_slice(data, pseudonyms)]

    def read_masks(
        self, key: str, data: bytes, slices: Mapping[str, Slice], pseudonyms: Pseudonyms
    ) -> dict[str, UInt8[np.ndarray, "rows columns"]]:
        """Decode a segmentation, or lay a NIfTI mask on the slices."""
        if is_volume(key):
            mask = nifti.read_mask(data, codes=mask_codes(self.config))
            return nifti.masks_on(mask, slices)
        return dicom.read_masks(data, pseudonyms, slices, automatic=self.automatic_masks)
