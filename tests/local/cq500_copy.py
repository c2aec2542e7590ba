"""A small copy of CQ500 as its pages and manifest describe it, made of nothing real.

No archive of the corpus was at hand but one slice: the folders follow the real manifest of its
165,269 slices, the tables the real reads.csv and BHX's first file. The traps are
- an exam divided over two archives, with one series identifier and disjoint slices;
- thin and thick plain series, one with contrast medium, one of bone, a scout, a rendered series;
- a folder whose name is not the series' description, and a `-2` beside it;
- a tilted gantry; a compressed series; an exam that no reader saw, and one that only they saw.
"""

import csv
import io
from pathlib import Path
from typing import Any

import numpy as np
from pydicom.uid import RLELossless

from ich_ray.storage.corpora.cq500 import FINDINGS, READERS
from tests.local.dicom_objects import PREFIX, ct_slice, to_bytes

TILT_DEG = 15.0


def write_cq500(root: Path) -> None:
    """Write exams 0 to 3 and the tables beside them."""
    _exam_with_every_series(root)
    for number, tilt in ((1, TILT_DEG), (2, 0.0)):
        _series(root, "qct02", number, "CT Plain", "Plain", count=8, tilt_deg=tilt, compressed=True)
    _series(root, "qct02", 3, "CT BONE", "BONE", count=6)
    (root / "reads.csv").write_text(reads({0: (1, 1, 0), 1: (0, 0, 1), 3: (0, 0, 0), 9: (1, 1, 1)}))
    (root / "prediction_probabilities.csv").write_text("name,ICH\nCQ500-CT-0,0.9\n")
    (root / "1_Initial_Manual_Labeling.csv").write_text(
        boxes(instance(0, 2, 3), "handDrawn", index=True)
    )
    (root / "3_Extrapolation_to_Selected_Series.csv").write_text(
        boxes(instance(0, 1, 9), "extrapolated", index=True)
    )


def _exam_with_every_series(root: Path) -> None:
    for archive, odd in (("qct01", 0), ("qct02", 1)):
        thin = {"count": 64, "thickness": 0.625, "only": range(odd, 64, 2), "uid": 1}
        _series(root, archive, 0, "CT PLAIN THIN", "PLAIN THIN", **thin)
    _series(root, "qct01", 0, "CT 55mm Plain", "5/5mm Plain", count=8, uid=2)
    _series(root, "qct01", 0, "CT 55mm Plain-2", "5/5mm Plain", count=8, uid=3, SeriesNumber=9)
    _series(root, "qct01", 0, "CT 4cc sec 150cc D3D on", "4cc sec 150cc D3D on", count=9, uid=4)
    _series(root, "qct01", 0, "CT BONE", "BONE", count=8, uid=5)
    _series(root, "qct01", 0, "CT 3D", "3D CT HEAD+ORBIT", count=2, uid=6)
    scout = {"count": 1, "uid": 7, "ImageType": ["ORIGINAL", "PRIMARY", "LOCALIZER"]}
    _series(root, "qct01", 0, "CT Scout", "SCOUT", **scout)


def instance(exam: int, series: int, number: int) -> str:
    """The SOP Instance UID of a slice."""
    return f"{PREFIX}.5{exam}.{series}.{number}"


def _series(  # noqa: PLR0913  (a series is its folder and what its headers say)
    root: Path,
    archive: str,
    exam: int,
    folder: str,
    description: str,
    *,
    count: int,
    uid: int = 1,
    thickness: float = 5.0,
    tilt_deg: float = 0.0,
    only: range | None = None,
    compressed: bool = False,
    **changes: Any,
) -> None:
    name = f"CQ500CT{exam} CQ500CT{exam}"
    place = root / archive / name / "Unknown Study" / folder
    place.mkdir(parents=True)
    tilt = np.radians(tilt_deg)
    orientation = [1.0, 0.0, 0.0, 0.0, float(np.cos(tilt)), float(-np.sin(tilt))]
    for number in only or range(count):
        values = {
            "PatientID": f"CQ500-CT-{exam}",
            "StudyInstanceUID": f"{PREFIX}.5{exam}",
            "SeriesInstanceUID": f"{PREFIX}.5{exam}.{uid}",
            "SOPInstanceUID": instance(exam, uid, number),
            "SeriesDescription": description,
            "SeriesNumber": uid,
            "SliceThickness": thickness,
            # The files' order is not that of the positions.
            "InstanceNumber": count - number,
            "ImagePositionPatient": [0.0, 0.0, thickness / float(np.cos(tilt)) * number],
            "ImageOrientationPatient": orientation,
        }
        image = ct_slice(number, f"5{exam}", **{**values, **changes})
        if compressed:
            image.compress(RLELossless, generate_instance_uid=False)
        (place / f"CT{count - number:06d}.dcm").write_bytes(to_bytes(image))


def reads(votes: dict[int, tuple[int, int, int]]) -> str:
    """The table of reads: exam -> whether each reader sees a bleed, all of them subdural."""
    columns = [f"{reader}:{finding}" for reader in READERS for finding in FINDINGS]
    stream = io.StringIO(newline="")
    writer = csv.writer(stream)
    writer.writerow(["name", "Category", *columns])
    for exam, by_reader in votes.items():
        cells = [
            vote if finding in ("ICH", "SDH") else 0 for vote in by_reader for finding in FINDINGS
        ]
        writer.writerow([f"CQ500-CT-{exam}", "B1", *cells])
    return stream.getvalue()


def boxes(slice_id: str, origin: str, *, index: bool) -> str:
    """A table of BHX with one box."""
    head = "SOPInstanceUID,SeriesInstanceUID,StudyInstanceUID,data,labelName,labelType"
    series, exam = slice_id.rpartition(".")[0], slice_id.rsplit(".", 2)[0]
    corners = "\"{'x': 1.5, 'y': 2, 'width': 3.25, 'height': 4.0}\""
    row = f"{slice_id},{series},{exam},{corners},Subdural,{origin}"
    return f",{head}\n0,{row}\n" if index else f"{head}\n{row}\n"
