"""The picture and the table of calibration name each model, and tell what is not defined."""

import re
from dataclasses import dataclass
from xml.etree import ElementTree

import numpy as np
from jinja2 import ChoiceLoader, DictLoader, Environment, PackageLoader, StrictUndefined

from ich_ray.reporting.contents import ModelResult
from ich_ray.reporting.figures.calibration import reliability_diagram
from ich_ray.reporting.figures.style import COLOURS, INK, MUTED
from ich_ray.reporting.html import FILTERS
from ich_ray.reporting.page import FILTERS as PAGE_FILTERS
from ich_ray.reporting.page import signed
from ich_ray.statistics.calibration.calibration import ModelCalibration, model_calibration
from ich_ray.statistics.operating_points import Scored
from tests.unit.calibrated_exams import calibrated

MODELS = (
    ModelResult(name="baseline", title="Baseline <b>", kind="network"),
    ModelResult(name="student", title="Student", kind="network"),
    ModelResult(name="threshold", title="Threshold", kind="rival"),
)
PAGE = """{% macro figure(name, alt, caption) %}
{% if name in pictures %}<img src="{{ pictures[name] }}" alt="{{ alt }}">{{ caption }}{% endif %}
{% endmacro %}
{% include "calibration.html" %}"""
"""As the report's page includes the section."""

SEPARATED = Scored(scores=np.array([0.1, 0.2, 0.8, 0.9]), labels=np.array([0, 0, 1, 1], bool))
ONE_CLASS = Scored(scores=np.array([0.1, 0.2]), labels=np.array([False, False]))


def scored(seed: int, slope: float) -> Scored:
    scores, labels, _ = calibrated(seed, slope=slope)
    return Scored(scores=scores, labels=labels)


def of(model: str, seed: int, slope: float) -> ModelCalibration:
    return model_calibration(model, tuning=scored(seed + 50, slope), test=scored(seed, slope))


CALIBRATIONS = (of("student", 2, 1.0), of("baseline", 1, 0.5))


@dataclass
class OneReport:
    calibration: tuple[ModelCalibration, ...]

    def title_of(self, name: str) -> str:
        return {model.name: model.title for model in MODELS}[name]


def page(*calibrations: ModelCalibration) -> str:
    environment = Environment(
        loader=ChoiceLoader([DictLoader({"page": PAGE}), PackageLoader("ich_ray.reporting", ".")]),
        autoescape=True,
        undefined=StrictUndefined,
    )
    environment.filters |= {**FILTERS, **PAGE_FILTERS}
    return environment.get_template("page").render(
        report=OneReport(calibrations), pictures={"calibration": "data:picture"}
    )


def words_of(picture: bytes) -> list[str]:
    """Return the texts of a picture: letters are drawn, and each text is a comment beside them."""
    parser = ElementTree.XMLParser(target=ElementTree.TreeBuilder(insert_comments=True))
    root = ElementTree.fromstring(picture, parser)
    return [(node.text or "").strip() for node in root.iter() if node.tag is ElementTree.Comment]


def paths_of(picture: bytes, *style: str) -> list[np.ndarray]:
    """Return the corners of each path whose style has these words, in points, upward."""
    return [
        np.array([pair.split() for pair in re.split("[ML]", node.get("d", ""))[1:]], float)
        * (1, -1)
        for node in ElementTree.fromstring(picture).iter()
        if all(word in node.get("style", "") for word in style)
    ]


def test_a_picture_has_each_calibrated_model_in_the_order_of_the_report() -> None:
    picture = reliability_diagram(MODELS, CALIBRATIONS)
    words = words_of(picture)
    titles = [word for word in words if word in ("Student", "Threshold") or "Baseline" in word]
    assert titles == ["Baseline &lt;b&gt;", "Student"]
    assert {"Score", "Exams", "Share of exams with hemorrhage"} <= set(words)
    assert reliability_diagram(MODELS, CALIBRATIONS[::-1]) == picture


def test_each_bin_has_its_interval_in_the_colour_of_its_model() -> None:
    few = model_calibration("threshold", tuning=ONE_CLASS, test=SEPARATED)
    picture = reliability_diagram(MODELS, (*CALIBRATIONS, few))
    (diagonal,) = paths_of(picture, INK, "stroke-width: 0.9")
    scale = diagonal[1] - diagonal[0]
    drawn = zip((*COLOURS[:2], MUTED), (CALIBRATIONS[1], CALIBRATIONS[0], few), strict=True)
    for colour, calibration in drawn:
        found = [(bar - diagonal[0]) / scale for bar in paths_of(picture, colour, "opacity: 0.6")]
        expected = [
            [[one.mean_score, one.observed.low], [one.mean_score, one.observed.high]]
            for one in calibration.test.bins
        ]
        np.testing.assert_allclose(found, expected, atol=1e-4)


def test_scores_are_counted_below_in_the_colour_of_their_model() -> None:
    picture = reliability_diagram(MODELS, CALIBRATIONS)
    drawn = zip(COLOURS, CALIBRATIONS[::-1], strict=False)
    for colour, calibration in drawn:
        (steps,) = paths_of(picture, colour, "stroke-width: 1.44")
        heights = steps[1:-1:2, 1] - steps[0, 1]
        counts = np.array(calibration.test.score_counts)
        np.testing.assert_allclose(heights / heights.max(), counts / counts.max(), atol=1e-4)


def test_a_picture_without_a_model_is_a_picture() -> None:
    assert reliability_diagram(MODELS, ()).startswith(b"<?xml")


def test_each_model_has_a_row_with_its_figures_before_and_after() -> None:
    text = page(*CALIBRATIONS)
    assert text.count('<th scope="row">') == 2
    assert "Baseline &lt;b&gt;" in text
    for one in CALIBRATIONS:
        assert one.tempered is not None
        for found in (one.test, one.tempered):
            assert f"<b>{found.brier.estimate:.3f}</b>" in text
            assert f"{found.brier.low:.3f} to {found.brier.high:.3f}" in text
            assert f'<td class="num">{found.expected_calibration_error:.3f}</td>' in text
        assert f"<b>{one.test.slope.estimate:.3f}</b>" in text
        assert f"{one.test.slope.low:.3f} to {one.test.slope.high:.3f}" in text
        low, high = signed(one.test.intercept.low), signed(one.test.intercept.high)
        assert f"<b>{signed(one.test.intercept.estimate)}</b><small>{low} to {high}<" in text
        assert f'<td class="num">{one.temperature:.2f}</td>' in text
    exams = CALIBRATIONS[0].test
    assert f"here\n{100 * exams.positive_exams / 200:.1f} % of 200" in text
    assert f"gives {exams.brier_of_prevalence:.3f}" in text
    assert '<img src="data:picture"' in text


def test_what_is_not_defined_is_told() -> None:
    text = page(model_calibration("student", tuning=ONE_CLASS, test=SEPARATED))
    assert "a threshold parts the classes" in text
    assert "no tuning exams of both classes" in text
    for word in ("nan", "inf"):
        assert f">{word}" not in text


def test_a_report_without_calibration_has_no_such_section() -> None:
    assert page().strip() == ""
