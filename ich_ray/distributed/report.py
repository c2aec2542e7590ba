"""The evaluate stage's last step: figures, facts and pictures into the report a person reads."""

import json
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from ich_ray.distributed import records
from ich_ray.distributed.estimates import priced
from ich_ray.distributed.evaluate import (
    Evaluation,
    check_evaluation,
    evaluate,
    evaluation_identity,
    planned_evaluation,
)
from ich_ray.distributed.lineage import (
    finished_pseudo_labels,
    trained_model,
)
from ich_ray.distributed.own_exams import evaluate_config
from ich_ray.distributed.report_facts import corpora
from ich_ray.distributed.report_gallery import gallery
from ich_ray.distributed.session import Session, code_revision, fingerprint, select
from ich_ray.reporting.contents import (
    ModelResult,
    NamedDifference,
    PseudoLabels,
    Report,
    Roc,
)
from ich_ray.reporting.report import write_report
from ich_ray.settings import for_record
from ich_ray.statistics import roc
from ich_ray.statistics.permutation import TOSSES
from ich_ray.statistics.pooled_exams import EMPTY, THRESHOLD
from ich_ray.statistics.score_levels import probability_of_level
from ich_ray.storage.ledger import outcome_counts
from ich_ray.storage.tables import read_rows
from ich_ray.storage.urls import join

TITLES = {
    "baseline": "Teacher (baseline)",
    "semi_supervised": "Student (semi-supervised)",
    "labelled_alone": "Student (labelled slices alone)",
    THRESHOLD: "Plain intensity threshold",
    EMPTY: "Empty masks",
}
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
    config, identity = evaluate_config(run), evaluation_identity(run)
    folder = run.store.url("evaluations", fingerprint(**identity))
    up_to_date = run.store.exists(join(folder, FILES[0]))
    return {
        "stage": "evaluate",
        "up_to_date": up_to_date,
        "models": identity["models"],
        "test_slices_at_most": sum(s.corpus.num_rows for s in select(run, config.test)),
        "resamples": config.resamples,
        **priced(run, [] if up_to_date else planned_evaluation(run)),
        "writes": config.report,
    }


def make_report(run: Session) -> ReportSummary:
    """Compare the models and write the report; a finished comparison is only copied."""
    identity = evaluation_identity(run)
    folder = run.store.url("evaluations", fingerprint(**identity))
    local = Path(evaluate_config(run).report)
    kept = [join(folder, name) for name in FILES]
    up_to_date = all(run.store.exists(url) for url in kept)
    if up_to_date:
        for url, name in zip(kept, FILES, strict=True):
            _write(local / name, run.store.read_bytes(url))
    else:
        check_evaluation(run)
        with run.writing(folder) as lease:
            page = write_report(_report(run, evaluate(run), fingerprint(**identity)), local)
            lease.check()
            for url, name in zip(kept, FILES, strict=True):
                run.store.write_bytes(url, (page.parent / name).read_bytes())
        records.wrote("report", folder, fingerprint(**identity))
    figures = json.loads((local / FILES[0]).read_text())["models"]
    shown = {
        name: {m: model[m] for m in ("exam_auc", "dsc", "pixel_ap")}
        for name, model in figures.items()
    }
    return ReportSummary(str(local / FILES[1]), shown, up_to_date)


def _write(path: Path, data: bytes) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_suffix(".tmp")
    temporary.write_bytes(data)
    os.replace(temporary, path)


