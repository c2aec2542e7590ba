import csv
import json
from pathlib import Path

import numpy as np
import pytest

from jobs.cli import main


def pilot(root: Path, *, exams: int = 160) -> list[str]:
    """Two models of known skill on the same exams, as tables."""
    rng = np.random.default_rng(7)
    labels = np.arange(exams) % 4 == 0
    shared = rng.normal(size=exams)
    places = {}
    for name, skill in (("old", 1.2), ("new", 1.6)):
        logits = skill * labels + 0.8 * shared + 0.6 * rng.normal(size=exams)
        places[name] = [(f"e{i}", 1 / (1 + np.exp(-v))) for i, v in enumerate(logits)]
    places["truth"] = [(f"e{i}", int(label)) for i, label in enumerate(labels)]
    for name, rows in places.items():
        column = "label" if name == "truth" else "score"
        with (root / f"{name}.csv").open("w", newline="") as lines:
            csv.writer(lines).writerows([("exam", column), *rows])
    return [
        *("--predictions", str(root / "old.csv"), "--predictions", str(root / "new.csv")),
        *("--reference", str(root / "truth.csv"), f"store.root={root}/store"),
        f"power.report={root}/power",
    ]


def test_a_pilot_tells_what_larger_corpora_can_show(
    ray_cluster: None, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["power", *pilot(tmp_path), "power.exams=[200, 800]"]) == 0
    said = capsys.readouterr().out
    assert "exam AUC: 25 % positive; the pilot has 40 patients with and 120 without" in said
    assert "DSC: the pilot has 0 patients with a mask" in said
    found = json.loads((tmp_path / "power" / "power.json").read_text())
    small, large = found["tables"][0]["rows"]
    # Four times as many exams show half the difference.
    assert small["detectable_80"]["estimate"] == pytest.approx(
        2 * large["detectable_80"]["estimate"]
    )
    assert (tmp_path / "power" / "power.svg").read_text().startswith("<?xml")
    assert said.strip().endswith(f"power: {tmp_path / 'power'}")
    assert "needed" in (tmp_path / "power" / "power.txt").read_text()


def test_one_model_needs_a_correlation_to_another(
    ray_cluster: None, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    one = [word for word in pilot(tmp_path) if "new" not in word]
    one.pop(one.index("--predictions", 1))
    assert main(["power", *one]) == 2
    assert "assume one of at least 0 and below 1" in capsys.readouterr().err
    assert main(["power", *one, "power.correlation=0.6"]) == 0
    assert "DSC: not told from one model" in capsys.readouterr().out


def test_a_pilot_of_few_patients_is_refused_with_how_many_are_needed(
    ray_cluster: None, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["power", *pilot(tmp_path, exams=60)]) == 4
    assert "it needs 30 of each" in capsys.readouterr().err
    assert not (tmp_path / "power").exists()


def test_a_dry_run_says_what_the_pilot_is_and_writes_nothing(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["power", *pilot(tmp_path), "--dry-run"]) == 0
    assert "predictions: ['old', 'new']" in capsys.readouterr().out
    assert not (tmp_path / "store").exists()
