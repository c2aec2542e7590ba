"""The page of a study made anew: each printed figure beside ours, self-contained, repeatable."""

import json
import re
from dataclasses import asdict, replace
from pathlib import Path

import numpy as np

from ich_ray.reporting.marked_figures import marked_figures
from ich_ray.reporting.reproduction_page import Reproduction, to_html, write_reproduction
from ich_ray.reporting.stills import Still, still, stills_of_json, stills_to_json
from ich_ray.reproduction import Member
from ich_ray.reproduction_tables import tables_of
from ich_ray.statistics.paper import lin2022
from tests.local.shown_heads import report_of, shown_head
from tests.unit.test_reproduction_tables import BOTH, report

CORPORA = (
    {"name": "own", "role": "labelled", "exams": 12, "slices": 240},
    {"name": "rsna", "role": "unlabelled", "exams": 1200, "slices": 36000},
    {"name": "cq500", "role": "test", "exams": 481, "slices": 14000},
)


def stills(*models: str) -> tuple[Still, ...]:
    """Of two heads, on the second of which more is marked in error."""
    found = []
    for exam, more in ((0, 3), (1, 9)):
        shown = shown_head(exam)
        wrong = np.roll(shown.predictions["semi_supervised"], more, axis=1)
        marked = {**shown.predictions, **dict.fromkeys(models or ("no_ranker",), wrong)}
        shown = replace(shown, predictions=marked, caption=f"<Head {exam}>")
        found.append(still(report_of(shown), shown))
    return tuple(found)


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
        stills=stills(),
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


def test_figure_2_begins_with_the_slice_that_is_marked_most_in_error_without_a_ranker() -> None:
    without, both = marked_figures(stills())
    assert [row["still"].caption for row in without.rows] == ["<Head 1>", "<Head 0>"]
    wrong = [one.marked["no_ranker"].overlap.wrong for one in stills()]
    assert wrong[1] > wrong[0] > 0
    assert [panel["title"] for panel in without.rows[0]["panels"]] == [
        "Student (no ranker)",
        "Student",
    ]
    assert without.rows[0]["panels"][0]["counts"].endswith(f"{wrong[1]} marked in error")
    assert [row["still"].caption for row in both.rows] == ["<Head 0>", "<Head 1>"]
    assert [panel["title"] for panel in both.rows[0]["panels"]] == ["Teacher", "Student"]


def test_the_page_shows_the_pictures_of_both_figures_once_a_model() -> None:
    page = to_html(reproduction())
    for one in stills():
        for model in ("no_ranker", "semi_supervised", "baseline"):
            times = 2 if model == "semi_supervised" else 1
            assert page.count(one.marked[model].picture) == times
        assert page.count(one.plain) == 2
    assert "&lt;Head 1&gt;; exam" in page


def test_without_a_variant_without_ranker_figure_2_says_what_to_add() -> None:
    without, both = marked_figures(stills("other"))
    assert not without.rows
    assert both.rows
    page = to_html(replace(reproduction(), stills=()))
    assert "add no_ranker to experiment.variants" in page
    assert "set evaluate.gallery above 0" in page


def test_pictures_of_a_gallery_are_read_as_they_were_kept() -> None:
    assert stills_of_json(stills_to_json(stills())) == stills()


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
