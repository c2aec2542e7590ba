"""CT-ICH 1.0.0: brain-window JPEG slices and masks, and `hemorrhage_diagnosis.csv`."""

import io
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import UInt8
from PIL import Image

from ich_ray.errors import InvalidExam, Reason
from ich_ray.exam import Geometry, Kind, Slice
from ich_ray.identity import Pseudonyms
from ich_ray.ingest_plan import Truth
from ich_ray.storage.corpora.layout import (
    Place,
    Role,
    add,
    flag,
    label_rows,
    subtypes_of,
    truth_of,
    whole_number,
)

RAW_LABELS = "hemorrhage_diagnosis_raw_ct.csv"
LABELS = ("hemorrhage_diagnosis.csv", RAW_LABELS)
THICKNESS_MM = 5.0
"""Nominal, of the corpus's description (Hssayeni 2020); † the JPEG files carry no geometry."""

CENTER_HU, WIDTH_HU = 40.0, 120.0

_COLUMNS = ("Epidural", "Intraparenchymal", "Intraventricular", "Subarachnoid", "Subdural")
_OBJECT = re.compile(r"Patients_CT/(\d+)/brain/(\d+)(_HGE_Seg)?\.jpg")


@dataclass(frozen=True)
class CtIch:
    """`Patients_CT/NNN/brain/N.jpg` and `N_HGE_Seg.jpg`: the key says everything."""

    kind: Kind = "window"
    window: tuple[float, float] | None = (CENTER_HU, WIDTH_HU)
    zero_masks: bool = True

    def role(self, key: str) -> Role:
        """Tell slices from masks by their names."""
        if match := _OBJECT.fullmatch(key):
            return "mask" if match[3] else "slice"
        return "labels" if key in LABELS else "unknown"

    def place(self, key: str) -> Place | None:
        """A patient has one exam; a mask belongs to the slice of its number."""
        match = _OBJECT.fullmatch(key)
        assert match, key
        return Place(*_identifiers(match[1], match[2]))

    def label_files(self) -> Sequence[str]:
        """In the root; older copies have another name."""
        return LABELS

    def read_labels(self, text: str) -> dict[str, Truth]:
        """Read the five subtypes; `No_Hemorrhage` is the opposite of the label."""
        labels: dict[str, Truth] = {}
        for line, patient, number, truth in diagnoses(text):
            add(labels, line, _identifiers(patient, number)[2], truth)
        return labels

    def expected_key(self, slice_id: str) -> str:
        """Return the file of a slice."""
        _, patient, number = slice_id.split("/")
        return f"Patients_CT/{patient}/brain/{number}.jpg"

    def read_slices(self, key: str, data: bytes, pseudonyms: Pseudonyms) -> list[Slice]:
        """Decode 8-bit grey; the window maps it back to [-20, 100] HU."""
        match = _OBJECT.fullmatch(key)
        assert match, key
        patient, exam, slice_id = (pseudonyms.of(part) for part in _identifiers(match[1], match[2]))
        item = Slice(
            exam=exam,
            key=slice_id,
            patient=patient,
            series=exam,
            stored=_grey(data),
            slope=WIDTH_HU / 255,
            intercept=CENTER_HU - WIDTH_HU / 2,
            kind="window",
            center=CENTER_HU,
            width=WIDTH_HU,
            geometry=Geometry(
                # From the number, so that a lost slice is a gap and not a neighbour.
                position_mm=THICKNESS_MM * int(match[2]),
                spacing_mm=None,
                thickness_mm=THICKNESS_MM,
                tilt_deg=None,
            ),
        )
        return [item]

    def read_masks(
        self, key: str, data: bytes, slices: Mapping[str, Slice], pseudonyms: Pseudonyms
    ) -> dict[str, UInt8[np.ndarray, "rows columns"]]:
        """Decode a mask: JPEG blurs its edges, so half grey is the border."""
        match = _OBJECT.fullmatch(key)
        assert match, key
        slice_id = _identifiers(match[1], match[2])[2]
        return {pseudonyms.of(slice_id): (_grey(data) > 127).astype(np.uint8)}


def diagnoses(text: str) -> Iterator[tuple[int, int, int, Truth]]:
    """Yield line, patient, slice and truth of a table of labels, of version 1.0.0 or 1.3.1.

    Raises:
        ConfigError: Columns are missing, or a row contradicts itself.
    """
    needed = ("PatientNumber", "SliceNumber", *_COLUMNS, "No_Hemorrhage")
    for line, row in label_rows(text, needed):
        subtypes = subtypes_of(line, row, _COLUMNS)
        truth = truth_of(line, not flag(line, row, "No_Hemorrhage"), subtypes)
        patient = whole_number(line, row, "PatientNumber")
        yield line, patient, whole_number(line, row, "SliceNumber"), truth


def _identifiers(patient: str | int, number: str | int) -> tuple[str, str, str]:
    """Return patient, exam and slice; prefixed, since bare numbers name others elsewhere."""
    name = f"ct-ich/{int(patient):03d}"
    return name, f"{name}/exam", f"{name}/{int(number)}"


def _grey(data: bytes) -> UInt8[np.ndarray, "rows columns"]:
    try:
        with Image.open(io.BytesIO(data)) as image:
            if image.mode != "L":
                raise InvalidExam(Reason.NOT_AN_IMAGE, f"grey was expected, not {image.mode}")
            return np.asarray(image).copy()
    except (OSError, SyntaxError, ValueError, Image.DecompressionBombError) as error:
        cut = "truncated" in str(error)
        reason = Reason.TRUNCATED_PIXELS if cut else Reason.UNDECODABLE_PIXELS
        raise InvalidExam(reason, f"no JPEG ({type(error).__name__})") from None
