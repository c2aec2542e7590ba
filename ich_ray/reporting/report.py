"""Write a report: one file for programs, one for people."""

import os
from pathlib import Path

from ich_ray.reporting.contents import Report
from ich_ray.reporting.page import to_html
from ich_ray.reporting.record import to_json


def write_report(report: Report, folder: Path) -> Path:
    """Write report.json and index.html, each whole or not at all; a rerun replaces both.

    Args:
        report: What to tell.
        folder: Made where it is missing.

    Returns:
        Path of index.html, which needs no other file and no network.
    """
    texts = {"report.json": to_json(report), "index.html": to_html(report)}
    folder.mkdir(parents=True, exist_ok=True)
    for name, text in texts.items():
        write_whole(folder / name, text)
    return folder / "index.html"


def write_whole(path: Path, text: str) -> None:
    """Write a file whole or not at all."""
    partial = path.with_name(f".{path.name}.{os.getpid()}.partial")
    try:
        partial.write_text(text, encoding="utf-8", newline="\n")
        partial.replace(path)
    finally:
        partial.unlink(missing_ok=True)
