"""The checklist holds every item once, and says no more than the run knows."""

import re
from dataclasses import replace
from html import unescape

import numpy as np
import pytest

from ich_ray.reporting.claim import ClaimItem, claim_checklist
from ich_ray.reporting.claim_answers import ANSWERS
from ich_ray.reporting.claim_items import ITEMS
from ich_ray.reporting.contents import (
    CorpusFacts,
    GallerySlice,
    ModelResult,
    NamedDifference,
    Report,
    Roc,
)
from ich_ray.reporting.html import render
from ich_ray.statistics.bootstrap import Difference, Interval
from ich_ray.statistics.operating_points import Rule, Scored, operating_point, paired_calls
from tests.local.empty_report import EMPTY

SILENT = replace(EMPTY, title="", question="")


def corpus(name: str, role: str, positive: int | None) -> CorpusFacts:
    return CorpusFacts(
        name=name,
        role=role,
        exams=60,
        positive_exams=positive,
        slices=1_800,
        positive_slices=positive,
        kind="hu",
        version=3,
    )


def scored(seed: int) -> Scored:
    labels = np.arange(90) % 3 == 0
    return Scored(scores=np.random.default_rng(seed).random(90) + labels, labels=labels)


def full_report() -> Report:
    value = Interval(0.9, 0.88, 0.92)
    curve = Roc(fpr=np.array([0.0, 1.0]), tpr=np.array([0.0, 1.0]))
    test = {"baseline": scored(1), "semi_supervised": scored(2)}
    points = {
        name: [operating_point(name, Rule("sensitivity", 0.92), tuning=scored(9), test=exams)]
        for name, exams in test.items()
    }
    blank = np.zeros((4, 4), bool)
    return replace(
        SILENT,
        question="Does a student beat its teacher?",
        models=(
            ModelResult(
                name="baseline",
                title="Teacher",
                kind="network",
                exam_auc=value,
                dsc=value,
                pixel_ap=Interval(float("nan"), float("nan"), float("nan")),
                roc=curve,
            ),
            ModelResult(name="semi_supervised", title="Student", kind="network", exam_auc=value),
        ),
        differences=(
            NamedDifference(
                a="semi_supervised", b="baseline", exam_auc=Difference(0.03, 0.01, 0.05, 0.004)
            ),
        ),
        operating_points=tuple(point for of_model in points.values() for point in of_model),
        paired_calls=tuple(
            paired_calls(
                list(zip(points["semi_supervised"], points["baseline"], strict=True)), test
            )
        ),
        patients=(260, 1_300),
        marked_patients=250,
        gallery=(
            GallerySlice(
                exam="e",
                slice="s",
                image=np.zeros((4, 4), np.uint8),
                reference=blank,
                predictions={},
                p={},
                caption="",
            ),
        ),
        corpora=(
            corpus("site_a", "labelled", 31),
            corpus("site_b", "unlabelled", None),
            corpus("site_c", "tuning", 20),
            corpus("site_d", "test", 22),
        ),
        ledger={
            "site_a": {"accepted slice": 1_800, "rejected object (not_ct)": 4},
            "site_b": {"accepted slice": 190, "duplicate object": 6},
        },
        methods=("DSC pools pixels.",),
        provenance={"code revision": "0123abc"},
        settings={
            "identity": "environment",
            "input": {"window": [-40.0, 160.0], "size": 0, "channels": "neighbours"},
            "evaluate": {"models": {"baseline": "first", "semi_supervised": "second"}},
            "models": {
                "first": {
                    "network": "drn_d_38",
                    "init": "random",
                    "init_trunk": "0a1b",
                    "steps": 3_000,
                    "learning_rate": 0.01,
                    "validation": {"keep": "best", "metric": "dsc"},
                },
                "second": {
                    "network": "drn_d_38",
                    "init": "first",
                    "init_trunk": "",
                    "steps": 4_000,
                    "validation": {"keep": "last", "metric": "pixel_ap"},
                },
                "third": {"network": "drn_d_22", "init": "random"},
            },
            "pseudo_labels": {"pool": {"other_teachers": ["third"]}},
        },
    )


def answered(report: Report) -> dict[int, str]:
    return {item.number: item.answer for item in claim_checklist(report) if item.answer}


def test_all_44_items_are_there_once_and_in_order() -> None:
    assert [item.number for item in ITEMS] == list(range(1, 45))
    assert [item.number for item in claim_checklist(full_report())] == list(range(1, 45))
    assert len({item.topic for item in ITEMS}) == 44


def test_sections_are_those_of_the_checklist() -> None:
    last = {item.section: item.number for item in ITEMS}
    assert list(last.values()) == [1, 2, 4, 6, 13, 18, 20, 21, 24, 27, 34, 36, 39, 41, 44]


def test_a_report_that_knows_nothing_answers_nothing() -> None:
    for item in claim_checklist(SILENT):
        assert (item.status, item.answer) == ("open", "")
        assert item.to_write.endswith(".")


def test_a_full_report_answers_what_a_run_can_know_and_nothing_else() -> None:
    assert set(answered(full_report())) == set(ANSWERS)
    # Design, acquisition, annotators, registration, demography, discussion, funding, ...
    never = {1, 2, 3, 5, 6, 10, 13, 15, 16, 17, 18, 21, 30, 31, 32, 33, 34, 36, 40, 41, 43, 44}
    assert set(range(1, 45)) - set(ANSWERS) == never


