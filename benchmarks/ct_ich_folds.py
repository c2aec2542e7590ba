"""How well does a small network learn CT-ICH in half an hour, on patients that it has not seen?

Five folds by patient of the real corpus, CT-ICH 1.0.0 (experiments/ct_ich_folds.toml). Each fold's
model is trained on the other four and predicts its own, all by the product's stages: ingest, train,
evaluate. What is finished is not done again. Each fold and all of them pooled get DSC (micro, over
all pixels), pixel AP, exam AUC and slice AUC, with 95 % intervals over resampled patients; pixels
are called at p = 0.5, which no test fold has chosen.

Rivals: the U-Net of the data set's own paper, over five folds of the same release: 0.31 by its own
definition of the Dice coefficient (`dsc_published`; ct_ich_scores.py has it), and, for DSC and
exam AUC in each fold, the plain intensity threshold with the cuts that are best on that very fold.

    python -m benchmarks.ct_ich_folds [--minutes 26 | --steps 1800] [--folds 0 1 2 3 4]
        [--source $ICH_RAY_REAL_DATA/ct-ich-v1] [--out out/bench/ct_ich] [--store OUT/store]
        [--inference whole_slice|windows]

`--minutes` is for all trainings together: a step is timed first, and what was decided is kept in
OUT/steps.json, so that the same command goes on with the same models; with `--inference windows`
too, which tells how far windows and whole slices differ. Prints a table, and last one
line of JSON.
"""

import argparse
import json
import os
import sys
import time
import tomllib
from pathlib import Path
from typing import Any

import tomli_w

from benchmarks.ct_ich_pace import seconds_per_step
from benchmarks.ct_ich_scores import CHRONIC, METRICS, PatientScores, figures, read_scores
from ich_ray.config import Settings
from ich_ray.distributed import logs
from ich_ray.distributed.ingest_hours import ingest_within_budget
from ich_ray.distributed.lineage import trained_model
from ich_ray.distributed.predict import prediction_task
from ich_ray.distributed.session import Session, select
from ich_ray.distributed.train import train
from ich_ray.settings import parse
from ich_ray.statistics.bootstrap import Interval
from ich_ray.storage.tables import open_table
from jobs import evaluate
from jobs.stage import carry_out, guarded, opened

EXPERIMENT = Path("experiments/ct_ich_folds.toml")
CORPUS = "ct_ich"
RESAMPLES = 2_000
PUBLISHED_DSC = 0.31
RIVAL = "intensity_threshold"
START_S = 10.0
"""Of a training, before its first step, once its slices are cached."""


def experiment(out: Path, store: str, source: str) -> dict[str, Any]:
    """Return the settings of the experiment, with this machine's places."""
    raw = tomllib.loads(EXPERIMENT.read_text())
    raw["store"]["root"] = store
    raw["cluster"]["cache"] = str(out / "cache")
    raw["corpora"][CORPUS]["source"] = source
    return raw


def with_steps(raw: dict[str, Any], steps: int) -> dict[str, Any]:
    """Return settings whose models all train for so many steps."""
    models = {name: {**model, "steps": steps} for name, model in raw["models"].items()}
    return {**raw, "models": models}


def of_fold(raw: dict[str, Any], fold: str, out: Path) -> Settings:
    """Return the settings that evaluate one fold, and keep them beside its report.

    The other folds' models have learned from it, and beside them it is refused as a test selection.
    """
    folder = out / fold
    compared = {
        "models": {"network": fold},
        "test": [f"{CORPUS}:{fold}"],
        "resamples": RESAMPLES,
        "report": str(folder),
    }
    own = {**raw, "models": {fold: raw["models"][fold]}, "evaluate": compared}
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "settings.toml").write_text(tomli_w.dumps(own))
    return parse(Settings, tomli_w.dumps(own))


