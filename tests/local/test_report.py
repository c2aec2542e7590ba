import json
import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import jsonschema
import numpy as np
import pytest

import ich_ray.reporting
from ich_ray.reporting import gallery
from ich_ray.reporting.contents import (
    CorpusFacts,
    GallerySlice,
    ModelResult,
    NamedDifference,
    PseudoLabels,
    Report,
    Roc,
)
from ich_ray.reporting.headline import (
    headline,
    in_reading_order,
    narrow_intervals,
    unbeaten_rivals,
    verdict,
)
from ich_ray.reporting.page import to_html
from ich_ray.reporting.record import SCHEMA_FILE, schema_json, to_json
from ich_ray.reporting.report import write_report
from ich_ray.statistics.bootstrap import Difference, Interval
from ich_ray.statistics.counted_model import CountedModel
from ich_ray.statistics.exam_slices import CountedSlice
from ich_ray.statistics.exam_statistics import CountedExam, Counting, ExamFacts, count_exam
from ich_ray.statistics.further_figures import FurtherFigures, further_figures
from ich_ray.statistics.operating_points import Rule, Scored, operating_point, paired_calls
from ich_ray.statistics.pooled_exams import compared_exams
from ich_ray.statistics.tuning import tune
from tests.local.empty_report import EMPTY

SCHEMA = Path(ich_ray.reporting.__file__).with_name(SCHEMA_FILE)


def around(estimate: float, half: float = 0.02) -> Interval:
    return Interval(estimate, estimate - half, min(1.0, estimate + half))


def difference(estimate: float, half: float, p: float) -> Difference:
    return Difference(estimate, estimate - half, estimate + half, p)


def disc(row: float, column: float, radius: float, *, matrix: int = 128) -> np.ndarray:
    rows, columns = np.ogrid[:matrix, :matrix]
    return (rows - row) ** 2 + (columns - column) ** 2 <= radius**2


def head(seed: int) -> GallerySlice:
    """A skull, a brain with texture, and a bleed that two models find in part."""
    rng = np.random.default_rng(seed)
    row, column = rng.uniform(45, 80, 2)
    image = np.where(disc(64, 62, 55), 255.0, 0.0)
    image[disc(64, 62, 50)] = 95
    image[disc(58, 57, 8) | disc(58, 68, 8)] = 45
    bleed = disc(row, column, 9)
    image[bleed] = 170
    image[disc(64, 62, 55)] += rng.normal(0, 9, 128 * 128).reshape(128, 128)[disc(64, 62, 55)]
    return GallerySlice(
        exam=f"{seed:032x}",
        slice=f"{seed + 77:032x}",
        image=np.clip(image, 0, 255).astype(np.uint8),
        reference=bleed,
        predictions={
            "baseline": disc(row + 5, column + 2, 8),
            "semi_supervised": disc(row + 1, column, 8),
        },
        p={"baseline": 0.71, "semi_supervised": 0.94},
        caption="Positive exam, the largest bleed",
    )


def scored(seed: int, apart: float) -> Scored:
    rng = np.random.default_rng(seed)
    labels = np.arange(90) % 3 == 0
    return Scored(scores=1 / (1 + np.exp(-rng.normal(apart * labels, 1))), labels=labels)


