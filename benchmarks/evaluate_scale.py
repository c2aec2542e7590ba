"""Does the driver of an evaluation stay small when its corpus grows? 1,000, 5,000, 25,000 exams.

A store is written with a corpus of 30 slices of 64 x 64 an exam, a third of the exams with a bleed
and all with reference masks, and with the predictions of two models, by the product's own writers
and in parts as it makes them. The models are trained ones, since their records are read; what they
are made to say is random, by skill. Then `ich-ray evaluate` compares them with 2,000 resamples, as
for any other corpus, in a process of its own. Each size is given in seconds, with the peak of
resident memory of the driver and of the largest worker.

    python -m benchmarks.evaluate_scale [--exams 1000 5000 25000] [--out out/bench/evaluate_scale]

A size whose figures are there is not measured again. The last line is one line of JSON:
`driver_mb_N`, `worker_mb_N` and `evaluate_N_seconds` of each size N.
"""

import argparse
import contextlib
import json
import shutil
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
from scipy.special import expit

from benchmarks import process_tree
from ich_ray.config import Settings
from ich_ray.distributed import predict
from ich_ray.distributed.ingest import ingest
from ich_ray.distributed.lineage import trained_model
from ich_ray.distributed.phantoms import write_phantoms
from ich_ray.distributed.predict import prediction_task
from ich_ray.distributed.session import Session, select, session
from ich_ray.distributed.train import train
from ich_ray.exam import Geometry, Slice
from ich_ray.identity import PUBLIC_KEY, Pseudonyms
from ich_ray.ingest_plan import Entry
from ich_ray.settings import parse
from ich_ray.storage import corpus, ledger, slice_rows
from ich_ray.storage.ingest_log import commit_ingest
from ich_ray.storage.predictions import MAP_KIND, PREDICTIONS, encode_map
from ich_ray.storage.table_change import Change
from ich_ray.storage.tables import write_part
from ich_ray.windows import preprocessing_id

SIZES = (1_000, 5_000, 25_000)
SLICES, SIDE, CELLS = 30, 64, 8
EXAMS_OF_PART = 512 // SLICES
"""As an ingest divides them by default: 512 slices, about."""

FIRST_TUNING, TUNING = 10**6, 10 * EXAMS_OF_PART
"""Exams that fix thresholds: of their own corpus."""

SKILL = {"teacher": 6.0, "student": 7.0}
"""Logits that a cell gains by being all bleed."""

SETTINGS_FILE = "settings.toml"
SETTINGS = """
identity = "public"
store = { root = "ROOT/store" }
cluster = { cache = "ROOT/cache", num_cpus = 2, object_store_mb = 300 }
input = { size = 64 }
predict = { batch = 8, actors = 1 }
phantoms.a = { site = "a", folder = "ROOT/dicom/a", num_exams = 12, num_slices = 8, matrix = 64 }

[corpora]
a = { layout = "folder", source = "ROOT/dicom/a", splits = { train = 0.5, tune = 0.5 } }
t = { layout = "folder", source = "ROOT/dicom/t" }
u = { layout = "folder", source = "ROOT/dicom/u" }

[models.teacher]
network = "drn_d_narrow"
labelled = ["a:train"]
crop = 64
batch = 4
steps = 40
optimizer = "adamw"
learning_rate = 0.003
positive_slice_share = 0.5

[models.student]
network = "drn_d_narrow"
labelled = ["a:train"]
init = "teacher"
crop = 64
batch = 4
steps = 4
optimizer = "adamw"

[evaluate]
models = { baseline = "teacher", semi_supervised = "student" }
test = ["t"]
tuning = ["u"]
resamples = RESAMPLES
actors = 2
gallery = 4
report = "ROOT/report"
"""


def write_base(run: Session) -> None:
    """Make synthetic heads, ingest them, and train both models on half of them."""
    write_phantoms(run, "a")
    ingest(run.settings, "a", pseudonyms=run.pseudonyms, ensure_ray=run.ensure_ray)
    for name in SKILL:
        train(run, name)


