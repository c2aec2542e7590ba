"""Tables: Parquet parts committed to a Delta log; one commit is one version, whole or absent."""

import contextlib
import json
import random
import re
import time
import uuid
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
from deltalake import CommitProperties, DeltaTable, PostCommitHookProperties, Schema, Transaction
from deltalake.exceptions import CommitFailedError, DeltaError, TableNotFoundError
from deltalake.transaction import AddAction, RemoveAction, create_table_with_add_actions

from ich_ray.errors import SurroundingsError, first_line
from ich_ray.identity import content_hash
from ich_ray.storage.objects import Store
from ich_ray.storage.outages import advice_on, disk_full
from ich_ray.storage.urls import is_local, join

PROPERTIES = "ich_ray"
"""Key of our properties in the information that a commit carries."""

COMMIT_TOKEN = "ich_ray_commit"
"""By this key a commit finds its own version again."""

COMMIT_ATTEMPTS = 8

# Expired log files would be removed with the properties they carry.
_KEEP_LOG = PostCommitHookProperties(create_checkpoint=True, cleanup_expired_logs=False)

_THREADS = False
"""Of Arrow, while it reads from a file of Python's: its pool may still run when the interpreter
ends, which then aborts or hangs (apache/arrow issues 34314 and 50482): 3 of 100 runs here."""


@dataclass(frozen=True, slots=True)
class Part:
    """One Parquet file of a table; in the table once a commit names it."""

    path: str
    """Relative to the table."""

    size: int
    rows: int


@dataclass(frozen=True, slots=True)
class Table:
    """One version of a table, as its log describes it."""

    url: str
    version: int
    files: tuple[str, ...]
    """Full URLs, sorted by name."""

    properties: Mapping[str, str]
    """Of the latest commit of ours up to this version."""

    rows: int
    schema: pa.Schema


_PAGE_BYTES = 512 * 1024
"""A page of Parquet ends after so many: a slice of 512 x 512."""

_PAGE_ROWS = 1024
"""Arrow's own choice."""


def part_path(name: str) -> str:
    """Return the path of a part, relative to its table.

    >>> part_path("00ff")
    'part-00ff.parquet'
    """
    assert re.fullmatch(r"[A-Za-z0-9_-]+", name), name
    return f"part-{name}.parquet"


def write_part(
    store: Store,
    table_url: str,
    name: str,
    data: pa.Table,
    group_sizes: Sequence[int] | None,
) -> Part:
    """Write one Parquet file beside a table's log; nobody sees it until a commit names it.

    Args:
        store: Reaches the table.
        table_url: Folder of the table.
        name: From a hash of what the part holds, so that a second run writes the same file.
        data: All rows of the part.
        group_sizes: Rows of each row group, in order (one group an exam); None for one group.
    """
    sizes = [data.num_rows] if group_sizes is None else list(group_sizes)
    assert sum(sizes) == data.num_rows, (sum(sizes), data.num_rows)
    starts = [sum(sizes[:i]) for i in range(len(sizes))]
    groups = (data.slice(start, size) for start, size in zip(starts, sizes, strict=True))
    return write_groups(store, table_url, name, data.schema, groups)


def write_groups(  # noqa: PLR0913  (a file of a table, its rows, and how they lie in it)
    store: Store,
    table_url: str,
    name: str,
    schema: pa.Schema,
    groups: Iterable[pa.Table],
    *,
    page_rows: int = _PAGE_ROWS,
) -> Part:
    """Write one Parquet file from its row groups, of which one at a time is held.

    Args:
        store: Reaches the table.
        table_url: Folder of the table.
        name: See `write_part`.
        schema: Of every group.
        groups: Row groups.
        page_rows: A page may end after so many rows: 1 where a single row fills one, as the pixels
            of a slice do. They are packed while they are in the processor's cache, which takes a
            quarter less time than an exam in one page, and are as small.
    """
    path = part_path(name)
    rows = 0
    with store.create(join(table_url, path), once=True) as stream:
        with pq.ParquetWriter(
            stream,
            schema,
            compression="zstd",
            compression_level=1,
            use_dictionary=False,
            write_batch_size=page_rows,
            data_page_size=_PAGE_BYTES,
            write_statistics=[field.name for field in schema if _is_scalar(field.type)],
        ) as writer:
            for group in groups:
                writer.write_table(group, row_group_size=max(group.num_rows, 1))
                rows += group.num_rows
        size = stream.tell()
    return Part(path, size, rows)


