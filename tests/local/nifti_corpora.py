"""Small copies of the public NIfTI layouts, made of nothing real, with their documented traps.

No file of these corpora is at hand: folder names, mask values and the tables' odd headers are as
experiments/public_nifti.toml and the corpora's descriptions say. The traps: int16 beside uint8 and
float, no sform, masks that are flipped or permuted against their images, gzip or not.
"""

from pathlib import Path
from typing import Any

import nibabel
import numpy as np

SHAPE = (12, 10, 4)
"""Columns, rows, slices."""

# Right to left, front to back, feet to head: LPS, as NIfTI writes it in RAS. Steps in mm.
AFFINE = np.array([[-0.5, 0, 0, 60], [0, -0.6, 0, 70], [0, 0, 5, -30], [0, 0, 0, 1]], np.float64)


def head(seed: int = 0) -> np.ndarray:
    """HU of an exam, [column, row, slice]; every voxel tells where it is by chance."""
    hu = np.random.default_rng(seed).integers(-20, 90, SHAPE).astype(np.int16)
    hu[0] = -1000
    return hu


def marks(value: int = 1) -> np.ndarray:
    """A mask, [column, row, slice]: an L on slice 1, a point on slice 2."""
    mask = np.zeros(SHAPE, np.uint8)
    mask[2:5, 3, 1] = value
    mask[2, 3:8, 1] = value
    mask[9, 1, 2] = value
    return mask


def image_of(values: np.ndarray, affine: np.ndarray = AFFINE, **header: Any) -> nibabel.Nifti1Image:
    """A volume with both forms, or by `qform` or `sform` of 0 without one of them.

    With a `slope` and an `intercept` the values are those that are stored.
    """
    made = nibabel.Nifti1Image(values, affine)
    made.set_sform(affine, header.get("sform", 1))
    made.set_qform(affine, header.get("qform", 1))
    if "slope" in header:
        made.header.set_slope_inter(header["slope"], header["intercept"])
    return made


def turned(made: nibabel.Nifti1Image, axes: str) -> nibabel.Nifti1Image:
    """The same voxels at the same places, stored along other axes, e.g. `SAL`."""
    ornt = nibabel.orientations.ornt_transform(
        nibabel.io_orientation(made.affine), nibabel.orientations.axcodes2ornt(tuple(axes))
    )
    return made.as_reoriented(ornt)


def save(made: nibabel.Nifti1Image, path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    nibabel.save(made, path)


def write_ct_ich(folder: Path) -> None:
    """Two patients, the first bleeds in slice 2; a table of demographics with line breaks."""
    for patient in (49, 66):
        save(image_of(head(patient)), folder / "ct_scans" / f"{patient:03d}.nii")
        mask = 255 * marks() if patient == 49 else np.zeros(SHAPE, np.uint8)
        save(image_of(mask), folder / "masks" / f"{patient:03d}.nii")
    rows = [
        "PatientNumber,SliceNumber,Intraventricular,Intraparenchymal,Subarachnoid,Epidural,"
        'Subdural,"No\nHemorrhage",Fracture_Yes_No,,'
    ]
    for patient in (49, 66):
        for number in range(1, SHAPE[2] + 1):
            bleeds = patient == 49 and number in (2, 3)
            rows.append(f"{patient},{number},0,{int(bleeds)},0,0,0,{int(not bleeds)},0,,")
    (folder / "hemorrhage_diagnosis_raw_ct.csv").write_text(
        "\ufeff" + "\r\n".join([*rows, ",,,,,,,,,,"]), newline=""
    )
    (folder / "Patient_demographics.csv").write_text('"Patient\nNumber",,Age\n49,,30\n')


def write_bhsd(folder: Path) -> None:
    """Five classes; the second mask is stored along other axes than its image."""
    root = folder / "label_192"
    for number, (name, axes) in enumerate((("ID_0a_ID_1b", "LPS"), ("ID_0c_ID_2d", "RAI"))):
        mask = marks(number + 2)
        mask[9, 1, 2] = 5
        save(image_of(head(number)), root / "images" / f"{name}.nii.gz")
        save(turned(image_of(mask), axes), root / "ground truths" / f"{name}.nii.gz")


def write_seg_cq500(folder: Path) -> None:
    """A volume of floats that are whole numbers, and a mask without sform."""
    root = folder / "data" / "volumes" / "CQ500-CT-7"
    save(image_of(head(7).astype(np.float32)), root / "CT.nii")
    save(image_of(marks(), sform=0), root / "ICH_mask.nii.gz")
    (folder / "info.csv").write_text("name\nCQ500-CT-7\n")


def write_instance22(folder: Path) -> None:
    """Unsigned values with an intercept."""
    stored = (head(22) + 1024).astype(np.uint16)
    save(image_of(stored, slope=1.0, intercept=-1024.0), folder / "train_2/data/001.nii.gz")
    save(image_of(marks()), folder / "train_2/label/001.nii.gz")
