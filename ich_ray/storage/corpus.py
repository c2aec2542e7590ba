"""A corpus: one row a slice, one row group an exam; written by ingest, read by every stage."""

from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from itertools import groupby
from typing import Any, cast

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from jaxtyping import Float32

from ich_ray.errors import ConfigError, SurroundingsError
from ich_ray.exam import Geometry, Kind, Slice
from ich_ray.storage import slice_codec
from ich_ray.storage.objects import Store
from ich_ray.storage.tables import Table, iterate_groups, open_table

SCHEMA_VERSION = "3"

SCHEMA = pa.schema(
    [
        ("exam", pa.string()),
        ("slice", pa.string()),
        ("patient", pa.string()),
        ("series", pa.string()),
        ("index", pa.int32()),
        ("previous", pa.string()),
        ("next", pa.string()),
        ("neighbours", pa.int8()),
        ("position_mm", pa.float64()),
        ("spacing_mm", pa.list_(pa.float64())),
        ("thickness_mm", pa.float64()),
        ("tilt_deg", pa.float64()),
        ("rows", pa.int32()),
        ("columns", pa.int32()),
        ("pixels", pa.binary()),
        ("codec", pa.string()),
        ("checksum", pa.int64()),
        ("slope", pa.float64()),
        ("intercept", pa.float64()),
        ("kind", pa.string()),
        ("center", pa.float64()),
        ("width", pa.float64()),
        ("label", pa.bool_()),
        ("subtypes", pa.list_(pa.bool_())),
        ("exam_label", pa.bool_()),
        ("exam_subtypes", pa.list_(pa.bool_())),
        ("mask", pa.binary()),
        ("mask_codec", pa.string()),
        ("source", pa.string()),
        ("etag", pa.string()),
    ]
)
"""`index` is the order in the exam; `previous` and `next` are the physical neighbours, null where
there is none, and `neighbours` counts them."""

_PIXELS = {"pixels", "codec", "checksum"}
_TRUTH = {"label", "subtypes", "exam_label", "exam_subtypes", "mask", "mask_codec"}
_INDEX = [
    "exam",
    "slice",
    "patient",
    "series",
    "index",
    "previous",
    "next",
    "position_mm",
    "rows",
    "columns",
    "label",
    "subtypes",
]


@dataclass(frozen=True, slots=True)
class Corpus:
    """One version of a corpus."""

    name: str
    table: Table

    @property
    def version(self) -> int:
        """Version of the slices table."""
        return self.table.version

    @property
    def files(self) -> tuple[str, ...]:
        """URLs of the parts."""
        return self.table.files

    @property
    def properties(self) -> Mapping[str, str]:
        """Where the rows come from."""
        return self.table.properties

    @property
    def kind(self) -> Kind:
        """`hu`, or `window`."""
        return cast(Kind, self.table.properties["kind"])

    @property
    def key_fingerprint(self) -> str:
        """Of the key of its pseudonyms."""
        return self.table.properties["key_fingerprint"]

    @property
    def num_rows(self) -> int:
        """Slices."""
        return self.table.rows


def slices_url(store: Store, name: str) -> str:
    """Return the folder of a corpus's slices."""
    return store.url("corpora", name, "slices")


def ledger_url(store: Store, name: str) -> str:
    """Return the folder of a corpus's ledger."""
    return store.url("corpora", name, "ledger")


def open_corpus(store: Store, name: str) -> Corpus:
    """Return the latest version of a corpus.

    Raises:
        ConfigError: There is none, or it was written by a version with another schema.
    """
    table = open_table(store, slices_url(store, name))
    if table is None:
        raise ConfigError(
            f"corpus {name} has not been ingested; run ich-ray ingest SETTINGS.toml --only {name}"
        )
    check_schema(name, table)
    return Corpus(name, table)


def check_schema(name: str, table: Table) -> None:
    """Refuse a table of another schema version."""
    written = table.properties.get("schema_version", "none")
    if written != SCHEMA_VERSION:
        raise ConfigError(
            f"corpus {name} has schema version {written}, this version reads {SCHEMA_VERSION}; "
            "ingest it again under another store.root, or use the version that wrote it"
        )


def read_exams(
    store: Store,
    file_url: str,
    *,
    splits: Callable[[str], bool] | None = None,
    with_pixels: bool = True,
    with_truth: bool = True,
) -> Iterator[list[Slice]]:
    """Yield the exams of a part, their slices in order.

    Args:
        store: Reaches the part.
        file_url: One of `Corpus.files`.
        splits: Tells of a patient's pseudonym whether to read him; None reads all.
        with_pixels: Without, `stored` has no rows and no columns.
        with_truth: Without, labels, subtypes and masks are None, whatever the corpus holds.

    Raises:
        SurroundingsError: The store is away, or the bytes are not those that were written.
    """
    dropped = (set() if with_pixels else _PIXELS) | (set() if with_truth else _TRUTH)
    columns = [name for name in SCHEMA.names if name not in dropped | {"source", "etag"}]
    for rows in iterate_groups(
        store, file_url, columns, where=None if splits is None else ("patient", splits)
    ):
        found = sorted(rows.to_pylist(), key=lambda row: (row["exam"], row["index"]))
        for _, exam in groupby(found, key=lambda row: row["exam"]):
            yield [_slice(row, file_url) for row in exam]


