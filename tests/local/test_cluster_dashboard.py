"""The dashboard shows a gauge for longer than Ray tells it."""

import json
import re

import pytest

from ich_ray.distributed import metrics
from tests.local.cluster_commands import ROOT

PANELS = json.loads((ROOT / "cluster" / "grafana" / "ich_ray.json").read_text())["panels"]
EXPRESSIONS = [target["expr"] for panel in PANELS for target in panel["targets"]]
GAUGES = [metric.prometheus for metric in metrics.TABLE if metric.kind == "gauge"]


def lost(expression: str) -> list[str]:
    """Name every gauge of an expression that has gaps: Ray's agent drops it after two reports."""
    kept = re.sub(r"last_over_time\(\w+\{[^{}]*\}\[10m\]\)", "", expression)
    return [name for name in re.findall(r"\bray_\w+", kept) if name in GAUGES]


@pytest.mark.parametrize("expression", EXPRESSIONS)
def test_a_gauge_that_is_told_now_and_then_has_no_gaps(expression: str) -> None:
    assert lost(expression) == []


@pytest.mark.parametrize("name", GAUGES)
def test_every_gauge_is_shown(name: str) -> None:
    assert any(f"last_over_time({name}{{" in expression for expression in EXPRESSIONS)


@pytest.mark.parametrize(
    ("expression", "names"),
    [
        ('max by (stage) (ray_ich_queue{stage="a"})', ["ray_ich_queue"]),
        ('max by (stage) (last_over_time(ray_ich_queue{stage="a"}[10m]))', []),
        ('max by (stage) (last_over_time(ray_ich_queue{stage="a"}[1m]))', ["ray_ich_queue"]),
        ("ray_ich_gpu_memory / ray_ich_queue", ["ray_ich_gpu_memory", "ray_ich_queue"]),
        ("rate(ray_ich_slices_total[5m])", []),
    ],
)
def test_a_planted_gap_is_found(expression: str, names: list[str]) -> None:
    assert lost(expression) == names


@pytest.mark.parametrize("expression", EXPRESSIONS)
def test_every_bracket_of_an_expression_is_closed(expression: str) -> None:
    bare = re.sub(r'"[^"]*"', "", expression)
    closes = {")": "(", "]": "[", "}": "{"}
    opened: list[str] = []
    for sign in re.findall(r"[()\[\]{}]", bare):
        if sign not in closes:
            opened.append(sign)
        else:
            assert opened
            assert opened.pop() == closes[sign]
    assert opened == []
