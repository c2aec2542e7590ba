"""The two passes of an ingest over Ray: headers of objects, then parts of the corpus."""

import json
import warnings
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from functools import partial
from typing import Any, cast

import pyarrow as pa
import ray
import ray.exceptions
from ray.util.annotations import RayDeprecationWarning

from ich_ray.capacity import Need, Process
from ich_ray.config import ClusterConfig
from ich_ray.distributed import metrics, records, work
from ich_ray.distributed.causes import cause_of
from ich_ray.distributed.origin import Origin, here
from ich_ray.distributed.progress import bar
from ich_ray.distributed.resources import check_fits, options
from ich_ray.distributed.work import piece_of
from ich_ray.errors import InvalidExam, Reason, SurroundingsError
from ich_ray.ingest_plan import Entry, Planned, Subtypes, Truth, part_name
from ich_ray.series import HeaderFacts
from ich_ray.stopwatch import Stopwatch
from ich_ray.storage import corpus
from ich_ray.storage.corpora.layout import LabelsExams, Place
from ich_ray.storage.layouts import layout_id
from ich_ray.storage.objects import ListedObject
from ich_ray.storage.part_writer import Finished, PartWriter
from ich_ray.storage.source import Source

HEADERS_PER_BLOCK = 1000
BYTES_PER_SLICE = 1_500_000
"""Memory that a worker needs for each slice of a part, at most (512 x 512, 16 bits)."""

WORKER_BYTES = 400_000_000
"""Memory of a worker process before it holds any slice."""

WORKER_DEATHS = 4
"""A part whose worker dies more often than this fails the ingest: a file may kill its decoder."""

_HEADERS = pa.schema(
    [
        ("index", pa.int64()),
        ("url", pa.string()),
        ("size", pa.int64()),
        ("source", pa.string()),
    ]
)
_FACTS = pa.schema(
    [
        ("index", pa.int64()),
        ("role", pa.string()),
        ("patient", pa.string()),
        ("exam", pa.string()),
        ("series", pa.string()),
        ("slice", pa.string()),
        ("reason", pa.string()),
        ("position_mm", pa.float64()),
        ("tilt_deg", pa.float64()),
        ("thickness_mm", pa.float64()),
        ("series_number", pa.int64()),
        ("acquisition", pa.int64()),
        ("instance", pa.int64()),
        ("signs", pa.list_(pa.string())),
    ]
)
_PART = pa.schema([("name", pa.string()), ("objects", pa.binary()), ("num_bytes", pa.int64())])


def read_headers(
    source: Source,
    items: Sequence[ListedObject],
    tell: Callable[[str], None],
    *,
    cluster: ClusterConfig,
) -> tuple[list[Planned], dict[str, HeaderFacts], list[Entry]]:
    """Place objects by their headers.

    Returns:
        Those that have a place; of the slices among them, by `Planned.source`, what the rules of
        series ask for; and the ledger's rows of all others.
    """
    blocks = (
        pa.Table.from_pylist(
            [
                {
                    "index": index,
                    "url": items[index].url,
                    "size": items[index].size,
                    "source": source.names[items[index].key],
                }
                for index in range(start, min(start + HEADERS_PER_BLOCK, len(items)))
            ],
            schema=_HEADERS,
        )
        for start in range(0, len(items), HEADERS_PER_BLOCK)
    )
    layout = source.layout
    by_key = layout if isinstance(layout, LabelsExams) else None
    placed: list[Planned] = []
    refused: list[Entry] = []
    facts: dict[str, HeaderFacts] = {}
    need = Need(
        what=f"reading headers of {source.corpus}", each=worker_of(num_slices=1), pool=False
    )
    check_fits(cluster, need)
    task = partial(_facts, writer=source.part_writer, origin=_origin(source))
    with bar(f"headers of {source.corpus}", total=len(items), unit="object") as shown:
        for batch in _mapped(blocks, task, need.each):
            for row in batch.to_pylist():
                item = items[row["index"]]
                if row["reason"] is not None:
                    refused.append(source.entry(item, "object", Reason(row["reason"])))
                    continue
                patient, exam = row["patient"], row["exam"]
                if by_key is not None:
                    patient = exam = by_key.exam_of(item.key)
                where = Place(patient, exam, row["slice"], row["series"])
                placed.append(source.placed(item, row["role"], where))
                if row["role"] == "slice":
                    facts[placed[-1].source] = HeaderFacts.from_plain(row)
            shown.update(batch.num_rows)
            tell(f"{source.corpus}: headers of {shown.n} of {len(items)} objects")
    return placed, facts, refused


def write_parts(
    source: Source,
    parts: Sequence[Sequence[Planned]],
    tell: Callable[[str], None],
    *,
    replaces: Collection[str],
    cluster: ClusterConfig,
) -> Iterator[Finished]:
    """Write parts that no table names yet; one that was written before is not written again.

    Args:
        source: Of the objects.
        parts: Their objects.
        tell: Receives a sentence now and then.
        replaces: Names of the parts of the corpus in whose place these come.
        cluster: A part that fits none of its nodes is refused before any is written.
    """
    blocks = (part_block(source, objects, replaces) for objects in parts)
    largest = max((sum(item.num_slices for item in objects) for objects in parts), default=0)
    need = Need(
        what=f"a part of {source.corpus} with {largest} slices and masks",
        each=worker_of(num_slices=largest),
        advice=f"lower corpora.{source.corpus}.slices_per_part (a patient is never divided)",
        pool=False,
    )
    check_fits(cluster, need)
    task = partial(_written, writer=source.part_writer, origin=_origin(source))
    with bar(f"ingest {source.corpus}", total=len(parts), unit="part") as shown:
        for batch in _mapped(blocks, task, need.each):
            for text in batch["finished"].to_pylist():
                shown.update(1)
                tell(f"{source.corpus}: part {shown.n} of {len(parts)}")
                finished = Finished.from_json(text)
                metrics.rejected(finished.entries)
                yield finished


