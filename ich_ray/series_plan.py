"""What becomes of an exam's objects once the rules have chosen its series."""

import csv
import io
from collections import Counter, defaultdict
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace

from ich_ray import volume
from ich_ray.errors import ConfigError, Reason
from ich_ray.ingest_plan import Planned
from ich_ray.series import (
    Choice,
    HeaderFacts,
    Rule,
    SeriesFacts,
    best_of_dropped,
    choose,
    series_facts,
)


@dataclass(frozen=True, kw_only=True, slots=True)
class Decision:
    """One row of the table of series: what was decided over a series, and from what."""

    exam: str
    choice: Choice
    facts: SeriesFacts
    gaps: tuple[volume.Gap, ...] = ()
    """Where slices are missing; they are reported, never made up."""

    same_position: int = 0
    """Slices that were left out, since an earlier one has their position."""


@dataclass(frozen=True, slots=True)
class SeriesPlan:
    """What is read, what is not, and the decisions that are new."""

    kept: list[Planned]
    refused: list[tuple[Planned, Reason]]
    decisions: list[Decision]


def deciding_rules(decisions: Iterable[Decision]) -> tuple[dict[str, int], dict[str, int]]:
    """Count exams by the rule that chose their series, and those without one by what dropped it.

    Returns:
        (rule -> exams with a series, rules joined by `+` -> exams without), most frequent first.
    """
    by_exam: dict[str, list[Choice]] = defaultdict(list)
    for item in decisions:
        by_exam[item.exam].append(item.choice)
    chosen: Counter[str] = Counter()
    without: Counter[str] = Counter()
    for choices in by_exam.values():
        kept = sorted({choice.rule.value for choice in choices if choice.kept})
        if kept:
            chosen.update(kept)
        elif not any(choice.rule is Rule.INGESTED_BEFORE for choice in choices):
            without["+".join(sorted({choice.rule.value for choice in choices}))] += 1
    return dict(chosen.most_common()), dict(without.most_common())


@dataclass(frozen=True, slots=True)
class Overrides:
    """Exams and series, by pseudonym, that a person keeps or drops."""

    keep: Mapping[str, bool]
    """Exam or series -> whether it is kept."""

    line_of: Mapping[str, int]
    """Of the file, for messages: the names themselves are those of patients' exams."""


NO_OVERRIDES = Overrides({}, {})


def read_overrides(text: str, pseudonym: Callable[[str], str]) -> Overrides:
    """Read `name,decision`: an exam or a series, by its pseudonym or as in the source.

    Args:
        text: CSV with a header; `decision` is `keep` or `drop`.
        pseudonym: Hashes an original name.

    Raises:
        ConfigError: The header or a decision is another, or two lines contradict each other.
    """
    keep: dict[str, bool] = {}
    line_of: dict[str, int] = {}
    reader = csv.DictReader(io.StringIO(text.removeprefix("\ufeff"), newline=""))
    if not {"name", "decision"} <= set(reader.fieldnames or ()):
        raise ConfigError("the override file must have the columns name and decision")
    for row in reader:
        name, decision = (row["name"] or "").strip(), (row["decision"] or "").strip().lower()
        if decision not in ("keep", "drop") or not name:
            raise ConfigError(
                f"line {reader.line_num} of the override file must hold a name, and keep or drop"
            )
        is_pseudonym = len(name) == 32 and set(name) <= set("0123456789abcdef")
        key = name if is_pseudonym else pseudonym(name)
        if keep.setdefault(key, decision == "keep") != (decision == "keep"):
            raise ConfigError(
                f"line {reader.line_num} of the override file contradicts line {line_of[key]}"
            )
        line_of.setdefault(key, reader.line_num)
    return Overrides(keep, line_of)


def plan_series(
    placed: Iterable[Planned],
    facts: Mapping[str, HeaderFacts],
    *,
    annotated: Collection[str] = (),
    known: Mapping[str, Mapping[str, bool]] | None = None,
    overrides: Overrides = NO_OVERRIDES,
) -> SeriesPlan:
    """Decide which of the placed objects are read: those of one series of each exam.

    Args:
        placed: New objects, no slice twice; those without a series are read as they are.
        facts: Of the slices that have a series, by `Planned.source`.
        annotated: Slices that labels name; the rules prefer their series.
        known: Exam -> its series of earlier ingests -> whether they were kept: that stands.
        overrides: What a person decided.

    Raises:
        ConfigError: An override names nothing that is there, or something that was decided
            otherwise before.
    """
    known = known or {}
    exams: dict[str, dict[str, list[Planned]]] = defaultdict(lambda: defaultdict(list))
    plan = SeriesPlan([], [], [])
    masked = set()
    for item in placed:
        if not item.series:
            plan.kept.append(item)
            continue
        members = exams[item.exam][item.series]
        members.append(item)
        if item.role == "mask":
            masked.add(item.series)
    _check_names(overrides, exams, known)
    marked = masked | {
        series
        for by_series in exams.values()
        for series, members in by_series.items()
        if any(item.slice in annotated for item in members)
    }
    for exam, by_series in exams.items():
        _plan_exam(exam, by_series, facts, marked, known.get(exam, {}), overrides, plan)
    return plan


