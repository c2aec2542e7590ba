"""Any prefix of DICOM objects: CT slices, DICOM SEG masks, and a `labels.csv` in its root."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import UInt8

from ich_ray.exam import HEMORRHAGE_TYPES, Kind, Slice
from ich_ray.identity import Pseudonyms
from ich_ray.ingest_plan import Truth
from ich_ray.storage import dicom
from ich_ray.storage.corpora.layout import (
    Place,
    Role,
    add,
    flag,
    label_rows,
    subtypes_of,
)

LABELS = "labels.csv"
MANIFEST = "phantom.json"


@dataclass(frozen=True)
class Folder:
    """A hospital's own export, or phantoms: names mean nothing, headers everything."""

    kind: Kind = "hu"
    window: tuple[float, float] | None = None
    zero_masks: bool = True

    def role(self, key: str) -> Role:
        """Only the labels and the phantoms' manifest are known by name."""
        if key == LABELS:
            return "labels"
        return "manifest" if key == MANIFEST else "object"

    def place(self, key: str) -> Place | None:
        """Only the header says."""
        return None

    def label_files(self) -> Sequence[str]:
        """In the root of the prefix."""
        return (LABELS,)

    def read_labels(self, text: str) -> dict[str, Truth]:
        """Read `SOPInstanceUID,any` and the five subtypes."""
        labels: dict[str, Truth] = {}
        for line, row in label_rows(text, ("SOPInstanceUID", "any", *HEMORRHAGE_TYPES)):
            truth = Truth(flag(line, row, "any"), subtypes_of(line, row, HEMORRHAGE_TYPES))
            add(labels, line, row["SOPInstanceUID"], truth)
        return labels

    def expected_key(self, slice_id: str) -> str:
        """Return a name for what has none: files are not named by their slices here."""
        return f"{LABELS}#{slice_id}"

    def read_slice(self, key: str, data: bytes, pseudonyms: Pseudonyms) -> Slice:
        """Decode the DICOM object."""
        return dicom.read_slice(data, pseudonyms)

    def read_masks(
        self, key: str, data: bytes, pseudonyms: Pseudonyms
    ) -> dict[str, UInt8[np.ndarray, "rows columns"]]:
        """Decode the segmentation."""
        return dicom.read_masks(data, pseudonyms)