def decided_steps(raw: dict[str, Any], minutes: float, out: Path) -> int:
    """Return the steps that fit, as they were decided when this was first asked."""
    kept = out / "steps.json"
    known = json.loads(kept.read_text()) if kept.exists() else {}
    if known.get("minutes") != minutes:
        model = parse(Settings, tomli_w.dumps(raw)).models["fold_0"]
        step_s = seconds_per_step(model, channels=3)
        seconds = minutes * 60 / len(raw["models"]) - START_S
        steps = max(100, int(seconds / step_s) // 50 * 50)
        known = {"minutes": minutes, "step_s": round(step_s, 4), "steps": steps}
        kept.write_text(json.dumps(known))
    print(json.dumps(known))
    return int(known["steps"])


def scores_of(run: Session, fold: str) -> list[PatientScores]:
    """Return what the model of a fold says of the fold's patients."""
    selection = select(run, [f"{CORPUS}:{fold}"])[0]
    task = prediction_task(run, trained_model(run, fold), selection)
    table = open_table(run.store, task.url)
    assert table is not None, f"evaluate has predicted {fold}"
    return list(read_scores(run.store, selection, table, grid=run.settings.input.size))


def row(name: str, found: dict[str, Interval]) -> str:
    """Return a line of the table."""
    cells = (f"{i.estimate:.3f} [{i.low:.3f}, {i.high:.3f}]" for i in found.values())
    return f"{name:8}" + "".join(f"{cell:>23}" for cell in cells)


def apart(found: dict[str, Interval], report: dict[str, Any]) -> float:
    """Return the largest difference from the report; rounding moves single pixels by a level."""
    return max(
        abs(report[name][bound] - getattr(found[name], bound))
        for name in ("dsc", "pixel_ap", "exam_auc")
        for bound in ("estimate", "low", "high")
    )


def measure(raw: dict[str, Any], folds: list[str], out: Path) -> dict[str, Any]:
    """Run the stages and return the line of JSON."""
    settings = parse(Settings, tomli_w.dumps(raw))
    logs.configure(settings.log)
    scores: dict[str, list[PatientScores]] = {}
    shown: dict[str, Any] = {"folds": {}, "rival": {}}
    off, train_s = 0.0, 0.0
    print(f"{'':8}" + "".join(f"{name:>23}" for name in METRICS))
    with opened(settings) as run:
        chronic = run.pseudonyms.of(CHRONIC)
        print(carry_out(run, "ingest", CORPUS, ingest_within_budget).line(), file=sys.stderr)
        for fold in folds:
            began = time.monotonic()
            print(carry_out(run, "train", fold, train).line(), file=sys.stderr)
            train_s += time.monotonic() - began
            # Another session over the same Ray, which the first one's end stops.
            with opened(of_fold(raw, fold, out)) as own:
                report = carry_out(own, "evaluate", "evaluate", evaluate.work).figures
                scores[fold] = scores_of(own, fold)
            found = figures(scores[fold], chronic=chronic, resamples=RESAMPLES)
            off = max(off, apart(found, report["network"]))
            print(row(fold, found), flush=True)
            shown["folds"][fold] = {name: i.as_dict() for name, i in found.items()}
            shown["rival"][fold] = {m: report[RIVAL][m]["estimate"] for m in ("dsc", "exam_auc")}
    everyone = [one for fold in folds for one in scores[fold]]
    pooled = figures(everyone, chronic=chronic, resamples=RESAMPLES)
    print(row("pooled", pooled))
    return {
        "pooled": {name: i.as_dict() for name, i in pooled.items()},
        **shown,
        "published_dsc": PUBLISHED_DSC,
        "patients": len(everyone),
        "slices": sum(len(one.p) for one in everyone),
        "steps": raw["models"][folds[0]]["steps"],
        "pixel_threshold": 0.5,
        "inference": settings.predict.inference,
        "train_minutes": round(train_s / 60, 2),
        "off_the_reports": off,
    }


def main() -> int:
    """Train, evaluate and print."""
    parser = argparse.ArgumentParser(description="Five folds by patient on CT-ICH.")
    length = parser.add_mutually_exclusive_group()
    length.add_argument("--minutes", type=float, help="of all trainings together")
    length.add_argument("--steps", type=int, help="of each training")
    parser.add_argument("--folds", type=int, nargs="+", default=range(5), choices=range(5))
    parser.add_argument("--inference", default="whole_slice", choices=("whole_slice", "windows"))
    parser.add_argument("--source", default="")
    parser.add_argument("--out", type=Path, default=Path("out/bench/ct_ich"))
    parser.add_argument("--store", default="")
    options = parser.parse_args()
    data = os.environ.get("ICH_RAY_REAL_DATA")
    if not options.source and not data:
        parser.error("set ICH_RAY_REAL_DATA to the folder that holds ct-ich-v1, or give --source")
    out = options.out.resolve()
    out.mkdir(parents=True, exist_ok=True)
    source = str(Path(options.source or f"{data}/ct-ich-v1").resolve())
    raw = experiment(out, options.store or str(out / "store"), source)
    raw["predict"] = {"inference": options.inference}
    reports = out if options.inference == "whole_slice" else out / options.inference

    def inside() -> int:
        steps = options.steps
        if options.minutes is not None:
            steps = decided_steps(raw, options.minutes, out)
        settings = raw if steps is None else with_steps(raw, steps)
        found = measure(settings, [f"fold_{number}" for number in options.folds], reports)
        print(json.dumps(found))
        return 0

    return guarded(inside)


if __name__ == "__main__":
    sys.exit(main())
