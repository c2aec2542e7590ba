"""The picture of a plan: each metric, size and pilot is there, the same bytes again."""

import math

from ich_ray.reporting.figures.power import detectable_differences
from ich_ray.statistics.bootstrap import Interval
from ich_ray.statistics.planning.power import Pilot
from ich_ray.statistics.planning.power_table import PowerTable, power_table


def tables(high: float = 1.5) -> list[PowerTable]:
    auc = Pilot(
        metric="exam AUC",
        unit="exams",
        prevalence=0.15,
        patients=(80, 120),
        variance=Interval(1.0, 0.7, high),
    )
    dsc = Pilot(
        metric="DSC",
        unit="patients",
        prevalence=0.5,
        patients=(36, 39),
        variance=Interval(0.8, 0.3, 2.4),
    )
    return [power_table(one, sizes=[100, 400, 1_600], differences=[0.05]) for one in (auc, dsc)]


def test_a_picture_names_metrics_sizes_and_pilots() -> None:
    picture = detectable_differences(tables())
    text = picture.decode()
    for words in (
        "exam AUC, by exams, 15 % of them positive",
        "(pilot: 80 patients with, 120 without)",
        "DSC, by patients, 50 % of them positive",
        "(pilot: 36 patients with, 39 without)",
        "1,600",
        "in exams or patients",
        "with a power of 80 %",
    ):
        assert f"<!-- {words}" in text or f"{words} (log scale)" in text, words
    assert detectable_differences(tables()) == picture


def test_one_metric_names_one_unit() -> None:
    text = detectable_differences(tables()[:1]).decode()
    assert "Size of the test corpus, in exams (log scale)" in text
    assert "DSC" not in text


def test_a_pilot_that_leaves_all_open_is_drawn_all_the_same() -> None:
    # No difference of two figures up to 1 is above 1.
    endless, huge = (detectable_differences(tables(high)) for high in (math.inf, 1e6))
    assert endless == huge
    assert b"nan" not in endless
