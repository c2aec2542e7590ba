"""The evaluate stage's last step: figures, facts and pictures into the report a person reads."""

import json
import os
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from ich_ray import roc
from ich_ray.config import EvaluateConfig
from ich_ray.distributed.evaluate import EMPTY, Evaluation, evaluate, evaluation_identity
from ich_ray.distributed.lineage import (
    finished_pseudo_labels,
    trained_model,
)
from ich_ray.distributed.predict import prediction_task
from ich_ray.distributed.session import Selection, Session, code_revision, fingerprint, select
from ich_ray.distributed.statistics import THRESHOLD, reference_of
from ich_ray.exam import Slice
from ich_ray.overlap import probability_of_level, quantise_logits
from ich_ray.reporting.contents import (
    CorpusFacts,
    GallerySlice,
    ModelResult,
    NamedDifference,
    PseudoLabels,
    Report,
    Roc,
)
from ich_ray.reporting.report import write_report
from ich_ray.settings import resolved
from ich_ray.storage.corpus import hounsfield, index_table, ledger_url, read_exams
from ich_ray.storage.objects import join
from ich_ray.storage.predictions import decode_map
from ich_ray.storage.tables import open_table, read_rows
from ich_ray.windows import upsample

TITLES = {
    "baseline": "Teacher (baseline)",
    "semi_supervised": "Student (semi-supervised)",
    THRESHOLD: "Plain intensity threshold",
    EMPTY: "Empty masks",
}
BRAIN_WINDOW = (0.0, 80.0)
FILES = ("report.json", "index.html")


@dataclass(frozen=True, slots=True)
class ReportSummary:
    """Where the report lies, and its figures."""

    page: str
    figures: Mapping[str, Any]
    up_to_date: bool

    def line(self) -> str:
        """Return a few lines for a person."""
        rows = [
            f"  {name}: "
            + ", ".join(
                f"{metric} {value['estimate']:.3f} [{value['low']:.3f}, {value['high']:.3f}]"
                for metric, value in metrics.items()
                if value is not None and None not in value.values()
            )
            for name, metrics in self.figures.items()
        ]
        done = " (up to date)" if self.up_to_date else ""
        return "\n".join([f"evaluate{done}:", *rows, f"report: {self.page}"])


def plan_report(run: Session) -> dict[str, Any]:
    """Return what --dry-run shows; touches nothing."""
    identity = evaluation_identity(run)
    folder = run.store.url("evaluations", fingerprint(**identity))
    return {
        "stage": "evaluate",
        "up_to_date": run.store.exists(join(folder, FILES[0])),
        "models": identity["models"],
        "test_slices_at_most": sum(s.corpus.num_rows for s in select(run, _config(run).test)),
        "resamples": _config(run).resamples,
        "writes": _config(run).report,
    }


def make_report(run: Session) -> ReportSummary:
    """Compare the models and write the report; a finished comparison is only copied."""
    identity = evaluation_identity(run)
    folder = run.store.url("evaluations", fingerprint(**identity))
    local = Path(_config(run).report)
    kept = [join(folder, name) for name in FILES]
    up_to_date = all(run.store.exists(url) for url in kept)
    if up_to_date:
        for url, name in zip(kept, FILES, strict=True):
            _write(local / name, run.store.read_bytes(url))
    else:
        page = write_report(_report(run, evaluate(run), fingerprint(**identity)), local)
        for url, name in zip(kept, FILES, strict=True):
            run.store.write_bytes(url, (page.parent / name).read_bytes())
    figures = json.loads((local / FILES[0]).read_text())["models"]
    shown = {
        name: {m: model[m] for m in ("exam_auc", "dsc", "pixel_ap")}
        for name, model in figures.items()
    }
    return ReportSummary(str(local / FILES[1]), shown, up_to_date)


def _config(run: Session) -> EvaluateConfig:
    assert run.settings.evaluate is not None
    return run.settings.evaluate


def _write(path: Path, data: bytes) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_suffix(".tmp")
    temporary.write_bytes(data)
    os.replace(temporary, path)


