"""Audit: what the corpora of a run share, contradict and lack, and whom a test exam knows.

Pseudonyms are read here and never made, so an audit needs no key, and can look at corpora of
different keys together.
"""

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations
from typing import Any

import numpy as np

from ich_ray.distributed import leaks, records
from ich_ray.distributed.session import Session, code_revision, fingerprint
from ich_ray.distributed.slice_facts import Gathered, compute_facts, gather
from ich_ray.distributed.thumbnails import ChosenExam, thumbnails
from ich_ray.errors import QualityError
from ich_ray.exam_choice import Choice, exams_to_show
from ich_ray.findings import MEANINGS, Finding, worst_first
from ich_ray.reporting.audit_contents import Audit, AuditedCorpus, to_json
from ich_ray.reporting.audit_page import to_html
from ich_ray.reporting.thumbnails import Thumbnail
from ich_ray.sharing import between, within
from ich_ray.storage.corpus import Corpus, ledger_url, open_corpus
from ich_ray.storage.ledger import outcome_counts
from ich_ray.storage.slice_facts import VERSION, missing_facts
from ich_ray.storage.tables import open_table
from ich_ray.storage.urls import absolute, join

RULES = 1
"""Raised when the same facts lead to another report."""

FILES = ("audit.json", "index.html")
LINES = 3
"""Findings that a thumbnail's caption names."""


@dataclass(frozen=True, kw_only=True, slots=True)
class AuditSummary:
    """What an audit came to, and where its report lies."""

    page: str
    corpora: tuple[str, ...]
    exams: int
    slices: int
    errors: int
    """Exams with a contradiction."""

    warnings: int
    notes: int
    shared: tuple[str, ...]
    """A sentence for each two corpora that have something in common."""

    leaks: tuple[Mapping[str, Any], ...]
    up_to_date: bool

    def line(self) -> str:
        """Return a few lines for a person."""
        done = " (up to date)" if self.up_to_date else ""
        first = (
            f"audit {', '.join(self.corpora)}{done}: {self.exams} exams, {self.slices} slices; "
            f"exams with contradictions {self.errors}, to look at {self.warnings}, "
            f"with notes {self.notes}"
        )
        return "\n".join([first, *(f"  {text}" for text in self.shared), f"report: {self.page}"])


def plan_audit(run: Session, names: Sequence[str]) -> dict[str, Any]:
    """Return what --dry-run shows; touches nothing."""
    corpora = [open_corpus(run.store, name) for name in names]
    return {
        "stage": "audit",
        "corpora": list(names),
        "slices": sum(corpus.num_rows for corpus in corpora),
        "parts_to_read": sum(len(missing_facts(run.store, corpus)) for corpus in corpora),
        "writes": run.settings.audit.report,
    }


def audit(run: Session, names: Sequence[str]) -> AuditSummary:
    """Audit corpora and write the report; a finished one is only copied.

    Raises:
        ConfigError: A corpus has not been ingested.
    """
    corpora = [open_corpus(run.store, name) for name in names]
    for corpus in corpora:
        records.read_table("corpus", corpus.table)
    folder = run.store.url("audits", _identity(run, corpora))
    up_to_date = all(run.store.exists(join(folder, name)) for name in FILES)
    if not up_to_date:
        found = _audit(run, corpora)
        for name, text in zip(FILES, (to_json(found), to_html(found)), strict=True):
            run.store.write_bytes(join(folder, name), text.encode())
        records.wrote("audit", folder, _identity(run, corpora))
    local = absolute(run.settings.audit.report)
    for name in FILES:
        run.store.write_bytes(join(local, name), run.store.read_bytes(join(folder, name)))
    record = json.loads(run.store.read_bytes(join(folder, FILES[0])))
    return _summary(record, join(local, FILES[1]), up_to_date=up_to_date)


def refuse_leaks(summary: AuditSummary) -> None:
    """Fail where test exams are among those that a model learns from.

    Raises:
        QualityError: Some are; the message says how many, and where.
    """
    if summary.leaks:
        said = "; ".join(
            f"{leak['patients']} patients and {leak['images']} images of evaluate.test "
            f"({leak['test']}) are also in {leak['training']}"
            for leak in summary.leaks
        )
        raise QualityError(
            f"audit: {said}: figures on the test exams would be worthless; give disjoint splits, "
            f"or leave these exams out. The report names them: {summary.page}"
        )


def _identity(run: Session, corpora: Sequence[Corpus]) -> str:
    """Return the hash of what decides the report."""
    return fingerprint(
        rules=RULES,
        facts=VERSION,
        thumbnails=run.settings.audit.thumbnails,
        corpora={
            corpus.name: [_ledger_version(run, corpus), *(url.rsplit("/", 1)[1] for url in files)]
            for corpus in corpora
            for files in [corpus.files]
        },
        sides=leaks.identity(run, [corpus.name for corpus in corpora]),
    )