def commit(  # noqa: PLR0913  (a table, its schema, and what the one commit carries)
    store: Store,
    table_url: str,
    *,
    schema: pa.Schema,
    parts: Sequence[Part],
    properties: Mapping[str, str],
    transaction: str | None = None,
    removed: Sequence[str] = (),
    expected: int | None = None,
) -> int:
    """Append parts, and remove others, as one version; create the table if there is none.

    Args:
        store: Reaches the table.
        table_url: Folder of the table.
        schema: Of every part.
        parts: Written before by `write_part`.
        properties: Where the rows come from; readers find them in `Table.properties`.
        transaction: Name of this commit: if the table holds it already, nothing happens.
        removed: Paths of parts that the version no longer holds; earlier versions keep them.
        expected: The version from which this commit was made, -1 for no table; None appends to
            whatever version there is.

    Returns:
        The version that holds the parts.

    Raises:
        SurroundingsError: The store failed, the table is at another version than expected, or
            others kept committing first.
    """
    assert expected is not None or not removed, "what is removed was read in some version"
    token = transaction or uuid.uuid4().hex
    information = CommitProperties(
        custom_metadata={
            PROPERTIES: json.dumps(dict(properties), sort_keys=True),
            COMMIT_TOKEN: token,
        },
        app_transactions=[Transaction(transaction, 1)] if transaction else None,
        # Else a commit that came between would be passed over, whatever it changed.
        max_commit_retries=None if expected is None else 0,
    )
    for attempt in range(COMMIT_ATTEMPTS):
        known = _delta_table(store, table_url, None)
        if transaction and known is not None and known.transaction_version(transaction) is not None:
            return _version_of(store, table_url, token)
        there = -1 if known is None else known.version()
        if expected is not None and there != expected:
            raise SurroundingsError(
                f"another run has committed version {there} of {table_url} while this one worked "
                f"from version {expected}, so nothing of this one was committed; run the same "
                "command again when the other is done: it goes on from there"
            )
        try:
            with _log_answered(table_url):
                _append(store, table_url, known, schema, parts, removed, information)
            return _version_of(store, table_url, token)
        except _Conflict:
            # Back off by chance, so that two committers do not meet again: no result depends on it.
            time.sleep(random.uniform(0, 0.05 * 2**attempt))
    raise _always_met_others(table_url)


def commit_once(
    store: Store,
    table_url: str,
    *,
    schema: pa.Schema,
    parts: Sequence[Part],
    properties: Mapping[str, str],
) -> Table:
    """Commit a table that is made whole: the same parts again are the same version."""
    kept = sorted((part for part in parts if part.rows), key=lambda part: part.path)
    transaction = content_hash({"parts": [part.path for part in kept]})
    commit(
        store, table_url, schema=schema, parts=kept, properties=properties, transaction=transaction
    )
    table = open_table(store, table_url)
    assert table is not None, table_url
    return table


def add_columns(store: Store, table_url: str, schema: pa.Schema) -> None:
    """Give a table the columns that it lacks of a schema; in its earlier rows they are null.

    A table that lacks none, or does not exist, is left as it is.

    Raises:
        SurroundingsError: The store failed, or others kept committing first.
    """
    for attempt in range(COMMIT_ATTEMPTS):
        delta = _delta_table(store, table_url, None)
        there = set() if delta is None else {field.name for field in delta.schema().fields}
        lacking = [field for field in schema if field.name not in there]
        if delta is None or not lacking:
            return
        try:
            with _log_answered(table_url):
                delta.alter.add_columns(
                    Schema.from_arrow(pa.schema(lacking)).fields,
                    post_commithook_properties=_KEEP_LOG,
                )
            return
        except _Conflict:
            time.sleep(random.uniform(0, 0.05 * 2**attempt))
    raise _always_met_others(table_url)


