"""Our figures beside the printed ones: every table, from reports that are made up."""

from typing import Any

import numpy as np
import pytest
from scipy import stats

from ich_ray.reproduction import Member
from ich_ray.reproduction_cells import Table, cell, table_lines
from ich_ray.reproduction_tables import tables_of
from ich_ray.statistics.paper.lin2022 import Printed


def interval(estimate: float | None, half: float = 0.05) -> dict[str, Any]:
    if estimate is None:
        return dict.fromkeys(("estimate", "low", "high"))
    return {"estimate": estimate, "low": estimate - half, "high": estimate + half}


def report(figures: dict[str, tuple[float, float, float]], *, specificity: float = 0.7) -> Any:
    """A report.json with (AUC, AP, DSC) of each model."""
    keys = ("exam_auc", "pixel_ap", "dsc")
    models = {
        name: {"kind": "network", **{k: interval(v) for k, v in zip(keys, values, strict=True)}}
        for name, values in figures.items()
    }
    less = {}
    if {"baseline", "semi_supervised"} <= set(figures):
        a, b = figures["semi_supervised"], figures["baseline"]
        less["semi_supervised_minus_baseline"] = {
            key: {**interval(round(x - y, 6)), "p": 0.04}
            for key, x, y in zip(keys, a, b, strict=True)
        }
    return {
        "models": {**models, "intensity_threshold": {"kind": "rival"}},
        "differences": less,
        "operating_points": [
            {
                "model": name,
                "rule": "sensitivity at least 0.92",
                "specificity": interval(specificity),
                "sensitivity": interval(0.91),
            }
            for name in figures
        ],
        "further": {
            "groups": [
                {
                    "kind": "type alone",
                    "name": "epidural",
                    "positive": 4,
                    "aucs": {name: interval(0.9) for name in figures},
                },
                {"kind": "type alone", "name": "subdural", "positive": 1, "aucs": {}},
                {"kind": "type", "name": "subarachnoid", "positive": 9, "aucs": {"x": {}}},
            ]
        },
    }


BOTH = {"baseline": (0.90, 0.80, 0.79), "semi_supervised": (0.93, 0.83, 0.80)}


def named(tables: tuple[Table, ...]) -> dict[str, Table]:
    return {table.name: table for table in tables}


def rows(table: Table) -> dict[str, Any]:
    return {row.title: row.cells for row in table.rows}


def test_the_first_table_has_the_paper_s_rows_and_then_ours() -> None:
    found = named(tables_of({Member("1", 0): report({**BOTH, "soft": (0.91, 0.8, 0.8)})}))["1"]
    assert [row.title for row in found.rows] == [
        "Baseline",
        "Semi-supervised",
        "Image slice oracle",
        "Pixel oracle",
        "Qure.ai",
        "soft",
    ]
    student, oracle = (
        rows(found)[name]["exam_auc"] for name in ("Semi-supervised", "Pixel oracle")
    )
    assert student.ours.mean == 0.93
    assert (student.low, student.high) == (0.88, pytest.approx(0.98))
    assert student.printed == Printed(0.939, 0.938, 0.940)
    assert student.less_printed == pytest.approx(-0.009)
    assert oracle.ours is None
    assert oracle.printed is not None
    assert oracle.less_printed is None
    assert rows(found)["soft"]["dsc"].printed is None


def test_figures_are_means_over_seeds_and_their_bounds_too() -> None:
    second = {**BOTH, "semi_supervised": (0.95, 0.83, 0.80)}
    found = named(tables_of({Member("1", 0): report(BOTH), Member("1", 1): report(second)}))
    student = rows(found["1"])["Semi-supervised"]["exam_auc"]
    assert student.ours.mean == pytest.approx(0.94)
    assert student.low == pytest.approx((0.88 + 0.90) / 2)
    half = stats.t.ppf(0.975, 1) * np.std([0.93, 0.95], ddof=1) / np.sqrt(2)
    assert student.ours.high == pytest.approx(0.94 + half)


