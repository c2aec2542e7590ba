"""A study made anew as one page: each table beside the printed one, and what it was made of."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ich_ray.reporting.figures.published import published
from ich_ray.reporting.figures.workflow import workflow
from ich_ray.reporting.html import data_uri, number, render
from ich_ray.reporting.marked_figures import marked_figures
from ich_ray.reporting.plain_values import plain
from ich_ray.reporting.report import write_whole
from ich_ray.reporting.stills import Still
from ich_ray.reproduction_cells import Cell, Table, table_lines
from ich_ray.statistics.paper import lin2022

SVG = "image/svg+xml"


@dataclass(frozen=True, kw_only=True, slots=True)
class Reproduction:
    """What the page tells."""

    data: str
    """On what corpora, and what that means for the comparison."""

    tables: tuple[Table, ...]
    agreements: tuple[Mapping[str, Any], ...]
    """Of each two segmentations, as a plain `ReadingAgreement`."""

    reports: Mapping[str, str]
    """Evaluation -> its report, beside the page."""

    stills: Sequence[Still]
    """Of the gallery of the report on the validation exams."""

    corpora: Sequence[Mapping[str, Any]]
    """As a report.json lists them."""

    pseudo_labels: Mapping[str, Any] | None
    """Of a report.json."""

    revision: str
    """Of the code."""


def write_reproduction(found: Reproduction, folder: Path) -> Path:
    """Write reproduction.json, reproduction.txt and index.html; return the last one's path."""
    content = {
        "data": found.data,
        "tables": [_record(table) for table in found.tables],
        "agreements": found.agreements,
        "reports": found.reports,
        "contradictions": lin2022.CONTRADICTIONS,
        "revision": found.revision,
    }
    lines = [found.data, "", *(line for t in found.tables for line in (*table_lines(t), ""))]
    texts = {
        "reproduction.json": json.dumps(plain(content), indent=1, allow_nan=False) + "\n",
        "reproduction.txt": "\n".join(lines),
        "index.html": to_html(found),
    }
    folder.mkdir(parents=True, exist_ok=True)
    for name, text in texts.items():
        write_whole(folder / name, text)
    return folder / "index.html"


def to_html(found: Reproduction) -> str:
    """Return index.html; every text is escaped, every picture is inside."""
    pictures = {"published": published(found.tables)} if found.tables else {}
    if found.corpora:
        pictures["workflow"] = workflow(found.corpora, found.pseudo_labels)
    return render(
        "reproduction.html",
        {"less": _less, "p": _p},
        found=found,
        figures=marked_figures(found.stills),
        pictures={name: data_uri(picture, SVG) for name, picture in pictures.items()},
        contradictions=lin2022.CONTRADICTIONS,
    )


def _record(table: Table) -> dict[str, Any]:
    shown: dict[str, Any] = plain(table)
    for row, told in zip(shown["rows"], table.rows, strict=True):
        for key, cell in told.cells.items():
            row["cells"][key]["less_printed"] = cell.less_printed
    return shown


def _less(cell: Cell) -> str:
    """Write a difference with its sign; empty where there is none."""
    return "" if cell.less_printed is None else f"{cell.less_printed:+.3f}"


def _p(values: Sequence[float]) -> str:
    return ", ".join(number(value) if value >= 0.001 else "< 0.001" for value in values)
