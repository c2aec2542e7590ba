import io
import re
from dataclasses import replace

import numpy as np
from PIL import Image

from ich_ray.display import BRAIN, Window, grey_levels, greys_of_levels
from ich_ray.reporting.figures.style import COLOURS
from ich_ray.reporting.gallery import crop
from ich_ray.reporting.gallery_rows import OF_MODELS, REFERENCE, gallery_row, windows_of
from ich_ray.reporting.page import to_html
from ich_ray.reporting.scrolled_exam import SIDE, scrolled_exam
from tests.local.shown_heads import NOT_OUTLINED, marked_slice, report_of, shown_head
from tests.local.svg_paths import filled

ITEMS = [marked_slice(0, place) for place in range(6)]


def decoded(picture: bytes) -> np.ndarray:
    return np.asarray(Image.open(io.BytesIO(picture)).convert("L"))


def test_every_outline_is_the_edge_of_what_is_marked_on_the_slice_s_own_pixels() -> None:
    exam = scrolled_exam(ITEMS, first=3, of=6)
    for drawn, item in zip(exam.slices, ITEMS, strict=True):
        shape = item.hounsfield.shape
        if item.reference is None:
            assert (drawn.edge, drawn.reference) == ("", None)
        else:
            np.testing.assert_array_equal(filled(drawn.edge, shape), item.reference)
            assert drawn.reference == np.count_nonzero(item.reference)
        for name, mask in item.predictions.items():
            np.testing.assert_array_equal(filled(drawn.edges[name], shape), mask)
            both = [] if item.reference is None else np.argwhere(item.reference).tolist()
            assert drawn.overlaps[name].found == sum(
                bool(mask[row, column]) for row, column in both
            )
            assert drawn.overlaps[name].wrong == mask.sum() - drawn.overlaps[name].found


def test_the_pictures_of_an_exam_are_of_one_square_that_holds_the_head_and_every_mask() -> None:
    far = np.zeros((96, 96), np.bool_)
    far[0, 95] = True
    stray = replace(ITEMS[0], predictions={**ITEMS[0].predictions, "baseline": far})
    for items in (ITEMS, [stray, *ITEMS[1:]]):
        exam = scrolled_exam(items, first=3, of=6)
        top, left, bottom, right = exam.box
        assert bottom - top == right - left
        for item in items:
            masks = [item.hounsfield > 800, *item.predictions.values()]
            rows, columns = np.nonzero(np.any(masks, axis=0))
            assert top <= rows.min() <= rows.max() < bottom
            assert left <= columns.min() <= columns.max() < right
        sizes = {decoded(drawn.picture).shape for drawn in exam.slices}
        assert sizes == {(bottom - top, bottom - top)}


def test_a_picture_shows_its_slice_in_the_brain_window() -> None:
    exam = scrolled_exam(ITEMS, first=3, of=6)
    table = np.array(greys_of_levels(BRAIN))
    for drawn, item in zip(exam.slices, ITEMS, strict=True):
        expected = crop(grey_levels(item.hounsfield, BRAIN), exam.box, max_side=SIDE)
        away = table[decoded(drawn.picture)] - expected.astype(int)
        assert np.sqrt(np.mean(away**2)) < 6


def test_a_large_slice_has_a_small_picture_and_its_outlines_their_own_pixels() -> None:
    items = [marked_slice(0, place, matrix=512) for place in (2, 3)]
    exam = scrolled_exam(items, first=0, of=2)
    assert {decoded(drawn.picture).shape for drawn in exam.slices} == {(SIDE, SIDE)}
    assert items[1].reference is not None
    np.testing.assert_array_equal(filled(exam.slices[1].edge, (512, 512)), items[1].reference)


def test_slices_of_several_sizes_are_shown_too() -> None:
    exam = scrolled_exam([ITEMS[3], marked_slice(0, 4, matrix=64)], first=0, of=2)
    assert len({decoded(drawn.picture).shape for drawn in exam.slices}) == 1


