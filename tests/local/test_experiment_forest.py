"""The picture of a family of variants: each variant and metric is there, the same bytes again."""

from typing import Any

from ich_ray.experiment_table import METRICS, rows_of
from ich_ray.reporting.figures.experiment_forest import experiment_forest


def figure(estimate: float) -> dict[str, Any]:
    return {"estimate": estimate, "low": estimate - 0.1, "high": estimate + 0.1}


def report(less: float) -> dict[str, Any]:
    return {
        "models": {
            arm: {metric: figure(0.8) for metric in METRICS} for arm in ("baseline", "no_ranker")
        },
        "differences": {"no_ranker_minus_baseline": {metric: figure(less) for metric in METRICS}},
    }


def test_a_picture_names_variants_metrics_and_both_intervals() -> None:
    both = {"low": -0.1, "high": 0.4, "p": 0.2}
    over = {
        "differences": [
            {"a": "no_ranker", "b": "baseline", "metric": metric, "joined": both}
            for metric in METRICS
        ]
    }
    rows = rows_of(["baseline", "no_ranker"], {0: report(0.1), 3: report(0.2)}, over)
    picture = experiment_forest(rows)
    text = picture.decode()
    for word in ("no_ranker", *METRICS.values(), "over seeds", "over patients", "over seeds and"):
        assert f"<!-- {word}" in text
    assert "<!-- baseline" not in text
    assert experiment_forest(rows) == picture


def test_one_seed_has_no_interval_over_seeds_and_is_drawn_all_the_same() -> None:
    rows = rows_of(["baseline", "no_ranker"], {0: report(0.1)})
    assert experiment_forest(rows).startswith(b"<?xml")
