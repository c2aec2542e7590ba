"""However a source grew, its corpus is that of one ingest of what it has become."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import ich_ray.distributed.ingest as stage
from ich_ray.config import CorpusConfig, Settings, StoreConfig
from ich_ray.distributed.ingest import ingest
from ich_ray.identity import PUBLIC_KEY, Pseudonyms
from ich_ray.ingest_summary import IngestSummary
from ich_ray.storage import corpus
from ich_ray.storage.objects import Store
from ich_ray.storage.tables import open_table, read_rows
from tests.cluster import growing_sources as sources

pytestmark = [
    pytest.mark.usefixtures("ray_cluster"),
    # RSNA's identifiers, as its manifest has them.
    pytest.mark.filterwarnings("ignore:Invalid value for VR UI"),
]

NAMES = Pseudonyms(PUBLIC_KEY)
TABLES = ("slices", "ledger", "series", "reads", "boxes")
SEEDS = range(5)


@pytest.fixture(autouse=True)
def _revision(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(stage, "code_revision", lambda: "test")


def run(config: CorpusConfig, store: Path) -> IngestSummary:
    settings = Settings(store=StoreConfig(root=str(store)), corpora={"c": config})
    return ingest(settings, "c", pseudonyms=NAMES, ensure_ray=lambda: None)


def tables_in(store: Path, *, gone: set[str]) -> dict[str, list[str]]:
    """The rows of every table, but for names of parts and what was of objects that are gone."""
    at = Store(str(store))
    found = {}
    for name in TABLES:
        table = open_table(at, at.url("corpora", "c", name))
        rows: list[dict[str, Any]] = [] if table is None else read_rows(at, table).to_pylist()
        if name == "ledger":
            rows = [{**row, "part": row["part"] is not None} for row in rows]
            rows = [row for row in rows if row["source"] not in gone]
        found[name] = sorted(map(repr, rows))
    return found


def whole(name: str, folder: Path) -> sources.Whole:
    if name == "cq500":
        return sources.cq500(folder)
    make: Callable[[], sources.Whole] = getattr(sources, name)
    return make()


@pytest.mark.parametrize("seed", SEEDS)
@pytest.mark.parametrize("name", ["rsna", "ct_ich", "folder", "templates", "nifti", "cq500"])
def test_the_order_in_which_a_source_grew_does_not_matter(
    name: str, seed: int, tmp_path: Path
) -> None:
    source = tmp_path / "source"
    final = whole(name, tmp_path / "whole")
    config = sources.settings_for(final, source, seed)
    moved: set[str] = set()
    for step in sources.steps_of(final, seed):
        sources.apply(source, step)
        moved |= {key for key, content in step.items() if content is None}
        run(config, tmp_path / "grown")
    assert run(config, tmp_path / "grown").up_to_date
    run(config, tmp_path / "at once")
    gone = {NAMES.of(key) for key in moved}
    assert tables_in(tmp_path / "grown", gone=gone) == tables_in(tmp_path / "at once", gone=gone)
    # Every object that is there has one row.
    listed = {path.relative_to(source).as_posix() for path in source.rglob("*") if path.is_file()}
    at = Store(str(tmp_path / "grown"))
    ledger = open_table(at, corpus.ledger_url(at, "c"))
    assert ledger is not None
    rows = read_rows(at, ledger, ["source"])["source"].to_pylist()
    assert len(set(rows)) == len(rows)
    assert {NAMES.of(key) for key in listed} <= set(rows)