def _report(run: Session, found: Evaluation, identity: str) -> Report:
    config = evaluate_config(run)
    records = {name: trained_model(run, model) for name, model in config.models.items()}
    return Report(
        title="Intracranial hemorrhage on head CT: teacher and student",
        question="Does a student that also learned from pseudo-labelled slices detect and outline "
        "intracranial hemorrhage better than its teacher on exams that neither has seen?",
        models=tuple(_model(found, name) for name in (*found.names, THRESHOLD, EMPTY)),
        differences=tuple(
            NamedDifference(
                a=a,
                b=b,
                **{str(metric): value for metric, value in metrics.items()},
                bootstrap_auc=found.figures.bootstrap_auc_differences[a, b],
            )
            for (a, b), metrics in found.figures.differences.items()
        ),
        operating_points=found.operating_points,
        paired_calls=found.paired_calls,
        marked_patients=found.marked_patients,
        patients=(int(found.exams.strata.sum()), int((found.exams.strata == 0).sum())),
        prevalence=config.prevalence or float(found.exams.labels.mean()),
        further=found.further,
        pseudo_labels=_pseudo_labels(run),
        gallery=tuple(gallery(run, found)),
        corpora=tuple(corpora(run)),
        ledger={name: outcome_counts(run.store, name) for name in run.settings.corpora},
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
    settings = for_record(run.settings, run.pseudonyms)
    views = ("audit", "show", "export", "experiment", "diagnose")
    apart = ("store", "cluster", "submit", "budget", "log", "phantoms", *views)
    for section in apart:
        del settings[section]
    for corpus in settings["corpora"].values():
        del corpus["source"], corpus["labels"]
    for place in ("report", "predictions", "reference", "tuning_reference"):
        del settings["evaluate"][place]
    return settings


def _model(found: Evaluation, name: str) -> ModelResult:
    predicted, values = found.predicted[name], found.figures.intervals[name]
    network = name in found.names
    curve = roc.roc_curve(predicted.scores, found.exams.labels)
    notes = {
        THRESHOLD: f"HU in [{predicted.level - 1}, 95) is bleed; exams ranked by their number of "
        "pixels in the band; both cuts chosen as the best on these very exams",
        EMPTY: "marks nothing, ranks nothing",
    }
    positive = found.positive_slice_dsc[name]
    note = notes.get(name, "") + f"; DSC on slices that bleed {positive:.3f}"
    auc = found.figures.bootstrap_auc[name]
    if network:
        note += f"; AUC by the bootstrap [{auc.low:.3f}, {auc.high:.3f}]"
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


def _of_operating_points(found: Evaluation, tuning: Sequence[str]) -> list[str]:
    if not found.operating_points:
        why = "the tuning exams are of one class" if tuning else "no tuning exams were named"
        return [f"No operating points: {why}, or no sensitivity and specificity to reach."]
    caveat = (
        ""
        if found.exams.independent
        else " Both take exams as independent, and some patients have several: they say too much."
    )
    return [
        "Operating points: exam thresholds fixed on the tuning exams, the highest that reaches a "
        "sensitivity there, or the lowest that reaches a specificity, then applied to the test "
        "exams; intervals by Wilson. Right calls of two models are compared by McNemar's test "
        "(mid-p), of positive and of negative exams apart, and the p-values of all these "
        f"comparisons adjusted by Holm; of few exams it can hardly show anything.{caveat}",
    ]


def _methods(run: Session, found: Evaluation) -> tuple[str, ...]:
    config = evaluate_config(run)
    patients = len(found.exams.strata)
    where = f"the tuning corpus ({', '.join(config.tuning)})" if config.tuning else "p = 0.5"
    highest = (
        "highest probability of its slices"
        if config.exam_score_slices == 1
        else f"mean of its {config.exam_score_slices} highest slice probabilities"
    )
    return (
        f"Exams: {len(found.exams.labels)} of {patients} patients; an exam's score is the "
        f"{highest}, its truth whether any slice bleeds.",
        "Exam AUC: interval on the logit scale and paired test by DeLong, patients being clusters "
        "(Obuchowski).",
        "DSC and pixel AP: intervals by the symmetric bootstrap-t on the logit scale; how far a "
        "resample lies from all patients counts in its own standard error, by what each patient "
        "adds. Where a few patients have many false alarms of the highest scores, that of pixel AP "
        "is too narrow all the same (simulated: it held the truth 85 times in 100).",
        "Differences of pixel AP: the same, not on the logit scale. Differences of DSC: a "
        "sign-flip test of what each patient adds, as if the two models' predictions of him were "
        f"exchanged at random, {TOSSES} times, and the differences that it does not refute; a "
        "difference that is the same everywhere is divided by the pixels that DSC counts.",
        f"The bootstrap draws patients {config.resamples} times, those who bleed and others apart; "
        "all models see the same resamples. Its percentiles of the AUC stand beside DeLong's "
        "figures. Intervals are of 95 %, p-values two-sided.",
        "AUC is exact, ties at midranks. Pixel AP and DSC pool all pixels of all exams (micro), "
        "scores quantised to 16 bits of the logit; a slice without a bleed adds only false "
        "positives; a metric that a resample leaves undefined is dropped and counted.",
        f"Pixel thresholds were fixed on {where}, by the best DSC, before the test exams.",
        *_of_operating_points(found, config.tuning),
        "The plain threshold chose its cuts on the test exams themselves, which favours it.",
        "One training seed: the intervals hold the uncertainty of the exams, not of the training.",
    )