def write_exams(run: Session, name: str, numbers: range) -> None:
    """Write a corpus and its ledger, then what each model says of it."""
    of_part = {f"{part.start:016x}": part for part in parts_of(numbers)}
    url = corpus.slices_url(run.store, name)
    parts = [
        write_part(run.store, url, part, slice_rows.to_table(exams), [SLICES] * len(exams))
        for part, exams in ((part, [exam(i) for i in some]) for part, some in of_part.items())
    ]
    commit_ingest(
        run.store,
        name,
        ledger.open_ledger(run.store, name),
        entries=ledger.to_table(accepted(numbers)),
        dropped=(),
        changes={"slices": Change(0, parts, ())},
        properties={
            "schema_version": corpus.SCHEMA_VERSION,
            "kind": "hu",
            "key_fingerprint": run.pseudonyms.fingerprint,
        },
    )
    (selection,) = select(run, (name,))
    for model in SKILL:
        task = prediction_task(run, trained_model(run, model), selection)
        said = [
            write_part(
                run.store,
                task.url,
                f"{name}-{part}",
                predictions(run, some, model),
                [SLICES] * len(some),  # an exam a row group, as the pool of actors writes them
            )
            for part, some in of_part.items()
        ]
        predict._commit(run, task, said)


def parts_of(numbers: range) -> Iterator[range]:
    """Divide exams as an ingest does."""
    for start in numbers[::EXAMS_OF_PART]:
        yield range(start, min(start + EXAMS_OF_PART, numbers.stop))


def accepted(numbers: range) -> Iterator[Entry]:
    """Yield the ledger's row of each slice."""
    for i in numbers:
        for z in range(SLICES):
            yield Entry(
                source=f"s{i:06d}-{z:02d}",
                etag="",
                size=2 * SIDE * SIDE,
                role="slice",
                outcome="accepted",
                patient=patient_of(i),
                exam=f"e{i:06d}",
                slice=f"{i:06d}-{z:02d}",
            )


def patient_of(number: int) -> str:
    """Return the patient of an exam: one of each part has two."""
    return f"p{number - (number % EXAMS_OF_PART == 1):06d}"


def masks_of(number: int) -> np.ndarray:
    """Return the reference of an exam: one ellipsoid in every third."""
    rng = np.random.default_rng([1, number])
    centre = rng.uniform((8, 24, 24), (22, 40, 40))
    radii = rng.uniform((1.5, 3, 3), (5, 10, 10))
    z, y, x = np.ogrid[:SLICES, :SIDE, :SIDE]
    inside = sum(((at - c) / r) ** 2 for at, c, r in zip((z, y, x), centre, radii, strict=True))
    return (np.asarray(inside) < 1) & (number % 3 == 0)


def exam(number: int) -> list[Slice]:
    """Return the slices of an exam: a noisy disc of brain in a ring of bone, bleeds brighter."""
    rng = np.random.default_rng([2, number])
    masks = masks_of(number)
    y, x = np.mgrid[:SIDE, :SIDE] - (SIDE - 1) / 2
    far = np.hypot(y, x)
    head = np.where(far < 26, 35, np.where(far < 29, 900, -1000))
    hu = head + 25 * masks + rng.normal(0, 6, masks.shape)
    return [
        Slice(
            exam=f"e{number:06d}",
            key=f"{number:06d}-{z:02d}",
            patient=patient_of(number),
            series="s",
            stored=np.rint(hu[z]).astype(np.int16),
            slope=1.0,
            intercept=0.0,
            geometry=Geometry(
                position_mm=5.0 * z, spacing_mm=(3.5, 3.5), thickness_mm=5.0, tilt_deg=0.0
            ),
            label=bool(masks[z].any()),
            mask=masks[z].astype(np.uint8),
        )
        for z in range(SLICES)
    ]


