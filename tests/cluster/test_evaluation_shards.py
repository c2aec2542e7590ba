"""An evaluation says the same to the last bit, however its exams and its work are divided."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from ich_ray.distributed.report import make_report
from tests.cluster.tiny_experiment import carry_out, opened

REPOSITORY = Path(__file__).parents[2]
FIGURES = (
    *("models", "differences", "bootstrap_auc", "bca_auc", "operating_points", "paired_calls"),
    *("further", "calibration", "lesions", "surfaces", "volumes", "paper"),
)


def evaluated(finished: Path, root: Path, *, slices_per_part: int, actors: int) -> dict[str, Any]:
    """Ingest the test corpus anew in parts of some size, and evaluate its predictions."""
    # Predictions were made in other batches, which may round a map otherwise.
    made_anew = shutil.ignore_patterns("c", "predictions", "evaluations")
    shutil.copytree(finished / "store", root / "store", ignore=made_anew)
    settings = (
        f"corpora.c={{ layout='folder', source='{finished}/dicom/c', "
        f"slices_per_part={slices_per_part} }}",
        f"evaluate.actors={actors}",
        "evaluate.paper=true",
        f"predict.actors={actors}",
        # Other slices beside it in a batch would round a slice's map otherwise.
        "predict.batch=1",
        "evaluate.gallery=0",
    )
    with opened(root, *settings) as run:
        carry_out(run, ("ingest", "c"))
        shards = len(run.corpus("c").files)
        make_report(run)
    return {"shards": shards} | figures_in(root / "report")


def brier_scores(calibration: list[dict[str, Any]]) -> list[float]:
    return [
        part["brier"]["estimate"] for of in calibration for part in (of["test"], of["tempered"])
    ]


def figures_in(folder: Path) -> dict[str, Any]:
    report = json.loads((folder / "report.json").read_text())
    return {key: report[key] for key in FIGURES}


def test_figures_do_not_depend_on_shards_and_workers(finished: Path, tmp_path: Path) -> None:
    one, two, many = (
        evaluated(finished, tmp_path / name, slices_per_part=size, actors=actors)
        for name, size, actors in (("one", 64, 1), ("two", 32, 2), ("many", 8, 2))
    )
    assert (one.pop("shards"), two.pop("shards")) == (1, 2)
    assert many.pop("shards") > 4
    # A network's probability may end in another digit where other threads make it, and a slope
    # of scores that are nearly alike turns on it.
    scores = [brier_scores(of.pop("calibration")) for of in (one, two, many)]
    assert scores[1] == pytest.approx(scores[0], rel=1e-6)
    assert scores[2] == pytest.approx(scores[0], rel=1e-6)
    assert one == two == many
    assert one["models"]["baseline"]["dsc"]["estimate"] > 0
    assert one["lesions"]
    assert one["paper"]


BY_ONE_AND_SEVEN = """
import shutil, sys
from dataclasses import replace
from pathlib import Path
from tests.cluster.tiny_experiment import make_report, opened

root = Path(sys.argv[1])
with opened(root, "cluster.num_cpus=8", "evaluate.resamples=700", "evaluate.gallery=0") as run:
    for actors in (1, 7):
        shutil.rmtree(root / "store" / "evaluations", ignore_errors=True)
        evaluate = replace(run.settings.evaluate, actors=actors, report=str(root / str(actors)))
        run.settings = replace(run.settings, evaluate=evaluate)
        make_report(run)
"""


def test_seven_workers_say_what_one_says(root: Path) -> None:
    """In a process of its own, whose Ray is told of more cores than there may be."""
    subprocess.run(
        [sys.executable, "-c", BY_ONE_AND_SEVEN, str(root)],
        env=os.environ | {"PYTHONPATH": str(REPOSITORY)},
        check=True,
        capture_output=True,
    )
    assert figures_in(root / "1") == figures_in(root / "7")
