"""An audit as one HTML page: what is wrong first, then a picture of every exam that shows it."""

from itertools import groupby
from typing import Any

from ich_ray.findings import MEANINGS, Finding
from ich_ray.reporting.audit_contents import Audit, tallies
from ich_ray.reporting.html import count, render
from ich_ray.reporting.outlines import COLOURS
from ich_ray.reporting.thumbnails import drawn
from ich_ray.slice_facts import AIR_HU, DENSEST_HU
from ich_ray.volume import LARGEST_STEP

EXAMPLES = 4
"""Exams that the page names for each oddity; audit.json names all."""

PAIRS = 5
"""Pairs of exams that the page names for each pair of corpora."""


def to_html(audit: Audit) -> str:
    """Return index.html; every text is escaped, every picture is inside."""
    return render(
        "audit.html",
        {},
        audit=audit,
        headline=headline(audit),
        oddities=_oddities(audit),
        pairs=PAIRS,
        thumbnails=[drawn(thumbnail) for thumbnail in audit.thumbnails],
        colours=COLOURS,
        scale=(AIR_HU, DENSEST_HU),
        largest_step=LARGEST_STEP,
    )


def headline(audit: Audit) -> str:
    """Say in a sentence whether the corpora can be used as the settings use them."""
    if audit.leaks:
        return "Test exams are among those that a model learns from: no figure on them would count."
    errors, warnings = audit.exams_with("error"), audit.exams_with("warning")
    if errors:
        return f"{_exams(errors)} contradict their own labels, masks or patients."
    if warnings:
        return f"No contradiction; {_exams(warnings)} should be looked at."
    return "Nothing that needs a decision."


def _exams(number: int) -> str:
    return "1 exam" if number == 1 else f"{count(number)} exams"


def _oddities(audit: Audit) -> list[dict[str, Any]]:
    """Return what the table of findings shows, one row an oddity."""
    all_exams = {corpus.name: corpus.exams for corpus in audit.corpora}
    by_oddity: dict[str, list[Finding]] = {}
    for finding in audit.findings:
        by_oddity.setdefault(finding.oddity, []).append(finding)
    return [
        {
            "meaning": MEANINGS[oddity],
            "tallies": [(tally, tally.exams == all_exams[tally.corpus]) for tally in found],
            "examples": by_oddity[oddity][:EXAMPLES],
            "more": max(0, len(by_oddity[oddity]) - EXAMPLES),
        }
        for oddity, found in groupby(tallies(audit.findings), key=lambda tally: tally.oddity)
    ]
