import pytest
from hypothesis import given
from hypothesis import strategies as st

from ich_ray.budget import NO_HOURS, Allowance, Hours, Reserved, held, over, refuse_over
from ich_ray.config_budget import BudgetConfig
from ich_ray.errors import BudgetError, ConfigError, QualityError

amounts = st.floats(0, 1000)
hours = st.builds(Hours, gpu=amounts, cpu=amounts, cost=amounts)
reservations = st.builds(Reserved, cpus=amounts, gpus=amounts, gpu_kind=st.sampled_from(["", "L4"]))
PRICES = BudgetConfig(price_per_gpu_hour={"any": 2.0, "L4": 0.7}, price_per_cpu_hour=0.05)


def test_hours_and_cost_by_hand() -> None:
    four = Reserved(cpus=8.0, gpus=4.0, gpu_kind="L4")
    assert held(four, seconds=900.0, prices=PRICES) == Hours(gpu=1.0, cpu=2.0, cost=0.7 + 0.1)
    unknown = Reserved(cpus=0.0, gpus=1.0, gpu_kind="H100")
    assert held(unknown, seconds=3600.0, prices=PRICES).cost == 2.0


@given(reservations, st.floats(0, 1e6), st.floats(0, 1e6))
def test_hours_add_up_over_time(reserved: Reserved, first: float, second: float) -> None:
    whole = held(reserved, seconds=first + second, prices=PRICES)
    parts = held(reserved, seconds=first, prices=PRICES) + held(
        reserved, seconds=second, prices=PRICES
    )
    for name in ("gpu", "cpu", "cost"):
        assert getattr(parts, name) == pytest.approx(getattr(whole, name))


@given(hours, hours)
def test_without_a_limit_nothing_is_over(spent: Hours, before: Hours) -> None:
    assert over(BudgetConfig(), spent, already_spent=before) == ""


@given(hours, hours, st.floats(0.001, 2000))
def test_earlier_attempts_count_as_this_one_does(spent: Hours, before: Hours, limit: float) -> None:
    for budget in (
        BudgetConfig(max_gpu_hours=limit),
        BudgetConfig(max_cpu_hours=limit),
        BudgetConfig(max_cost=limit),
    ):
        once = bool(over(budget, spent + before, already_spent=NO_HOURS))
        assert bool(over(budget, spent, already_spent=before)) == once


def test_the_error_says_what_was_spent_by_whom_and_what_to_do() -> None:
    budget = BudgetConfig(max_gpu_hours=10.0)
    refuse_over(budget, Hours(gpu=5.9), already_spent=Hours(gpu=4.0))
    with pytest.raises(
        BudgetError,
        match=r"10\.5 GPU hours \(4 by earlier attempts\) pass budget\.max_gpu_hours=10; "
        "what was finished is kept: raise the limit",
    ) as raised:
        refuse_over(budget, Hours(gpu=6.5), already_spent=Hours(gpu=4.0))
    assert raised.value.exit_code == QualityError.exit_code == 4


def test_a_limit_of_cost_needs_the_price_of_what_is_reserved() -> None:
    limited = BudgetConfig(max_cost=5.0, price_per_gpu_hour={"L4": 0.7})
    held(Reserved(gpus=1.0, gpu_kind="L4"), seconds=0.0, prices=limited)
    held(Reserved(cpus=1.0), seconds=0.0, prices=limited)
    for kind in ("", "H100"):
        with pytest.raises(ConfigError, match=r"price_per_gpu_hour has no price of .*known: L4"):
            held(Reserved(gpus=1.0, gpu_kind=kind), seconds=0.0, prices=limited)


def test_an_allowance_is_over_once_its_reservation_has_lasted_too_long() -> None:
    allowance = Allowance(
        budget=BudgetConfig(max_cpu_hours=3.0),
        spent=Hours(cpu=0.5),
        already_spent=Hours(cpu=0.5),
        reserved=Reserved(cpus=2.0),
    )
    assert allowance.over(3599.0) == ""
    assert "max_cpu_hours=3" in allowance.over(3600.0)


@pytest.mark.parametrize(
    "section",
    [{"max_gpu_hours": -1.0}, {"price_per_cpu_hour": -0.1}, {"price_per_gpu_hour": {"L4": -1.0}}],
)
def test_nothing_of_a_budget_is_negative(section: dict[str, object]) -> None:
    with pytest.raises(ConfigError, match="must be at least 0"):
        BudgetConfig(**section)  # type: ignore[arg-type]
