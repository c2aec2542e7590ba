"""Small sources of every layout, cut into steps in which they grow, made of nothing real."""

import dataclasses
import io
import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import nibabel
import numpy as np
from PIL import Image

from ich_ray.config import CorpusConfig, NiftiConfig
from tests.local.cq500_copy import boxes, instance, reads, write_cq500
from tests.local.dicom_objects import PREFIX, ct_slice, segmentation, to_bytes
from tests.local.nifti_corpora import head, image_of, marks

TYPES = ("epidural", "intraparenchymal", "intraventricular", "subarachnoid", "subdural")
HEADER = f"SOPInstanceUID,any,{','.join(TYPES)}"
CT_ICH_HEADER = (
    "PatientNumber,SliceNumber,Intraventricular,Intraparenchymal,Subarachnoid,Epidural,Subdural,"
    "No_Hemorrhage"
)


@dataclass(frozen=True)
class Whole:
    """A source as it is at the end."""

    config: CorpusConfig
    objects: Mapping[str, bytes]
    tables: Mapping[str, tuple[str, Sequence[str]]]
    """Key of a table -> its header and its rows (of RSNA, of a slice together)."""

    movable: bool = False
    """Whether objects could have had other names before."""


Step = Mapping[str, bytes | None]
"""Key -> what an object holds from now on; None: it is there no more."""


def steps_of(whole: Whole, seed: int) -> Iterator[Step]:
    """Yield 2 to 4 steps to the whole: objects come, change and move, tables gain rows."""
    chance = np.random.default_rng(seed)
    keys = sorted(whole.objects)
    num_steps = int(chance.integers(2, 5))
    comes = {key: int(chance.integers(num_steps)) for key in keys}
    # Something of the layout is there from the start.
    comes[keys[int(chance.integers(len(keys)))]] = 0
    steps: list[dict[str, bytes | None]] = [{} for _ in range(num_steps)]
    for key in keys:
        steps[comes[key]][key] = whole.objects[key]
        if comes[key] + 1 < num_steps and chance.random() < 0.25:
            name, content = _before(whole, key, chance)
            del steps[comes[key]][key]
            steps[comes[key]][name] = content
            steps[comes[key] + 1] |= {name: None, key: whole.objects[key]}
    for key, (header, rows) in whole.tables.items():
        rows_come = [int(chance.integers(num_steps)) for _ in rows]
        for number, step in enumerate(steps):
            there = [row for row, come in zip(rows, rows_come, strict=True) if come <= number]
            if there:
                step[key] = "\n".join([header, *there, ""]).encode()
    yield from steps


def _before(whole: Whole, key: str, chance: np.random.Generator) -> tuple[str, bytes]:
    """Return what an object was: of another name, or with the content of another one."""
    if whole.movable and key.endswith(".dcm") and chance.random() < 0.5:
        folder, _, name = key.rpartition("/")
        moved = f"ID_0{name.removeprefix('ID_')}" if name.startswith("ID_") else f"0{name}"
        return f"{folder}/{moved}".lstrip("/"), whole.objects[key]
    suffix = key.rpartition(".")[2]
    alike = [other for other in sorted(whole.objects) if other.endswith(suffix)]
    return key, whole.objects[alike[int(chance.integers(len(alike)))]]


def apply(folder: Path, step: Step) -> None:
    """Let a source become what it is after a step."""
    for key, content in step.items():
        path = folder / key
        if content is None:
            path.unlink()
        elif not path.exists() or path.read_bytes() != content:
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(content)
            # The time counts as content: another one for other bytes, however fast they come.
            os.utime(path, ns=(sum(content), sum(content)))


def _slice(number: int, exam: str, **changes: object) -> bytes:
    return to_bytes(ct_slice(number, exam, **changes))


def _second_series(number: int, exam: str, *, thickness: float) -> bytes:
    series = f"{PREFIX}.{exam}.50"
    return _slice(
        number,
        exam,
        SeriesInstanceUID=series,
        SOPInstanceUID=f"{series}.{number}",
        SliceThickness=thickness,
        ImagePositionPatient=[0.0, 0.0, thickness * number],
    )


