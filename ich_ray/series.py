"""Which series of an exam is read, and the rule that decided."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from functools import lru_cache
from statistics import median
from typing import Any, NamedTuple

from ich_ray import volume
from ich_ray.series_signs import Sign

SOFT_TISSUE_MM = (2.5, 5.5)
"""Thickness of the slices that a reader of head CT looks at."""

LARGEST_HEAD_MM = 250.0
"""A series that covers more holds a neck or a trunk: a head with its chin is about 240 mm."""

COMPLETE_SHARE = 0.7
"""A series that covers less than this share of another one is a part of it."""

LARGEST_TILT_DEG = 45.0
"""Beyond it a slice is nearer to coronal or sagittal; no gantry tilts more than 30 degrees."""


class Rule(StrEnum):
    """What decided over a series: the closed list of the series table."""

    OVERRIDE = "override"
    """The override file names the series or its exam."""

    # Kept, by the last rule that was needed to leave one series of the exam.
    ONLY_SERIES = "only_series"
    ONLY_USABLE = "only_usable"
    """Every other series was dropped by a rule of its own."""

    ANNOTATED = "annotated"
    """Labels or masks name its slices, and those of no other usable series."""

    HEAD_SIZED = "head_sized"
    """The others cover more than a head."""

    COMPLETE = "complete"
    """The others cover only a part of what it covers."""

    SOFT_TISSUE = "soft_tissue"
    """The only one with slices of 2.5 to 5.5 mm."""

    THIN = "thin"
    """There are none of 2.5 to 5.5 mm, and the others are thicker."""

    SAID_TO_BE_PLAIN = "said_to_be_plain"
    MOST_COMPLETE = "most_complete"
    FIRST_OF_EQUALS = "first_of_equals"
    """No rule tells it from another: the one with the lowest series number. Worth a look."""

    # Dropped.
    LOCALIZER = "localizer"
    NOT_AXIAL = "not_axial"
    RENDERED = "rendered"
    CONTRAST = "contrast"
    ANGIO = "angio"
    BONE = "bone"
    HIGH_RESOLUTION = "high_resolution"
    OTHER_REGION = "other_region"
    ANOTHER_KEPT = "another_kept"
    """Usable, and another series of the exam was preferred."""

    INGESTED_BEFORE = "ingested_before"
    """An earlier ingest kept another series of this exam."""


_DROPPING = (
    (Sign.LOCALIZER, Rule.LOCALIZER),
    (Sign.RENDERED, Rule.RENDERED),
    (Sign.ANGIO, Rule.ANGIO),
    (Sign.CONTRAST, Rule.CONTRAST),
    (Sign.BONE, Rule.BONE),
    (Sign.HIGH_RESOLUTION, Rule.HIGH_RESOLUTION),
    (Sign.OTHER_REGION, Rule.OTHER_REGION),
)


class HeaderFacts(NamedTuple):
    """What the header of one slice says of its series; no identifier, no free text."""

    position_mm: float | None = None
    tilt_deg: float | None = None
    thickness_mm: float | None = None
    series_number: int | None = None
    acquisition: int | None = None
    instance: int | None = None
    signs: frozenset[Sign] = frozenset()

    def plain(self) -> dict[str, Any]:
        """Return the facts as plain values."""
        return {**self._asdict(), "signs": sorted(self.signs)}

    @classmethod
    def from_plain(cls, told: Mapping[str, Any]) -> "HeaderFacts":
        """Return what `plain` was called on; other keys are left alone."""
        known = cls._make(told[name] for name in cls._fields)
        return known._replace(signs=_signs(tuple(told["signs"])))


@lru_cache(maxsize=1024)
def _signs(names: tuple[str, ...]) -> frozenset[Sign]:
    """Return one set for all slices that have it: there are three quarters of a million of them."""
    return frozenset(Sign(name) for name in names)


@dataclass(frozen=True, kw_only=True, slots=True)
class SeriesFacts:
    """What is known of a series before its pixels are."""

    series: str
    number: int | None = None
    """Series Number (0020,0011)."""

    signs: frozenset[Sign] = frozenset()
    tilt_deg: float | None = None
    num_slices: int
    num_positions: int = 0
    coverage_mm: float | None = None
    """From the upper face of the first to the lower face of the last slice."""

    spacing_mm: float | None = None
    """Median step between positions."""

    thickness_mm: float | None = None
    annotated: bool = False
    """Labels or masks name slices of it."""

    @property
    def slice_mm(self) -> float | None:
        """Thickness, or the step where the header is silent."""
        return self.thickness_mm or self.spacing_mm


@dataclass(frozen=True, kw_only=True, slots=True)
class Choice:
    """Whether a series is read, and why."""

    series: str
    kept: bool
    rule: Rule


def series_facts(
    series: str, slices: Sequence[HeaderFacts], *, annotated: bool = False
) -> SeriesFacts:
    """Sum up the headers of a series, of which there is at least one."""
    positions = [item.position_mm for item in slices]
    places = volume.places(positions)
    step = volume.spacing_mm(positions)
    thickness = _median(item.thickness_mm for item in slices)
    face = step or thickness or 0.0
    return SeriesFacts(
        series=series,
        number=min((s.series_number for s in slices if s.series_number is not None), default=None),
        # One odd slice does not speak for its series.
        signs=frozenset(
            sign
            for sign in frozenset().union(*(item.signs for item in slices))
            if 2 * sum(sign in item.signs for item in slices) >= len(slices)
        ),
        tilt_deg=_median(item.tilt_deg for item in slices),
        num_slices=len(slices),
        num_positions=len(places),
        coverage_mm=places[-1] - places[0] + face if places else None,
        spacing_mm=step,
        thickness_mm=thickness,
        annotated=annotated,
    )


def dropped_by(facts: SeriesFacts) -> Rule | None:
    """Return the rule by which a series is unfit for any exam, or None.

    >>> dropped_by(SeriesFacts(series="a", num_slices=30, signs=frozenset({Sign.BONE})))
    <Rule.BONE: 'bone'>
    """
    if facts.tilt_deg is not None and facts.tilt_deg > LARGEST_TILT_DEG:
        return Rule.NOT_AXIAL
    if facts.tilt_deg is None and Sign.REFORMATTED in facts.signs:
        return Rule.NOT_AXIAL
    return next((rule for sign, rule in _DROPPING if sign in facts.signs), None)


def choose(
    exam: Sequence[SeriesFacts], *, overrides: Mapping[str, bool] | None = None
) -> list[Choice]:
    """Decide which series of an exam is read.

    Args:
        exam: Its series, in an order that does not depend on the listing: it breaks ties between
            series without a number.
        overrides: Series -> keep or drop; what it says wins over every rule. Where it keeps
            several series of the exam, all of them are read.

    Returns:
        A choice for each series, in the order given. At most one is kept, unless by override; none
        where every series has a rule that drops it.
    """
    said = {s.series: (overrides or {})[s.series] for s in exam if s.series in (overrides or {})}
    if any(said.values()):
        return [
            Choice(
                series=s.series,
                kept=said.get(s.series, False),
                rule=Rule.OVERRIDE if s.series in said else Rule.ANOTHER_KEPT,
            )
            for s in exam
        ]
    dropped = {
        s.series: Rule.OVERRIDE if s.series in said else rule
        for s in exam
        if (rule := dropped_by(s)) or s.series in said
    }
    usable = [s for s in exam if s.series not in dropped]
    best, rule = _preferred(usable, alone=len(exam) == 1) if usable else (None, None)
    return [
        Choice(series=s.series, kept=True, rule=rule)
        if s is best and rule is not None
        else Choice(series=s.series, kept=False, rule=dropped.get(s.series) or Rule.ANOTHER_KEPT)
        for s in exam
    ]


def best_of_dropped(exam: Sequence[SeriesFacts]) -> str:
    """Return the series that the rules would prefer if none of them dropped any: an override's."""
    return _preferred(exam, alone=False)[0].series


