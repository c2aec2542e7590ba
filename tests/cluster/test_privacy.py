import contextlib
import logging
import re
import time
import zipfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
import ray

from ich_ray.errors import Reason
from ich_ray.storage import corpus, ledger
from ich_ray.storage.objects import Store
from ich_ray.storage.tables import open_table, read_rows
from jobs.cli import main
from tests.cluster.ray_telemetry import (
    TOLD_EVERY_S,
    metrics_text,
    wait_until,
    worker_lines,
)
from tests.local.planted import (
    BIRTH,
    FAMILY,
    GIVEN,
    NAME,
    SECRETS,
    contents,
    leaks,
    planting,
    write_source,
)

KEY = "the key of ward nine, told to nobody"
OPEN_VALUES = {
    *("slice", "mask", "object", "labels", "manifest", "unknown"),  # roles
    *("accepted", "duplicate", "rejected", "hu", "raw-u8-1"),
    *(f"gradient-{kind}-2" for kind in ("i16", "u16", "u8")),
    *(reason.value for reason in Reason),
}
"""The text columns of the tables hold these, hashes, and etags; nothing else."""

HASHED = re.compile(r"[0-9a-f]{16,32}|[0-9a-f]+-[0-9]+|")


@pytest.fixture
def source(tmp_path: Path) -> Path:
    """A prefix that is itself named after the patient."""
    folder = tmp_path / f"{GIVEN} {FAMILY} {BIRTH}"
    with planting():
        write_source(folder)
    with zipfile.ZipFile(tmp_path / f"{GIVEN}.zip", "w") as archive:
        for path in (folder / f"{NAME}_{BIRTH}").iterdir():
            archive.write(path, f"{NAME}/{path.name}")
    return folder