def _report(run: Session, found: Evaluation, identity: str) -> Report:
    config = _config(run)
    records = {name: trained_model(run, model) for name, model in config.models.items()}
    return Report(
        title="Intracranial hemorrhage on head CT: teacher and student",
        question="Does a student that also learned from pseudo-labelled slices detect and outline "
        "intracranial hemorrhage better than its teacher on exams that neither has seen?",
        models=tuple(_model(found, name) for name in (*found.names, THRESHOLD, EMPTY)),
        differences=tuple(
            NamedDifference(a=a, b=b, **{str(metric): value for metric, value in metrics.items()})
            for (a, b), metrics in found.differences.items()
        ),
        pseudo_labels=_pseudo_labels(run),
        gallery=tuple(_gallery(run, found)),
        corpora=tuple(_corpora(run)),
        ledger={name: _ledger(run, name) for name in run.settings.corpora},
        training={
            name: [(int(step), float(loss)) for step, loss in model.record["curve"]]
            for name, model in records.items()
        },
        methods=_methods(run, found),
        provenance={
            "code revision": code_revision(),
            "evaluation": identity,
            **{f"model {name}": model.identity for name, model in records.items()},
            **{f"corpus {n}": f"version {run.corpus(n).version}" for n in run.settings.corpora},
        },
        settings=_settings_of_report(run),
    )


def _settings_of_report(run: Session) -> dict[str, Any]:
    """Return the settings without the places of one machine."""
    settings: dict[str, Any] = resolved(run.settings)
    for section in ("store", "cluster", "phantoms"):
        del settings[section]
    for corpus in settings["corpora"].values():
        del corpus["source"], corpus["labels"]
    del settings["evaluate"]["report"]
    return settings


def _model(found: Evaluation, name: str) -> ModelResult:
    predicted, values = found.predicted[name], found.intervals[name]
    network = name in found.names
    curve = roc.roc_curve(predicted.scores, found.exams.labels)
    notes = {
        THRESHOLD: f"HU in [{predicted.level - 1}, 95) is bleed; exams ranked by their number of "
        "pixels in the band; both cuts chosen as the best on these very exams",
        EMPTY: "marks nothing, ranks nothing",
    }
    positive = found.positive_slice_dsc[name]
    note = notes.get(name, "") + f"; DSC on slices that bleed {positive:.3f}"
    if network:
        delong = found.delong[name]
        note += f"; DeLong interval of the AUC [{delong.low:.3f}, {delong.high:.3f}]"
    return ModelResult(
        name=name,
        title=TITLES.get(name, name),
        kind="network" if network else "rival",
        exam_auc=values["exam_auc"],
        dsc=values["dsc"],
        pixel_ap=values["pixel_ap"],
        roc=None if name == EMPTY else Roc(fpr=curve.fpr, tpr=curve.tpr),
        pixel_threshold=_probability(predicted.level) if network else None,
        note=note.removeprefix("; "),
    )


def _probability(level: int) -> float:
    return float(probability_of_level(np.array([level], np.uint16))[0])


def _pseudo_labels(run: Session) -> PseudoLabels | None:
    """Describe the first pseudo-labels that a compared model learned from."""
    used = [
        pool
        for model in _config(run).models.values()
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
        teacher=lineage.teacher.identity,
        sources=", ".join(run.settings.pseudo_labels[used[0]].unlabelled),
    )