def made_up_report() -> Report:
    rng = np.random.default_rng(4)
    rules = [Rule("sensitivity", 0.92), Rule("specificity", 0.9), Rule("specificity", 1.0)]
    test = {"baseline": scored(1, 1.5), "semi_supervised": scored(2, 2.5)}
    points = [
        operating_point(name, rule, tuning=scored(9, 2), test=exams)
        for name, exams in test.items()
        for rule in rules
    ]
    fpr = np.linspace(0, 1, 80) ** 3

    def curve(power: float) -> Roc:
        return Roc(fpr=fpr, tpr=fpr**power)

    def falling(start: float) -> list[tuple[int, float]]:
        noise = rng.normal(1, 0.12, 300)
        return [(10 * i, float(start / (1 + i / 30) * noise[i])) for i in range(300)]

    nan = float("nan")
    return replace(
        EMPTY,
        title="Does a student beat its teacher?",
        question="Do pseudo-labels from one site improve a network that is tested at another?",
        models=(
            ModelResult(
                name="baseline",
                title="Baseline",
                kind="network",
                exam_auc=around(0.907),
                dsc=around(0.809),
                pixel_ap=around(0.828),
                roc=curve(0.103),
                pixel_threshold=0.47,
                note="Trained on pixel labels alone.",
            ),
            ModelResult(
                name="semi_supervised",
                title="Semi-supervised",
                kind="network",
                exam_auc=around(0.939),
                dsc=around(0.829),
                pixel_ap=around(0.848),
                roc=curve(0.065),
                pixel_threshold=0.52,
                note="The baseline, trained on with its own pseudo-labels.",
            ),
            ModelResult(
                name="intensity_threshold",
                title="Intensity threshold",
                kind="rival",
                exam_auc=around(0.701, 0.05),
                dsc=around(0.213, 0.04),
                pixel_ap=around(0.167, 0.03),
                roc=curve(0.43),
                note="Bright pixels inside the skull.",
            ),
            ModelResult(
                name="empty_masks",
                title="Empty masks",
                kind="rival",
                dsc=Interval(0.0, 0.0, 0.0),
                pixel_ap=Interval(nan, nan, nan),
                note="Marks nothing, ever.",
            ),
        ),
        differences=(
            NamedDifference(
                a="semi_supervised",
                b="baseline",
                exam_auc=difference(0.032, 0.021, 0.003),
                dsc=difference(0.020, 0.024, 0.10),
                pixel_ap=difference(0.020, 0.022, 0.08),
                bootstrap_auc=difference(0.032, 0.024, 0.009),
                bca_auc=difference(0.032, 0.023, 0.008),
            ),
            NamedDifference(
                a="intensity_threshold",
                b="baseline",
                exam_auc=difference(-0.206, 0.06, 0.0),
                dsc=difference(-0.596, 0.05, 0.0),
                pixel_ap=difference(-0.661, 0.04, 0.0),
            ),
        ),
        operating_points=tuple(points),
        paired_calls=tuple(paired_calls(list(zip(points[3:], points[:3], strict=True)), test)),
        patients=(260, 300),
        marked_patients=260,
        prevalence=0.03,
        pseudo_labels=PseudoLabels(
            p=rng.beta(0.25, 1.6, 5000).astype(np.float32),
            cut=0.412,
            top_percent=10.0,
            num_positive=500,
            num_slices=5000,
            teacher="Baseline",
            sources="site_b",
        ),
        gallery=tuple(head(seed) for seed in range(3)),
        corpora=(
            CorpusFacts(
                name="site_a",
                role="training",
                exams=60,
                positive_exams=31,
                slices=1800,
                positive_slices=211,
                kind="hu",
                version=3,
            ),
            CorpusFacts(
                name="site_b",
                role="unlabelled",
                exams=170,
                positive_exams=None,
                slices=5000,
                positive_slices=None,
                kind="window",
                version=1,
            ),
        ),
        ledger={
            "site_a": {"accepted": 1800, "duplicate": 2, "not_ct": 4},
            "site_b": {"accepted": 5000, "truncated_pixels": 1},
        },
        training={"baseline": falling(0.9), "semi_supervised": falling(0.5)},
        methods=(
            "Intervals: 2,000 bootstrap resamples of patients, stratified by label.",
            "DSC counts pixels over all slices, so an empty mask adds no term of its own.",
            "Pixel thresholds were fixed on the tuning corpus and applied to the test corpus.",
        ),
        provenance={"code_revision": "0123abc", "settings_hash": "9f86d081", "seed": "0"},
        settings={"input": {"window": [-40.0, 160.0]}, "models": {"baseline": {"steps": 3000}}},
    )


@pytest.fixture(scope="module")
def report() -> Report:
    return made_up_report()


