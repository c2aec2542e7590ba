"""The demo's experiment, small enough for a test: its settings, its stages and their output."""

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from ich_ray.config import Settings
from ich_ray.distributed.ingest import ingest
from ich_ray.distributed.phantoms import write_phantoms
from ich_ray.distributed.pseudo_label import pseudo_label
from ich_ray.distributed.report import make_report
from ich_ray.distributed.session import Session, session
from ich_ray.distributed.train import train
from ich_ray.identity import PUBLIC_KEY, Pseudonyms
from ich_ray.order import Step, steps_of
from ich_ray.settings import parse
from ich_ray.storage.tables import Table, read_rows

SETTINGS = """
identity = "public"
store = { root = "ROOT/store" }
cluster = { cache = "ROOT/cache" }
input = { size = 64 }
predict = { batch = 4 }

[phantoms]
a = { site = "a", folder = "ROOT/dicom/a", num_exams = 10, num_slices = 8, matrix = 64 }
c = { site = "c", folder = "ROOT/dicom/c", num_exams = 8, num_slices = 8, matrix = 64 }

[phantoms.b]
site = "b"
folder = "ROOT/dicom/b"
num_exams = 8
num_slices = 8
matrix = 64
labelled = false
[corpora]
a = { layout = "folder", source = "ROOT/dicom/a", splits = { train = 0.6, tune = 0.4 } }
b = { layout = "folder", source = "ROOT/dicom/b", slices_per_part = 16 }
c = { layout = "folder", source = "ROOT/dicom/c", slices_per_part = 64 }

[models.teacher]
network = "drn_d_narrow"
labelled = ["a:train"]
crop = 64
batch = 4
steps = 12
optimizer = "adamw"
learning_rate = 0.003
positive_slice_share = 0.5
validation = { tuning = ["a:tune"], every = 5 }

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
num_workers = 1
optimizer = "adamw"

[evaluate]
models = { baseline = "teacher", semi_supervised = "student" }
test = ["c"]
tuning = ["a:tune"]
resamples = 200
actors = 1
gallery = 4
report = "ROOT/report"
"""


def settings_text(root: Path) -> str:
    return SETTINGS.replace("ROOT", str(root))


def settings_of(root: Path, *overrides: str) -> Settings:
    return parse(Settings, settings_text(root), overrides)


@contextmanager
def opened(root: Path, *overrides: str) -> Iterator[Session]:
    with session(settings_of(root, *overrides), Pseudonyms(PUBLIC_KEY)) as run:
        yield run


def carry_out(run: Session, step: Step) -> Any:
    """Do one step; a new one where the runs table is of no interest."""
    match step:
        case ("ingest", name):
            names, ensure_ray = run.pseudonyms, run.ensure_ray
            return ingest(run.settings, name, pseudonyms=names, ensure_ray=ensure_ray)
        case ("train", name):
            return train(run, name)
        case ("pseudo-label", name):
            return pseudo_label(run, name)
    return make_report(run)


def run_all(root: Path) -> list[Any]:
    """Return the summaries of the phantoms and of every step after them."""
    with opened(root) as run:
        written = [write_phantoms(run, name) for name in run.settings.phantoms]
        return written + [carry_out(run, step) for step in steps_of(run.settings)]


def copy_untrained(finished: Path, root: Path) -> None:
    """Give a folder the store of a finished experiment as it was before any model was trained."""
    shutil.copytree(
        finished / "store",
        root / "store",
        ignore=lambda folder, _: (
            {"models", "checkpoints"} if Path(folder) == finished / "store" else set()
        ),
    )


def rows_of(run: Session, table: Table | None) -> list[dict[str, Any]]:
    assert table is not None
    rows: list[dict[str, Any]] = read_rows(run.store, table).to_pylist()
    return sorted(rows, key=lambda row: str(row["slice"]))


def files_under(folder: Path) -> dict[str, bytes]:
    files = (path for path in folder.rglob("*") if path.is_file())
    return {str(path.relative_to(folder)): path.read_bytes() for path in files}


def parts_under(folder: Path) -> dict[Path, int]:
    return {path: path.stat().st_mtime_ns for path in folder.rglob("part-*.parquet")}
