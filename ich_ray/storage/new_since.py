"""Which slices of a corpus are new since an earlier version of it."""

from dataclasses import replace

import pyarrow as pa

from ich_ray.storage.corpus import Corpus
from ich_ray.storage.objects import Store
from ich_ray.storage.tables import Table, open_table, read_rows

_COLUMNS = ["exam", "slice", "etag"]


def new_since(store: Store, corpus: Corpus, version: int) -> pa.Table:
    """Return the slices that a corpus holds now and did not hold, as they are, in a version.

    Exact also where parts were rewritten: a slice counts by its exam, its name and the content of
    the object that it came from. Pixels are not read, nor parts that both versions hold.

    Args:
        store: Reaches the corpus.
        corpus: As it is now.
        version: An earlier one of it; -1 is the corpus before its first ingest.

    Returns:
        Columns exam and slice, in their order.

    Raises:
        SurroundingsError: There is no such version.
    """
    before = None if version < 0 else open_table(store, corpus.table.url, version)
    old_files = set() if before is None else set(before.files)
    now = _slices(store, corpus.table, [url for url in corpus.files if url not in old_files])
    if before is not None:
        old = _slices(store, before, [url for url in before.files if url not in corpus.files])
        now = now.join(old, _COLUMNS, join_type="left anti")
    return now.select(["exam", "slice"]).sort_by([("exam", "ascending"), ("slice", "ascending")])


def _slices(store: Store, table: Table, files: list[str]) -> pa.Table:
    return read_rows(store, replace(table, files=tuple(files)), _COLUMNS)