def _origin(source: Source) -> Origin:
    return here().of("ingest", source.corpus)


def worker_of(*, num_slices: int) -> Process:
    """Return what a worker reserves that holds so many slices at once."""
    return Process(memory=WORKER_BYTES + num_slices * BYTES_PER_SLICE)


def part_block(source: Source, objects: Sequence[Planned], replaces: Collection[str]) -> pa.Table:
    """Return what a worker is told of a part: packed, since the driver holds all parts at once."""
    name = part_name(
        objects,
        schema_version=corpus.SCHEMA_VERSION,
        layout=layout_id(source.config),
        key_fingerprint=source.pseudonyms.fingerprint,
        average_to_mm=source.config.average_to_mm,
        replaces=replaces,
    )
    told = told_of(objects)
    packed = pa.compress(told, codec="zstd", asbytes=True)
    row = {"name": name, "objects": packed, "num_bytes": len(told)}
    return pa.Table.from_pylist([row], schema=_PART)


def _facts(batch: pa.Table, *, writer: PartWriter, origin: Origin) -> pa.Table:
    with piece_of(origin):
        return _facts_of(batch, writer)


def _facts_of(batch: pa.Table, writer: PartWriter) -> pa.Table:
    rows = []
    objects = zip(*(batch[name].to_pylist() for name in ("url", "size", "source")), strict=True)
    headers = writer.headers(list(objects))
    for index, read in zip(batch["index"].to_pylist(), headers, strict=True):
        facts: dict[str, Any] = {"index": index}
        try:
            header = read()
            names = ("role", "patient", "exam", "series", "slice")
            facts |= {name: getattr(header, name) for name in names}
            if header.facts is not None:
                facts |= header.facts.plain()
        except InvalidExam as refusal:
            facts["reason"] = refusal.reason.value
        rows.append(facts)
    return pa.Table.from_pylist(rows, schema=_FACTS)


def _written(batch: pa.Table, *, writer: PartWriter, origin: Origin) -> pa.Table:
    with piece_of(origin) as watch:
        finished = []
        for row in batch.to_pylist():
            told = pa.decompress(row["objects"], row["num_bytes"], codec="zstd", asbytes=True)
            finished.append(writer.write(row["name"], planned_from(told)))
            _tell(finished[-1], watch)
        return pa.table({"finished": [item.to_json() for item in finished]})


def _tell(finished: Finished, watch: Stopwatch) -> None:
    rows = 0 if finished.part is None else finished.part.rows - finished.kept_rows
    work.tell("part written", watch, part=finished.name, slices=rows)


_NUM_TOLD = Planned._fields.index("series") + 1
_UNTOLD = tuple(Planned._field_defaults[name] for name in Planned._fields[_NUM_TOLD:])


def told_of(objects: Sequence[Planned]) -> bytes:
    """Return objects as JSON, each a list of its fields' values in their order.

    Those after the series are left out where all are as by default: there are a million objects.
    """
    told = [item[:_NUM_TOLD] if item[_NUM_TOLD:] == _UNTOLD else item for item in objects]
    return json.dumps(told, separators=(",", ":"), default=dict).encode()


def planned_from(told: bytes) -> list[Planned]:
    """Return the objects of which `told_of` told."""
    return [_planned(Planned(*values)) for values in json.loads(told)]


def _planned(item: Planned) -> Planned:
    return item._replace(
        truth=_truth_from(*item.truth),
        exam_truth=_truth_from(*item.exam_truth),
        slices={name: _truth_from(*truth) for name, truth in item.slices.items()},
    )


def _truth_from(label: bool | None, subtypes: Sequence[bool] | None) -> Truth:  # noqa: FBT001
    # JSON has lists alone.
    return Truth(label, None if subtypes is None else cast(Subtypes, tuple(subtypes)))


def _mapped(
    blocks: Iterable[pa.Table], function: Callable[[pa.Table], pa.Table], each: Process
) -> Iterator[pa.Table]:
    """Map a function over blocks, one task a block: keys travel through Ray, pixels never."""
    with warnings.catch_warnings():
        # Ray tries a task whose worker died again for ever; a file that kills its decoder would
        # never end. 2.60 bounds that by this argument only, and announces to rename it.
        warnings.simplefilter("ignore", RayDeprecationWarning)
        # Not from_arrow: it has workers tell the metadata of every block, by a task each, before
        # any work is done; on a warm cluster the first part began 3.5 s later.
        results = ray.data.from_blocks(list(blocks)).map_batches(
            function,
            batch_size=None,
            batch_format="pyarrow",
            zero_copy_batch=True,
            # With its memory: a task that the system kills for it is tried again for ever.
            **options(each),
            max_retries=WORKER_DEATHS,
        )
    try:
        yield from results.iter_batches(batch_size=None, batch_format="pyarrow")
        records.keep_stats("ingest", results)
    except ray.exceptions.RayTaskError as error:
        # Here too: callers without a session want the plain class.
        found = cause_of(error)
        if found is error:
            raise
        raise found from error
    except (ray.exceptions.WorkerCrashedError, ray.exceptions.OutOfMemoryError) as error:
        raise SurroundingsError(
            f"the worker of one part died {WORKER_DEATHS + 1} times: out of memory, or a file that "
            "kills its decoder; lower slices_per_part to find it, or add memory, then run again"
        ) from error
