from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ich_ray.series import Choice, HeaderFacts, Rule, SeriesFacts, choose, dropped_by, series_facts
from ich_ray.series_signs import Sign, signs_of

SIGNS = st.frozensets(st.sampled_from(Sign))


def series(name: str, **known: object) -> SeriesFacts:
    """A plain series of 30 slices of 5 mm."""
    facts = SeriesFacts(
        series=name, num_slices=30, num_positions=30, coverage_mm=150.0, thickness_mm=5.0
    )
    return replace(facts, **known)


def kept(*exam: SeriesFacts, overrides: dict[str, bool] | None = None) -> tuple[str, Rule]:
    """The one series that is kept, and why."""
    ((name, rule),) = [(c.series, c.rule) for c in choose(exam, overrides=overrides) if c.kept]
    return name, rule


def said(description: str, **more: str) -> set[str]:
    return {sign.value for sign in signs_of(description=description, **more)}


THIN = series("thin", thickness_mm=0.625, num_slices=240)
SOFT = series("soft")
BONE = series("bone", signs=frozenset({Sign.BONE}))


@pytest.mark.parametrize(
    ("description", "signs"),
    [
        ("PRE CONTRAST 5MM STD", {"plain"}),
        ("PRE CONTRAST BONE", {"plain", "bone"}),
        ("5mm POST CONTRAST", {"contrast"}),
        ("4cc sec 150cc D3D on", {"contrast"}),
        ("+C THIN", {"contrast"}),
        ("1.25 MM+C", {"contrast"}),
        ("ORAL & IV", {"contrast"}),
        ("HEAD W/O CONTRAST", {"plain"}),
        ("HEAD W CONTRAST", {"contrast"}),
        ("HEAD W/CONTRAST", {"contrast"}),
        ("NON-CON HEAD", {"plain"}),
        ("NCCT", {"plain"}),
        ("CECT THIN", {"contrast"}),
        ("POST FOSSA 2.5", set()),
        ("HEAD POST", {"contrast"}),
        ("POSTERIOR FOSSA", set()),
        ("CTA COW", {"angio"}),
        ("MIP AXIAL", {"rendered"}),
        ("HRCT TEMPORAL", {"high_resolution"}),
        ("Axial 0.625 HiRes+VS40", {"high_resolution"}),
        ("HEAD+ORBIT", {"other_region"}),
        ("CT NECK", {"other_region"}),
        ("HEAD AND NECK", set()),
        ("COR 3MM", {"reformatted"}),
        ("SCOUT", {"localizer"}),
        ("5/5mm Plain", {"plain"}),
        ("", set()),
    ],
)
def test_a_description_says_what_a_reader_would_take_from_it(
    description: str, signs: set[str]
) -> None:
    assert said(description) == signs
    assert said(description.lower().replace(" ", "_")) == signs


@pytest.mark.parametrize("kernel", ["BONE", "BONEPLUS", "H60s", "B70f", "Hr64", "FC30", "YA"])
def test_sharp_kernels_are_known(kernel: str) -> None:
    assert said("HEAD", kernel=kernel) == {"bone"}


@pytest.mark.parametrize("kernel", ["STANDARD", "SOFT", "H31s", "Hr40", "J40s", "FC21", "UB", ""])
def test_soft_kernels_say_nothing(kernel: str) -> None:
    assert said("HEAD", kernel=kernel) == set()


def test_an_agent_counts_unless_the_series_is_said_to_be_plain() -> None:
    assert said("HEAD 5MM", contrast_agent="IOHEXOL") == {"contrast"}
    assert said("HEAD PLAIN", contrast_agent="IOHEXOL") == {"plain"}
    assert said("HEAD 5MM", contrast_agent="NONE") == set()


@given(st.text(), st.text(), st.lists(st.text()), st.text())
def test_any_text_has_signs(d: str, k: str, t: list[str], a: str) -> None:
    found = signs_of(description=d, kernel=k, image_type=t, contrast_agent=a)
    assert found <= set(Sign)


@pytest.mark.parametrize(
    ("exam", "name", "rule"),
    [
        ((SOFT,), "soft", Rule.ONLY_SERIES),
        ((BONE, THIN), "thin", Rule.ONLY_USABLE),
        ((THIN, SOFT), "soft", Rule.SOFT_TISSUE),
        ((THIN, replace(SOFT, thickness_mm=8.0)), "thin", Rule.THIN),
        ((THIN, replace(SOFT, coverage_mm=60.0)), "thin", Rule.COMPLETE),
        ((THIN, replace(SOFT, coverage_mm=660.0)), "thin", Rule.HEAD_SIZED),
        ((replace(THIN, annotated=True), SOFT), "thin", Rule.ANNOTATED),
        (
            (SOFT, series("p", signs=frozenset({Sign.PLAIN}))),
            "p",
            Rule.SAID_TO_BE_PLAIN,
        ),
        ((SOFT, series("more", coverage_mm=165.0)), "more", Rule.MOST_COMPLETE),
        ((series("b", number=4), series("a", number=3)), "a", Rule.FIRST_OF_EQUALS),
        ((series("b"), series("a")), "b", Rule.FIRST_OF_EQUALS),
    ],
)
def test_each_rule_decides_where_it_alone_tells_series_apart(
    exam: tuple[SeriesFacts, ...], name: str, rule: Rule
) -> None:
    assert kept(*exam) == (name, rule)


