"""The facts of a corpus's slices: computed over Ray for new parts, gathered here for the rules."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
import ray.data

from ich_ray import exam_rules
from ich_ray.capacity import Need, Process
from ich_ray.distributed import records
from ich_ray.distributed.progress import bar
from ich_ray.distributed.resources import check_fits, options
from ich_ray.distributed.session import Session
from ich_ray.findings import Finding
from ich_ray.sharing import Members
from ich_ray.slice_facts import SliceFacts
from ich_ray.storage.corpus import Corpus
from ich_ray.storage.objects import Store
from ich_ray.storage.slice_facts import facts_url, missing_facts, read_facts, write_facts

WORKER_BYTES = 1_200_000_000
"""Memory of a worker: the process, and one exam of a few hundred slices at a time."""


@dataclass(frozen=True, kw_only=True, slots=True)
class FactsOfPart:
    """Writes the facts of parts of a corpus; a plain value, called by Ray Data."""

    store: Store
    folder: str

    def __call__(self, batch: Mapping[str, np.ndarray]) -> Mapping[str, np.ndarray]:
        """Write the facts of the parts that a batch names."""
        for url in batch["url"]:
            write_facts(self.store, self.folder, str(url))
        return batch


@dataclass(frozen=True, kw_only=True, slots=True)
class Whereabouts:
    """Where an exam is."""

    patient: str
    file: str
    """URL of its part."""


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class Gathered:
    """What an audit needs to know of one corpus."""

    corpus: Corpus
    members: Members
    findings: Sequence[Finding]
    exams: Mapping[str, Whereabouts]
    labelled: int
    positive: int
    masked: int


@dataclass(slots=True)
class _Columns:
    """The columns of Members while they grow, an exam at a time."""

    exam: list[np.ndarray] = field(default_factory=list)
    slice: list[np.ndarray] = field(default_factory=list)
    patient: list[np.ndarray] = field(default_factory=list)
    image: list[np.ndarray] = field(default_factory=list)
    blank: list[np.ndarray] = field(default_factory=list)

    def add(self, exam: Sequence[SliceFacts]) -> None:
        """Add the slices of an exam."""
        for name in ("exam", "slice", "patient", "image"):
            getattr(self, name).append(np.array([getattr(item, name) for item in exam], "S32"))
        self.blank.append(np.array([item.blank for item in exam], np.bool_))

    def members(self, corpus: Corpus) -> Members:
        """Return them joined."""
        keys = {
            name: np.concatenate([np.empty(0, "S32"), *getattr(self, name)])
            for name in ("exam", "slice", "patient", "image")
        }
        blank = np.concatenate([np.empty(0, np.bool_), *self.blank])
        return Members(
            corpus=corpus.name, key_fingerprint=corpus.key_fingerprint, blank=blank, **keys
        )


def compute_facts(run: Session, corpus: Corpus) -> int:
    """Write the facts of those parts of a corpus that have none; return how many these were.

    No Ray is started where there is nothing to do. A run that was interrupted goes on with what
    is missing: a part's facts are written whole.
    """
    urls = missing_facts(run.store, corpus)
    if not urls:
        return 0
    run.ensure_ray()
    need = Need(what="an audit", each=Process(memory=WORKER_BYTES), pool=False)
    check_fits(run.settings.cluster, need)
    task = FactsOfPart(store=run.store, folder=facts_url(run.store, corpus))
    dataset = ray.data.from_items(
        [{"url": url} for url in urls], override_num_blocks=len(urls)
    ).map_batches(task, batch_size=1, batch_format="numpy", **options(need.each))
    with bar(f"audit {corpus.name}", total=len(urls), unit="part") as shown:
        for _ in records.rows("audit", dataset):
            shown.update(1)
    return len(urls)


def gather(run: Session, corpus: Corpus) -> Gathered:
    """Read the facts of a corpus and apply the rules, an exam at a time."""
    columns, findings, exams = _Columns(), list[Finding](), dict[str, Whereabouts]()
    labelled = positive = masked = 0
    for url in corpus.files:
        for exam in read_facts(run.store, corpus, url):
            columns.add(exam)
            findings += exam_rules.of_exam(corpus.name, exam)
            exams[exam[0].exam] = Whereabouts(patient=exam[0].patient, file=url)
            labelled += sum(item.label is not None for item in exam)
            positive += sum(item.label is True for item in exam)
            masked += sum(item.marked is not None for item in exam)
    return Gathered(
        corpus=corpus,
        members=columns.members(corpus),
        findings=findings,
        exams=exams,
        labelled=labelled,
        positive=positive,
        masked=masked,
    )