@pytest.fixture(scope="module")
def page(report: Report, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_report(report, tmp_path_factory.mktemp("report") / "new" / "folder")


@pytest.fixture(scope="module")
def record(page: Path) -> Any:
    return json.loads(page.with_name("report.json").read_text())


def test_each_metric_of_each_model_has_its_place_in_the_json(record: Any) -> None:
    model = record["models"]["semi_supervised"]
    assert model["exam_auc"]["estimate"] == 0.939
    assert model["exam_auc"]["low"] == pytest.approx(0.919)
    assert (model["kind"], model["pixel_threshold"]) == ("network", 0.52)
    assert model["roc"]["tpr"][-1] == 1.0
    of_pair = record["differences"]["semi_supervised_minus_baseline"]
    assert of_pair["dsc"]["p"] == 0.10
    assert set(of_pair) == {"exam_auc", "dsc", "pixel_ap"}
    assert record["ledger"]["site_a"]["not_ct"] == 4
    assert {"corpora", "methods", "provenance", "settings", "headline"} <= set(record)


def test_operating_points_stand_in_both_files(record: Any, page: Path, report: Report) -> None:
    first = record["operating_points"][0]
    assert (first["model"], first["rule"]) == ("baseline", "sensitivity at least 0.92")
    point = report.operating_points[0]
    assert first["test"] == {"tp": point.test.tp, "fp": point.test.fp} | {
        "fn": point.test.fn,
        "tn": point.test.tn,
    }
    assert first["positive_predictive_value"] == pytest.approx(
        point.test.predictive_values(0.03)[0]
    )
    assert not first["calls_no_exam"]
    assert record["bootstrap_auc"]["semi_supervised_minus_baseline"]["p"] == 0.009
    assert record["bca_auc"]["semi_supervised_minus_baseline"]["p"] == 0.008
    calls = record["paired_calls"][0]
    assert calls["rule"] == "sensitivity at least 0.92"
    assert calls["p_adjusted"] >= calls["p"]
    text = page.read_text()
    assert f"{point.test.tp} / {point.test.fn}" in text
    assert "Predictive values are for 3.0" in text
    assert "exam AUC, by the bootstrap" in text


def test_a_difference_that_is_turned_round_takes_its_test_along(report: Report) -> None:
    turned = report.difference("baseline", "semi_supervised")
    assert turned is not None
    assert turned.bootstrap_auc is not None
    assert turned.bootstrap_auc.estimate == -0.032
    assert turned.bca_auc is not None
    assert turned.bca_auc.high == pytest.approx(-0.009)
    assert turned.bootstrap_auc.high == pytest.approx(-0.008)


@pytest.mark.parametrize(
    ("patients", "marked", "said"),
    [
        ((260, 300), 260, []),
        ((300, 300), 40, []),
        ((300, 300), 39, ["39, are fewer than 40: intervals of lesion sensitivity and NSD"]),
        ((300, 300), 30, ["30, are fewer than 40: intervals of lesion sensitivity and NSD"]),
        ((300, 300), 29, ["29, are fewer than 30: intervals of a DSC", "29, are fewer than 40"]),
        ((29, 300), 35, ["the rarer are fewer than 30", "35, are fewer than 40"]),
        ((29, 300), 20, ["the rarer are fewer", "20, are fewer than 30", "20, are fewer than 40"]),
        ((200, 12), 0, ["Of the 200 patients with and 12 without"]),
    ],
)
def test_few_patients_are_named_as_the_reason_for_narrow_intervals(
    report: Report, patients: tuple[int, int], marked: int, said: list[str]
) -> None:
    found = narrow_intervals(replace(report, patients=patients, marked_patients=marked))
    assert len(found) == len(said)
    assert all(part in sentence for part, sentence in zip(said, found, strict=True))
    assert not narrow_intervals(replace(EMPTY, patients=patients))


def test_what_is_not_defined_is_null(record: Any) -> None:
    empty_masks = record["models"]["empty_masks"]
    assert empty_masks["exam_auc"] == {
        **dict.fromkeys(("estimate", "low", "high")),
        "num_undefined": 0,
    }
    assert empty_masks["pixel_ap"]["estimate"] is None
    assert empty_masks["dsc"]["estimate"] == 0.0
    assert record["corpora"][1]["positive_exams"] is None


def test_pseudo_labels_are_told_by_a_histogram_and_not_slice_by_slice(record: Any) -> None:
    labels = record["pseudo_labels"]
    assert sum(labels["histogram"]["counts"]) == labels["num_slices"]
    assert "p" not in labels


def test_the_same_report_gives_the_same_bytes(page: Path, tmp_path: Path) -> None:
    again = write_report(made_up_report(), tmp_path)
    for name in ("index.html", "report.json"):
        assert again.with_name(name).read_bytes() == page.with_name(name).read_bytes()


def test_a_rerun_replaces_the_report_and_leaves_nothing_else(tmp_path: Path) -> None:
    write_report(EMPTY, tmp_path)
    page = write_report(replace(EMPTY, title="Second"), tmp_path)
    assert "<h1>Second</h1>" in page.read_text()
    assert sorted(path.name for path in tmp_path.iterdir()) == ["index.html", "report.json"]


def test_the_page_needs_no_other_file_and_no_network(page: Path) -> None:
    html = page.read_text()
    references = re.findall(r"(?:src|href|srcset|action)\s*=\s*[\"']?([^\"'\s>]*)", html)
    assert references
    assert all(reference.startswith("data:image/") for reference in references)
    assert not re.search(r"https?://|@import|url\(|<script|<link", html)


def test_every_picture_is_told_in_words(page: Path) -> None:
    pictures = re.findall(r"<img [^>]*>", page.read_text())
    assert len(pictures) == 4 + 3 * 3
    assert all(re.search(r'alt="[^"]{20,}"', picture) for picture in pictures)


def test_names_are_text_and_never_markup(report: Report, tmp_path: Path) -> None:
    hostile = "<script>alert('$x_1$')</script>"
    models = tuple(replace(model, title=hostile, note=hostile) for model in report.models)
    shown = replace(report.gallery[0], caption=hostile, exam='"><u>')
    changed = replace(report, title=hostile, models=models, gallery=(shown,))
    changed = replace(changed, settings={hostile: hostile}, ledger={hostile: {hostile: 1}})
    html = write_report(changed, tmp_path).read_text()
    assert "<script" not in html
    assert "&lt;script&gt;" in html
    assert '"><u>' not in html


def test_a_report_without_results_claims_nothing(tmp_path: Path) -> None:
    html = write_report(EMPTY, tmp_path).read_text()
    assert "makes no claim of improvement" in html
    assert "<img" not in html


@pytest.mark.parametrize(
    ("estimate", "half", "p", "expected"),
    [
        (0.03, 0.02, 0.01, "better"),
        (-0.03, 0.02, 0.01, "worse"),
        (0.03, 0.04, 0.2, "not distinguishable"),
        (0.0, 0.0, 1.0, "not distinguishable"),
        (0.03, 0.02, 0.06, "not distinguishable"),
        (float("nan"), 0.02, float("nan"), "not measured"),
    ],
)
def test_a_claim_needs_an_interval_without_zero(
    estimate: float, half: float, p: float, expected: str
) -> None:
    assert verdict(difference(estimate, half, p)) == expected


def test_the_headline_says_not_distinguishable_where_the_interval_covers_zero(
    report: Report,
) -> None:
    assert headline(report) == (
        "The student, Semi-supervised, is better than Baseline in exam AUC; "
        "not distinguishable from Baseline at 95\u00a0% in DSC and pixel AP."
    )


def test_the_headline_does_not_call_the_student_a_student_twice(report: Report) -> None:
    baseline, student, *rivals = report.models
    models = (baseline, replace(student, title="Student (semi-supervised)"), *rivals)
    sentence = headline(replace(report, models=models))
    assert sentence.startswith("Student (semi-supervised) is better than Baseline in exam AUC;")


def test_the_headline_does_not_depend_on_the_direction_of_the_difference(report: Report) -> None:
    pair = report.difference("baseline", "semi_supervised")
    assert pair is not None
    assert pair.exam_auc is not None
    assert pair.exam_auc.low < pair.exam_auc.estimate < pair.exam_auc.high < 0
    assert headline(replace(report, differences=(pair,))) == headline(report)


def test_the_main_comparison_comes_first_and_rivals_are_subtracted(report: Report) -> None:
    backwards = replace(report, differences=report.differences[::-1])
    assert [(d.a, d.b) for d in in_reading_order(backwards)] == [
        ("semi_supervised", "baseline"),
        ("baseline", "intensity_threshold"),
    ]


def test_a_training_without_a_recorded_loss_is_left_out(tmp_path: Path) -> None:
    html = write_report(replace(EMPTY, training={"baseline": []}), tmp_path).read_text()
    assert "<h2>Training</h2>" not in html


def test_a_network_that_is_not_shown_to_beat_a_rival_is_named(report: Report) -> None:
    assert unbeaten_rivals(report) == []
    models = tuple(
        replace(model, exam_auc=around(0.95)) if model.name == "intensity_threshold" else model
        for model in report.models
    )
    caution, *others = unbeaten_rivals(replace(report, models=models))
    assert caution.startswith("Semi-supervised is not shown to be better than Intensity threshold")
    assert caution.endswith("in exam AUC.")
    assert not others  # the baseline has a measured difference, which counts for more


def test_overlap_is_yellow_what_is_missed_red_and_what_is_wrong_blue() -> None:
    image = np.full((1, 4), 100, np.uint8)
    reference = np.array([[False, True, True, False]])
    prediction = np.array([[False, False, True, True]])
    grey, missed, found, wrong = gallery.overlay(image, reference, prediction)[0].tolist()
    assert grey == [100, 100, 100]
    for drawn, colour in (
        (missed, gallery.REFERENCE_ONLY),
        (found, gallery.BOTH),
        (wrong, gallery.PREDICTION_ONLY),
    ):
        assert drawn == pytest.approx([0.1 * 100 + 0.9 * part for part in colour], abs=0.6)


def test_the_anatomy_shows_through_the_inside_of_a_region() -> None:
    image = np.arange(25, dtype=np.uint8).reshape(5, 5) * 10
    everything = np.ones((5, 5), np.bool_)
    drawn = gallery.overlay(image, everything, ~everything)
    centre = drawn[1:4, 1:4]
    assert (np.diff(centre[:, :, 1].astype(int), axis=1) > 0).all()
    assert (centre[:, :, 0] > centre[:, :, 1]).all()


def test_a_crop_holds_head_and_masks_and_is_a_small_square() -> None:
    shown = head(1)
    box = gallery.square_around_head(shown.image, shown.reference)
    cut = gallery.crop_mask(shown.reference, box)
    assert cut.sum() == shown.reference.sum()
    assert cut.shape[0] == cut.shape[1] < 128
    large = np.full((512, 500), 200, np.uint8)
    assert gallery.crop(large, (0, 0, 512, 512)).shape == (320, 320)


def test_a_smaller_picture_keeps_the_mean_and_the_place_of_a_mask() -> None:
    mask = np.zeros((640, 640), np.bool_)
    mask[100:200, 300:420] = True
    small = gallery.crop_mask(mask, (0, 0, 640, 640))
    assert small[50:100, 150:210].all()
    assert small.sum() == mask.sum() // 4


def test_a_value_that_json_does_not_know_is_an_error(report: Report) -> None:
    with pytest.raises(TypeError, match="not JSON serializable"):
        to_json(replace(report, settings={"folder": object()}))


def test_a_report_keeps_to_its_published_schema(page: Path) -> None:
    schema = json.loads(SCHEMA.read_text())
    jsonschema.Draft202012Validator.check_schema(schema)
    record = json.loads(page.with_name("report.json").read_text())
    jsonschema.validate(record, schema)
    del record["models"]["baseline"]["dsc"]["low"]
    with pytest.raises(jsonschema.ValidationError, match="'low' is a required property"):
        jsonschema.validate(record, schema)


def test_the_published_schema_is_that_of_the_program() -> None:
    assert SCHEMA.read_text() == schema_json(), "make schema writes it anew"


def test_non_inferiority_is_said_of_the_headlines_models_and_margins(report: Report) -> None:
    margins = {"exam_auc": 0.001, "dsc": 0.05}
    found = json.loads(to_json(replace(report, margins=margins)))["non_inferior"]
    assert {metric: one["shown"] for metric, one in found.items()} == {
        "exam_auc": True,
        "dsc": True,
    }
    html = to_html(replace(report, margins={"pixel_ap": 0.001, "dsc": 0.05}))
    text = re.sub(r"\s+", " ", re.sub("<[^>]*>", "", html))
    assert "DSC: Semi-supervised is not inferior to Baseline by 0.050 or more." in text
    assert "pixel AP: Semi-supervised is not shown to be non-inferior to Baseline" in text


SKILL = {"baseline": 1.0, "semi_supervised": 2.0}


def further(*names: str) -> FurtherFigures:
    """Figures of two models on exams of two corpora, made by the program itself."""
    tuned = {
        name: tune(counted(SKILL[name], Counting()), where=("tuning",)) for name in names or SKILL
    }
    found = {
        name: counted(SKILL[name], Counting(level=one.level, masks=False))
        for name, one in tuned.items()
    }
    seen = compared_exams(next(iter(found.values())).exams, where="made up")
    return further_figures(found, seen, tuned, seed=1)


def counted(skill: float, counting: Counting) -> CountedModel:
    found = CountedModel()
    for one in (statistics(i, skill, counting) for i in range(48)):
        found.exams[one.statistics.facts.exam] = one.statistics
        found.pixels.add(one.pixels)
        found.positive_pixels.add(one.positive_pixels)
    return found


def statistics(number: int, skill: float, counting: Counting) -> CountedExam:
    rng = np.random.default_rng(number)
    bleeds = number % 3 == 0
    mask = disc(8, 8, 3, matrix=16) & bleeds
    levels = np.rint(rng.normal(30_000 + 2_000 * skill * mask, 1_500)).astype(np.uint16)
    score = float(1 / (1 + np.exp(-rng.normal(skill * bleeds))))
    facts = ExamFacts(
        exam=f"{number:02d}",
        patient=f"p{number:02d}",
        corpus="north" if number % 2 else "south",
        label=bleeds,
        subtypes=(False, bleeds, False, bleeds and number % 2 == 0, False),
        thickness_mm=5.0 if number % 4 else 1.0,
    )
    item = CountedSlice(key=f"s{number}", label=bleeds, score=score, levels=levels, reference=mask)
    return count_exam("m", facts, [item], score=score, counting=counting)


def test_slices_exams_and_groups_have_their_sections(report: Report, tmp_path: Path) -> None:
    whole = replace(report, further=further())
    text = re.sub(r"\s+", " ", re.sub("<[^>]*>", " ", to_html(whole)))
    assert "48 slices that have a label, 16 of them positive" in text
    assert "of 16" in text
    for group in ("intraparenchymal", "north", "above 4 mm"):
        assert group in text
    record = json.loads(to_json(whole))
    jsonschema.validate(record, json.loads(SCHEMA.read_text()))
    groups = {(g["kind"], g["name"]): g for g in record["further"]["groups"]}
    assert ("type", "epidural") not in groups
    assert record["further"]["compared"] == ["semi_supervised", "baseline"]
    assert "Semi-supervised minus Baseline p, adjusted" in text
    one = groups["corpus", "south"]
    less = one["aucs"]["semi_supervised"]["estimate"] - one["aucs"]["baseline"]["estimate"]
    assert one["difference"]["estimate"] == pytest.approx(less)
    assert groups["corpus", "south"]["positive"] == 8
    alone = groups["type alone", "intraparenchymal"]
    assert (alone["positive"], alone["negative"]) == (8, 32)


def test_groups_compare_the_headlines_models_in_any_order() -> None:
    one, other = further("baseline", "semi_supervised"), further("semi_supervised", "baseline")
    assert one.compared == other.compared == ("semi_supervised", "baseline")
    assert [g.difference for g in one.groups] == [g.difference for g in other.groups]


def test_without_further_figures_their_sections_are_not_there(report: Report) -> None:
    html = to_html(replace(report, further=None))
    assert "Groups of exams" not in html
    assert "By slice" not in html
