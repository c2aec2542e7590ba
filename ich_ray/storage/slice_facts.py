"""The facts of a corpus's slices, one Parquet file for each part of the corpus.

A part is named by what it holds, so its facts are computed once: a file of facts is written
whole, and its presence says that it is done.
"""

from collections.abc import Iterator, Mapping
from itertools import groupby
from typing import Any, cast

import pyarrow as pa

from ich_ray.exam import Geometry
from ich_ray.slice_facts import SliceFacts, facts_of
from ich_ray.storage.corpus import Corpus, hounsfield, read_exams
from ich_ray.storage.objects import Store
from ich_ray.storage.tables import iterate_groups, write_groups
from ich_ray.storage.urls import join

VERSION = "1"
"""Of the columns and of the fingerprint; another version lies elsewhere, and is computed anew."""

SCHEMA = pa.schema(
    [
        ("exam", pa.string()),
        ("slice", pa.string()),
        ("patient", pa.string()),
        ("series", pa.string()),
        ("kind", pa.string()),
        ("rows", pa.int32()),
        ("columns", pa.int32()),
        ("position_mm", pa.float64()),
        ("spacing_mm", pa.list_(pa.float64())),
        ("thickness_mm", pa.float64()),
        ("tilt_deg", pa.float64()),
        ("label", pa.bool_()),
        ("subtypes", pa.list_(pa.bool_())),
        ("marked", pa.list_(pa.uint8())),
        ("low_hu", pa.float64()),
        ("high_hu", pa.float64()),
        ("image", pa.string()),
    ]
)

_GEOMETRY = ("position_mm", "thickness_mm", "tilt_deg")


def facts_url(store: Store, corpus: Corpus) -> str:
    """Return the folder of a corpus's facts."""
    return store.url("corpora", corpus.name, f"facts-{VERSION}")


def missing_facts(store: Store, corpus: Corpus) -> list[str]:
    """Return the parts of a corpus whose facts have not been written."""
    there = {item.key for item in store.listing(facts_url(store, corpus))}
    return [url for url in corpus.files if _file(url) not in there]


def write_facts(store: Store, folder: str, part_url: str) -> None:
    """Write the facts of one part, of which one exam at a time is held.

    Args:
        store: Reaches the corpus.
        folder: Of the corpus's facts, see `facts_url`.
        part_url: One of `Corpus.files`.
    """
    name = _file(part_url).removeprefix("part-").removesuffix(".parquet")
    exams = (
        pa.Table.from_pylist([_row(facts_of(s, hounsfield(s))) for s in exam], schema=SCHEMA)
        for exam in read_exams(store, part_url)
    )
    write_groups(store, folder, name, SCHEMA, exams)


def read_facts(store: Store, corpus: Corpus, part_url: str) -> Iterator[list[SliceFacts]]:
    """Yield the facts of one part of a corpus, an exam at a time."""
    url = join(facts_url(store, corpus), _file(part_url))
    for group in iterate_groups(store, url, SCHEMA.names):
        for _, exam in groupby(group.to_pylist(), key=lambda row: row["exam"]):
            yield [_facts(row) for row in exam]


def _file(part_url: str) -> str:
    return part_url.rsplit("/", 1)[1]


def _row(facts: SliceFacts) -> dict[str, Any]:
    row = {name: getattr(facts, name) for name in SCHEMA.names if hasattr(facts, name)}
    for name in (*_GEOMETRY, "spacing_mm"):
        row[name] = getattr(facts.geometry, name)
    return row


def _facts(row: Mapping[str, Any]) -> SliceFacts:
    of_slice = {k: v for k, v in row.items() if k not in (*_GEOMETRY, "spacing_mm")}
    spacing = row["spacing_mm"]
    of_slice["geometry"] = Geometry(
        spacing_mm=None if spacing is None else (spacing[0], spacing[1]),
        **{name: row[name] for name in _GEOMETRY},
    )
    for name in ("subtypes", "marked"):
        of_slice[name] = None if row[name] is None else cast(Any, tuple(row[name]))
    return SliceFacts(**of_slice)
