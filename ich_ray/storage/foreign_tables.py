"""Tables of other software -> their exams, and the maps that they name.

What a table must look like stands in `foreign_sources`.
"""

import posixpath
from collections.abc import Sequence
from dataclasses import replace

from ich_ray.errors import ConfigError
from ich_ray.foreign_cells import Role
from ich_ray.foreign_exams import ForeignExam, exams_of
from ich_ray.storage.foreign_rows import rows_of
from ich_ray.storage.objects import Store
from ich_ray.storage.urls import absolute, protocol

MAPS = (".nii", ".nii.gz", ".dcm")
"""How files of pixels are called."""


def read_table(
    store: Store, urls: Sequence[str], *, folder: str, role: Role
) -> dict[str, ForeignExam]:
    """Return what a table says of each exam, by its name.

    Args:
        store: Reaches the files.
        urls: One CSV file, or one or more of Parquet, in their order.
        folder: From which the paths of maps go.
        role: Whether its values are scores or labels.

    Raises:
        ConfigError: It is no such table, something is wrong in it, or a map does not exist.
    """
    exams = exams_of(rows_of(store, urls, role), role)
    mapped = {
        name: exam if exam.map is None else replace(exam, map=_map_url(exam, exam.map, folder))
        for name, exam in exams.items()
    }
    _check_maps(store, list(mapped.values()))
    return mapped


def _map_url(exam: ForeignExam, path: str, folder: str) -> str:
    """Return the URL of a map, whose path goes from the table's folder if it is not absolute."""
    head, separator, below = folder.rpartition("://")
    if "://" not in path and not path.startswith("/"):
        path = head + separator + posixpath.normpath(posixpath.join(below, path))
    if protocol(path) not in ("file", "s3"):
        raise ConfigError(f"{exam.where}, column map: it is neither a path nor an s3:// URL")
    if not path.lower().endswith(MAPS):
        raise ConfigError(
            f"{exam.where}, column map: it is of no kind that is read; write a path that ends in "
            f"{', '.join(MAPS[:-1])} (NIfTI) or {MAPS[-1]} (DICOM SEG)"
        )
    return absolute(path)


def _check_maps(store: Store, exams: Sequence[ForeignExam]) -> None:
    """Refuse a table before its maps are read: none may be missing, or another exam's too."""
    first: dict[str, str] = {}
    missing = []
    for exam in exams:
        if exam.map is None:
            continue
        if exam.map in first:
            raise ConfigError(
                f"{exam.where}, column map: it is the map of the exam of {first[exam.map]} too; "
                "write a file for each exam"
            )
        first[exam.map] = exam.where
        if not store.exists(exam.map):
            missing.append(exam.where)
    if missing:
        raise ConfigError(
            f"{missing[0]}, column map: there is no such file, as of {len(missing)} of "
            f"{len(first)} maps; a path goes from the folder of the table"
        )
