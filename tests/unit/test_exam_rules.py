from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ich_ray.exam import Geometry
from ich_ray.exam_rules import of_exam
from ich_ray.findings import MEANINGS, Finding, Oddity, worst_first
from ich_ray.slice_facts import SliceFacts

NONE = (False,) * 5
SUBDURAL = (False, False, False, False, True)
EPIDURAL = (True, False, False, False, False)
BOTH = (True, False, False, False, True)


def facts(number: int = 0, **changes: Any) -> SliceFacts:
    """A slice with nothing odd about it; changes of geometry go by their own names."""
    geometry = {
        name: changes.pop(name)
        for name in ("position_mm", "spacing_mm", "thickness_mm", "tilt_deg")
        if name in changes
    }
    usual = Geometry(
        position_mm=5.0 * number, spacing_mm=(0.45, 0.45), thickness_mm=5.0, tilt_deg=0.0
    )
    made = SliceFacts(
        exam="e",
        slice=f"{number:02d}",
        patient="p",
        series="r",
        kind="hu",
        rows=512,
        columns=512,
        geometry=replace(usual, **geometry),
        label=False,
        subtypes=NONE,
        marked=(),
        low_hu=-1024.0,
        high_hu=1800.0,
        image=f"{number:032x}",
    )
    return replace(made, **changes)


def found(*exam: SliceFacts) -> dict[str, int]:
    return {finding.oddity.value: finding.count for finding in of_exam("c", exam)}


def series(**changes: Any) -> list[SliceFacts]:
    return [facts(number, **changes) for number in range(4)]


def test_a_usual_exam_has_no_finding() -> None:
    assert of_exam("c", series()) == []


@pytest.mark.parametrize(
    ("changes", "oddity"),
    [
        ({"label": False, "marked": (5,)}, "negative_but_marked"),
        ({"label": True, "subtypes": SUBDURAL, "marked": ()}, "positive_but_unmarked"),
        ({"label": True, "subtypes": NONE, "marked": None}, "any_contradicts_subtypes"),
        ({"label": False, "subtypes": SUBDURAL}, "any_contradicts_subtypes"),
        ({"label": True, "subtypes": SUBDURAL, "marked": (3, 5)}, "mask_contradicts_subtypes"),
        ({"label": True, "subtypes": BOTH, "marked": (5,)}, "subtype_unmarked"),
        ({"low_hu": 0.0, "high_hu": 0.0}, "blank"),
        ({"low_hu": -3024.0}, "padded"),
        ({"low_hu": -31788.0}, "below_air"),
        ({"high_hu": 25346.0}, "beyond_scale"),
        ({"position_mm": None}, "no_position"),
        ({"position_mm": 5.0}, "same_place"),
        ({"position_mm": 60.0}, "gap"),
        ({"tilt_deg": 90.0}, "not_axial"),
        ({"tilt_deg": 18.5}, "tilted"),
    ],
)
def test_one_planted_slice_is_the_only_finding(changes: dict[str, Any], oddity: str) -> None:
    exam = series()
    exam[3] = facts(3, **{"position_mm": 15.0, **changes})
    got = of_exam("c", exam)
    assert [finding.oddity for finding in got] == [oddity]
    assert "03" in got[0].slices or oddity in ("tilted", "same_place")
    if oddity != "tilted":  # said of the whole series
        assert got[0].count == 1


@pytest.mark.parametrize(
    ("changes", "oddity"),
    [
        ({"low_hu": -1024.0, "high_hu": 200.0}, "no_bone"),
        ({"low_hu": -200.0}, "no_air"),
        ({"spacing_mm": None}, "no_spacing"),
        ({"spacing_mm": (0.45, 0.5)}, "oblong_pixels"),
        ({"spacing_mm": (2.0, 2.0)}, "odd_field_of_view"),
        ({"rows": 768, "columns": 768, "spacing_mm": (0.3, 0.3)}, "other_matrix"),
    ],
)
def test_what_a_whole_exam_shows_is_one_finding_of_all_its_slices(
    changes: dict[str, Any], oddity: str
) -> None:
    assert found(*series(**changes)) == {oddity: 4}


def test_the_bone_of_one_slice_is_enough_for_an_exam() -> None:
    assert found(facts(0, high_hu=90.0), facts(1), facts(2)) == {}


def test_a_window_has_no_range_to_judge() -> None:
    assert found(*series(kind="window", low_hu=-20.0, high_hu=100.0)) == {}


def test_two_grids_or_thicknesses_in_a_series_are_found() -> None:
    assert found(facts(0), facts(1, spacing_mm=(0.5, 0.5))) == {"mixed_grid": 2}
    assert found(facts(0), facts(1, thickness_mm=2.5)) == {"mixed_thickness": 2}


def test_two_series_of_an_exam_are_judged_apart() -> None:
    thin = [facts(n, series="thin", position_mm=1.0 * n, thickness_mm=1.0) for n in range(5)]
    assert found(*series(), *thin) == {}


def test_slices_closer_in_one_half_are_uneven_and_no_gap() -> None:
    places = [0.0, 2.5, 5.0, 10.0, 15.0, 20.0]
    exam = [facts(n, position_mm=place) for n, place in enumerate(places)]
    assert found(*exam) == {"uneven_steps": 6}


def test_a_single_slice_and_steps_in_another_unit_are_found() -> None:
    assert found(facts()) == {"single_slice": 1}
    assert found(*(facts(n, position_mm=0.005 * 10 * n) for n in range(4))) == {"odd_step": 4}


def test_a_mask_value_of_one_may_be_any_type() -> None:
    assert found(*series(label=True, subtypes=SUBDURAL, marked=(1,))) == {}
    assert found(*series(label=True, subtypes=BOTH, marked=(1,))) == {}
    assert found(*series(label=True, subtypes=EPIDURAL, marked=(1,))) == {}


def test_a_slice_without_label_contradicts_nothing() -> None:
    assert found(*series(label=None, subtypes=None, marked=(1, 4))) == {}
    assert found(*series(label=None, subtypes=None, marked=None)) == {}


@given(st.lists(st.floats(0, 200), min_size=2, max_size=12), st.randoms())
def test_the_order_of_arrival_changes_no_finding(places: list[float], random: Any) -> None:
    exam = [facts(n, position_mm=place) for n, place in enumerate(places)]
    shuffled = random.sample(exam, len(exam))
    assert found(*shuffled) == found(*exam)


def test_every_oddity_has_its_meaning_and_the_graver_come_first() -> None:
    assert list(MEANINGS) == list(Oddity)
    order = ["error", "warning", "note"]
    gravities = [order.index(meaning.gravity) for meaning in MEANINGS.values()]
    assert gravities == sorted(gravities)
    made = [
        Finding(oddity=oddity, corpus="c", exam="e", count=count, slices=())
        for oddity, count in ((Oddity.TILTED, 9), (Oddity.GAP, 1), (Oddity.GAP, 3))
    ]
    assert [(f.oddity, f.count) for f in worst_first(made)] == [
        (Oddity.GAP, 3),
        (Oddity.GAP, 1),
        (Oddity.TILTED, 9),
    ]


def test_a_gap_says_how_many_slices_it_lacks() -> None:
    exam = [facts(n, position_mm=place) for n, place in enumerate([0.0, 5.0, 10.0, 30.0])]
    (gap,) = of_exam("c", exam)
    assert gap.detail == "about 3 missing, usual step 5 mm"
