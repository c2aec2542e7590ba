"""What a running Ray tells of itself: its metrics as Prometheus reads them, its workers' lines."""

import json
import logging
import os
import re
import time
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import ray

from ich_ray.distributed import metrics
from ich_ray.distributed.origin import Origin
from ich_ray.distributed.work import piece_of

_SAMPLE = re.compile(r"^(\w+)\{(.*)\} (\S+)$")
_LABEL = re.compile(r'(\w+)="((?:[^"\\]|\\.)*)"')
TOLD_EVERY_S = 2
"""Processes of the tests' Ray tell their numbers this often (RAY_metrics_report_interval_ms)."""

PATIENCE_S = 60.0


class Sample:
    """One number of a metrics endpoint."""

    def __init__(self, name: str, labels: dict[str, str], value: float) -> None:
        self.name, self.labels, self.value = name, labels, value


def metrics_text() -> str:
    """Return what Prometheus would read of the nodes of this Ray."""
    texts = []
    for node in ray.nodes():
        url = f"http://{node['NodeManagerAddress']}:{node['MetricsExportPort']}/metrics"
        with urllib.request.urlopen(url, timeout=10) as answer:
            texts.append(answer.read().decode())
    return "\n".join(texts)


def samples() -> list[Sample]:
    """Return the numbers of all nodes."""
    found = (_SAMPLE.match(line) for line in metrics_text().splitlines())
    return [
        Sample(match[1], dict(_LABEL.findall(match[2])), float(match[3]))
        for match in found
        if match
    ]


def total(name: str, **labels: str) -> float:
    """Return the sum of a metric over processes."""
    return sum(
        sample.value
        for sample in samples()
        if sample.name == name and labels.items() <= sample.labels.items()
    )


def wait_until(true: Callable[[], bool]) -> None:
    """Wait until the processes have told their numbers."""
    last = time.monotonic() + PATIENCE_S
    while not true():
        assert time.monotonic() < last, "the metrics did not come"
        time.sleep(0.5)


def session_folder() -> Path:
    """Return where this Ray writes its logs."""
    return Path(ray._private.worker._global_node.get_session_dir_path())


def worker_lines() -> Iterator[dict[str, Any]]:
    """Yield the JSON lines that workers of this Ray wrote."""
    # Beyond 200 files Ray moves those of workers that have ended to logs/old.
    for path in (session_folder() / "logs").rglob("worker-*.err"):
        for line in path.read_text().splitlines():
            if line.startswith("{"):
                yield json.loads(line)


def say_from_a_worker(origin: Origin) -> None:
    """Log a line, as a worker does."""
    with piece_of(origin):
        logging.getLogger("ich_ray.tests").info("from a worker", extra={"slices": 3})


class Teller:
    """A process that records metrics and lives on: what a gauge says ends with its process."""

    def tell_every_metric(self, origin: Origin) -> None:
        """Record something of every row of the table, as a worker does."""
        with piece_of(origin):
            tags = {"stage": origin.stage, "section": origin.section}
            for metric in metrics.TABLE:
                more = {name: "test" for name in metric.tags if name not in tags}
                made = metrics.made(metric)
                record = {"counter": "inc", "gauge": "set", "histogram": "observe"}[metric.kind]
                getattr(made, record)(1, {**tags, **more})


def die_once(origin: Origin, mark: Path) -> None:
    """End this worker as a kill would, the first time."""
    with piece_of(origin):
        if not mark.exists():
            mark.touch()
            os._exit(1)