def read_slices(
    store: Store, file_url: str, wanted: Mapping[str, Collection[str]]
) -> Iterator[tuple[Slice, int, int]]:
    """Yield single slices of a part, each with its number in its exam, and how many that has.

    Of an exam the bytes are read, and only what is wanted is decoded. No labels, no masks.

    Args:
        store: Reaches the part.
        file_url: One of `Corpus.files`.
        wanted: Exam -> keys of its slices.

    Raises:
        SurroundingsError: As of `read_exams`.
    """
    columns = [name for name in SCHEMA.names if name not in _TRUTH | {"source", "etag"}]
    for rows in iterate_groups(store, file_url, columns, where=("exam", wanted.__contains__)):
        keys = rows["slice"].to_pylist()
        order = np.argsort(rows["index"].to_numpy(), kind="stable").tolist()
        for number, place in enumerate(order, start=1):
            if keys[place] in wanted[rows["exam"][place].as_py()]:
                (row,) = rows.slice(place, 1).to_pylist()
                yield _slice(row, file_url), number, len(order)


def index_table(store: Store, corpus: Corpus, columns: Sequence[str] | None = None) -> pa.Table:
    """Return what is known of every slice but its pixels and masks.

    Columns: exam, slice, patient, series, index, previous, next, position_mm, rows, columns,
    label, subtypes, has_mask, file (URL) and group (row group in the file).

    Args:
        store: Reaches the corpus.
        corpus: Whose slices.
        columns: Those that are kept; all take 0.3 GB of a million slices.
    """
    schema = _index_schema()
    names = schema.names if columns is None else list(columns)
    with ThreadPoolExecutor(8) as pool:
        pieces = list(pool.map(lambda url: _part_index(store, url).select(names), corpus.files))
    return pa.concat_tables(pieces) if pieces else schema.empty_table().select(names)


def hounsfield(item: Slice) -> Float32[np.ndarray, "rows columns"]:
    """Return a slice in HU: slope * stored + intercept, as float32."""
    hu: Float32[np.ndarray, "rows columns"] = item.stored.astype(np.float32)
    hu *= np.float32(item.slope)
    hu += np.float32(item.intercept)
    return hu


def _slice(row: Mapping[str, Any], file_url: str) -> Slice:
    stored = np.empty((0, 0), np.int16)
    if "pixels" in row:
        if slice_codec.checksum(row["pixels"]) != row["checksum"]:
            raise SurroundingsError(
                f"the pixels of slice {row['slice']} in {file_url} are not those that were "
                "written (checksum); restore the file, or ingest into another store.root"
            )
        stored = slice_codec.decode(row["codec"], row["pixels"], row["rows"], row["columns"])
    mask = None
    if row.get("mask") is not None:
        mask = slice_codec.decode(row["mask_codec"], row["mask"], row["rows"], row["columns"])
    return Slice(
        exam=row["exam"],
        key=row["slice"],
        patient=row["patient"],
        series=row["series"],
        stored=stored,
        slope=row["slope"],
        intercept=row["intercept"],
        kind=row["kind"],
        center=row["center"],
        width=row["width"],
        geometry=Geometry(
            position_mm=row["position_mm"],
            spacing_mm=_pair(row["spacing_mm"]),
            thickness_mm=row["thickness_mm"],
            tilt_deg=row["tilt_deg"],
        ),
        previous=row["previous"],
        next=row["next"],
        label=row.get("label"),
        subtypes=_subtypes(row.get("subtypes")),
        exam_label=row.get("exam_label"),
        exam_subtypes=_subtypes(row.get("exam_subtypes")),
        mask=mask,
    )


def _pair(values: list[float] | None) -> tuple[float, float] | None:
    return None if values is None else (values[0], values[1])


def _subtypes(values: list[bool] | None) -> tuple[bool, bool, bool, bool, bool] | None:
    return None if values is None else cast(tuple[bool, bool, bool, bool, bool], tuple(values))


def _index_schema() -> pa.Schema:
    fields = [SCHEMA.field(name) for name in _INDEX]
    added = [("has_mask", pa.bool_()), ("file", pa.string()), ("group", pa.int32())]
    return pa.schema([*fields, *(pa.field(name, kind) for name, kind in added)])


def _part_index(store: Store, url: str) -> pa.Table:
    with store.open(url) as stream:
        part = pq.ParquetFile(stream, pre_buffer=True)
        # Whether there is a mask, without reading masks.
        rows = part.read(columns=[*_INDEX, "mask_codec"], use_threads=False)  # see tables
        sizes = [part.metadata.row_group(g).num_rows for g in range(part.num_row_groups)]
    columns = [rows[name] for name in _INDEX]
    added = [
        rows["mask_codec"].is_valid(),
        pa.array([url] * rows.num_rows, pa.string()),
        pa.array(np.repeat(np.arange(len(sizes), dtype=np.int32), sizes)),
    ]
    return pa.Table.from_arrays([*columns, *added], schema=_index_schema())