def _gallery(run: Session, found: Evaluation) -> list[GallerySlice]:
    """Choose exams evenly over the positive ones, by score, and the highest negative ones."""
    config = _config(run)
    scores = found.predicted[found.names[-1]].scores
    order = np.argsort(-scores, kind="stable")
    positive = [found.exam_keys[i] for i in order if found.exams.labels[i]]
    negative = [found.exam_keys[i] for i in order if not found.exams.labels[i]]
    count = min(len(positive), max(1, config.gallery * 3 // 4))
    chosen = [positive[i] for i in np.linspace(0, len(positive) - 1, count).round().astype(int)]
    chosen += negative[: config.gallery - count]
    wanted = {exam: found.shown_slices[exam] for exam in chosen}
    shown: dict[str, GallerySlice] = {}
    for selection in select(run, config.test):
        shown |= _of_selection(run, found, selection, wanted)
    return [shown[exam] for exam in chosen if exam in shown]


def _of_selection(
    run: Session, found: Evaluation, selection: Selection, wanted: Mapping[str, str]
) -> dict[str, GallerySlice]:
    rows = {
        name: _prediction_rows(run, selection, model, set(wanted.values()))
        for name, model in _config(run).models.items()
    }
    index = index_table(run.store, selection.corpus)
    here = index.filter(pa.compute.is_in(index["slice"], pa.array(list(wanted.values()))))
    patients = set(here["patient"].to_pylist())
    shown = {}
    for url in sorted(set(here["file"].to_pylist())):
        for exam in read_exams(run.store, url, splits=patients.__contains__):
            for item in exam:
                if wanted.get(item.exam) == item.key and item.mask is not None:
                    shown[item.exam] = _gallery_slice(run, found, item, rows)
    return shown


def _prediction_rows(
    run: Session, selection: Selection, model: str, keys: set[str]
) -> dict[str, Mapping[str, Any]]:
    task = prediction_task(run, trained_model(run, model), selection)
    table = open_table(run.store, task.url)
    assert table is not None, task.url
    rows = read_rows(run.store, table)
    chosen = rows.filter(pa.compute.is_in(rows["slice"], pa.array(sorted(keys))))
    return {row["slice"]: row for row in chosen.to_pylist()}


def _gallery_slice(
    run: Session,
    found: Evaluation,
    item: Slice,
    rows: Mapping[str, Mapping[str, Mapping[str, Any]]],
) -> GallerySlice:
    height, width = item.stored.shape
    masks = {}
    for name, of_slice in rows.items():
        logits = decode_map(of_slice[item.key])
        full = upsample(logits, rows=height, columns=width, size=run.settings.input.size)
        masks[name] = quantise_logits(full) >= found.predicted[name].level
    low, high = BRAIN_WINDOW
    brain = np.clip((hounsfield(item) - low) / (high - low), 0, 1)
    reference = reference_of(item)
    return GallerySlice(
        exam=item.exam,
        slice=item.key,
        image=np.rint(brain * 255).astype(np.uint8),
        reference=reference,
        predictions=masks,
        p={name: float(of_slice[item.key]["p"]) for name, of_slice in rows.items()},
        caption=f"exam {item.exam[:8]}, {'bleed' if reference.any() else 'no bleed'}",
    )


def _corpora(run: Session) -> list[CorpusFacts]:
    config = _config(run)
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
    index = index_table(run.store, selection.corpus).select(["patient", "exam", "label"])
    rows = [row for row in index.to_pylist() if selection.holds(row["patient"])]
    hidden = role == "unlabelled"
    return CorpusFacts(
        name=name,
        role=role,
        exams=len({row["exam"] for row in rows}),
        positive_exams=None if hidden else len({row["exam"] for row in rows if row["label"]}),
        slices=len(rows),
        positive_slices=None if hidden else sum(bool(row["label"]) for row in rows),
        kind=selection.corpus.kind,
        version=selection.corpus.version,
    )


def _ledger(run: Session, name: str) -> dict[str, int]:
    """Count the input objects of a corpus by what became of them."""
    table = open_table(run.store, ledger_url(run.store, name))
    assert table is not None, name
    counts: Counter[str] = Counter()
    for row in read_rows(run.store, table, ["role", "outcome", "reason"]).to_pylist():
        what = f"{row['outcome']} {row['role'] or 'object'}"
        counts[f"{what} ({row['reason']})" if row["reason"] else what] += 1
    return dict(sorted(counts.items()))


def _methods(run: Session, found: Evaluation) -> tuple[str, ...]:
    config = _config(run)
    patients = len(found.exams.strata)
    where = f"the tuning corpus ({', '.join(config.tuning)})" if config.tuning else "p = 0.5"
    return (
        f"Exams: {len(found.exams.labels)} of {patients} patients; an exam's score is the highest "
        "probability of its slices, its truth whether any slice bleeds.",
        f"Intervals: 95 % percentile intervals over {config.resamples} resamples of patients, "
        "stratified by whether they bleed; all models see the same resamples, so differences are "
        "paired. p is two-sided, from the share of resampled differences beyond zero.",
        "AUC is exact, ties at midranks. Pixel AP and DSC pool all pixels of all exams (micro), "
        "scores quantised to 16 bits of the logit; a slice without a bleed adds only false "
        "positives; a metric that a resample leaves undefined is dropped and counted.",
        f"Pixel thresholds were fixed on {where}, by the best DSC, before the test exams.",
        "The plain threshold chose its cuts on the test exams themselves, which favours it.",
        "One training seed: the intervals hold the uncertainty of the exams, not of the training.",
    )
