"""The evaluate stage's last step: figures, facts and pictures into the report a person reads."""

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from ich_ray.distributed import records
from ich_ray.distributed.estimates import priced
from ich_ray.distributed.evaluate import (
    Evaluation,
    Source,
    check_evaluation,
    evaluate,
    evaluation_identity,
    planned_evaluation,
    source_of,
)
from ich_ray.distributed.own_exams import evaluate_config
from ich_ray.distributed.report_facts import facts_of, settings_of_report
from ich_ray.distributed.report_methods import methods
from ich_ray.distributed.session import Session, code_revision, fingerprint
from ich_ray.reporting.contents import (
    TITLES,
    ModelResult,
    NamedDifference,
    Report,
    Roc,
)
from ich_ray.reporting.report import write_report
from ich_ray.reporting.stills import Still, still, stills_of_json, stills_to_json
from ich_ray.statistics import roc
from ich_ray.statistics.comparison import METRICS
from ich_ray.statistics.pooled_exams import EMPTY, THRESHOLD
from ich_ray.statistics.score_levels import probability_of_level
from ich_ray.storage import local_files
from ich_ray.storage.pixel_place import place_for_pixels
from ich_ray.storage.urls import join

FILES = ("report.json", "index.html")

STILLS = "stills.json"
"""Kept in the store beside them: the gallery's pictures."""


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
    config, source = evaluate_config(run), source_of(run)
    identity = evaluation_identity(run, source)
    folder = run.store.url("evaluations", fingerprint(**identity))
    up_to_date = all(run.store.exists(join(folder, name)) for name in (STILLS, *FILES))
    return {
        "stage": "evaluate",
        "up_to_date": up_to_date,
        **source.plan(),
        "resamples": config.resamples,
        **priced(run, [] if up_to_date else planned_evaluation(run, source)),
        "writes": config.report,
    }


def make_report(run: Session) -> ReportSummary:
    """Compare the models and write the report; a finished comparison is only copied."""
    source = source_of(run)
    identity = evaluation_identity(run, source)
    folder = run.store.url("evaluations", fingerprint(**identity))
    local = Path(evaluate_config(run).report)
    kept, stills = [join(folder, name) for name in FILES], join(folder, STILLS)
    up_to_date = all(run.store.exists(url) for url in (stills, *kept))
    if up_to_date:
        for url, name in zip(kept, FILES, strict=True):
            local_files.write_bytes(local / name, run.store.read_bytes(url))
    else:
        check_evaluation(run, source)
        with run.writing(folder) as lease:
            with place_for_pixels(run.store, join(folder, "pixels"), lease) as place:
                found = evaluate(run, source, place)
            report = _report(run, source, found, fingerprint(**identity))
            page = write_report(report, local)
            lease.check()
            drawn = [still(report, shown) for shown in report.gallery]
            run.store.write_bytes(stills, stills_to_json(drawn))
            for url, name in zip(kept, FILES, strict=True):
                run.store.write_bytes(url, (page.parent / name).read_bytes())
        records.wrote("report", folder, fingerprint(**identity))
    figures = json.loads((local / FILES[0]).read_text())["models"]
    shown = {
        name: {m: model[m] for m in ("exam_auc", "dsc", "pixel_ap")}
        for name, model in figures.items()
    }
    return ReportSummary(str(local / FILES[1]), shown, up_to_date)


def gallery_of(run: Session) -> tuple[Still, ...]:
    """Return the pictures of the gallery of a report that was made."""
    identity = fingerprint(**evaluation_identity(run, source_of(run)))
    return stills_of_json(
        run.store.read_bytes(join(run.store.url("evaluations", identity), STILLS))
    )


def _report(run: Session, source: Source, found: Evaluation, identity: str) -> Report:
    config, facts = evaluate_config(run), facts_of(run, source, found)
    rivals = [name for name in found.predicted if name not in found.names]
    return Report(
        title=facts.title,
        question=facts.question,
        models=tuple(_model(found, name) for name in (*found.names, *rivals)),
        differences=tuple(
            NamedDifference(
                a=a,
                b=b,
                **{str(metric): value for metric, value in metrics.items()},
                bootstrap_auc=found.figures.bootstrap_auc_differences[a, b],
                bca_auc=found.figures.bca_auc_differences[a, b],
            )
            for (a, b), metrics in found.figures.differences.items()
        ),
        operating_points=found.operating_points,
        paired_calls=found.paired_calls,
        marked_patients=found.marked_patients,
        patients=(int(found.exams.strata.sum()), int((found.exams.strata == 0).sum())),
        margins={metric: config.margins[metric] for metric in METRICS if metric in config.margins},
        prevalence=config.prevalence or float(found.exams.labels.mean()),
        further=found.further,
        resampled=found.resampled,
        calibration=found.calibration,
        lesions=found.masks.lesions,
        surfaces=found.masks.surfaces,
        volumes=found.masks.volumes,
        over_trainings=found.over_trainings,
        paper=found.paper,
        pseudo_labels=facts.pseudo_labels,
        gallery=facts.gallery,
        corpora=facts.corpora,
        ledger=facts.ledger,
        training=facts.training,
        methods=(*facts.exams, *found.notes, *methods(config, found, tuned_on=source.tuned_on)),
        provenance={"code revision": code_revision(), "evaluation": identity, **facts.origins},
        settings=settings_of_report(run),
    )


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
    note = notes.get(name, "")
    if math.isfinite(positive):
        note += f"; DSC on slices that bleed {positive:.3f}"
    auc, bca = found.figures.bootstrap_auc[name], found.figures.bca_auc[name]
    if network:
        note += f"; AUC by the bootstrap [{auc.low:.3f}, {auc.high:.3f}]"
        note += f", by BCa [{bca.low:.3f}, {bca.high:.3f}]"
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
