"""The table of a family: two sources of uncertainty, and what so many seeds could have shown."""

from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from ich_ray.experiment_table import Joined, detectable, power_of, rows_of, table_lines
from ich_ray.sweep import over_seeds


def simulated_power(difference: float, *, seeds: int) -> float:
    """Share of simulated paired t-tests that reject, spread 1."""
    rng = np.random.default_rng(20261130)
    drawn = rng.normal(difference, 1.0, (200_000, seeds))
    return float((stats.ttest_1samp(drawn, 0.0, axis=1).pvalue < 0.05).mean())


@pytest.mark.parametrize("seeds", [3, 5, 10])
def test_simulated_tests_find_the_detectable_difference_in_four_of_five(seeds: int) -> None:
    differences = np.linspace(-1.0, 1.0, seeds)
    found = detectable(differences.tolist())
    assert found is not None
    of_spread = found / differences.std(ddof=1)
    assert simulated_power(of_spread, seeds=seeds) == pytest.approx(0.8, abs=0.005)


@given(st.floats(0.01, 1.0), st.integers(3, 12))
def test_the_power_is_that_of_scipy_s_noncentral_t(difference: float, seeds: int) -> None:
    beyond, shift = stats.t.ppf(0.975, seeds - 1), difference * np.sqrt(seeds)
    theirs = stats.nct.sf(beyond, seeds - 1, shift) + stats.nct.cdf(-beyond, seeds - 1, shift)
    assert power_of(difference, sd=1.0, seeds=seeds) == pytest.approx(theirs, abs=1e-4)


def test_two_seeds_show_only_what_is_large_and_one_seed_says_nothing() -> None:
    found = detectable([0.0, 0.02])
    assert found is not None
    assert found > 10 * 0.014
    assert detectable([0.3]) is None
    assert detectable([0.3, 0.3]) == 0.0


def figure(estimate: float | None, half: float = 0.1) -> dict[str, Any]:
    if estimate is None:
        return dict.fromkeys(("estimate", "low", "high"))
    return {"estimate": estimate, "low": estimate - half, "high": estimate + half}


def report(auc: float, student_auc: float | None, half: float = 0.1) -> dict[str, Any]:
    others = {"pixel_ap": figure(0.5), "dsc": figure(0.5)}
    less = None if student_auc is None else student_auc - auc
    return {
        "models": {
            "baseline": {"exam_auc": figure(auc), **others},
            "soft": {"exam_auc": figure(student_auc), **others},
        },
        "differences": {"soft_minus_baseline": {"exam_auc": figure(less, half), **others}},
    }


def test_differences_are_paired_by_seed_and_patients_are_told_apart() -> None:
    reports = {0: report(0.8, 0.9, 0.05), 1: report(0.6, 0.72, 0.2), 4: report(0.7, 0.78, 0.05)}
    baseline, soft = rows_of(["baseline", "soft"], reports)
    assert baseline.less_baseline == {}
    assert baseline.figures["exam_auc"].mean == pytest.approx(0.7)
    less = soft.less_baseline["exam_auc"]
    expected = over_seeds([0.1, 0.12, 0.08])
    assert less.seeds.mean == pytest.approx(expected.mean)
    assert (less.seeds.low, less.seeds.high) == pytest.approx((expected.low, expected.high))
    assert [one.seed for one in less.each] == [0, 1, 4]
    assert (less.patients_low, less.patients_high) == pytest.approx((0.0, 0.2))
    assert less.apart == 2
    assert less.detectable == pytest.approx(detectable([0.1, 0.12, 0.08]))


def test_a_figure_that_is_undefined_in_a_seed_is_left_out_there() -> None:
    _, soft = rows_of(["baseline", "soft"], {0: report(0.8, 0.9), 1: report(0.6, None)})
    assert soft.figures["exam_auc"].seeds == 1
    assert soft.less_baseline["exam_auc"].detectable is None
    assert soft.figures["dsc"].seeds == 2


def joined(metric: str, p: float | None, *, a: str = "soft") -> dict[str, Any]:
    bounds = {"estimate": 0.1, "low": 0.012, "high": 0.2, "p": p}
    return {"a": a, "b": "baseline", "metric": metric, "joined": bounds}


def test_the_table_says_which_uncertainty_is_which_and_joins_them() -> None:
    reports = {0: report(0.8, 0.9, 0.05), 1: report(0.6, 0.72, 0.2)}
    differences = [joined("exam_auc", 0.04, a="other"), joined("exam_auc", 0.03)]
    over = {"differences": [*differences, joined("dsc", None)]}
    rows = rows_of(["baseline", "soft"], reports, over)
    assert rows[1].less_baseline["exam_auc"].both == Joined(low=0.012, high=0.2, p=0.03)
    assert rows[1].less_baseline["dsc"].both is None
    assert rows[1].less_baseline["pixel_ap"].both is None
    lines = table_lines(rows)
    head = "variant   seeds  mean                        less baseline               over patients"
    rest = "over both           p       apart    80 %"
    assert lines[:2] == ["exam AUC", f"{head}       {rest}"]
    assert lines[2].split() == ["baseline", "2", "0.7000", "[-0.5706,", "1.9706]"]
    assert lines[3].startswith("soft          2  0.8100")
    assert "1 of 2" in lines[3]
    assert "[0.0120, 0.2000]    0.0300" in lines[3]
    assert any("what other trainings on other patients would give" in line for line in lines)
    assert table_lines(()) == []
