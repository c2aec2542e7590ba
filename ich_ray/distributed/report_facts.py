"""What the report says beside its figures: data and their parts, origins, trainings, pictures."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute

from ich_ray.distributed.evaluate import Evaluation, Source
from ich_ray.distributed.foreign_exams import ForeignExams
from ich_ray.distributed.lineage import finished_pseudo_labels
from ich_ray.distributed.own_exams import OwnExams, evaluate_config
from ich_ray.distributed.report_gallery import gallery
from ich_ray.distributed.session import Selection, Session, select
from ich_ray.reporting.contents import CorpusFacts, GallerySlice, PseudoLabels
from ich_ray.settings import for_record
from ich_ray.storage.corpus import index_table
from ich_ray.storage.ledger import outcome_counts
from ich_ray.storage.tables import read_rows


@dataclass(frozen=True, kw_only=True, slots=True)
class Facts:
    """What is compared, and where it comes from."""

    title: str
    question: str
    exams: tuple[str, ...] = ()
    """Sentences that the methods begin with."""

    corpora: tuple[CorpusFacts, ...] = ()
    ledger: Mapping[str, Mapping[str, int]] = field(default_factory=dict)
    training: Mapping[str, Sequence[tuple[int, float]]] = field(default_factory=dict)
    pseudo_labels: PseudoLabels | None = None
    gallery: tuple[GallerySlice, ...] = ()
    origins: Mapping[str, str] = field(default_factory=dict)
    """For the provenance."""


def facts_of(run: Session, source: Source, found: Evaluation) -> Facts:
    """Return what is known beside the figures."""
    if isinstance(source, ForeignExams):
        return _of_foreign(source)
    return _of_own(run, source, found)


def _of_own(run: Session, source: OwnExams, found: Evaluation) -> Facts:
    return Facts(
        title="Intracranial hemorrhage on head CT: teacher and student",
        question="Does a student that also learned from pseudo-labelled slices detect and outline "
        "intracranial hemorrhage better than its teacher on exams that neither has seen?",
        corpora=tuple(corpora(run)),
        ledger={name: outcome_counts(run.store, name) for name in run.settings.corpora},
        training={
            name: [(int(step), float(loss)) for step, loss in model.record["curve"]]
            for name, model in source.models.items()
        },
        pseudo_labels=_pseudo_labels(run),
        gallery=tuple(gallery(run, found)),
        origins={
            **{f"model {name}": model.identity for name, model in source.models.items()},
            **{f"corpus {n}": f"version {run.corpus(n).version}" for n in run.settings.corpora},
        },
    )


def _of_foreign(source: ForeignExams) -> Facts:
    return Facts(
        title="Intracranial hemorrhage on head CT: predictions compared",
        question="How well do these predictions detect and outline intracranial hemorrhage, and "
        "which are better on the same exams?",
        exams=(
            "Predictions and reference were read from files of other software; exams have the "
            "numbers of their order in the reference. What the models learned from is not known "
            "here: that no test exam was among it is for their makers to say.",
        ),
        origins=source.origins(),
    )


def settings_of_report(run: Session) -> dict[str, Any]:
    """Return the settings without the places of one machine."""
    settings = for_record(run.settings, run.pseudonyms)
    views = ("audit", "show", "export", "experiment", "reproduce", "diagnose", "power")
    apart = ("store", "cluster", "submit", "budget", "log", "phantoms", *views)
    of_models = ("input", "predict", "identity", "models", "pseudo_labels", "ingest", "review")
    foreign = bool(settings["evaluate"]["predictions"])
    # What is set of our own networks says nothing of others.
    for section in (*apart, *(of_models if foreign else ())):
        del settings[section]
    for corpus in settings["corpora"].values():
        del corpus["source"], corpus["labels"]
    for place in ("report", "predictions", "reference", "tuning_reference"):
        del settings["evaluate"][place]
    return settings


def corpora(run: Session) -> list[CorpusFacts]:
    """Describe every selection that a compared model learned from or was tested on."""
    config = evaluate_config(run)
    used = [run.settings.models[model] for model in config.models.values()]
    roles: dict[str, tuple[str, ...]] = {
        "labelled": tuple(dict.fromkeys(name for model in used for name in model.labelled)),
        "unlabelled": tuple(
            dict.fromkeys(
                name
                for model in used
                for pool in model.pseudo_labelled
                for name in run.settings.pseudo_labels[pool].unlabelled
            )
        ),
        "tuning": config.tuning,
        "test": config.test,
    }
    return [
        _facts(run, selection, name, role)
        for role, names in roles.items()
        for name, selection in zip(names, select(run, names), strict=True)
    ]


def _facts(run: Session, selection: Selection, name: str, role: str) -> CorpusFacts:
    index = index_table(run.store, selection.corpus, ["patient", "exam", "label"])
    held = [one for one in index["patient"].unique().to_pylist() if selection.holds(one)]
    rows = index.filter(pa.compute.is_in(index["patient"], pa.array(held, pa.string())))
    positive = rows.filter(rows["label"])
    hidden = role == "unlabelled"
    return CorpusFacts(
        name=name,
        role=role,
        exams=len(rows["exam"].unique()),
        positive_exams=None if hidden else len(positive["exam"].unique()),
        slices=rows.num_rows,
        positive_slices=None if hidden else positive.num_rows,
        kind=selection.corpus.kind,
        version=selection.corpus.version,
    )


def _pseudo_labels(run: Session) -> PseudoLabels | None:
    """Describe the first pseudo-labels that a compared model learned from."""
    used = [
        pool
        for model in evaluate_config(run).models.values()
        for pool in run.settings.models[model].pseudo_labelled
    ]
    if not used:
        return None
    lineage = finished_pseudo_labels(run, used[0])
    assert lineage.table is not None
    figures = json.loads(lineage.table.properties["figures"])
    p = read_rows(run.store, lineage.table, ["p"])["p"].to_numpy()
    return PseudoLabels(
        p=np.sort(p),
        cut=figures["cut"],
        top_percent=figures["top_percent"],
        num_positive=figures["positive"],
        num_slices=figures["slices"],
        teacher=lineage.teacher,
        sources=", ".join(run.settings.pseudo_labels[used[0]].unlabelled),
    )
