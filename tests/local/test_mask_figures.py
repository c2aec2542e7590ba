"""Lesions, volumes and surfaces on the page: every model, every figure, nothing undefined."""

import math
import re
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from jinja2 import Environment, PackageLoader, StrictUndefined

from ich_ray.reporting.contents import ModelResult
from ich_ray.reporting.figures import bland_altman
from ich_ray.reporting.figures.bland_altman import bland_altman_panels
from ich_ray.reporting.figures.froc import froc_curves
from ich_ray.reporting.html import FILTERS
from ich_ray.reporting.page import FILTERS as OF_PAGE
from ich_ray.statistics.bootstrap import resample_weights
from ich_ray.statistics.masks.agreement import VolumeAgreement, volume_agreement
from ich_ray.statistics.masks.froc import pooled
from ich_ray.statistics.masks.lesion_detection import (
    LesionDetection,
    lesion_detection,
    resampled_detections,
)
from ich_ray.statistics.masks.lesions import ExamLesions
from ich_ray.statistics.masks.surfaces import ExamSurfaces, SurfaceDistances, surface_distances

NUM_EXAMS = 40
NETWORKS = [ModelResult(name=name, title=name.title(), kind="network") for name in "abcd"]
RIVAL = ModelResult(name="rival", title="Plain $threshold$", kind="rival")


def lesions(model: str, seed: int, *, bleeding: bool = True) -> LesionDetection:
    rng = np.random.default_rng(seed)
    exams = []
    for _ in range(NUM_EXAMS):
        found = rng.integers(0, 60_000, rng.integers(0, 3) * bleeding).astype(np.uint16)
        alarms = rng.integers(1, 50_000, rng.integers(0, 5)).astype(np.uint16)
        exams.append(
            ExamLesions(
                voxels=np.ones(len(found), np.int64),
                found_at=found,
                alarm_voxels=np.ones(len(alarms), np.int64),
                alarm_level=alarms,
                num_hits=int((found > 0).sum()),
                num_small_lesions=0,
                num_small_marks=0,
                voxel_mm3=None,
            )
        )
    pool = pooled(exams, np.arange(NUM_EXAMS))
    return lesion_detection(model, pool, resampled_detections(pool, seed=0, resamples=range(50)))


def volumes(model: str, seed: int, *, exams: int = NUM_EXAMS) -> VolumeAgreement:
    rng = np.random.default_rng(seed)
    reference = rng.exponential(20, exams)
    predicted = reference * rng.normal(0.9, 0.2, exams)
    return volume_agreement(model, predicted, reference, np.arange(exams))


def surfaces(model: str, missed: int) -> SurfaceDistances:
    hd95 = [*([math.inf] * missed), *np.linspace(1, 9, NUM_EXAMS - missed).tolist()]
    exams = [
        ExamSurfaces(
            bleeds=True,
            marked=math.isfinite(distance),
            hd95_mm=distance,
            nsd_1mm=1 / (1 + distance),
            nsd_2mm=2 / (2 + distance),
        )
        for distance in hd95
    ]
    drawn = resample_weights(seed=0, resamples=range(50), num_clusters=NUM_EXAMS)
    return surface_distances(model, exams, np.arange(NUM_EXAMS), drawn)


def words(picture: bytes) -> list[str]:
    return re.findall("<!-- (.*?) -->", picture.decode())


def test_a_froc_curve_names_its_model_its_mean_and_the_rates() -> None:
    found = [lesions("a", 1), lesions("rival", 2)]
    picture = froc_curves([NETWORKS[0], RIVAL], found)
    text = words(picture)
    mean = found[0].mean_at_rates
    assert f"A   {mean.estimate:.3f} [{mean.low:.3f}, {mean.high:.3f}]" in text
    assert any(word.startswith("Plain $threshold$") for word in text)
    assert [word for word in text if word in ("1/8", "1/4", "1/2", "1", "2", "4", "8")] == [
        *("1/8", "1/4", "1/2", "1", "2", "4", "8")
    ]
    assert froc_curves([NETWORKS[0], RIVAL], found[::-1]) == picture


def test_models_without_lesions_have_no_curve() -> None:
    picture = froc_curves(NETWORKS[:2], [lesions("a", 1), lesions("b", 2, bleeding=False)])
    text = words(picture)
    assert any(word.startswith("A ") for word in text)
    assert not any(word.startswith("B ") for word in text)
    assert froc_curves(NETWORKS, []).startswith(b"<?xml")