def predictions(run: Session, numbers: range, name: str) -> pa.Table:
    """Return what a model says of some exams: logits by cell, and their highest by slice."""
    model, preprocessing = trained_model(run, name).identity, preprocessing_id(run.settings.input)
    rows: list[dict[str, Any]] = []
    for number in numbers:
        rng = np.random.default_rng([3 + list(SKILL).index(name), number])
        of_cell = masks_of(number).reshape(SLICES, CELLS, CELLS, CELLS, CELLS).mean((2, 4))
        # A student of the same data errs alike: part of the noise is the exam's.
        shared = np.random.default_rng([5, number]).normal(0, 1, of_cell.shape)
        logits = -5 + SKILL[name] * of_cell + shared + rng.normal(0, 1, of_cell.shape)
        rows += [
            {
                "exam": f"e{number:06d}",
                "slice": f"{number:06d}-{z:02d}",
                "p": float(expit(logits[z].max())),
                "map": encode_map(logits[z].astype(np.float16)),
                "map_kind": MAP_KIND,
                "map_rows": CELLS,
                "map_columns": CELLS,
                "rows": SIDE,
                "columns": SIDE,
                "model": model,
                "preprocessing": preprocessing,
            }
            for z in range(SLICES)
        ]
    return pa.Table.from_pylist(rows, schema=PREDICTIONS)


@contextlib.contextmanager
def folder_of(folder: Path, resamples: int) -> Iterator[Session | None]:
    """Fill a folder by a run of its own; its settings file is written last, and says that it is."""
    settings = folder / SETTINGS_FILE
    if settings.exists():
        yield None
        return
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    text = SETTINGS.replace("ROOT", str(folder)).replace("RESAMPLES", str(resamples))
    with session(parse(Settings, text, ()), Pseudonyms(PUBLIC_KEY)) as run:
        yield run
    settings.write_text(text)


def written(folder: Path, num_exams: int, resamples: int) -> Path:
    """Write the store of one size, unless it is there; return its settings file."""
    base = folder.parent / "base"
    with folder_of(base, resamples) as run:
        if run is not None:
            write_base(run)
    with folder_of(folder, resamples) as run:
        if run is not None:
            shutil.copytree(base / "store", folder / "store")
            write_exams(run, "t", range(num_exams))
            write_exams(run, "u", range(FIRST_TUNING, FIRST_TUNING + TUNING))
    return folder / SETTINGS_FILE


def measured(folder: Path, num_exams: int, resamples: int) -> dict[str, Any]:
    """Evaluate one size, unless that was done; return its figures."""
    known = folder / "figures.json"
    if known.exists():
        return dict(json.loads(known.read_text()))
    started = time.perf_counter()
    settings = written(folder, num_exams, resamples)
    print(f"{num_exams} exams are written: {time.perf_counter() - started:.0f} s", flush=True)
    shutil.rmtree(folder / "store" / "evaluations", ignore_errors=True)
    command = [sys.executable, "-m", "jobs", "evaluate", str(settings)]
    took = process_tree.run(command, {"RAY_USAGE_STATS_ENABLED": "0"})
    found = {
        f"driver_mb_{num_exams}": round(took.main_peak_mb),
        f"worker_mb_{num_exams}": round(took.worker_peak_mb),
        f"evaluate_{num_exams}_seconds": round(took.wall_s, 1),
        f"evaluate_{num_exams}_cpu_seconds": round(took.cpu_s, 1),
    }
    known.write_text(json.dumps(found))
    shutil.rmtree(folder / "store")
    return found


def main() -> None:
    """Measure each size, and print what was found."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--exams", type=int, nargs="+", default=list(SIZES))
    parser.add_argument("--resamples", type=int, default=2_000)
    parser.add_argument("--out", type=Path, default=Path("out/bench/evaluate_scale"))
    options = parser.parse_args()
    found: dict[str, Any] = {}
    for num_exams in options.exams:
        folder = options.out.resolve() / f"{num_exams}-{options.resamples}"
        one = measured(folder, num_exams, options.resamples)
        print(f"{num_exams} exams: {json.dumps(one)}", flush=True)
        found |= one
    print(json.dumps(found))


if __name__ == "__main__":
    main()
