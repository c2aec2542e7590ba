"""The published procedure, page and picture: beside the default, with its faults."""

import re
from collections.abc import Iterator
from dataclasses import replace

import numpy as np
import pytest

from ich_ray.reporting.contents import ModelResult, NamedDifference, Report
from ich_ray.reporting.figures.resampled_differences import resampled_differences
from ich_ray.reporting.headline import SHORT
from ich_ray.reporting.html import DASH, render
from ich_ray.reporting.page import FILTERS
from ich_ray.reporting.record import plain
from ich_ray.statistics.bootstrap import Difference, Interval
from ich_ray.statistics.operating_points import Rule, Scored, operating_point
from ich_ray.statistics.paper import lin2022
from ich_ray.statistics.paper.figures import PaperFigures
from ich_ray.statistics.paper.inputs import PaperExams, PaperModel
from ich_ray.statistics.paper.procedure import paper_figures
from ich_ray.statistics.pixel_histograms import HistogramStack, slice_histogram, stack
from tests.local.empty_report import EMPTY

A, B = "semi_supervised", "baseline"
LABELS = np.arange(120) % 3 == 0
MASKS = (np.random.default_rng(1).random((40, 8, 8)) < 0.2) & (np.arange(40) % 2 == 0)[
    :, None, None
]


def scores(seed: int, apart: float) -> np.ndarray:
    return np.asarray(np.random.default_rng(seed).normal(apart * LABELS, 1.0))


def pixels(seed: int, apart: float) -> HistogramStack:
    noise = np.random.default_rng(seed).normal(0, 3000, MASKS.shape)
    levels = np.rint(30_000 + noise + apart * MASKS).astype(np.uint16)
    return stack([slice_histogram(one, mask) for one, mask in zip(levels, MASKS, strict=True)])