def _ledger_version(run: Session, corpus: Corpus) -> int:
    table = open_table(run.store, ledger_url(run.store, corpus.name))
    return -1 if table is None else table.version


def _audit(run: Session, corpora: Sequence[Corpus]) -> Audit:
    for corpus in corpora:
        compute_facts(run, corpus)
    gathered = {corpus.name: gather(run, corpus) for corpus in corpora}
    findings = worst_first(
        [f for item in gathered.values() for f in (*item.findings, *within(item.members))]
    )
    return Audit(
        corpora=tuple(_corpus(run, item) for item in gathered.values()),
        findings=tuple(findings),
        shared=tuple(between(a.members, b.members) for a, b in combinations(gathered.values(), 2)),
        leaks=tuple(leaks.find(run, {n: item.members for n, item in gathered.items()})),
        notes=(*_notes(corpora), *leaks.unchecked(run, list(gathered))),
        thumbnails=tuple(_thumbnails(run, gathered, findings)),
        provenance={
            "code revision": code_revision(),
            "rules and facts": f"{RULES}, {VERSION}",
            **{f"corpus {corpus.name}": f"version {corpus.version}" for corpus in corpora},
        },
    )


def _corpus(run: Session, item: Gathered) -> AuditedCorpus:
    members = item.members
    # An ingest that was killed between its two commits has no ledger until it runs again.
    committed = _ledger_version(run, item.corpus) >= 0
    return AuditedCorpus(
        name=item.corpus.name,
        kind=item.corpus.kind,
        version=item.corpus.version,
        key_fingerprint=item.corpus.key_fingerprint,
        patients=len(np.unique(members.patient)),
        exams=len(item.exams),
        slices=len(members.slice),
        labelled_slices=item.labelled,
        positive_slices=item.positive,
        masked_slices=item.masked,
        ledger=outcome_counts(run.store, item.corpus.name) if committed else {},
    )


def _notes(corpora: Sequence[Corpus]) -> Iterator[str]:
    """Say what cannot be compared."""
    by_key: dict[str, list[str]] = {}
    for corpus in corpora:
        by_key.setdefault(corpus.key_fingerprint, []).append(corpus.name)
    if len(by_key) > 1:
        groups = "; ".join(f"{', '.join(names)} (key {key})" for key, names in by_key.items())
        yield (
            f"The pseudonyms have different keys: {groups}. Across keys only images can be "
            "compared: patients and slices that they share stay unseen where pixels differ."
        )
    windows = [corpus.name for corpus in corpora if corpus.kind == "window"]
    if windows and len(windows) < len(corpora):
        yield (
            f"Windowed 8-bit pixels ({', '.join(windows)}) never match images in HU, even where "
            "both are of the same exam."
        )


def _thumbnails(
    run: Session, gathered: Mapping[str, Gathered], findings: Sequence[Finding]
) -> list[Thumbnail]:
    exams = [(name, exam) for name, item in gathered.items() for exam in sorted(item.exams)]
    choices = exams_to_show(findings, exams, count=run.settings.audit.thumbnails)
    return thumbnails(run.store, [_exam_to_show(gathered, choice) for choice in choices])


def _exam_to_show(gathered: Mapping[str, Gathered], choice: Choice) -> ChosenExam:
    place = gathered[choice.corpus].exams[choice.exam]
    worst = choice.findings[0] if choice.findings else None
    meanings = [MEANINGS[finding.oddity] for finding in choice.findings]
    # A finding of a whole exam names its first slices, which show the least of a head.
    whole = worst is None or worst.count > len(worst.slices)
    return ChosenExam(
        corpus=choice.corpus,
        exam=choice.exam,
        patient=place.patient,
        file=place.file,
        slice="" if worst is None or whole else worst.slices[0],
        lines=tuple(meaning.title for meaning in meanings[:LINES]),
        gravity=meanings[0].gravity if meanings else None,
    )


def _summary(record: Mapping[str, Any], page: str, *, up_to_date: bool) -> AuditSummary:
    corpora, graves = record["corpora"], record["exams_with"]
    return AuditSummary(
        page=page,
        corpora=tuple(corpus["name"] for corpus in corpora),
        exams=sum(corpus["exams"] for corpus in corpora),
        slices=sum(corpus["slices"] for corpus in corpora),
        errors=graves["error"],
        warnings=graves["warning"],
        notes=graves["note"],
        shared=tuple(_shared_line(pair) for pair in record["shared"] if _any(pair)),
        leaks=tuple(record["leaks"]),
        up_to_date=up_to_date,
    )


def _any(pair: Mapping[str, Any]) -> bool:
    return bool(pair["patients"] or pair["slices"] or pair["images"])


def _shared_line(pair: Mapping[str, Any]) -> str:
    counts = {"patients": pair["patients"], "slices": pair["slices"], "images": pair["images"]}
    said = ", ".join(f"{'?' if n is None else n} {what}" for what, n in counts.items())
    return f"{pair['a']} and {pair['b']} share {said}"
