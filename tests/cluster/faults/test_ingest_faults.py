"""Ingests that are killed, that meet each other, and whose source goes away under them."""

import shutil
import subprocess
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

import pytest
import ray
import s3fs

import ich_ray.distributed.ingest as stage
from benchmarks.ingest_kills import Bench, content
from ich_ray.errors import SurroundingsError
from ich_ray.storage import corpus
from ich_ray.storage.leases import Lease, held, this_process
from ich_ray.storage.objects import Store
from ich_ray.storage.tables import open_table
from tests.cluster.test_ingest import add_exam, rows_of, run, settings_of

pytestmark = pytest.mark.usefixtures("ray_cluster")
KILLS = 5


@pytest.fixture(scope="module")
def bench(ray_cluster: None, tmp_path_factory: pytest.TempPathFactory) -> Bench:
    folder = tmp_path_factory.mktemp("kills") / "bench"
    found = Bench(folder, ray.get_runtime_context().gcs_address)
    found.prepare()
    return found


def test_an_ingest_that_was_killed_and_run_again_ends_as_if_it_was_not(bench: Bench) -> None:
    # More than the kills that are asked for: some ingests are over before the blow falls.
    found = [trial for seed in range(KILLS + 1) if (trial := bench.trial(seed)) is not None]
    assert len(found) >= KILLS - 1
    assert [trial for trial in found if not trial["same"]] == []


def outcomes(*processes: subprocess.Popen[str]) -> list[tuple[int, str]]:
    said = [process.communicate(timeout=300)[0] for process in processes]
    return [(process.returncode, text) for process, text in zip(processes, said, strict=True)]


def check_two_at_once(bench: Bench, store: Store, *settings: str) -> None:
    ended = outcomes(*(bench.start(store.root, "grown", *settings) for _ in range(2)))
    assert {code for code, _ in ended} <= {0, 5}, ended
    assert 0 in {code for code, _ in ended}, ended
    assert all("run the same command again" in said for code, said in ended if code == 5)
    ((code, said),) = outcomes(bench.start(store.root, "grown", *settings))
    assert (code, "up to date" in said) == (0, True)
    undisturbed = Store(str(bench.store("first-undisturbed")))
    assert content(store) == content(undisturbed)


def test_two_ingests_at_once_leave_one_whole_corpus(bench: Bench, tmp_path: Path) -> None:
    store = Store(str(tmp_path / "store"))
    shutil.copytree(bench.store("first"), store.root)
    check_two_at_once(bench, store)


def test_two_ingests_at_once_into_an_object_store(bench: Bench, s3_store: Store) -> None:
    store = Store("s3://ich/at-once", s3_store.endpoint_url, s3_store.max_attempts)
    settings = f"store.endpoint_url={store.endpoint_url}"
    outcomes(bench.start(store.root, "first", settings))
    check_two_at_once(bench, store, settings)


def test_an_ingest_that_another_one_overtook_commits_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    source, store = tmp_path / "source", Store(str(tmp_path / "store"))
    add_exam(source, "1")
    settings = settings_of(str(source), store)
    run(settings)
    add_exam(source, "2")
    committed = stage.commit_ingest

    def unaware(_: str) -> AbstractContextManager[Lease]:
        # As one that was taken for dead, and came back: it has not asked for the lease again.
        return held(store, "another", holder=this_process(), expires_s=60.0)

    def overtaken(*given: Any, **named: Any) -> int:
        monkeypatch.setattr(stage, "commit_ingest", committed)
        add_exam(source, "3")
        assert run(settings, writing=unaware).version == 1
        return committed(*given, **named)

    monkeypatch.setattr(stage, "commit_ingest", overtaken)
    with pytest.raises(SurroundingsError, match=r"another run has committed version 1 .* run the"):
        run(settings)
    assert len(rows_of(store)) == 9
    assert run(settings).up_to_date


def test_a_folder_that_vanishes_while_it_is_read_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    source, store = tmp_path / "source", Store(str(tmp_path / "store"))
    add_exam(source, "1")
    listing = Store.listing

    def then_gone(self: Store, url: str) -> list[Any]:
        found = listing(self, url)
        if url == str(source) and found:
            for path in source.rglob("*.dcm"):
                path.unlink()
            (source / "labels.csv").rename(tmp_path / "labels.csv")
        return found

    monkeypatch.setattr(Store, "listing", then_gone)
    settings = settings_of(str(source), store, labels=str(tmp_path / "labels.csv"))
    shutil.copy(source / "labels.csv", tmp_path / "labels.csv")
    with pytest.raises(SurroundingsError, match=r"corpora\.c\.source vanished while it was read"):
        run(settings)
    assert open_table(store, corpus.slices_url(store, "c")) is None


def test_a_bucket_that_vanishes_while_it_is_read_is_no_reason_to_reject(
    tmp_path: Path, s3_store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    bucket = s3fs.S3FileSystem(endpoint_url=s3_store.endpoint_url)
    bucket.call_s3("create_bucket", Bucket="vanishing")
    add_exam(tmp_path / "source", "1")
    for path in (tmp_path / "source" / "1").iterdir():
        s3_store.write_bytes(f"s3://vanishing/1/{path.name}", path.read_bytes())
    listing = Store.listing

    def then_gone(self: Store, url: str) -> list[Any]:
        found = listing(self, url)
        if url == "s3://vanishing" and bucket.exists("vanishing"):
            bucket.rm("vanishing", recursive=True)
        return found

    monkeypatch.setattr(Store, "listing", then_gone)
    store = Store("s3://ich/vanishing", s3_store.endpoint_url, s3_store.max_attempts)
    with pytest.raises(SurroundingsError, match=r"its bucket is gone|no bucket 'vanishing'"):
        run(settings_of("s3://vanishing", store))
    assert open_table(store, corpus.slices_url(store, "c")) is None