def _preferred(usable: Sequence[SeriesFacts], *, alone: bool) -> tuple[SeriesFacts, Rule]:
    """Narrow the usable series down to one; the rule is the last that was needed."""
    left = list(usable)
    rule = Rule.ONLY_SERIES if alone else Rule.ONLY_USABLE
    for name, narrowed in _PREFERENCES:
        if len(left) == 1:
            break
        found = narrowed(left)
        if found and len(found) < len(left):
            left, rule = found, name
    if len(left) > 1:
        numbered = [s for s in left if s.number is not None]
        left = [min(numbered, key=lambda s: s.number or 0)] if numbered else left[:1]
        rule = Rule.FIRST_OF_EQUALS
    return left[0], rule


def _head_sized(left: Sequence[SeriesFacts]) -> list[SeriesFacts]:
    return [s for s in left if s.coverage_mm is None or s.coverage_mm <= LARGEST_HEAD_MM]


def _complete(left: Sequence[SeriesFacts]) -> list[SeriesFacts]:
    most = max(s.coverage_mm or 0.0 for s in left)
    return [s for s in left if (s.coverage_mm or 0.0) >= COMPLETE_SHARE * most]


def _soft_tissue(left: Sequence[SeriesFacts]) -> list[SeriesFacts]:
    low, high = SOFT_TISSUE_MM
    return [s for s in left if s.slice_mm is not None and low <= s.slice_mm <= high]


def _thin(left: Sequence[SeriesFacts]) -> list[SeriesFacts]:
    return [s for s in left if s.slice_mm is not None and s.slice_mm < SOFT_TISSUE_MM[0]]


def _most_complete(left: Sequence[SeriesFacts]) -> list[SeriesFacts]:
    most = max(s.coverage_mm or 0.0 for s in left)
    # Less than half a slice is the same scan, reconstructed from another start.
    return [s for s in left if (s.coverage_mm or 0.0) > most - (s.slice_mm or 0.0) / 2 - 1e-6]


_PREFERENCES: tuple[tuple[Rule, Callable[[Sequence[SeriesFacts]], list[SeriesFacts]]], ...] = (
    (Rule.ANNOTATED, lambda left: [s for s in left if s.annotated]),
    (Rule.HEAD_SIZED, _head_sized),
    (Rule.COMPLETE, _complete),
    (Rule.SOFT_TISSUE, _soft_tissue),
    (Rule.THIN, _thin),
    (Rule.SAID_TO_BE_PLAIN, lambda left: [s for s in left if Sign.PLAIN in s.signs]),
    (Rule.MOST_COMPLETE, _most_complete),
)


def _median(values: Iterable[float | None]) -> float | None:
    known = [value for value in values if value is not None]
    return float(median(known)) if known else None