def test_an_exam_that_holds_one_window_offers_no_wider_one() -> None:
    exam = scrolled_exam(ITEMS, first=3, of=6, center=40.0, width=120.0)
    assert [window.name for window in exam.windows] == ["as published", "brain"]
    shown = [shown_head(0), replace(shown_head(1), exam_slices=exam)]
    report = report_of(*shown)
    assert windows_of(report) == [*shown_windows(0), Window("as published", 40.0, 120.0)]
    rows = [gallery_row(report, one)["exam"]["windows"] for one in shown]
    assert rows == [[0, 1], [2, 0]]


def shown_windows(exam: int) -> list[Window]:
    to_scroll = shown_head(exam).exam_slices
    assert to_scroll is not None
    return list(to_scroll.windows)


def test_what_is_said_of_a_slice_is_counted_on_it() -> None:
    report = report_of(shown_head(0))
    said = [item["said"] for item in gallery_row(report, report.gallery[0])["exam"]["slices"]]
    assert said[0] == ["no hemorrhage", *["p = 0.00; 0 marked in error"] * 2]
    wrong = np.count_nonzero(ITEMS[NOT_OUTLINED].predictions["baseline"])
    assert said[NOT_OUTLINED][:2] == ["not outlined on this slice", f"p = 0.10; {wrong} marked"]
    assert ITEMS[3].reference is not None
    both = np.count_nonzero(ITEMS[3].reference & ITEMS[3].predictions["semi_supervised"])
    area = np.count_nonzero(ITEMS[3].reference)
    assert said[3][2] == (
        f"p = 0.45; {both} of {area} reference pixels found, {area - both} marked in error"
    )


def test_twelve_exams_of_thirty_slices_add_less_than_ten_megabytes() -> None:
    slices = [marked_slice(0, place, matrix=512) for place in range(6)]
    shown = replace(shown_head(0), exam_slices=scrolled_exam(slices, first=3, of=6))
    still = replace(shown, exam_slices=None)
    once = len(to_html(report_of(shown_head(0))))
    twice = len(to_html(report_of(shown_head(0), shown)))
    of_six = twice - once - len(to_html(report_of(still))) + len(to_html(report_of()))
    assert 60 * of_six < 10_000_000


def test_a_report_without_exams_to_scroll_runs_no_script() -> None:
    html = to_html(report_of(replace(shown_head(0), exam_slices=None)))
    assert "<script" not in html
    assert "script-src" not in html
    assert "scroller" not in html
    assert 'class="panels"' in html


def test_the_page_names_its_one_script_and_escapes_what_it_holds() -> None:
    hostile = "</script><script>alert(1)</script>"
    report = report_of(replace(shown_head(0), caption=hostile, exam=hostile))
    models = tuple(replace(model, title=hostile) for model in report.models)
    html = to_html(replace(report, models=models))
    assert re.findall(r"<script[^>]*>", html) == [
        '<script type="application/json">',
        '<script type="application/json" id="gallery">',
        "<script>",
    ]
    assert "alert(1)" in html
    assert "script-src 'sha256-" in html


def luminance(colour: str) -> float:
    """Relative luminance. Source: WCAG 2.1."""
    parts = [int(colour[i : i + 2], 16) / 255 for i in (1, 3, 5)]
    linear = [v / 12.92 if v <= 0.04045 else ((v + 0.055) / 1.055) ** 2.4 for v in parts]
    return float(np.dot(linear, (0.2126, 0.7152, 0.0722)))


def test_outlines_are_seen_on_brain_and_told_apart_without_colour() -> None:
    drawn = [(REFERENCE["colour"], REFERENCE["dash"]), *OF_MODELS]
    assert len(set(drawn)) == len({dash for _, dash in drawn}) == len(drawn)
    black, brain = luminance("#000000"), luminance("#606060")
    for colour, _ in drawn:
        # Contrast to their own dark rim, and to brain; those of the charts have down to 1.1.
        assert (luminance(colour) + 0.05) / (black + 0.05) > 5
        assert (luminance(colour) + 0.05) / (brain + 0.05) > 1.8
    assert not set(COLOURS[:2]) & {colour for colour, _ in drawn}