@pytest.fixture
def settings(source: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("ICH_RAY_HMAC_KEY", KEY)
    path = tmp_path / "settings.toml"
    path.write_text(
        f'store = {{ root = "{tmp_path}/store" }}\n'
        f'[corpora.z]\nlayout = "folder"\nsource = "{tmp_path}/{GIVEN}.zip"\n'
        f'[corpora.c]\nlayout = "folder"\nsource = "{source}"\nmax_rejected_share = 1.0\n'
    )
    return path


def session_logs(since: float) -> Iterator[tuple[str, bytes]]:
    """Every file to which this session's Ray wrote since a time, if there is a Ray."""
    if not ray.is_initialized():
        return
    folder = Path(ray._private.worker._global_node.get_session_dir_path())
    for path in folder.rglob("*"):
        with contextlib.suppress(FileNotFoundError):
            if path.is_file() and not path.is_symlink() and path.stat().st_mtime >= since:
                yield str(path.relative_to(folder)), path.read_bytes()


def endpoint() -> Iterator[tuple[str, bytes]]:
    """The metrics that Prometheus would read of this Ray, if there is one."""
    if ray.is_initialized():
        yield "metrics", metrics_text().encode()


def found(  # noqa: PLR0913  (every place that a run writes to)
    arguments: Sequence[str],
    code: int,
    *,
    tmp_path: Path,
    source: Path,
    capfd: pytest.CaptureFixture[str],
    caplog: pytest.LogCaptureFixture,
    secrets: Sequence[str] = (*SECRETS, KEY),
) -> tuple[str, list[Any]]:
    """Run a command; return what it said, and every secret that it left anywhere."""
    capfd.readouterr()
    with caplog.at_level(logging.DEBUG, "ich_ray"):
        assert main(["ingest", *arguments]) == code
    out, err = capfd.readouterr()
    said = [("stdout", out.encode()), ("stderr", err.encode()), ("log", caplog.text.encode())]
    own = [source, tmp_path / f"{GIVEN}.zip", tmp_path / "settings.toml", tmp_path / "map.csv"]
    # Since the first command of the test: workers write on when a command has ended.
    since = (tmp_path / "settings.toml").stat().st_mtime
    return out + err, [
        *leaks(said, secrets),
        *leaks(contents(tmp_path, but=own), secrets),
        *leaks(session_logs(since), secrets),
        *leaks(endpoint(), secrets),
    ]


@pytest.mark.usefixtures("ray_cluster")
def test_an_ingest_leaves_nothing_of_a_patient_but_in_the_private_map(
    source: Path,
    settings: Path,
    tmp_path: Path,
    capfd: pytest.CaptureFixture[str],
    caplog: pytest.LogCaptureFixture,
) -> None:
    watched: dict[str, Any] = {
        "tmp_path": tmp_path,
        "source": source,
        "capfd": capfd,
        "caplog": caplog,
    }
    said, left = found([str(settings), "--dry-run"], 0, **watched)
    assert "would" in said
    assert left == []
    said, left = found(
        [
            *(str(settings), "--only", "c", "corpora.c.max_rejected_share=0.0"),
            *("--json", "log.format=json"),
        ],
        4,
        **watched,
    )
    assert "were rejected" in said
    assert left == []
    private = tmp_path / "map.csv"
    said, left = found([str(settings), "--json", "--private-map", str(private)], 0, **watched)
    assert '"accepted_slices": ' in said
    assert left == []
    assert {secret for _, secret, _ in leaks([("map", private.read_bytes())])} >= {GIVEN, BIRTH}
    said, left = found([str(settings)], 0, **watched)
    assert "up to date" in said
    assert left == []
    look_at_lines_and_metrics(tmp_path)
    for name in ("c", "z"):
        columns_hold_nothing_open(Store(f"{tmp_path}/store"), name)


def look_at_lines_and_metrics(tmp_path: Path) -> None:
    """Check that there was something to leak: lines of workers, metrics, and records of runs."""
    runs = {path.stem for path in (tmp_path / "store/records").rglob("*.json")}
    assert len(runs) == 3
    lines = [line for line in worker_lines() if line.get("run") in runs]
    assert {line["message"] for line in lines} == {"part written"}
    wait_until(lambda: b"ray_ich_rejected_total" in dict(endpoint())["metrics"])
    time.sleep(TOLD_EVERY_S)
    assert leaks(endpoint(), (*SECRETS, KEY)) == []


def columns_hold_nothing_open(store: Store, name: str) -> None:
    """Check the text columns of a corpus and its ledger."""
    for url in (corpus.slices_url(store, name), ledger.ledger_url(store, name)):
        table = open_table(store, url)
        assert table is not None
        rows = read_rows(store, table)
        assert rows.num_rows >= 4
        for field in rows.schema:
            if pa.types.is_string(field.type):
                for value in rows[field.name].drop_null().unique().to_pylist():
                    assert value in OPEN_VALUES or HASHED.fullmatch(value), field.name


@pytest.mark.parametrize(
    ("change", "code", "match"),
    [
        ("labels = {source}/labels of nobody.csv", 2, "does not exist"),
        ("source = {source}/none", 2, "holds nothing"),
        ("layout = rsna", 2, "holds nothing"),
        ("labels = {source}/bad.csv", 2, "lacks the columns"),
        ("labels = {source}/contradicting.csv", 2, "contradicts itself"),
        ("labels = {source}/unreadable.csv", 2, "lacks the columns"),
        ("source = {source}/broken {given}.zip", 2, "zip archive cannot be read"),
        ("source = nowhere://{given}-{birth}/prefix", 2, "the protocol 'nowhere'"),
        ("source = s3://{given}-{birth}/prefix", 5, "run the same command again"),
    ],
)
def test_a_refusal_names_nobody(  # noqa: PLR0913  (fixtures, and the case)
    change: str,
    code: int,
    match: str,
    source: Path,
    settings: Path,
    tmp_path: Path,
    capfd: pytest.CaptureFixture[str],
    caplog: pytest.LogCaptureFixture,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    header, *rows = (source / "labels.csv").read_text().splitlines()
    (source / "bad.csv").write_text("\n".join([header.replace("any", GIVEN), *rows]))
    changed = rows[0].replace(",0,0,0", ",1,1,0", 1)
    (source / "contradicting.csv").write_text("\n".join([header, *rows, changed]))
    (source / "unreadable.csv").write_bytes(f"{GIVEN}\xff".encode("utf-16"))
    (source / f"broken {GIVEN.lower()}.zip").write_bytes(f"PK {GIVEN}".encode())
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "none")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "none")
    key, _, value = change.partition(" = ")
    value = value.format(source=source, given=GIVEN.lower(), birth=BIRTH)
    away = ["store.endpoint_url=http://127.0.0.1:9", "store.max_attempts=1"]
    said, left = found(
        [str(settings), "--only", "c", f"corpora.c.{key}={value}", *(away if code == 5 else [])],
        code,
        tmp_path=tmp_path,
        source=source,
        capfd=capfd,
        caplog=caplog,
    )
    assert match in said
    assert left == []
