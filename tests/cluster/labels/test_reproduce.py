"""The paper's tables through the command line, from the reports of one family of evaluations."""

import json
import re
from pathlib import Path
from typing import Any

import pytest

from ich_ray.distributed.segmentations import agreements
from ich_ray.errors import QualityError
from ich_ray.phantom import SITES, make_exam
from ich_ray.phantom.exam import read_by
from jobs.cli import main
from jobs.stage import arguments_of, opened, settings_of
from tests.cluster.tiny_experiment import files_under
from tests.cluster.tiny_family import TINY, prepared

STUDY = """
[phantoms.c_second]
site = "c"
folder = "ROOT/second"
num_exams = 8
num_slices = 8
matrix = 64
reader = 1

[corpora.c_second]
layout = "folder"
source = "ROOT/second"
slices_per_part = 24

[reproduce]
validation = ["c"]
contrasts = ["all"]
segmentations = ["c_second"]
report = "ROOT/study"
"""


@pytest.fixture(scope="module")
def study(grown: Path, finished: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a small study, made by the command line of models that are there."""
    root = prepared(tmp_path_factory.mktemp("study"), finished, store_of=grown)
    with (root / "settings.toml").open("a") as settings:
        settings.write(STUDY.replace("ROOT", str(root)))
    assert main(words(root)) == 0
    return root


def words(root: Path, *more: str) -> list[str]:
    settings = str(root / "settings.toml")
    return ["reproduce", "lin2022", settings, *TINY, "experiment.seeds=[0]", *more]


def tables_of(study: Path) -> dict[str, dict[str, Any]]:
    """Table -> row -> cells."""
    content = json.loads((study / "study" / "reproduction.json").read_text())
    return {
        table["name"]: {row["title"]: row["cells"] for row in table["rows"]}
        for table in content["tables"]
    }


def report_of(study: Path, member: str) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((study / "study" / member / "report.json").read_text())
    return found


def test_every_table_holds_the_figures_of_its_report_and_the_printed_ones(study: Path) -> None:
    tables = tables_of(study)
    assert list(tables) == ["1", "Abstract", "Section 3.2", "2", "3", "4", "Supplement 1"]
    for table, row, column, member, model in (
        ("1", "Semi-supervised", "exam_auc", "seed-0", "semi_supervised"),
        ("2", "All", "pixel_ap", "table-2-seed-0", "all"),
        ("3", "Semi-supervised", "pixel_ap", "table-3-seed-0", "semi_supervised"),
        ("4", "Segmentation 2", "baseline-pixel_ap", "table-4-c_second-seed-0", "baseline"),
    ):
        cell = tables[table][row][column]
        metric = column.removeprefix("baseline-")
        told = report_of(study, member)["models"][model][metric]
        assert cell["ours"]["mean"] == told["estimate"]
        assert cell["low"] == told["low"]
        assert cell["printed"] is not None
    assert tables["1"]["Qure.ai"]["exam_auc"]["ours"] is None
    assert tables["3"]["No ranker"]["pixel_ap"]["ours"] is None


def test_the_same_teacher_stands_in_the_tables_of_augmentation_and_ranker(study: Path) -> None:
    by_contrast = report_of(study, "table-2-seed-0")["models"]["all"]
    by_ranker = report_of(study, "table-3-seed-0")["models"]["baseline"]
    assert by_contrast["exam_auc"] == by_ranker["exam_auc"]
    assert by_contrast["pixel_ap"] == by_ranker["pixel_ap"]


def test_figure_3_is_of_the_gallery_of_the_validation_report(study: Path) -> None:
    page = (study / "study" / "index.html").read_text()
    told = report_of(study, "table-3-seed-0")["gallery"]
    assert len(told) == 4
    shown = re.findall(r'; exam <code title="(\w+)">[^<]*</code>, slice <code title="(\w+)">', page)
    assert shown == [(one["exam"], one["slice"]) for one in told]
    assert "add no_ranker to experiment.variants" in page
    of_report = (study / "study" / "table-3-seed-0" / "index.html").read_text()
    pictures = re.findall(r'<article>.*?src="(data:image/png[^"]+)"', page, re.S)
    assert len(pictures) == 4
    assert all(picture in of_report for picture in pictures)


def test_two_readings_agree_as_their_masks_do(study: Path) -> None:
    content = json.loads((study / "study" / "reproduction.json").read_text())
    (found,) = content["agreements"]
    exams = [make_exam(SITES["c"], seed=0, index=i, matrix=64, num_slices=8) for i in range(8)]
    pairs = [(one.mask > 0, read_by(one, 1).mask > 0) for one in exams]
    both, either = sum((a & b).sum() for a, b in pairs), sum(a.sum() + b.sum() for a, b in pairs)
    assert (found["a"], found["b"]) == ("c", "c_second")
    assert found["exams"] == sum(bool(a.any()) for a, _ in pairs)
    assert found["dsc"]["estimate"] == pytest.approx(2 * both / either)


def test_a_rerun_of_a_study_starts_nothing_and_says_the_same(
    study: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    store, page = files_under(study / "store"), (study / "study" / "index.html").read_bytes()
    assert main(words(study, "--json")) == 0
    (line,) = capfd.readouterr().out.splitlines()
    assert json.loads(line)["up_to_date"]
    assert json.loads(line)["data"].startswith("Made on synthetic heads (a, b, c, c_second)")
    assert files_under(study / "store") == store
    assert (study / "study" / "index.html").read_bytes() == page


def test_without_settings_the_study_is_planned_on_phantoms(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    assert main(["reproduce", "lin2022", "--dry-run", "--json", "experiment.seeds=[0, 1]"]) == 0
    plan = json.loads(capfd.readouterr().out)
    assert plan["train contrast_power-1"] == plan["evaluate table-3-seed-1"] == "would run"
    assert len([step for step in plan if step.startswith("ingest")]) == 6
    assert not list(tmp_path.iterdir())


def test_segmentations_of_other_exams_are_refused_with_what_to_do(study: Path) -> None:
    settings = settings_of(arguments_of("reproduce", words(study)[2:]))
    with (
        opened(settings) as run,
        pytest.raises(QualityError, match=r"a has no exam of c: segmentations are of the same"),
    ):
        agreements(run, ["c", "a"], seed=0)
