from hypothesis import given
from hypothesis import strategies as st

from ich_ray.budget import NO_HOURS, Hours, Reserved
from ich_ray.config_budget import BudgetConfig
from ich_ray.rates import (
    ENOUGH_SECONDS,
    Estimate,
    Rate,
    Work,
    estimate,
    rate_of,
    warning,
    work_of,
)
from ich_ray.settings import resolved

SETTING = Rate(seconds=0.06, origin="budget.predict_seconds_per_1000_slices")
works = st.builds(
    Work, kind=st.sampled_from(["a", "b"]), units=st.integers(1, 1000), seconds=st.floats(0.1, 500)
)


def work(kind: str, units: int, seconds: float) -> Work:
    return Work(kind=kind, units=units, seconds=seconds)


def test_earlier_runs_of_the_same_kind_measure_the_rate() -> None:
    earlier = [work("a", 100, 50.0), work("b", 1, 400.0), work("a", 300, 150.0)]
    assert rate_of("a", earlier, otherwise=SETTING) == Rate(
        seconds=0.5, origin="measured on 400 of earlier runs"
    )


def test_the_setting_holds_where_runs_were_too_short_or_stopped_before_a_unit() -> None:
    short = [work("a", 10, ENOUGH_SECONDS - 1), work("a", 0, 1000.0)]
    assert rate_of("a", short, otherwise=SETTING) == SETTING
    assert rate_of("a", [], otherwise=SETTING) == SETTING


@given(st.lists(works))
def test_a_rate_lies_between_the_slowest_and_the_fastest_run(earlier: list[Work]) -> None:
    found = rate_of("a", earlier, otherwise=SETTING)
    rates = [w.seconds / w.units for w in earlier if w.kind == "a"]
    assert found == SETTING or min(rates) * 0.999 <= found.seconds <= max(rates) * 1.001


def test_an_estimate_by_hand_names_where_its_rates_come_from() -> None:
    prices = BudgetConfig(price_per_gpu_hour={"any": 3.0}, price_per_cpu_hour=0.1)
    one = Reserved(cpus=1.0, gpus=0.5)
    found = estimate(60_000, SETTING, one, prices) + estimate(
        0, Rate(seconds=9.0, origin="no"), one, prices
    )
    assert found == Estimate(hours=Hours(gpu=0.5, cpu=1.0, cost=1.6), origins=(SETTING.origin,))


def test_an_estimate_over_the_budget_is_warned_of() -> None:
    budget = BudgetConfig(max_gpu_hours=2.0)
    assert warning(budget, Hours(gpu=1.9), already_spent=NO_HOURS) == ""
    assert warning(budget, Hours(gpu=1.9), already_spent=Hours(gpu=0.5)) == (
        "estimated over the budget: 2.4 GPU hours (0.5 by earlier attempts) "
        "pass budget.max_gpu_hours=2"
    )


@given(st.lists(works))
def test_what_a_row_keeps_of_its_work_can_be_read_again(done: list[Work]) -> None:
    assert work_of({"line": "", "work": resolved(done)}) == done
    assert work_of({"line": "of an earlier version"}) == []
