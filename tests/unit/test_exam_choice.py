from itertools import pairwise

from hypothesis import given
from hypothesis import strategies as st

from ich_ray.exam_choice import OF_AN_ODDITY, evenly, evenly_with, exams_to_show
from ich_ray.findings import Finding, Oddity, worst_first


def finding(oddity: Oddity, exam: str, count: int = 1) -> Finding:
    return Finding(oddity=oddity, corpus="c", exam=exam, count=count, slices=("s",))


EXAMS = [("c", f"{number:02d}") for number in range(40)]


def test_exams_with_findings_come_first_and_the_rest_is_spread_evenly() -> None:
    findings = worst_first([finding(Oddity.GAP, "07"), finding(Oddity.NEGATIVE_BUT_MARKED, "30")])
    chosen = exams_to_show(findings, EXAMS, count=5)
    assert [choice.exam for choice in chosen] == ["30", "07", "06", "20", "33"]
    assert [len(choice.findings) for choice in chosen] == [1, 1, 0, 0, 0]


def test_one_frequent_oddity_leaves_room_for_the_others() -> None:
    gaps = [finding(Oddity.GAP, exam) for _, exam in EXAMS[:30]]
    findings = worst_first([*gaps, finding(Oddity.NO_SPACING, "35")])
    chosen = exams_to_show(findings, EXAMS, count=10)
    assert [choice.exam for choice in chosen[:OF_AN_ODDITY]] == [e for _, e in EXAMS[:OF_AN_ODDITY]]
    assert chosen[OF_AN_ODDITY].exam == "35"


def test_a_note_alone_does_not_bring_an_exam_forward() -> None:
    chosen = exams_to_show([finding(Oddity.TILTED, "39")], EXAMS, count=2)
    assert [choice.exam for choice in chosen] == ["10", "30"]


@given(
    st.lists(st.tuples(st.sampled_from(list(Oddity)), st.sampled_from(EXAMS)), max_size=60),
    st.integers(0, 60),
)
def test_no_exam_is_shown_twice_and_none_left_out_where_there_is_room(
    planted: list[tuple[Oddity, tuple[str, str]]], count: int
) -> None:
    findings = worst_first([finding(oddity, exam) for oddity, (_, exam) in planted])
    names = [(choice.corpus, choice.exam) for choice in exams_to_show(findings, EXAMS, count=count)]
    assert len(names) == len(set(names)) == min(count, len(EXAMS))


@given(st.integers(0, 50), st.integers(0, 50))
def test_even_places_are_distinct_ascending_and_no_further_apart_than_need_be(
    count: int, of: int
) -> None:
    places = evenly(count, of)
    assert len(places) == min(count, of)
    steps = [b - a for a, b in pairwise(places)]
    assert all(step > 0 for step in steps)
    assert max(steps, default=0) - min(steps, default=0) <= 1
    assert all(0 <= place < of for place in places)


@given(st.integers(1, 60), st.integers(1, 200), st.data())
def test_a_place_that_is_held_takes_that_of_its_nearest(
    count: int, of: int, data: st.DataObject
) -> None:
    held = data.draw(st.integers(0, of - 1))
    places = evenly_with(held, count, of)
    assert held in places
    assert places == sorted(set(places))
    assert len(places) == min(count, of)
    assert 0 <= min(places) <= max(places) < of
    assert len(set(places) - set(evenly(count, of))) <= 1