def figures(*, segmentations: int = 1) -> PaperFigures:
    subtypes = np.zeros((120, 5), np.bool_)
    positive = np.flatnonzero(LABELS)
    subtypes[positive, positive // 3 % 4] = True
    a, b = (
        PaperModel(
            name=name,
            scores=scores(seed, apart),
            level=32_768,
            segmentations=(pixels(seed, 4000 * apart),) * segmentations,
        )
        for name, seed, apart in ((A, 3, 2.2), (B, 4, 1.8))
    )
    exams = PaperExams(labels=LABELS, subtypes=subtypes, num_marked=8)
    return paper_figures(exams, (a, b), seed=0, resamples=200)


def made_up_report(paper: PaperFigures | None) -> Report:
    rule = Rule("sensitivity", 0.92)
    tuning = Scored(scores=scores(7, 2.0), labels=LABELS)
    test = Scored(scores=scores(3, 2.2), labels=LABELS)
    return replace(
        EMPTY,
        paper=paper,
        title="t",
        question="q",
        models=(
            ModelResult(
                name=A,
                title="Student <i>",
                kind="network",
                exam_auc=Interval(0.9391, 0.9151, 0.9631),
                dsc=Interval(0.8291, 0.7001, 0.9001),
            ),
            ModelResult(
                name=B, title="Teacher", kind="network", exam_auc=Interval(0.9071, 0.8771, 0.9371)
            ),
        ),
        # The other way round: it is turned.
        differences=(
            NamedDifference(a=B, b=A, exam_auc=Difference(-0.0321, -0.0551, -0.0091, 0.0061)),
        ),
        operating_points=(operating_point(A, rule, tuning=tuning, test=test),),
    )


def page(report: Report, pictures: dict[str, str] | None = None) -> str:
    return render(
        "paper_procedure.html", FILTERS, report=report, short=SHORT, pictures=pictures or {}
    )


def rows(html: str) -> Iterator[list[str]]:
    """Cells of every row, as a person reads them."""
    for row in re.findall(r"<tr.*?</tr>", html, re.DOTALL):
        cells = re.findall(r"<t[dh].*?</t[dh]>", row, re.DOTALL)
        yield [re.sub(r"\s+", " ", re.sub(r"<[^>]*>", " ", cell)).strip() for cell in cells]


@pytest.fixture(scope="module")
def paper() -> PaperFigures:
    return figures()


@pytest.fixture(scope="module")
def table(paper: PaperFigures) -> list[list[str]]:
    return list(rows(page(made_up_report(paper))))


def test_a_report_without_the_published_procedure_says_nothing_of_it() -> None:
    assert page(made_up_report(None)).strip() == ""


def test_both_procedures_stand_side_by_side(paper: PaperFigures, table: list[list[str]]) -> None:
    auc = paper.metrics["exam_auc"]
    brackets = f"[{auc.printed[0].low:.3f}, {auc.printed[0].high:.3f}]"
    start = next(i for i, row in enumerate(table) if row == ["exam AUC"])
    student, teacher, difference, p, normality = table[start + 1 : start + 6]
    assert student == [
        "Student &lt;i&gt;",
        f"{auc.printed[0].estimate:.3f} {brackets}",
        "0.939 [0.915, 0.963]",
    ]
    assert teacher[2] == "0.907 [0.877, 0.937]"
    assert difference[1].startswith(f"+{auc.difference.found.estimate:.3f} [")
    assert difference[2] == "+0.032 [+0.009 to +0.055]"
    assert p[1].endswith(f"Z = {auc.difference.z:.2f}")
    assert p[2] == "0.006"
    assert f"{auc.difference.normality.p_lilliefors:.3f}" in normality[1]


def test_what_the_default_did_not_measure_is_a_dash(table: list[list[str]]) -> None:
    start = next(i for i, row in enumerate(table) if row == ["pixel AP"])
    assert [row[2] for row in table[start + 1 : start + 5]] == [DASH] * 4


def test_every_fault_is_told(paper: PaperFigures) -> None:
    text = re.sub(r"\s+", " ", page(made_up_report(paper)))
    assert text.count('class="caution"') == len(paper.faults) == 5
    for sentence in paper.faults:
        assert sentence.replace("'", "&#39;") in text
    for sentence in lin2022.CONTRADICTIONS:
        assert sentence.replace("'", "&#39;").replace("<", "&lt;") in text


def test_published_figures_stand_beside_ours(paper: PaperFigures, table: list[list[str]]) -> None:
    (beside,) = [row for row in table if len(row) == 5 and row[0] == "exam AUC"]
    assert beside[3:] == ["0.939 [0.938, 0.940]", "0.907 [0.906, 0.908]"]
    (p,) = [row for row in table if row[0] == "p of the difference in DSC"]
    assert p[2] == "0.012"
    (chosen,) = [row for row in table if row[0].startswith("specificity at sensitivity")]
    assert chosen[3:] == ["0.804", "0.630"]
    assert chosen[1].startswith(f"{paper.operating_points[0].test.specificity.estimate:.3f}")
    fixed = table[table.index(chosen) + 1]
    report = made_up_report(None)
    assert fixed[1].startswith(f"{report.operating_points[0].test.specificity.estimate:.3f}")
    assert fixed[2] == DASH
    (epidural,) = [row for row in table if row[0].startswith("exam AUC, epidural")]
    assert epidural[0].endswith("10 exams against 80 negative ones")
    assert epidural[3:] == ["0.976", "0.922"]


def test_names_are_text_and_never_markup(paper: PaperFigures) -> None:
    html = page(made_up_report(paper), {"resampled_differences": "data:image/svg+xml,"})
    assert "<i>" not in html
    assert re.findall(r'<img [^>]*alt="[^"]{20,}"', html)


def test_each_segmentation_has_its_t_test() -> None:
    html = page(made_up_report(figures(segmentations=3)))
    for said in ("segmentation 1, 50 resamples", "segmentation 3, 50 resamples", "all, 150 resa"):
        assert html.count(said) == 2


def test_exams_alone_make_a_page_and_a_picture(paper: PaperFigures) -> None:
    alone = figures(segmentations=0)
    html = page(made_up_report(alone))
    assert "slices; Z" not in html
    assert "paired t-test over" not in html
    assert resampled_differences(alone).count(b"<!-- DSC -->") == 0
    assert resampled_differences(paper).count(b"<!-- DSC -->") == 1


def test_the_record_is_json(paper: PaperFigures) -> None:
    record = plain(paper)
    assert record["metrics"]["dsc"]["difference"]["found"]["p"] >= 0
    assert "resampled" not in record["metrics"]["dsc"]["difference"]


def test_the_picture_has_a_panel_for_each_metric_and_the_same_bytes_again(
    paper: PaperFigures,
) -> None:
    picture = resampled_differences(paper)
    for said in ("exam AUC", "DSC", "pixel AP", "no difference", "2.5th and 97.5th percentile"):
        assert f"<!-- {said} -->".encode() in picture
    assert b"<!-- 95 % interval of the default -->" not in picture
    assert resampled_differences(paper) == picture


def test_the_default_s_interval_lies_above_the_histogram(paper: PaperFigures) -> None:
    undefined = Difference(0.1, float("nan"), float("nan"), float("nan"))
    default = NamedDifference(a=A, b=B, exam_auc=undefined)
    assert b"of the default" not in resampled_differences(paper, default)
    measured = replace(default, pixel_ap=Difference(0.1, 0.05, 0.15, 0.01))
    assert b"<!-- 95 % interval of the default -->" in resampled_differences(paper, measured)


def test_what_never_varies_has_no_panel(paper: PaperFigures) -> None:
    metrics = {
        name: replace(of, difference=replace(of.difference, sd=0.0))
        for name, of in paper.metrics.items()
    }
    picture = resampled_differences(replace(paper, metrics=metrics))
    assert b"No difference varies" in picture
    assert b"<!-- DSC -->" not in picture
