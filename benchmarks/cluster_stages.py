"""What the cluster's trials run: four stages on phantoms in S3, and what they leave behind.

Run on a node, which has the store's keys:

    python -m benchmarks.cluster_stages upload FOLDER TO ENDPOINT
    python -m benchmarks.cluster_stages copy FROM TO STAGE ENDPOINT
    python -m benchmarks.cluster_stages digest ROOT STAGE ENDPOINT
"""

import hashlib
import json
import sys
from collections.abc import Iterator
from typing import Any

import s3fs

from ich_ray.storage import ledger
from ich_ray.storage.corpus import SCHEMA, open_corpus
from ich_ray.storage.objects import Store
from ich_ray.storage.series_table import read_series
from ich_ray.storage.tables import open_table, read_rows
from ich_ray.storage.urls import path_of

SETTINGS = """
identity = "public"
store = { root = "", max_attempts = 10 }
input = { size = 64 }
predict = { batch = 4, actors = 2 }

[phantoms]
a = { site = "a", folder = "DICOM/a", num_exams = 10, num_slices = 8, matrix = 64 }
c = { site = "c", folder = "DICOM/c", num_exams = 8, num_slices = 8, matrix = 64 }

[phantoms.b]
site = "b"
folder = "DICOM/b"
num_exams = 24
num_slices = 8
matrix = 64
labelled = false

[corpora]
a = { layout = "folder", source = "DICOM/a", splits = { train = 0.6, tune = 0.4 } }
b = { layout = "folder", source = "DICOM/b", slices_per_part = 8 }
c = { layout = "folder", source = "DICOM/c", slices_per_part = 16 }

[models.teacher]
network = "drn_d_narrow"
labelled = ["a:train"]
crop = 64
batch = 4
steps = 60
checkpoint_every = 10
max_failures = 6
optimizer = "adamw"
learning_rate = 0.003
positive_slice_share = 0.5

[pseudo_labels.pool]
teacher = "teacher"
unlabelled = ["b"]
top_percent = 10.0

[models.student]
network = "drn_d_narrow"
labelled = ["a:train"]
pseudo_labelled = ["pool"]
init = "teacher"
crop = 64
batch = 4
steps = 8
optimizer = "adamw"

[evaluate]
models = { baseline = "teacher", semi_supervised = "student" }
test = ["c"]
tuning = ["a:tune"]
resamples = 400
actors = 2
gallery = 4
report = "/tmp/ray/report"
"""

ARGUMENTS = {
    "ingest": ("ingest", "--only", "b"),
    "train": ("train", "--only", "teacher"),
    "pseudo-label": ("pseudo-label", "--only", "pool"),
    "evaluate": ("evaluate",),
}
NEEDS = {
    "ingest": (),
    "train": ("corpora/",),
    "pseudo-label": ("corpora/", "models/teacher/"),
    "evaluate": ("corpora/", "models/", "pseudo_labels/"),
}
"""Stage -> what of a finished store it starts from."""

AT_WORK = {
    "ingest": ("ray::MapBatches(_written)", "ray::MapBatches(_facts)"),
    "train": ("ray::RayTrainWorker",),
    "pseudo-label": ("ray::MapWorker(MapBatches(PartPredictor))",),
    "evaluate": (
        "ray::MapWorker(MapBatches(PartPredictor))",
        "ray::MapWorker(MapBatches(Resampler))",
        "ray::MapBatches(StatisticsOfPart)",
    ),
}
"""Stage -> how command lines of its tasks and actors begin."""

BUSY = {
    "ingest": AT_WORK["ingest"],
    "train": (),
    "pseudo-label": ("ray::MapWorker(MapBatches(PartPredictor)).submit",),
    "evaluate": ("ray::MapWorker(MapBatches(PartPredictor)).submit",),
}
"""Stage -> how they begin when a first shard is worked at: an actor that loads torch is not."""

FIRST_STEP = "training begins"
"""Of training no command line tells; its workers log this when data and network are there."""


def upload(folder: str, target: str, endpoint: str) -> None:
    """Copy a folder to the S3 server."""
    s3fs.S3FileSystem(endpoint_url=endpoint).put(folder, path_of(target), recursive=True)


def copy(source: str, target: str, stage: str, endpoint: str) -> None:
    """Copy what a stage needs of a finished store to a new one."""
    client = s3fs.S3FileSystem(endpoint_url=endpoint)
    root = path_of(source)
    for key in client.find(root):
        name = key.removeprefix(f"{root}/")
        if name.startswith(NEEDS[stage]):
            client.copy(key, f"{path_of(target)}/{name}")


def digest(root: str, stage: str, endpoint: str) -> dict[str, Any]:
    """Return what a stage has left: a hash of all rows, models or figures, and their number."""
    hashes = sorted(_hashes(Store(root, endpoint), stage))
    whole = hashlib.sha256("".join(hashes).encode()).hexdigest()
    return {"count": len(hashes), "distinct": len(set(hashes)), "hash": whole}


def _hashes(store: Store, stage: str) -> Iterator[str]:
    for item in _items(store, stage):
        yield hashlib.sha256(repr(item).encode()).hexdigest()


def _items(store: Store, stage: str) -> Iterator[Any]:
    if stage == "ingest":
        corpus = open_corpus(store, "b")
        yield from read_rows(store, corpus.table, SCHEMA.names).to_pylist()
        yield from ledger.open_ledger(store, "b").rows.to_pylist()
        yield from read_series(store, "b")
    elif stage == "train":
        for item in store.listing(store.url("models", "teacher")):
            if item.key.endswith("model.json"):
                record = json.loads(store.read_bytes(item.url))
                yield item.key, record["model"], record["curve"]
    elif stage == "pseudo-label":
        yield from _rows_of_tables(store, "pseudo_labels")
        yield from _rows_of_tables(store, "predictions", of=("b",))
    else:
        yield from _rows_of_tables(store, "predictions", of=("a", "c"))
        for item in store.listing(store.url("evaluations")):
            if item.key.endswith("report.json"):
                report = json.loads(store.read_bytes(item.url))
                kept = ("models", "differences", "pseudo_labels", "corpora")
                yield item.key, {name: report[name] for name in kept}


def _rows_of_tables(store: Store, folder: str, of: tuple[str, ...] | None = None) -> Iterator[Any]:
    places = {
        item.key.partition("/_delta_log/")[0]
        for item in store.listing(store.url(folder))
        if "/_delta_log/" in item.key
    }
    for place in sorted(places):
        table = open_table(store, store.url(folder, place))
        if table is not None and (of is None or table.properties["corpus"] in of):
            for row in read_rows(store, table).to_pylist():
                yield place, row


if __name__ == "__main__":
    match sys.argv[1:]:
        case ["upload", folder, target, endpoint]:
            upload(folder, target, endpoint)
        case ["copy", source, target, stage, endpoint]:
            copy(source, target, stage, endpoint)
        case ["digest", root, stage, endpoint]:
            print(json.dumps(digest(root, stage, endpoint)))
        case _:
            sys.exit(__doc__)
