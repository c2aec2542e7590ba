"""What an audit tells: plain values, the input of its page and of its record."""

import json
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from ich_ray.exam import Kind
from ich_ray.findings import MEANINGS, Finding, Gravity, Oddity
from ich_ray.reporting.plain_values import plain
from ich_ray.reporting.thumbnails import Thumbnail
from ich_ray.sharing import Shared


@dataclass(frozen=True, kw_only=True, slots=True)
class AuditedCorpus:
    """A corpus in numbers."""

    name: str
    kind: Kind
    version: int
    """Of the slices table."""

    key_fingerprint: str
    patients: int
    exams: int
    slices: int
    labelled_slices: int
    positive_slices: int
    masked_slices: int
    """With a mask, also an empty one."""

    ledger: Mapping[str, int]
    """Outcome, and reason, of every input object."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Leak:
    """Who is among the test exams and among those that a model learns from."""

    test: str
    """The selections of evaluate.test, as the settings name them."""

    training: str
    """The setting that names the others."""

    patients: int
    images: int


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class Audit:
    """Everything that an audit says."""

    corpora: tuple[AuditedCorpus, ...]
    findings: tuple[Finding, ...]
    """The worst first."""

    shared: tuple[Shared, ...]
    """Of every pair of corpora."""

    leaks: tuple[Leak, ...]
    notes: tuple[str, ...]
    """What this audit could not compare."""

    thumbnails: tuple[Thumbnail, ...]
    provenance: Mapping[str, str]

    def exams_with(self, gravity: Gravity) -> int:
        """Count the exams that have a finding of a gravity."""
        graves = {o for o, meaning in MEANINGS.items() if meaning.gravity == gravity}
        return len({(f.corpus, f.exam) for f in self.findings if f.oddity in graves})


@dataclass(frozen=True, kw_only=True, slots=True)
class Tally:
    """How often an oddity was found in one corpus."""

    oddity: Oddity
    corpus: str
    exams: int
    slices: int


def tallies(findings: Sequence[Finding]) -> list[Tally]:
    """Count findings by oddity and corpus, in the order of the findings."""
    slices: Counter[tuple[Oddity, str]] = Counter()
    exams: dict[tuple[Oddity, str], set[str]] = {}
    for finding in findings:
        key = finding.oddity, finding.corpus
        slices[key] += finding.count
        exams.setdefault(key, set()).add(finding.exam)
    return [
        Tally(oddity=oddity, corpus=corpus, exams=len(names), slices=slices[oddity, corpus])
        for (oddity, corpus), names in exams.items()
    ]


def to_json(audit: Audit) -> str:
    """Return audit.json: every finding, and no picture; the same audit gives the same bytes."""
    record: dict[str, Any] = {
        "corpora": audit.corpora,
        "leaks": audit.leaks,
        "shared": audit.shared,
        "tallies": tallies(audit.findings),
        "findings": audit.findings,
        "exams_with": {g: audit.exams_with(g) for g in ("error", "warning", "note")},
        "meanings": {oddity.value: MEANINGS[oddity] for oddity in Oddity},
        "notes": audit.notes,
        "provenance": audit.provenance,
    }
    return json.dumps(plain(record), sort_keys=True, indent=1, allow_nan=False) + "\n"