@pytest.mark.parametrize("count", [1, 3, 4])
def test_every_model_has_a_panel_with_its_limits(count: int) -> None:
    found = [volumes(model.name, i) for i, model in enumerate(NETWORKS[:count])]
    picture = bland_altman_panels(NETWORKS, found)
    text = words(picture)
    assert [word for word in text if word in "ABCD"] == list("ABCD"[:count])
    for one in found:
        for figure in (one.differences.bias, one.differences.lower, one.differences.upper):
            assert f"{figure.estimate:+.1f}".replace("-", "\N{MINUS SIGN}") in text
    assert bland_altman_panels(NETWORKS, found[::-1]) == picture


def test_volumes_without_limits_have_no_panel() -> None:
    picture = bland_altman_panels(NETWORKS, [volumes("a", 1, exams=2), volumes("b", 1)])
    assert [word for word in words(picture) if word in "ABCD"] == ["B"]
    assert bland_altman_panels(NETWORKS, []).startswith(b"<?xml")


def test_many_points_become_pixels(monkeypatch: pytest.MonkeyPatch) -> None:
    found = [volumes("a", 1)]
    assert b"image/png" not in bland_altman_panels(NETWORKS, found)
    monkeypatch.setattr(bland_altman, "DRAWN_ONE_BY_ONE", NUM_EXAMS - 1)
    assert b"image/png" in bland_altman_panels(NETWORKS, found)


def page(template: str, **parts: Any) -> str:
    """Fill one partial, with the macro for figures that the whole page has."""
    environment = Environment(
        loader=PackageLoader("ich_ray.reporting", "."),
        autoescape=True,
        undefined=StrictUndefined,
    )
    environment.filters |= {**FILTERS, **OF_PAGE}
    empty = {"lesions": (), "volumes": (), "surfaces": ()}
    report = SimpleNamespace(title_of=lambda name: f"<{name}>", **{**empty, **parts})
    macro = (
        "{% macro figure(name, alt, caption) %}[{{ name }}: {{ alt }} {{ caption }}]{% endmacro %}"
    )
    whole = environment.from_string(macro + "{% include '" + template + "' %}")
    return whole.render(report=report)


@pytest.mark.parametrize("template", ["lesions.html", "volumes.html", "surfaces.html"])
def test_without_figures_there_is_no_section(template: str) -> None:
    assert page(template).strip() == ""


def test_lesions_stand_on_the_page_with_their_intervals() -> None:
    found = lesions("a", 1)
    text = page("lesions.html", lesions=(found, lesions("b", 2)))
    assert "&lt;a&gt;" in text
    assert "&lt;b&gt;" in text
    assert f"{found.num_found} of {found.num_lesions}" in text
    for one in (found.sensitivity, found.predictive_value, found.f1, *found.at_rates):
        assert f"<b>{one.estimate:.3f}</b><small>{one.low:.3f} to {one.high:.3f}</small>" in text
    assert "[froc: " in text


def test_exams_without_lesions_leave_dashes_and_their_false_alarms() -> None:
    found = lesions("a", 1, bleeding=False)
    text = page("lesions.html", lesions=(found,))
    assert "nan" not in text
    assert f"{found.num_alarms} false alarms" in text
    assert "<b>\N{EN DASH}</b><small></small>" in text


def test_volumes_stand_on_the_page_in_ml() -> None:
    found = volumes("a", 1)
    text = page("volumes.html", volumes=(found,))
    for one in (found.differences.bias, found.differences.lower, found.differences.upper):
        low, estimate, high = (
            f"{value:+.1f}".replace("-", "\N{MINUS SIGN}")
            for value in (one.low, one.estimate, one.high)
        )
        assert f"<b>{estimate}</b><small>{low} to {high}</small>" in text
    assert f"<b>{found.icc.estimate:.3f}</b>" in text
    assert "no known size" not in text
    assert "[bland_altman: " in text
    assert "nan" not in page("volumes.html", volumes=(volumes("a", 1, exams=2),))


def test_an_infinite_distance_is_said_in_a_word() -> None:
    text = page("surfaces.html", surfaces=(surfaces("a", missed=0), surfaces("b", missed=30)))
    assert "<b>5.0</b>" in text
    assert "<b>infinite</b><small>infinite to infinite</small>" in text
    assert "inf<" not in text
    assert "no known spacing" not in text
