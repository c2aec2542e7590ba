from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from ich_ray.exam import Geometry, Slice
from ich_ray.slice_facts import facts_of
from ich_ray.storage import corpus, slice_rows
from ich_ray.storage.corpus import hounsfield, open_corpus
from ich_ray.storage.objects import Store
from ich_ray.storage.slice_facts import facts_url, missing_facts, read_facts, write_facts
from ich_ray.storage.tables import commit, write_part


def exam(name: str, *, slices: int = 3) -> list[Slice]:
    """Slices in order along the normal, each with something else missing."""
    rng = np.random.default_rng(len(name))
    usual = Geometry(position_mm=0.0, spacing_mm=(0.5, 0.4), thickness_mm=5.0, tilt_deg=0.0)
    bare = Geometry(position_mm=None, spacing_mm=None, thickness_mm=None, tilt_deg=None)
    made = [
        Slice(
            exam=name,
            key=f"{name}-{number}",
            patient=f"p-{name}",
            series="r",
            stored=rng.integers(0, 3000, (6, 4)).astype(np.int16),
            slope=1.0,
            intercept=-1024.0,
            geometry=replace(usual, position_mm=5.0 * number),
        )
        for number in range(slices)
    ]
    made[1] = replace(
        made[1],
        label=True,
        subtypes=(False, True, False, False, False),
        mask=np.where(made[1].stored > 1500, 2, 0).astype(np.uint8),
    )
    made[2] = replace(made[2], geometry=bare, label=False, mask=np.zeros((6, 4), np.uint8))
    return made


@pytest.fixture
def store(tmp_path: Path) -> Store:
    store = Store(str(tmp_path))
    url = corpus.slices_url(store, "c")
    parts = [
        write_part(store, url, tag, slice_rows.to_table(exams), [len(slices) for slices in exams])
        for tag, exams in (("00", [exam("a"), exam("bb")]), ("01", [exam("ccc")]))
    ]
    properties = {"schema_version": corpus.SCHEMA_VERSION, "kind": "hu", "key_fingerprint": "k"}
    commit(store, url, schema=corpus.SCHEMA, parts=parts, properties=properties)
    return store


def test_facts_come_back_as_they_were(store: Store) -> None:
    opened = open_corpus(store, "c")
    for url in opened.files:
        write_facts(store, facts_url(store, opened), url)
    found = [facts for url in opened.files for facts in read_facts(store, opened, url)]
    expected = [[facts_of(s, hounsfield(s)) for s in exam(name)] for name in ("a", "bb", "ccc")]
    assert found == expected


def test_only_the_parts_without_facts_are_missing(store: Store) -> None:
    opened = open_corpus(store, "c")
    assert missing_facts(store, opened) == list(opened.files)
    write_facts(store, facts_url(store, opened), opened.files[0])
    assert missing_facts(store, opened) == [opened.files[1]]
    first = (Path(facts_url(store, opened)) / "part-00.parquet").read_bytes()
    write_facts(store, facts_url(store, opened), opened.files[0])
    assert (Path(facts_url(store, opened)) / "part-00.parquet").read_bytes() == first