def test_the_abstract_s_differences_stand_beside_ours_with_their_p_values() -> None:
    tables = named(tables_of({Member("1", 0): report(BOTH)}))
    found = rows(tables["Abstract"])
    auc, ap = (found[f"Difference in {name}"]["figure"] for name in ("exam AUC", "pixel AP"))
    assert auc.ours.mean == pytest.approx(0.03)
    assert (auc.printed.value, auc.printed_p, auc.p) == (0.032, 0.009, (0.04,))
    assert (ap.printed.value, ap.printed_p) == (0.020, None)
    specificity = rows(tables["Section 3.2"])["Baseline"]["figure"]
    assert (specificity.ours.mean, specificity.printed.value) == (0.7, 0.630)


def test_ablations_have_the_paper_s_rows_alone_and_no_dsc() -> None:
    contrasts = {name: (0.9, 0.6, 0.5) for name in ("none", "power", "log", "all")}
    ranker = {**BOTH, "no_ranker": (0.89, 0.81, 0.7)}
    found = named(tables_of({Member("2", 0): report(contrasts), Member("3", 0): report(ranker)}))
    assert list(rows(found["2"])) == ["No contrast", "Power law", "Logarithm", "All"]
    assert list(rows(found["3"])) == ["No ranker", "Semi-supervised"]
    assert list(found["2"].columns) == ["pixel_ap", "exam_auc"]
    assert rows(found["3"])["No ranker"]["exam_auc"].less_printed == pytest.approx(0.89 - 0.918)
    assert "1" not in found


def test_the_mean_over_segmentations_averages_seed_by_seed() -> None:
    other = {"baseline": (0.90, 0.84, 0.81), "semi_supervised": (0.93, 0.85, 0.86)}
    found = named(
        tables_of({Member("1", 0): report(BOTH), Member("4", 0, "second"): report(other)})
    )["4"]
    assert [row.title for row in found.rows] == [
        "Segmentation 1",
        "Segmentation 2",
        "Mean of the segmentations",
    ]
    mean = rows(found)["Mean of the segmentations"]
    assert mean["baseline-pixel_ap"].ours.mean == pytest.approx(0.82)
    assert mean["difference-dsc"].ours.mean == pytest.approx((0.01 + 0.05) / 2)
    assert mean["difference-dsc"].low == pytest.approx(0.03 - 0.05)
    assert mean["difference-dsc"].printed is None
    second = rows(found)["Segmentation 2"]
    assert second["baseline-dsc"].printed == Printed(0.824, 0.816, 0.825)
    assert second["difference-pixel_ap"].printed == Printed(0.020)


def test_types_that_too_few_exams_show_have_the_printed_figure_alone() -> None:
    found = rows(named(tables_of({Member("1", 0): report(BOTH)}))["Supplement 1"])
    assert found["Epidural"]["baseline"].less_printed == pytest.approx(0.9 - 0.922)
    assert found["Subdural"]["baseline"].ours is None
    assert found["Subdural"]["baseline"].printed == Printed(0.829)
    assert found["Subarachnoid"]["semi_supervised"].ours is None
    assert found["Intraventricular"]["baseline"].printed is None


def test_an_undefined_figure_is_left_out_and_its_bounds_with_it() -> None:
    found = cell([interval(None), interval(0.8)], Printed(0.9))
    assert found.ours is not None
    assert (found.ours.seeds, found.low) == (1, 0.75)
    half_known = cell([interval(0.8), {"estimate": 0.9, "low": None, "high": None}])
    assert half_known.low is None
    assert cell([interval(None)]).ours is None


def test_the_text_names_each_figure_and_what_is_not_made() -> None:
    (table, *_) = tables_of({Member("1", 0): report(BOTH)})
    text = "\n".join(table_lines(table))
    assert "Baseline, exam AUC: 0.900 [0.850, 0.950], printed 0.907 [0.906, 0.908]" in text
    assert "Qure.ai, exam AUC: not made, printed 0.941" in text
    assert "Qure.ai, DSC" not in text
