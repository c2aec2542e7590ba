"""Predictions and references of other software: a table of exams, or a folder of their maps.

What anyone can write so that our evaluation reads it, beside its own predictions or instead:

**A table**: a CSV file (`.csv`, or `.csv.gz`; UTF-8, separated by commas, decimal points, the first
line names the columns), a Parquet file (`.parquet`), or a folder of Parquet files whose rows belong
together in the order of the files' names. Columns, in any order; others are left alone:

==========  ========================================================================================
`exam`      Needed. The exam's name, as text: `007` is not `7`. The same in predictions and
            reference.
`slice`     Name or number of a slice, likewise. Absent or empty: the row is of the whole exam.
`score`     Predictions: probability of a hemorrhage, 0 to 1 (`0.93`).
`label`     Reference: 1 or `true` where there is a hemorrhage, 0 or `false` where there is none.
`patient`   Reference: the patient's name. Absent or empty: the exam is a patient of its own, and
            several exams of one patient would count as independent.
`map`       File of the pixels of the WHOLE exam (below): a path from the table's folder, an
            absolute path or an s3:// URL.
==========  ========================================================================================

An exam has one row of its own, or one row a slice, or both. A row of a slice needs a score (or
label); an exam's own row needs a score, a map, or both. Where exams with slices have a row of their
own with a score, all of them have: a lone one is taken for a forgotten slice. An exam's map may
stand in any of its rows, and in several of them if it is the same. An example of predictions::

    exam,slice,score,map
    a17,,0.93,maps/a17.nii.gz
    a17,1,0.12,
    a17,2,0.93,

**A folder of maps**, as nnU-Net and MONAI write it, one map an exam:

- `<exam>.nii.gz`, `<exam>.nii` or `<exam>.dcm` in the folder itself, or
- `<exam>/`, a folder that holds one such file below it, of whatever name: MONAI's
  `<exam>/<exam>_seg.nii.gz`, or the DICOM SEG that an archive has exported.

Files of other kinds (`plans.json`, `.npz`) and hidden ones are passed over. Folders hold no labels
or scores of exams: those follow from the maps.

**A map** is of an axial volume, on the grid of the exam's series:

- NIfTI (`.nii`, `.nii.gz`): probabilities as fractions from 0 to 1, stored as such or by slope and
  intercept; or a mask of whole numbers: 0 nothing, 255 a voxel that takes part in no count, any
  other a hemorrhage. A mask of 0 and 255 alone is refused, since 255 may be meant for a
  hemorrhage, and so are more than 64 values, which are a heat map. Its affine says where it lies;
  along which axes it is stored is of no matter.
- DICOM SEG (`.dcm`): BINARY, FRACTIONAL (probability = value / Maximum Fractional Value, whether
  it is called probability or occupancy) or LABELMAP. Every segment is a hemorrhage; where they
  overlap, the largest counts. Frames may be left out: they are 0.
"""

from ich_ray.errors import ConfigError
from ich_ray.foreign_cells import Role
from ich_ray.foreign_exams import ForeignExam
from ich_ray.storage.foreign_rows import CSV, PARQUET
from ich_ray.storage.foreign_tables import MAPS, read_table
from ich_ray.storage.objects import ListedObject, Store
from ich_ray.storage.source import unnamed
from ich_ray.storage.urls import absolute


def read_exams(store: Store, url: str, *, role: Role, name: str) -> dict[str, ForeignExam]:
    """Return what a table or a folder says of each exam, by the exam's name there.

    Args:
        store: Reaches it.
        url: Of a table, or of a folder.
        role: Predictions hold scores, a reference labels.
        name: What messages call it, e.g. `predictions 2`.

    Raises:
        ConfigError: It is neither, or something is wrong in it; names the row and the column.
        SurroundingsError: The disk or the store failed.
    """
    try:
        with unnamed(name):
            return _read(store, absolute(url), role)
    except ConfigError as error:
        raise ConfigError(f"{name}: {error}") from None


def _read(store: Store, url: str, role: Role) -> dict[str, ForeignExam]:
    if store.exists(url):
        if not url.lower().endswith((*CSV, PARQUET)):
            raise ConfigError(
                f"it is of no kind that is read; write a table ({', '.join(CSV)}, {PARQUET}), or "
                "name the folder that holds the maps"
            )
        return read_table(store, [url], folder=url.rpartition("/")[0] or "/", role=role)
    listed = [item for item in store.listing(url) if not _is_hidden(item.key)]
    if not listed:
        raise ConfigError("it does not exist, or is an empty folder; correct its path")
    parts = [item.url for item in listed if item.key.lower().endswith(PARQUET)]
    if parts:
        if any(item.key.startswith("_delta_log/") for item in listed):
            raise ConfigError(
                "it is a Delta table, whose folder may hold rows that were removed; export it as "
                "a Parquet file"
            )
        return read_table(store, parts, folder=url, role=role)
    if any(item.key.lower().endswith(CSV) for item in listed):
        raise ConfigError("it is a folder that holds a CSV file; name the file itself, or move it")
    return _exams_of_maps(listed)


def _exams_of_maps(listed: list[ListedObject]) -> dict[str, ForeignExam]:
    """Return one exam a map, named by its file, or by the first folder above it."""
    found: dict[str, ForeignExam] = {}
    maps = [item for item in listed if item.key.lower().endswith(MAPS)]
    if not maps:
        raise ConfigError(f"it holds no table and no maps ({', '.join(MAPS)})")
    for number, item in enumerate(maps, 1):
        first, _, below = item.key.partition("/")
        exam = first if below else _stem(first)
        where = f"map {number} of {len(maps)} by name"
        if exam in found:
            raise ConfigError(
                f"{where}: it is of the same exam as {found[exam].where}; leave one map an exam"
            )
        found[exam] = ForeignExam(
            exam=exam, patient=exam, value=None, slices={}, map=item.url, where=where
        )
    return found


def _stem(name: str) -> str:
    """Return a file's name without its ending."""
    ending = next(ending for ending in MAPS if name.lower().endswith(ending))
    return name[: -len(ending)]


def _is_hidden(key: str) -> bool:
    # Of macOS's copies, and of writers of Parquet that have not finished.
    return any(part.startswith((".", "__MACOSX", "_temporary")) for part in key.split("/"))