def _plan_exam(  # noqa: PLR0913  (one exam of plan_series, with all that decides)
    exam: str,
    by_series: Mapping[str, Sequence[Planned]],
    facts: Mapping[str, HeaderFacts],
    marked: Collection[str],
    known: Mapping[str, bool],
    overrides: Overrides,
    plan: SeriesPlan,
) -> None:
    slices = {
        series: [item for item in members if item.role == "slice"]
        for series, members in by_series.items()
    }
    # By key: where nothing else tells two series apart, the listing's order must not.
    new = sorted(
        (series for series, members in slices.items() if members and series not in known),
        key=lambda series: min(item.key for item in slices[series]),
    )
    found = [
        series_facts(s, [facts[item.source] for item in slices[s]], annotated=s in marked)
        for s in new
    ]
    choices = _chosen(exam, found, known, overrides)
    kept = {**known, **{choice.series: choice.kept for choice in choices}}
    again = {
        series: _later_at_position(members, facts)
        for series, members in slices.items()
        if kept.get(series)
    }
    for choice, summed in zip(choices, found, strict=True):
        positions = [facts[item.source].position_mm for item in slices[choice.series]]
        plan.decisions.append(
            Decision(
                exam=exam,
                choice=choice,
                facts=summed,
                gaps=tuple(volume.gaps(positions)),
                same_position=len(again.get(choice.series, ())),
            )
        )
    for series, members in by_series.items():
        for item in members:
            if item.source in again.get(series, ()):
                plan.refused.append((item, Reason.SAME_POSITION))
            elif kept.get(series, True):
                # A mask of a series that is not here says so when it is read.
                plan.kept.append(item)
            else:
                plan.refused.append((item, Reason.OTHER_SERIES))


def _chosen(
    exam: str,
    found: Sequence[SeriesFacts],
    known: Mapping[str, bool],
    overrides: Overrides,
) -> list[Choice]:
    said = {s.series: overrides.keep[s.series] for s in found if s.series in overrides.keep}
    whole = overrides.keep.get(exam)
    if whole is False:
        return [Choice(series=s.series, kept=False, rule=Rule.OVERRIDE) for s in found]
    if any(known.values()) and not any(said.values()):
        return [Choice(series=s.series, kept=False, rule=Rule.INGESTED_BEFORE) for s in found]
    choices = choose(found, overrides=said)
    if whole and found and not any(choice.kept for choice in choices):
        best = best_of_dropped([s for s in found if s.series not in said] or found)
        return [
            replace(choice, kept=True, rule=Rule.OVERRIDE) if choice.series == best else choice
            for choice in choices
        ]
    return choices


def _later_at_position(
    slices: Sequence[Planned], facts: Mapping[str, HeaderFacts]
) -> Collection[str]:
    """Return the sources of slices whose position an earlier slice of the series has.

    The earlier one is that of the lower acquisition, then instance number, then key: the first
    pass of a scan that was repeated, and the phase before the contrast medium arrives.
    """
    last = float("inf")

    def rank(item: Planned) -> tuple[float, float, str]:
        f = facts[item.source]
        passes, instances = (last if n is None else float(n) for n in (f.acquisition, f.instance))
        return passes, instances, item.key

    positioned = [
        (position, item)
        for item in slices
        if (position := facts[item.source].position_mm) is not None
    ]
    places = volume.places(position for position, _ in positioned)
    if len(places) == len(positioned):
        return ()
    at: dict[int, list[Planned]] = defaultdict(list)
    for position, item in positioned:
        at[volume.place_of(places, position)].append(item)
    return {item.source for members in at.values() for item in sorted(members, key=rank)[1:]}


def _check_names(
    overrides: Overrides,
    exams: Mapping[str, Mapping[str, object]],
    known: Mapping[str, Mapping[str, bool]],
) -> None:
    decided = {series: kept for by_series in known.values() for series, kept in by_series.items()}
    here = {*exams, *known, *decided}.union(*exams.values())
    for name, keep in overrides.keep.items():
        line = overrides.line_of[name]
        if name not in here:
            raise ConfigError(
                f"line {line} of the override file names no exam or series of the source; "
                "give the pseudonym from the table of series, or the identifier in the files"
            )
        before = any(known[name].values()) if name in known else decided.get(name, keep)
        if before != keep:
            raise ConfigError(
                f"line {line} of the override file comes too late: an earlier ingest "
                f"{'kept' if before else 'left out'} what it names, and a corpus keeps its rows; "
                "ingest the source under another name"
            )
