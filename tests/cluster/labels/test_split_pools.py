"""Pools of several selections, of which no part of a corpus need hold a patient."""

import json
import shutil
from itertools import count
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from ich_ray.distributed.cache import PoolSource, open_pool
from ich_ray.distributed.label_diagnostics import diagnose
from ich_ray.distributed.lineage import finished_pseudo_labels
from ich_ray.distributed.pseudo_label import pseudo_label
from ich_ray.distributed.review import review
from ich_ray.distributed.session import Session
from ich_ray.errors import ConfigError, SurroundingsError
from ich_ray.learning.sampling import SlicePool, Worker
from ich_ray.splits import split_of
from ich_ray.storage.tables import read_part
from tests.cluster.tiny_experiment import opened, rows_of, settings_of

SHARES = {"x": 0.5, "y": 0.5}
WHOLE = ("pseudo_labels.pool.unlabelled=['b', 'c']", "evaluate.test=['a:tune']")
DIVIDED = (
    "pseudo_labels.pool.unlabelled=['b:x', 'b:y', 'c']",
    "corpora.b.splits={x = 0.5, y = 0.5}",
    "evaluate.test=['a:tune']",
)


def seed_with_gaps(run: Session) -> int:
    """Return a division of b of which both halves are absent from a part."""
    parts = [
        set(read_part(run.store, url, ("patient",))["patient"].to_pylist())
        for url in run.corpus("b").files
    ]
    assert len(parts) > 2

    def has_gaps(seed: int) -> bool:
        found = [{split_of(one, shares=SHARES, seed=seed) for one in part} for part in parts]
        return {"x"} in found and {"y"} in found

    return next(filter(has_gaps, count()))


def pool_of(run: Session, root: Path) -> SlicePool:
    lineage = finished_pseudo_labels(run, "pool")
    sources = [
        PoolSource(
            store=run.store, selection=one, input=run.settings.input, pseudo_labels=lineage.url
        )
        for one in lineage.selections
    ]
    return open_pool(sources, str(root / "pool"), worker=Worker(), barrier=lambda: None)


def by_slice(rows: list[dict[str, Any]]) -> dict[str, dict[str, Any]]:
    found = {row["slice"]: row for row in rows}
    assert len(found) == len(rows)
    return found


@pytest.fixture(scope="module")
def divided(finished: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, list[str]]:
    """A store whose pool is labelled by halves of a corpus and another one, and the settings."""
    root = tmp_path_factory.mktemp("divided")
    shutil.copytree(finished / "store", root / "store")
    with opened(root) as run:
        overrides = [*DIVIDED, f"corpora.b.split_seed={seed_with_gaps(run)}"]
    with opened(root, *overrides) as run:
        pseudo_label(run, "pool")
    return root, overrides


def test_a_pool_of_all_splits_is_labelled_as_its_whole_corpora_are(
    divided: tuple[Path, list[str]], tmp_path: Path
) -> None:
    root, overrides = divided
    with opened(root, *overrides) as run:
        rows = by_slice(rows_of(run, finished_pseudo_labels(run, "pool").table))
        pool = pool_of(run, tmp_path)
    with opened(root, *WHOLE) as run:
        pseudo_label(run, "pool")
        expected = by_slice(rows_of(run, finished_pseudo_labels(run, "pool").table))
        whole = pool_of(run, tmp_path)
    assert len(expected) == 128
    assert rows == expected
    assert list(pool.names) == list(whole.names)
    for i in range(len(whole)):
        assert np.array_equal(pool.masks[i], whole.masks[i])


def test_all_of_a_divided_pool_is_looked_at_and_diagnosed(
    divided: tuple[Path, list[str]], tmp_path: Path
) -> None:
    root, overrides = divided
    folders = (f"review.folder={tmp_path}", f"diagnose.folder={tmp_path}")
    more = ("review.percentiles=[20, 50, 90]", "review.slices_per_percentile=30")
    with opened(root, *overrides, *folders, *more) as run:
        assert review(run, "pool").slices == 90
        record = json.loads(Path(diagnose(run, "pool").record).read_text())
    assert record["slices"] == 128


def test_pseudo_labels_that_lack_a_part_teach_nothing(
    divided: tuple[Path, list[str]], tmp_path: Path
) -> None:
    root, overrides = divided
    shutil.copytree(root / "store", tmp_path / "store")
    with opened(tmp_path, *overrides) as run:
        table = finished_pseudo_labels(run, "pool").table
        assert table is not None
        Path(table.files[-1]).unlink()
        with pytest.raises(SurroundingsError, match=r"lacks part-\w+-\w+[\w-]*.parquet, of corpus"):
            pool_of(run, tmp_path)


@pytest.mark.parametrize("twice", ["['b', 'b:x']", "['b:x', 'b:x']"])
def test_patients_who_are_named_twice_are_refused(tmp_path: Path, twice: str) -> None:
    overrides = (f"pseudo_labels.pool.unlabelled={twice}", "corpora.b.splits={x = 0.5, y = 0.5}")
    with pytest.raises(ConfigError, match="unlabelled names patients of b:x twice"):
        settings_of(tmp_path, *overrides)
