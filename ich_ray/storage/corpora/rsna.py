"""RSNA 2019: a flat folder of `ID_<sop>.dcm`, and `stage_2_train.csv` in long form.

The source may be the folder, the competition's root with its folders and the CSV, or Kaggle's own
zip archive, with or without a path into it.
"""

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import UInt8

from ich_ray.errors import ConfigError
from ich_ray.exam import HEMORRHAGE_TYPES, Kind, Slice
from ich_ray.identity import Pseudonyms
from ich_ray.ingest_plan import Truth
from ich_ray.storage import dicom
from ich_ray.storage.corpora.layout import Place, Role, flag, label_rows

LABELS = "stage_2_train.csv"
ARCHIVE_FOLDER = "rsna-intracranial-hemorrhage-detection"
"""† The one folder at the top of Kaggle's archive, of the competition's page."""


@dataclass(frozen=True)
class Rsna:
    """The competition's layout: exam and patient stand in the headers, labels beside the folder.

    Its labels are of slices; no slice has a mask, not even a negative one, since training on the
    negatives alone would be training on half a truth.
    """

    kind: Kind = "hu"
    window: tuple[float, float] | None = None
    zero_masks: bool = False
    automatic_masks: bool = False

    def role(self, key: str) -> Role:
        """Slices are named `ID_*.dcm`."""
        name = key.rpartition("/")[2]
        if name.startswith("ID_") and name.endswith(".dcm"):
            return "object"
        return "labels" if key in self.label_files() else "unknown"

    def place(self, key: str) -> Place | None:
        """Only the header says."""
        return None

    def label_files(self) -> Sequence[str]:
        """In the folder, below the archive's top, or beside the folder."""
        return LABELS, f"{ARCHIVE_FOLDER}/{LABELS}", f"../{LABELS}"

    def read_labels(self, text: str) -> dict[str, Truth]:
        """Read `ID_<sop>_<type>,<0 or 1>`; the corpus repeats four slices' rows, in agreement."""
        found: dict[str, dict[str, bool]] = defaultdict(dict)
        for line, row in label_rows(text, ("ID", "Label")):
            slice_id, _, kind = row["ID"].rpartition("_")
            value = flag(line, row, "Label")
            if kind not in (*HEMORRHAGE_TYPES, "any") or not slice_id:
                raise ConfigError(f"line {line} of the labels names no slice and type; see ID")
            if found[slice_id].setdefault(kind, value) != value:
                raise ConfigError(f"line {line} of the labels contradicts an earlier one")
        return {slice_id: _truth(flags) for slice_id, flags in found.items()}

    def expected_key(self, slice_id: str) -> str:
        """Return the file of a slice."""
        return f"{slice_id}.dcm"

    def read_slices(self, key: str, data: bytes, pseudonyms: Pseudonyms) -> list[Slice]:
        """Decode the DICOM object."""
        return [dicom.read_slice(data, pseudonyms)]

    def read_masks(
        self, key: str, data: bytes, slices: Mapping[str, Slice], pseudonyms: Pseudonyms
    ) -> dict[str, UInt8[np.ndarray, "rows columns"]]:
        """Decode a segmentation; the competition has none."""
        return dicom.read_masks(data, pseudonyms, slices, automatic=self.automatic_masks)


def _truth(flags: dict[str, bool]) -> Truth:
    if any(name not in flags for name in (*HEMORRHAGE_TYPES, "any")):
        raise ConfigError("the labels lack some of the six rows of a slice; fetch them again")
    first, second, third, fourth, fifth = (flags[name] for name in HEMORRHAGE_TYPES)
    if flags["any"] != any((first, second, third, fourth, fifth)):
        raise ConfigError(
            "the labels contradict themselves: `any` of a slice is not that of its five types; "
            "fetch them again"
        )
    return Truth(flags["any"], (first, second, third, fourth, fifth))
