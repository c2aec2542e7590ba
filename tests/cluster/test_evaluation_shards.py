"""An evaluation says the same to the last bit, however its exams and its work are divided."""

import json
import shutil
from pathlib import Path
from typing import Any

from ich_ray.distributed.report import make_report
from tests.cluster.tiny_experiment import carry_out, opened

FIGURES = ("models", "differences", "bootstrap_auc", "operating_points", "paired_calls")


def evaluated(finished: Path, root: Path, *, slices_per_part: int, actors: int) -> dict[str, Any]:
    """Ingest the test corpus anew in parts of some size, and evaluate its predictions."""
    shutil.copytree(
        finished / "store", root / "store", ignore=shutil.ignore_patterns("c", "evaluations")
    )
    settings = (
        f"corpora.c={{ layout='folder', source='{finished}/dicom/c', "
        f"slices_per_part={slices_per_part} }}",
        f"evaluate.actors={actors}",
        f"predict.actors={actors}",
        # Other slices beside it in a batch would round a slice's map otherwise.
        "predict.batch=1",
    )
    with opened(root, *settings) as run:
        carry_out(run, ("ingest", "c"))
        shards = len(run.corpus("c").files)
        make_report(run)
    report = json.loads((root / "report" / "report.json").read_text())
    return {"shards": shards} | {key: report[key] for key in FIGURES}


def test_figures_do_not_depend_on_shards_and_workers(finished: Path, tmp_path: Path) -> None:
    one, two, many = (
        evaluated(finished, tmp_path / name, slices_per_part=size, actors=actors)
        for name, size, actors in (("one", 64, 1), ("two", 32, 2), ("many", 8, 2))
    )
    assert (one.pop("shards"), two.pop("shards")) == (1, 2)
    assert many.pop("shards") > 4
    assert one == two == many
    assert one["models"]["baseline"]["dsc"]["estimate"] > 0
