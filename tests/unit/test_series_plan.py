import pytest
from hypothesis import given
from hypothesis import strategies as st

from ich_ray.errors import ConfigError, Reason
from ich_ray.ingest_plan import Planned
from ich_ray.series import HeaderFacts, Rule
from ich_ray.series_plan import SeriesPlan, deciding_rules, plan_series, read_overrides
from ich_ray.series_signs import Sign

BONE = frozenset({Sign.BONE})


def an_object(exam: str, series: str, number: int, role: str = "slice") -> Planned:
    name = f"{exam}-{series}-{number}-{role}"
    return Planned(
        key=name,
        url=name,
        source=name,
        etag="1",
        size=1,
        role="mask" if role == "mask" else "slice",
        patient=exam,
        exam=exam,
        slice=name,
        series=series,
    )


Objects = list[tuple[Planned, HeaderFacts]]


def a_series(
    exam: str,
    series: str,
    *,
    count: int = 10,
    thickness: float = 5.0,
    signs: frozenset[Sign] = frozenset(),
) -> Objects:
    return [
        (
            an_object(exam, series, i),
            HeaderFacts(
                position_mm=thickness * i,
                thickness_mm=thickness,
                tilt_deg=0.0,
                instance=i,
                signs=signs,
            ),
        )
        for i in range(count)
    ]


def planned(objects: Objects, *masks: Planned, **more: object) -> SeriesPlan:
    facts = {item.source: found for item, found in objects}
    placed = [*(item for item, _ in objects), *masks]
    return plan_series(placed, facts, **more)  # type: ignore[arg-type]


EXAM = a_series("e", "soft") + a_series("e", "thin", count=80, thickness=0.625)


def test_one_series_is_read_and_the_other_is_in_the_ledger() -> None:
    plan = planned(EXAM)
    assert {item.series for item in plan.kept} == {"soft"}
    assert {(item.series, reason) for item, reason in plan.refused} == {
        ("thin", Reason.OTHER_SERIES)
    }
    rules = {d.choice.series: (d.choice.kept, d.choice.rule) for d in plan.decisions}
    assert rules == {"soft": (True, Rule.SOFT_TISSUE), "thin": (False, Rule.ANOTHER_KEPT)}
    assert deciding_rules(plan.decisions) == ({"soft_tissue": 1}, {})


@given(st.permutations(EXAM), st.integers(0, 90))
def test_every_object_ends_in_one_place_whatever_the_order(order: Objects, count: int) -> None:
    some = order[:count]
    plan = planned(some)
    ends = [item.source for item in plan.kept] + [item.source for item, _ in plan.refused]
    assert sorted(ends) == sorted(item.source for item, _ in some)
    again = planned(sorted(some, key=lambda pair: pair[0].key))
    assert {item.source for item in again.kept} == {item.source for item in plan.kept}


def test_what_its_key_places_is_read_as_it_is() -> None:
    item = an_object("e", "", 1)._replace(series="")
    plan = plan_series([item], {})
    assert (plan.kept, plan.refused, plan.decisions) == ([item], [], [])


def test_two_archives_of_one_series_are_one_series() -> None:
    halves = [
        (item._replace(key=f"qct0{i % 2}/{item.key}"), f)
        for i, (item, f) in enumerate(a_series("e", "s"))
    ]
    plan = planned(halves)
    assert len(plan.kept) == 10
    ((decision),) = plan.decisions
    assert (decision.facts.num_positions, decision.gaps) == (10, ())


def test_a_second_slice_at_a_position_is_refused_by_name() -> None:
    late = an_object("e", "s", 77)
    at_15_mm = HeaderFacts(position_mm=15.0, thickness_mm=5.0, instance=77)
    plan = planned([*a_series("e", "s"), (late, at_15_mm)])
    assert plan.refused == [(late, Reason.SAME_POSITION)]
    assert plan.decisions[0].same_position == 1
    # The first acquisition counts, whatever the numbers within it.
    second = [(item, f._replace(acquisition=2)) for item, f in a_series("e", "s")]
    ((item, _),) = planned([*second, (late, at_15_mm._replace(acquisition=1))]).refused
    assert item == an_object("e", "s", 3)


