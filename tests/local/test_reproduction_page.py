"""The page of a study made anew: each printed figure beside ours, self-contained, repeatable."""

import json
import re
from dataclasses import asdict
from pathlib import Path

from ich_ray.reporting.reproduction_page import Reproduction, to_html, write_reproduction
from ich_ray.reproduction import Member
from ich_ray.reproduction_tables import tables_of
from ich_ray.statistics.paper import lin2022
from tests.unit.test_reproduction_tables import BOTH, report

CORPORA = (
    {"name": "own", "role": "labelled", "exams": 12, "slices": 240},
    {"name": "rsna", "role": "unlabelled", "exams": 1200, "slices": 36000},
    {"name": "cq500", "role": "test", "exams": 481, "slices": 14000},
)


def reproduction(*, agreements: bool = True) -> Reproduction:
    reports = {Member("1", 0): report(BOTH), Member("4", 0, "second"): report(BOTH)}
    value = {"estimate": 0.9, "low": 0.8, "high": 0.95}
    one = {
        "a": "first",
        "b": "<second>",
        "exams": 23,
        "dsc": value,
        "mean_dsc": value,
        "surfaces": {"hd95_mm": {**value, "high": None}, "nsd_1mm": value},
        "volumes": {"differences": {"bias": value}, "icc": value},
    }
    return Reproduction(
        data="Made on <own> (folder).",
        tables=tables_of(reports),
        agreements=(one,) if agreements else (),
        reports={"seed-0": "seed-0/index.html"},
        corpora=CORPORA,
        pseudo_labels={"top_percent": 10.0, "num_positive": 3600},
        revision="abc",
    )


def test_the_page_holds_each_printed_figure_of_its_tables_and_escapes_names() -> None:
    page = to_html(reproduction())
    for printed in (*lin2022.TABLE_1["baseline"].values(), lin2022.TABLE_4[1]["baseline"]["dsc"]):
        assert f"printed {printed}" in page
    assert "Made on &lt;own&gt; (folder)." in page
    assert "&lt;second&gt;" in page
    assert "<second>" not in page
    assert '<a href="seed-0/index.html">seed-0</a>' in page


def test_the_page_needs_nothing_from_elsewhere() -> None:
    page = to_html(reproduction())
    assert not re.findall(r'(?:src|href)="(?!data:|seed-0/)', page)
    assert page == to_html(reproduction())
    assert "http" not in re.sub(r"data:[^\"]+", "", page).replace("http-equiv", "")


def test_segmentations_that_are_not_there_have_no_section() -> None:
    assert "How far the segmentations agree" in to_html(reproduction())
    assert "How far the segmentations agree" not in to_html(reproduction(agreements=False))


def test_what_is_written_is_the_same_for_programs_and_people(tmp_path: Path) -> None:
    found = reproduction()
    page = write_reproduction(found, tmp_path)
    assert page.read_text() == to_html(found)
    content = json.loads((tmp_path / "reproduction.json").read_text())
    cell = content["tables"][0]["rows"][0]["cells"]["exam_auc"]
    ours = found.tables[0].rows[0].cells["exam_auc"]
    assert cell["ours"] == asdict(ours)["ours"]
    assert cell["less_printed"] == ours.less_printed
    text = (tmp_path / "reproduction.txt").read_text()
    assert "Semi-supervised, exam AUC: 0.930 [0.880, 0.980], printed 0.939" in text
