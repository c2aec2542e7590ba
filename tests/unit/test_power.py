"""Power is what tests find: by hand, by its inverse, and by simulated corpora."""

import math

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import integrate, stats

from ich_ray.errors import ConfigError
from ich_ray.statistics.bootstrap import Interval
from ich_ray.statistics.planning.power import (
    Pilot,
    detectable,
    least_size,
    power,
    power_of_non_inferiority,
    size_needed,
)
from ich_ray.statistics.planning.power_table import power_table, table_lines

few = settings(max_examples=30)  # the whole unit tier has ten seconds


def pilot(low: float = 0.6, high: float = 1.6, *, prevalence: float = 0.4) -> Pilot:
    return Pilot(
        metric="exam AUC",
        unit="exams",
        prevalence=prevalence,
        patients=(80, 120),
        variance=Interval(1.0, low, high),
    )


@few
@given(st.floats(-0.3, 0.3), st.integers(30, 2_000))
def test_power_is_the_probability_that_a_normal_test_rejects(difference: float, size: int) -> None:
    error = 1 / math.sqrt(size)

    def rejected(seen: float) -> float:
        found = stats.norm.pdf(seen, difference, error)
        return float(found) if 2 * stats.norm.sf(abs(seen) / error) < 0.05 else 0.0

    edge = 1.959963984540054 * error
    reach = abs(difference) + 9 * error
    expected = sum(
        integrate.quad(rejected, *ends, points=[difference], limit=200)[0]
        for ends in ((-reach, -edge), (edge, reach))
    )
    assert power(pilot(), difference, size=size).estimate == pytest.approx(expected, abs=1e-6)


def test_four_times_the_exams_show_half_the_difference() -> None:
    once, fourfold = (detectable(pilot(), size=size).estimate for size in (100, 400))
    assert once == pytest.approx(2 * fourfold)
    # Textbooks' (1.96 + 0.84) standard errors.
    assert once == pytest.approx((1.959964 + 0.841621) * 0.1, abs=1e-6)


@few
@given(st.integers(30, 5_000), st.floats(0.1, 0.99))
def test_a_detectable_difference_has_the_power_that_was_asked_for(size: int, at: float) -> None:
    found = detectable(pilot(), size=size, at=at)
    assert power(pilot(), found.estimate, size=size).estimate == pytest.approx(at)
    assert found.low <= found.estimate <= found.high


@few
@given(st.floats(0.01, 0.3), st.floats(0.5, 0.95))
def test_the_size_that_is_needed_is_the_smallest_with_the_power(
    difference: float, at: float
) -> None:
    needed = int(size_needed(pilot(), difference, at=at).estimate)
    assert power(pilot(), difference, size=needed).estimate >= at - 1e-9
    if needed > least_size(0.4):
        assert power(pilot(), difference, size=needed - 1).estimate < at


def test_a_pilot_that_knows_less_gives_wider_answers() -> None:
    sure, unsure = pilot(0.9, 1.1), pilot(0.2, 5.0)
    for answer in (
        lambda one: power(one, 0.1, size=400),
        lambda one: detectable(one, size=400),
        lambda one: size_needed(one, 0.05),
        lambda one: power_of_non_inferiority(one, 0.1, size=400),
    ):
        narrow, wide = answer(sure), answer(unsure)
        assert narrow.estimate == wide.estimate
        assert wide.low < narrow.low < narrow.estimate < narrow.high < wide.high


def test_a_pilot_without_bounds_leaves_everything_open() -> None:
    unbound = pilot(0.0, math.inf)
    found = power(unbound, 0.1, size=400)
    assert (found.low, found.high) == (pytest.approx(0.05), 1.0)
    assert power(unbound, 0.0, size=400).high == pytest.approx(0.05)
    assert size_needed(unbound, 0.1).low == least_size(0.4)
    assert size_needed(unbound, 0.1).high == detectable(unbound, size=400).high == math.inf
    worse = power_of_non_inferiority(unbound, 0.1, size=400, difference=-0.2)
    assert (worse.low, worse.high) == (0.0, pytest.approx(0.025))


def test_non_inferiority_is_one_side_of_the_test_of_a_difference() -> None:
    two_sided = power(pilot(), 0.15, size=400).estimate
    for margin, difference in ((0.15, 0.0), (0.10, 0.05), (0.2, -0.05)):
        found = power_of_non_inferiority(pilot(), margin, size=400, difference=difference)
        assert found.estimate == pytest.approx(two_sided, abs=1e-6)
    at_margin = power_of_non_inferiority(pilot(), 0.1, size=400, difference=-0.1)
    assert at_margin.estimate == pytest.approx(0.025)


def test_a_corpus_of_few_positives_is_refused_and_none_smaller_is_advised() -> None:
    rare = pilot(prevalence=0.03)
    with pytest.raises(ConfigError, match=r"of 333 exams, 3 % of them positive.* plan for 334"):
        power(rare, 0.1, size=333)
    with pytest.raises(ConfigError, match="plan for 334"):
        detectable(rare, size=333)
    with pytest.raises(ConfigError, match="plan for 334"):
        power_of_non_inferiority(rare, 0.1, size=333)
    assert size_needed(rare, 0.9).estimate == 334
    assert power(rare, 0.9, size=334).estimate > 0.99


def test_what_no_corpus_can_show_is_refused() -> None:
    with pytest.raises(ConfigError, match="shows a difference of 0"):
        size_needed(pilot(), 0.0)
    with pytest.raises(ConfigError, match="margin above 0, got 0"):
        power_of_non_inferiority(pilot(), 0.0, size=400)
    for at in (0.05, 1.0, 80.0):
        with pytest.raises(ConfigError, match="power < 1, got"):
            detectable(pilot(), size=400, at=at)


def test_a_table_has_the_answers_of_each_size_in_order() -> None:
    table = power_table(pilot(), sizes=[400, 100], differences=[0.05, 0.1])
    assert [row.size for row in table.rows] == [100, 400]
    assert table.needed == (size_needed(pilot(), 0.05), size_needed(pilot(), 0.1))
    last = table.rows[-1]
    assert last.power == (power(pilot(), 0.05, size=400), power(pilot(), 0.1, size=400))
    assert last.detectable_80 == detectable(pilot(), size=400)
    assert last.detectable_90 == detectable(pilot(), size=400, at=0.9)


def test_a_table_for_a_person_tells_figures_pilot_and_what_they_mean() -> None:
    table = power_table(pilot(), sizes=[2500, 100], differences=[0.05, 0.1])
    title, head, first, second, needed, empty, *notes = table_lines([table])
    assert title == "exam AUC: 40 % positive; the pilot has 80 patients with and 120 without"
    assert head.split("  ")[0] == "exams"
    assert head.endswith("power of 0.1")
    assert first.startswith("100     0.2802 [0.2170, 0.3544]  ")
    assert second.startswith("2,500   0.0560 ")
    assert "1.00 [0.98, 1.00]" in second
    assert needed.split()[:2] == ["needed", "3,140"]
    assert empty == ""
    assert "a power of 80 %." in " ".join(notes)
    assert table_lines([]) == []


def test_a_table_of_nothing_is_an_error() -> None:
    for sizes, differences in (([], [0.1]), ([400], [])):
        with pytest.raises(ConfigError, match="at least one size and one difference"):
            power_table(pilot(), sizes=sizes, differences=differences)