def open_table(store: Store, table_url: str, version: int | None = None) -> Table | None:
    """Return a version of a table, the latest by default, or None if there is no table.

    Raises:
        SurroundingsError: The store is away, or holds no such version.
    """
    delta = _delta_table(store, table_url, version)
    if delta is None:
        return None
    # Not pa.table: it loads pandas to ask whether this is one of its own.
    actions = pa.RecordBatchReader.from_stream(delta.get_add_actions(flatten=True)).read_all()
    files = sorted(actions["path"].to_pylist())
    return Table(
        url=table_url,
        version=delta.version(),
        files=tuple(join(table_url, path) for path in files),
        properties=_properties(store, table_url, delta.version()),
        rows=sum(actions["num_records"].to_pylist()),
        schema=pa.schema(delta.schema().to_arrow()),
    )


def read_rows(store: Store, table: Table, columns: Sequence[str] | None = None) -> pa.Table:
    """Return the rows of a small table, by file and place; the columns in the order asked for."""
    names = table.schema.names if columns is None else list(columns)
    schema = pa.schema([table.schema.field(name) for name in names])
    pieces = []
    for url in table.files:
        with _part_answered(url), store.open(url) as stream:
            rows = _parquet(stream, url).read(columns=names, use_threads=_THREADS)
            for field in schema:
                if field.name not in rows.column_names:
                    # Written before the table had this column.
                    rows = rows.append_column(field, pa.nulls(rows.num_rows, field.type))
            pieces.append(rows.select(names).cast(schema))
    # Not always among the pieces: making an empty table loads pandas.
    return pa.concat_tables(pieces) if pieces else schema.empty_table()


def read_part(store: Store, file_url: str, columns: Sequence[str]) -> pa.Table:
    """Return columns of one of `Table.files`, in the order asked for."""
    with _part_answered(file_url), store.open(file_url) as stream:
        rows = _parquet(stream, file_url).read(columns=list(columns), use_threads=_THREADS)
        return rows.select(list(columns))


def iterate_groups(
    store: Store,
    file_url: str,
    columns: Sequence[str] | None = None,
    *,
    where: tuple[str, Callable[[Any], bool]] | None = None,
) -> Iterator[pa.Table]:
    """Yield a part's row groups, one at a time: an exam each, where its writer said so.

    Args:
        store: Reaches the part.
        file_url: One of `Table.files`.
        columns: Names; None for all.
        where: A column and a test of its value in the first row: skips groups without reading them.
    """
    names = None if columns is None else list(columns)
    with _part_answered(file_url), store.open(file_url) as stream:
        part = _parquet(stream, file_url)
        for group in range(part.num_row_groups):
            if where is not None:
                column, wanted = where
                first = part.read_row_group(group, columns=[column], use_threads=_THREADS)
                if not wanted(first[column][0].as_py()):
                    continue
            yield part.read_row_group(group, columns=names, use_threads=_THREADS)


def _parquet(stream: Any, url: str) -> pq.ParquetFile:
    # Fetching ahead is done by threads, and pays for itself only where a request takes long.
    return pq.ParquetFile(stream, pre_buffer=not is_local(url))


class _Conflict(Exception):
    """Another commit came first."""


def _always_met_others(table_url: str) -> SurroundingsError:
    return SurroundingsError(
        f"{COMMIT_ATTEMPTS} commits to {table_url} met commits of others; "
        "run the same command again when they are done"
    )