@pytest.mark.parametrize(
    ("number", "said"),
    [
        (4, "Does a student beat its teacher?"),
        (7, "site_a (60 exams, version 3, labelled); site_b (60 exams, version 3, unlabelled)"),
        (8, "for these reasons: not ct."),
        (
            9,
            "sees -40 to 160 HU, scaled to 0 to 1; pixel grids as they came; a slice and its two",
        ),
        (11, "a key of its own"),
        (12, "10 of 2,000 input objects were left out"),
        (14, "slices in site_a, site_c, site_d; masks of hemorrhage in 250 test patients; none"),
        (14, "none used of site_b."),
        (19, "labelled 60 exams; unlabelled 60 exams; tuning 60 exams; test 60 exams."),
        (20, "At the patient"),
        (22, "Networks: Teacher: drn_d_38; Student: drn_d_38."),
        (23, "code revision 0123abc."),
        (24, "Teacher: random, the trunk from a file of weights; Student: the weights of first."),
        (25, "Teacher: learning rate 0.01, steps 3000; Student: steps 4000."),
        (26, "Teacher: those best in DSC on tuning exams; Student: those of the last step."),
        (27, "(Teacher, Student) is one model; several teachers are averaged in the pseudo-labels"),
        (28, "Metrics: exam AUC, DSC."),
        (29, "95 % intervals of figures; 95 % intervals and two-sided p-values of differences"),
        (29, "p-values of right calls, adjusted"),
        (35, "260 with and 1,300 without hemorrhage; 10 of 2,000 input objects were left out."),
        (37, "Teacher: exam AUC 0.900 [0.880, 0.920], DSC 0.900 [0.880, 0.920]; Student: exam"),
        (38, "at thresholds that tuning exams fixed (sensitivity at least 0.92); ROC curves of Te"),
        (39, "called in error and cleared, by model and threshold; what was missed and marked"),
        (42, "the methods in sentences, all settings, versions of code, models and tables."),
    ],
)
def test_an_answer_is_made_of_the_values_of_the_run(number: int, said: str) -> None:
    assert said in answered(full_report())[number]


def test_a_report_without_tuning_claims_no_operating_points() -> None:
    report = full_report()
    without = replace(
        report,
        operating_points=(),
        paired_calls=(),
        corpora=tuple(one for one in report.corpora if one.role != "tuning"),
    )
    said = answered(without)
    assert not any(
        "tuning exams fixed" in text or "threshold" in text for text in (said[38], said[39])
    )
    assert "exam AUC" in said[38]
    assert "right calls" not in said[29]
    assert "tuning" not in said[19]


def test_what_is_not_measured_is_not_claimed() -> None:
    report = full_report()
    undefined = ModelResult(name="baseline", title="Teacher", kind="network")
    said = answered(replace(report, models=(undefined,), operating_points=(), gallery=()))
    assert not {28, 37, 38, 39} & set(said)
    said = answered(replace(report, marked_patients=0, corpora=report.corpora[1:2]))
    assert 14 not in said
    assert 20 not in said
    point = Interval(0.9, float("nan"), float("nan"))
    alone = replace(undefined, exam_auc=point)
    said = answered(replace(report, models=(alone,), differences=(), paired_calls=()))
    assert 29 not in said
    assert said[37] == "On the test exams, Teacher: exam AUC 0.900."


def test_beside_an_answer_stands_what_is_left_for_a_person() -> None:
    full, silent = claim_checklist(full_report()), claim_checklist(SILENT)
    for item, known, unknown in zip(ITEMS, full, silent, strict=True):
        assert unknown.to_write == item.to_write
        assert known.to_write == (item.beside if known.answer else item.to_write)
    # Nobody need add to these.
    complete = [item.number for item in full if not item.to_write]
    assert complete == [27, 29, 38]


def test_the_public_key_hides_nobody_and_is_named() -> None:
    report = full_report()
    public = replace(report, settings={**report.settings, "identity": "public"})
    assert "the public key" in answered(public)[11]
    assert 11 not in answered(replace(report, settings={}))


def rows(claim: tuple[ClaimItem, ...]) -> list[str]:
    page = render("claim.html", {}, claim=claim)
    found = re.findall(r"<tr class=\"(?:open|reported)\">(.*?)</tr>", page, re.DOTALL)
    return [re.sub(r"\s+", " ", unescape(re.sub(r"<[^>]+>", "", row))).strip() for row in found]


def test_the_page_has_a_row_an_item_and_says_open_in_words() -> None:
    claim = claim_checklist(full_report())
    shown = rows(claim)
    assert len(shown) == 44
    for item, row in zip(claim, shown, strict=True):
        assert row.startswith(f"{item.number} {item.topic} ")
        assert ("open" in row.removeprefix(f"{item.number} {item.topic} ").split()[:1]) == (
            item.status == "open"
        )
        assert item.to_write in row
        assert item.answer in row
        assert ("Still to write" in row) == bool(item.answer and item.to_write)


def test_the_page_counts_and_escapes() -> None:
    report = replace(full_report(), question="Is <b> & so on better?")
    page = render("claim.html", {}, claim=claim_checklist(report))
    assert "this run answers 22 of 44 items, in whole or in part; 22 are open" in page
    assert "Is &lt;b&gt; &amp; so on better?" in page
    assert page.lstrip().startswith("<details")
    assert page.count('scope="rowgroup"') == 15