def _flags(kind: str | None) -> str:
    return ",".join(str(int(name == kind)) for name in TYPES)


def _label(slice_id: str, kind: str | None) -> str:
    return f"{slice_id},{int(kind is not None)},{_flags(kind)}"


def rsna() -> Whole:
    """Three exams, copies, a scout, a broken object, labels without an object."""
    objects = {
        f"ID_{exam}{number}.dcm": _slice(number, str(exam), SOPInstanceUID=f"ID_{exam}{number}")
        for exam in (1, 2, 3)
        for number in (1, 2, 3)
    }
    objects["ID_z.dcm"] = objects["ID_12.dcm"]
    objects["ID_8.dcm"] = b"no DICOM"
    objects["ID_9.dcm"] = _slice(9, "3", ImageType=["ORIGINAL", "PRIMARY", "LOCALIZER"])
    labelled = [f"ID_{exam}{number}" for exam in (1, 2, 3) for number in (1, 2, 3)]
    rows = []
    for name in [*labelled, "ID_8", "ID_absent"]:
        kind = "subdural" if name in ("ID_12", "ID_absent") else None
        values = [f"{name}_{one},{int(one == kind)}" for one in TYPES]
        rows.append("\n".join([*values, f"{name}_any,{int(kind is not None)}"]))
    config = CorpusConfig(layout="rsna", source="", max_rejected_share=1.0)
    return Whole(config, objects, {"stage_2_train.csv": ("ID,Label", rows)}, movable=True)


def ct_ich() -> Whole:
    """Two patients of three slices; one mask has no slice, one slice no label."""
    objects, rows = {}, []
    for patient in (49, 66):
        for number in (1, 2, 3):
            bleeds = patient == 49 and number == 2
            place = f"Patients_CT/{patient:03d}/brain/{number}"
            objects[f"{place}.jpg"] = _jpeg(np.full((8, 8), 10 * patient + number, np.uint16))
            if bleeds:
                objects[f"{place}_HGE_Seg.jpg"] = _jpeg(np.full((8, 8), 255))
            if (patient, number) != (66, 3):
                rows.append(f"{patient},{number},0,0,0,0,{int(bleeds)},{int(not bleeds)}")
    objects["Patients_CT/066/brain/9_HGE_Seg.jpg"] = _jpeg(np.full((8, 8), 255))
    rows.append("70,1,0,0,0,0,0,1")
    config = CorpusConfig(layout="ct_ich", source="", max_rejected_share=1.0)
    return Whole(config, objects, {"hemorrhage_diagnosis.csv": (CT_ICH_HEADER, rows)})


def _jpeg(values: np.ndarray) -> bytes:
    stream = io.BytesIO()
    Image.fromarray(values.astype(np.uint8), mode="L").save(stream, "JPEG")
    return stream.getvalue()


def folder() -> Whole:
    """A segmentation, NIfTI masks beside their slices, two series, a copy, a place held twice."""
    objects = {
        f"{exam}/{number}.dcm": _slice(number, exam)
        for exam in ("1", "2", "3", "4")
        for number in (1, 2, 3)
    }
    frames = np.zeros((3, 8, 6), np.uint8)
    frames[0, 2] = 1
    images = [ct_slice(number, "2") for number in (1, 2, 3)]
    objects["2/seg.dcm"] = to_bytes(segmentation(images, {"epidural": frames}))
    objects["3/masks/lesion.nii"] = _mask()
    objects["3/inner/again.dcm"] = _slice(5, "3", ImagePositionPatient=[0.0, 0.0, 10.0])
    objects["whose.nii"] = _mask()
    objects["5/1.dcm"] = _slice(1, "5")
    objects["5/2.dcm"] = objects["1/2.dcm"]
    objects["5/7.dcm"] = _second_series(2, "4", thickness=2.5)
    objects |= {f"4/s{n}.dcm": _second_series(n, "4", thickness=2.5) for n in (1, 2, 3)}
    rows = [
        _label(f"{PREFIX}.2.{number}", "epidural" if number == 1 else None) for number in (1, 2)
    ]
    rows += [_label(f"{PREFIX}.{exam}.1", None) for exam in ("1", "5")]
    rows += [_label(f"{PREFIX}.4.50.{number}", None) for number in (1, 2)]
    rows += [_label(f"{PREFIX}.7.1", "subdural")]
    config = CorpusConfig(layout="folder", source="", max_rejected_share=1.0)
    return Whole(config, objects, {"labels.csv": (HEADER, rows)}, movable=True)