def test_gaps_are_reported_where_they_are() -> None:
    objects = [(o, f) for o, f in a_series("e", "s") if f.position_mm not in (20.0, 25.0)]
    (decision,) = planned(objects).decisions
    ((gap),) = decision.gaps
    assert (gap.after_mm, gap.before_mm, gap.missing) == (15.0, 30.0, 2)


def test_labels_and_masks_draw_the_choice_to_their_series() -> None:
    labelled = an_object("e", "thin", 7).slice
    plan = planned(EXAM, annotated={labelled})
    assert {item.series for item in plan.kept} == {"thin"}
    mask = an_object("e", "thin", 1, "mask")
    plan = planned(EXAM, mask)
    assert mask in plan.kept
    assert {d.choice.rule for d in plan.decisions if d.choice.kept} == {Rule.ANNOTATED}


def test_the_mask_of_a_series_that_is_not_read_is_not_read() -> None:
    mask = an_object("e", "bone", 1, "mask")
    plan = planned(a_series("e", "soft") + a_series("e", "bone", signs=BONE), mask)
    assert (mask, Reason.OTHER_SERIES) in plan.refused


def test_an_exam_without_a_series_says_why() -> None:
    plan = planned(a_series("e", "bone", signs=BONE))
    assert not plan.kept
    assert deciding_rules(plan.decisions) == ({}, {"bone": 1})


def test_what_was_decided_stands() -> None:
    known = {"e": {"thin": True, "old": False}}
    plan = planned(EXAM, known=known)
    assert {item.series for item in plan.kept} == {"thin"}
    (decision,) = plan.decisions
    assert (decision.choice.series, decision.choice.rule) == ("soft", Rule.INGESTED_BEFORE)
    late = planned(a_series("e", "old"), known=known)
    assert not late.kept
    assert not late.decisions
    dropped_only = planned(EXAM, known={"e": {"old": False}})
    assert {item.series for item in dropped_only.kept} == {"soft"}


def overrides(*lines: str) -> object:
    return read_overrides("\n".join(["name,decision", *lines]), lambda name: name)


def test_an_override_file_wins() -> None:
    plan = planned(EXAM, overrides=overrides("thin,keep"))
    assert {item.series for item in plan.kept} == {"thin"}
    assert deciding_rules(plan.decisions) == ({"override": 1}, {})
    plan = planned(EXAM, overrides=overrides("e,drop"))
    assert not plan.kept
    bone = a_series("b", "bone", signs=BONE)
    assert len(planned(bone, overrides=overrides("b,keep")).kept) == 10


@pytest.mark.parametrize(
    ("lines", "message"),
    [
        (("soft,keep", "soft,drop"), "line 3 of the override file contradicts line 2"),
        (("soft,maybe",), "line 2 of the override file must hold a name, and keep or drop"),
        (("nobody,keep",), "line 2 of the override file names no exam or series of the source"),
        (("old,keep",), "line 2 of the override file comes too late: an earlier ingest left out"),
    ],
)
def test_a_wrong_override_is_named_by_its_line(lines: tuple[str, ...], message: str) -> None:
    with pytest.raises(ConfigError, match=message) as caught:
        planned(EXAM, known={"x": {"old": False}}, overrides=overrides(*lines))
    assert "nobody" not in str(caught.value)


def test_an_override_names_originals_or_pseudonyms() -> None:
    pseudonym = "0123456789abcdef" * 2
    found = read_overrides(f"\ufeffname,decision\n{pseudonym},keep\n1.2.3,drop\n", str.upper)
    assert found.keep == {pseudonym: True, "1.2.3": False}
    with pytest.raises(ConfigError, match="columns name and decision"):
        read_overrides("series,keep\n", str.upper)
