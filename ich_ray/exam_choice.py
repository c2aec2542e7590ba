"""Which exams a page shows of many: those with findings first, then others evenly over all."""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import groupby

from ich_ray.findings import MEANINGS, Finding

OF_AN_ODDITY = 6
"""Exams shown for one oddity: the sheet should show every kind, not one kind many times."""


@dataclass(frozen=True, slots=True)
class Choice:
    """An exam to show, and what was found in it, the worst first."""

    corpus: str
    exam: str
    findings: tuple[Finding, ...]


def evenly(count: int, of: int) -> list[int]:
    """Return `count` places spread evenly over `of`; all of them where there are no more.

    >>> evenly(3, 10), evenly(5, 2)
    ([1, 5, 8], [0, 1])
    """
    if count >= of:
        return list(range(of))
    return [(2 * i + 1) * of // (2 * count) for i in range(count)]


def evenly_with(held: int, count: int, of: int) -> list[int]:
    """Return `count` places spread evenly over `of`, one of which is `held`.

    >>> evenly_with(4, 3, 10), evenly_with(1, 5, 2)
    ([1, 4, 8], [0, 1])
    """
    chosen = evenly(count, of)
    nearest = min(range(len(chosen)), key=lambda i: abs(chosen[i] - held))
    return [*chosen[:nearest], held, *chosen[nearest + 1 :]]


def exams_to_show(
    findings: Sequence[Finding], exams: Sequence[tuple[str, str]], *, count: int
) -> list[Choice]:
    """Choose exams; the same findings and exams give the same choice.

    Args:
        findings: The worst first, as `findings.worst_first` sorts them.
        exams: (corpus, exam) of all, each once.
        count: At most so many.

    Returns:
        Those with errors and warnings, the worst first, then the others as given.
    """
    of_exam: dict[tuple[str, str], list[Finding]] = {}
    for finding in findings:
        of_exam.setdefault((finding.corpus, finding.exam), []).append(finding)
    chosen: dict[tuple[str, str], None] = {}
    graves = [finding for finding in findings if MEANINGS[finding.oddity].gravity != "note"]
    for _, same in groupby(graves, key=lambda finding: finding.oddity):
        names = list(dict.fromkeys((finding.corpus, finding.exam) for finding in same))
        chosen |= dict.fromkeys([name for name in names if name not in chosen][:OF_AN_ODDITY])
    shown = list(chosen)[:count]
    others = [name for name in exams if name not in chosen]
    shown += [others[i] for i in evenly(count - len(shown), len(others))]
    return [Choice(*name, tuple(of_exam.get(name, ()))) for name in shown]