def _mask() -> bytes:
    mask = np.zeros((6, 8, 3), np.uint8)
    mask[1, 2:5, 1] = 3
    affine = np.diag([-0.25, -0.5, 5.0, 1.0])
    affine[2, 3] = 5.0
    return nibabel.Nifti1Image(mask, affine).to_bytes()


def templates() -> Whole:
    """Masks in a tree of their own."""
    objects = {
        f"images/{exam}/{number}.dcm": _slice(number, exam)
        for exam in ("1", "2")
        for number in (1, 2, 3)
    }
    objects["masks/1.nii"] = objects["masks/2.nii"] = objects["masks/3.nii"] = _mask()
    nifti = NiftiConfig(image="images/{exam}", mask="masks/{exam}.nii")
    config = CorpusConfig(layout="folder", source="", max_rejected_share=1.0, nifti=nifti)
    return Whole(config, objects, {"labels.csv": (HEADER, [_label(f"{PREFIX}.1.1", None)])})


def nifti() -> Whole:
    """Volumes and masks; labels of a slice that a volume lacks, and of an absent volume."""
    objects, rows = {}, []
    for patient in (49, 66, 70):
        objects[f"ct_scans/{patient:03d}.nii"] = image_of(head(patient)).to_bytes()
        bleeds = patient == 49
        mask = marks() if bleeds else np.zeros_like(marks())
        objects[f"masks/{patient:03d}.nii"] = image_of(mask).to_bytes()
        for number in (1, 2, 3, 4, 9):
            marked = bleeds and number in (2, 3)
            if (patient, number) != (66, 4):
                rows.append(f"{patient},{number},0,{int(marked)},0,0,0,{int(not marked)}")
    objects["masks/080.nii"] = objects["masks/070.nii"]
    del objects["masks/070.nii"]
    rows.append("90,1,0,0,0,0,0,1")
    nifti = NiftiConfig(
        image="ct_scans/{patient}.nii",
        mask="masks/{patient}.nii",
        prefix="ct-ich/",
        labels="ct_ich",
    )
    config = CorpusConfig(layout="nifti", source="", max_rejected_share=1.0, nifti=nifti)
    return Whole(config, objects, {"hemorrhage_diagnosis_raw_ct.csv": (CT_ICH_HEADER, rows)})


def cq500(folder: Path) -> Whole:
    """The copy of tests/local, but for some of its thin slices."""
    write_cq500(folder)
    tables = (
        "reads.csv",
        "1_Initial_Manual_Labeling.csv",
        "3_Extrapolation_to_Selected_Series.csv",
    )
    objects = {
        path.relative_to(folder).as_posix(): path.read_bytes()
        for path in folder.rglob("*")
        if path.is_file() and path.name not in tables
    }
    votes = {0: (1, 1, 0), 1: (0, 0, 1), 3: (0, 0, 0), 9: (1, 1, 1)}
    lines = {exam: reads({exam: by_reader}).splitlines() for exam, by_reader in votes.items()}
    by_hand = [boxes(instance(0, 2, n), "handDrawn", index=False).splitlines() for n in (3, 4)]
    more = boxes(instance(0, 1, 9), "extrapolated", index=True).splitlines()
    return Whole(
        CorpusConfig(layout="cq500", source="", max_rejected_share=1.0),
        objects,
        {
            tables[0]: (lines[0][0], [found[1] for found in lines.values()]),
            tables[1]: (by_hand[0][0], [found[1] for found in by_hand]),
            tables[2]: (more[0], more[1:]),
        },
        movable=True,
    )


def settings_for(whole: Whole, folder: Path, seed: int) -> CorpusConfig:
    """The settings of a corpus, with parts of few or of many slices."""
    return dataclasses.replace(whole.config, source=str(folder), slices_per_part=(3, 100)[seed % 2])
