"""What the page shows of each exam of the gallery: one slice as pictures, and all to scroll."""

from collections.abc import Mapping, Sequence
from typing import Any

from ich_ray.display import Window, greys_of_levels
from ich_ray.reporting.contents import GallerySlice, Report
from ich_ray.reporting.html import data_uri, number
from ich_ray.reporting.scrolled_exam import (
    Overlap,
    ScrolledExam,
    ScrolledSlice,
)
from ich_ray.reporting.stills import Still, still

REFERENCE = {"title": "Reference", "colour": "#f0e442", "dash": ""}
OF_MODELS = (("#56b4e9", "7 3"), ("#ff6a3d", "3 2"), ("#cc79a7", "9 2 2 2"), ("#009e73", "4 4"))
"""Colour and dashes over CT, where those of the charts are too dark. Source: Okabe and Ito 2008,
vermillion made lighter; dashes tell them apart without any colour."""


def marking(report: Report) -> list[str]:
    """Return the models with a mask in the gallery, in the order of the results."""
    names = [name for shown in report.gallery for name in shown.predictions]
    listed = [model.name for model in report.models]
    return sorted(set(names), key=lambda n: (listed.index(n) if n in listed else len(listed), n))


def gallery_row(report: Report, shown: GallerySlice) -> dict[str, Any]:
    """Return what the template needs of one exam."""
    drawn, to_scroll = still(report, shown), shown.exam_slices
    return {
        "still": drawn,
        "reference": told_of_reference(drawn.reference),
        "panels": [panel(drawn, name) for name in marking(report) if name in drawn.marked],
        "exam": _exam(to_scroll, marking(report), windows_of(report)) if to_scroll else None,
    }


def panel(drawn: Still, model: str) -> dict[str, Any]:
    """Return what a template needs of what a model marks on a slice."""
    marked = drawn.marked[model]
    return {
        "picture": marked.picture,
        "counts": _counts(marked.overlap, drawn.reference),
        "p": marked.p,
        "title": marked.title,
    }


def scrolls(report: Report) -> bool:
    """Return whether there is an exam to scroll through."""
    return any(shown.exam_slices for shown in report.gallery)


def outlined(report: Report) -> list[dict[str, str]]:
    """Return whose outlines can be drawn: name for a person, colour and dashes."""
    models = [
        {"title": report.title_of(name), "colour": colour, "dash": dash}
        for i, name in enumerate(marking(report))
        for colour, dash in [OF_MODELS[i % len(OF_MODELS)]]
    ]
    return [REFERENCE, *models]


def windows_of(report: Report) -> list[Window]:
    """Return the windows that any exam of the gallery can be shown in."""
    exams = (shown.exam_slices for shown in report.gallery)
    return list(dict.fromkeys(window for exam in exams if exam for window in exam.windows))


def window_of(window: Window) -> dict[str, Any]:
    """Return a window's name, what it is in words, and the grey of each level of the pictures."""
    levels = f"C {window.center:g} W {window.width:g}"
    return {"name": window.name, "levels": levels, "greys": greys_of_levels(window)}


def _exam(exam: ScrolledExam, models: Sequence[str], windows: Sequence[Window]) -> dict[str, Any]:
    top, left, bottom, right = exam.box
    return {
        "of": exam.of,
        "first": exam.first,
        "box": [left, top, right - left, bottom - top],
        "windows": [windows.index(window) for window in exam.windows],
        "slices": [_slice(item, models) for item in exam.slices],
    }


def _slice(item: ScrolledSlice, models: Sequence[str]) -> dict[str, Any]:
    return {
        "number": item.number,
        "picture": data_uri(item.picture, "image/webp"),
        "paths": [item.edge, *(item.edges.get(name, "") for name in models)],
        "said": [
            told_of_reference(item.reference),
            *(_said(item.p, item.overlaps, item.reference, name) for name in models),
        ],
    }


def _said(
    p: Mapping[str, float], overlaps: Mapping[str, Overlap], reference: int | None, name: str
) -> str:
    counts = _counts(overlaps[name], reference) if name in overlaps else ""
    return "; ".join(filter(None, (f"p = {number(p[name], 2)}" if name in p else "", counts)))


def told_of_reference(pixels: int | None) -> str:
    """Say how much of a slice the reference marks; None: nobody outlined it."""
    if pixels is None:
        return "not outlined on this slice"
    return f"{pixels:,} px" if pixels else "no hemorrhage"


def _counts(found: Overlap, reference: int | None) -> str:
    if reference is None:
        return f"{found.wrong:,} marked"
    of_reference = f"{found.found:,} of {reference:,} reference pixels found, " if reference else ""
    return f"{of_reference}{found.wrong:,} marked in error"
