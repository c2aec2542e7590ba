"""A patient's split is a function of the patient alone."""

import math

from hypothesis import given, settings
from hypothesis import strategies as st

from ich_ray.splits import split_of

few = settings(max_examples=30)  # the whole unit tier has ten seconds

SHARES = {"train": 0.6, "tune": 0.15}
patients = st.lists(st.text(min_size=1, max_size=8), unique=True)


@few
@given(seed=st.integers(0, 2**31), train=st.floats(0, 0.7), tune=st.floats(0, 0.3))
def test_shares_hold_within_four_standard_deviations(seed: int, train: float, tune: float) -> None:
    shares = {"train": train, "tune": tune}
    found = [split_of(f"patient-{i}", shares=shares, seed=seed) for i in range(2_000)]
    for name, share in [*shares.items(), (None, 1 - train - tune)]:
        tolerance = 5 * math.sqrt(0.25 / len(found))
        assert abs(found.count(name) / len(found) - share) < tolerance


@few
@given(old=patients, new=patients, seed=st.integers(0, 2**31))
def test_new_patients_move_no_old_one(old: list[str], new: list[str], seed: int) -> None:
    before = {p: split_of(p, shares=SHARES, seed=seed) for p in old}
    after = {p: split_of(p, shares=SHARES, seed=seed) for p in [*new, *old]}
    assert {p: after[p] for p in old} == before


@few
@given(patient=st.text(), seed=st.integers(0, 2**31))
def test_whole_shares_leave_nobody_over(patient: str, seed: int) -> None:
    assert split_of(patient, shares={"a": 0.7, "b": 0.2, "c": 0.1}, seed=seed) in {"a", "b", "c"}
    assert split_of(patient, shares={}, seed=seed) is None


@few
@given(patient=st.text(), seed=st.integers(0, 2**31), more=st.floats(0.6, 0.85))
def test_a_larger_first_share_keeps_its_patients(patient: str, seed: int, more: float) -> None:
    if split_of(patient, shares={"train": 0.6}, seed=seed) == "train":
        assert split_of(patient, shares={"train": more}, seed=seed) == "train"


def test_another_seed_is_another_division() -> None:
    names = [f"patient-{i}" for i in range(100)]
    first, second = ([split_of(p, shares=SHARES, seed=s) for p in names] for s in (0, 1))
    assert first != second