def _append(  # noqa: PLR0913  (the arguments of commit, resolved)
    store: Store,
    table_url: str,
    known: DeltaTable | None,
    schema: pa.Schema,
    parts: Sequence[Part],
    removed: Sequence[str],
    information: CommitProperties,
) -> None:
    now_ms = int(time.time() * 1000)
    actions: list[AddAction | RemoveAction] = [
        AddAction(
            path=part.path,
            size=part.size,
            partition_values={},
            modification_time=now_ms,
            data_change=True,
            stats=json.dumps({"numRecords": part.rows}),
        )
        for part in parts
    ]
    actions += [RemoveAction(path, data_change=True, deletion_timestamp=now_ms) for path in removed]
    if known is None:
        create_table_with_add_actions(
            store.delta_uri(table_url),
            Schema.from_arrow(schema),
            [action for action in actions if isinstance(action, AddAction)],
            mode="error",
            storage_options=store.delta_options(table_url),
            commit_properties=information,
            post_commithook_properties=_KEEP_LOG,
        )
        return
    known.create_write_transaction(
        actions,
        "append",
        Schema.from_arrow(schema),
        commit_properties=information,
        post_commithook_properties=_KEEP_LOG,
    )


def _delta_table(store: Store, table_url: str, version: int | None) -> DeltaTable | None:
    for _ in range(2):
        try:
            with _log_answered(table_url):
                return DeltaTable(
                    store.delta_uri(table_url),
                    version=version,
                    storage_options=store.delta_options(table_url),
                )
        except TableNotFoundError:
            # Ask by another client: an outage must never be read as an empty store. A log that
            # appeared between the two calls is a table that another process has just made.
            if not store.listing(join(table_url, "_delta_log")):
                return None
        except SurroundingsError:
            # The other client says more clearly that the bucket or the server is not there.
            store.listing(join(table_url, "_delta_log"))
            raise
    raise SurroundingsError(
        f"the log of {table_url} cannot be read; run the same command again, or restore the folder"
    )


@contextlib.contextmanager
def _log_answered(table_url: str) -> Iterator[None]:
    try:
        yield
    except TableNotFoundError:
        raise
    except CommitFailedError as error:
        raise _Conflict from error
    except (DeltaError, OSError) as error:
        if "already exists" in str(error):
            raise _Conflict from error
        if "os error 28" in str(error):
            raise disk_full(table_url) from error
        raise SurroundingsError(
            f"the table {table_url} failed: {first_line(error)}; "
            f"{advice_on(table_url, error)}, then run the same command again"
        ) from error


@contextlib.contextmanager
def _part_answered(url: str) -> Iterator[None]:
    try:
        yield
    except FileNotFoundError:
        raise SurroundingsError(
            f"the table's log names {url}, and the store does not hold it; restore the file"
        ) from None
    except pa.ArrowInvalid as error:
        raise SurroundingsError(
            f"{url} is no whole Parquet file ({error}); restore the file"
        ) from error


def _commit_information(store: Store, table_url: str, version: int) -> dict[str, Any]:
    # DeltaTable.history() numbers from the newest entry, whichever version was opened.
    try:
        text = store.read_bytes(join(table_url, "_delta_log", f"{version:020d}.json"))
    except FileNotFoundError:
        return {}
    entries = (json.loads(line) for line in text.splitlines())
    return next((entry["commitInfo"] for entry in entries if "commitInfo" in entry), {})


def _properties(store: Store, table_url: str, latest: int) -> Mapping[str, str]:
    for version in range(latest, -1, -1):
        information = _commit_information(store, table_url, version)
        if PROPERTIES in information:
            return {
                str(key): str(value) for key, value in json.loads(information[PROPERTIES]).items()
            }
    return {}


def _version_of(store: Store, table_url: str, token: str) -> int:
    delta = _delta_table(store, table_url, None)
    latest = -1 if delta is None else delta.version()
    for version in range(latest, -1, -1):
        if _commit_information(store, table_url, version).get(COMMIT_TOKEN) == token:
            return version
    raise SurroundingsError(
        f"the log of {table_url} lost a commit that it had accepted; check what else writes there"
    )


def _is_scalar(kind: pa.DataType) -> bool:
    return not (pa.types.is_binary(kind) or pa.types.is_nested(kind))