@pytest.mark.parametrize(
    ("facts", "rule"),
    [
        ({"tilt_deg": 90.0}, Rule.NOT_AXIAL),
        ({"tilt_deg": 24.0}, None),
        ({"signs": frozenset({Sign.REFORMATTED})}, Rule.NOT_AXIAL),
        ({"signs": frozenset({Sign.REFORMATTED}), "tilt_deg": 3.0}, None),
        ({"signs": frozenset({Sign.CONTRAST, Sign.BONE})}, Rule.CONTRAST),
        ({"signs": frozenset({Sign.PLAIN})}, None),
    ],
)
def test_what_is_unfit_is_dropped_by_name(facts: dict[str, object], rule: Rule | None) -> None:
    assert dropped_by(series("a", **facts)) is rule


def test_an_exam_without_a_usable_series_says_by_which_rules() -> None:
    coronal = series("coronal", tilt_deg=88.0)
    assert choose([BONE, coronal]) == [
        Choice(series="bone", kept=False, rule=Rule.BONE),
        Choice(series="coronal", kept=False, rule=Rule.NOT_AXIAL),
    ]


def test_an_override_wins_over_every_rule() -> None:
    assert kept(THIN, SOFT, BONE, overrides={"bone": True}) == ("bone", Rule.OVERRIDE)
    assert kept(THIN, SOFT, overrides={"soft": False}) == ("thin", Rule.ONLY_USABLE)
    both = choose([THIN, SOFT, BONE], overrides={"thin": True, "soft": True})
    assert [c.kept for c in both] == [True, True, False]
    assert not any(c.kept for c in choose([SOFT], overrides={"soft": False}))


facts = st.builds(
    SeriesFacts,
    series=st.uuids().map(str),
    number=st.none() | st.integers(0, 20),
    signs=SIGNS,
    tilt_deg=st.none() | st.floats(0, 90),
    num_slices=st.integers(1, 500),
    coverage_mm=st.none() | st.floats(0, 1000),
    thickness_mm=st.none() | st.floats(0.1, 10),
    annotated=st.booleans(),
)


@given(st.lists(facts, min_size=1, max_size=6, unique_by=lambda s: s.series))
def test_one_usable_series_is_kept_wherever_there_is_one(exam: list[SeriesFacts]) -> None:
    choices = choose(exam)
    assert [c.series for c in choices] == [s.series for s in exam]
    usable = [s for s in exam if dropped_by(s) is None]
    assert sum(c.kept for c in choices) == (1 if usable else 0)
    for choice, summed in zip(choices, exam, strict=True):
        rule = dropped_by(summed)
        assert rule is None or (choice.rule is rule and not choice.kept)


@given(st.lists(facts, min_size=2, max_size=6, unique_by=lambda s: s.series), st.randoms())
def test_the_order_of_numbered_series_does_not_matter(
    exam: list[SeriesFacts], chance: object
) -> None:
    numbered = [replace(s, number=i) for i, s in enumerate(exam)]
    shuffled = list(numbered)
    chance.shuffle(shuffled)  # type: ignore[attr-defined]
    by_series = {c.series: c for c in choose(shuffled)}
    assert [by_series[s.series] for s in numbered] == choose(numbered)


def test_the_headers_of_a_series_are_summed_up() -> None:
    slices = [
        HeaderFacts(
            position_mm=5.0 * i,
            tilt_deg=1.0,
            thickness_mm=5.0,
            series_number=3,
            signs=frozenset({Sign.PLAIN} | ({Sign.RENDERED} if i == 0 else set())),
        )
        for i in (2, 0, 1, 1)
    ]
    found = series_facts("a", slices)
    assert (found.num_slices, found.num_positions) == (4, 3)
    assert (found.coverage_mm, found.spacing_mm, found.thickness_mm) == (15.0, 5.0, 5.0)
    # One odd slice does not speak for its series.
    assert found.signs == {Sign.PLAIN}
    assert found.number == 3


def test_without_positions_the_coverage_is_unknown() -> None:
    found = series_facts("a", [HeaderFacts(thickness_mm=5.0), HeaderFacts()])
    assert (found.coverage_mm, found.num_positions, found.slice_mm) == (None, 0, 5.0)
