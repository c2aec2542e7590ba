"""The folder that export writes: an exam's segmentations and summary, and a table of exams."""

import csv
import io
import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from ich_ray.exam_summary import ExamSummary
from ich_ray.settings import resolved
from ich_ray.storage.objects import Store
from ich_ray.storage.urls import join

SUMMARY, TABLE = "summary.json", "summary.csv"
WRITTEN, NOTHING_MARKED = "written", "nothing_marked"
COLUMNS = (
    *("exam", "outcome", "score", "slices", "positive_slices", "volume_ml", "top_slices"),
    *("threshold", "model", "model_name", "corpus", "corpus_version"),
)


@dataclass(frozen=True, kw_only=True, slots=True)
class ExportedExam:
    """One exam as it was exported."""

    found: ExamSummary
    outcome: str
    """`written`, `nothing_marked` (there may be probabilities), or the reason why there is nothing.
    """

    origin: Mapping[str, Any]
    """Threshold, model and corpus: the last columns of the table."""

    def row(self) -> dict[str, Any]:
        """Return its row of the table."""
        found = self.found
        tops = (f"{item.number} (p {item.p:.3f})" for item in found.top_slices)
        return {
            "exam": found.exam,
            "outcome": self.outcome,
            "score": round(found.score, 6),
            "slices": found.slices,
            "positive_slices": found.positive_slices,
            "volume_ml": "" if found.volume_ml is None else round(found.volume_ml, 3),
            "top_slices": "; ".join(tops),
            **self.origin,
        }


def write_exam(store: Store, folder: str, exam: ExportedExam, files: Mapping[str, bytes]) -> None:
    """Write the folder of an exam; what an earlier export left in it goes.

    Args:
        store: Reaches the folder.
        folder: Of all exams of a corpus.
        exam: What is told of it.
        files: Name -> content of its segmentations.
    """
    url = join(folder, exam.found.exam)
    for item in store.listing(url):
        if item.key not in files and item.key.endswith(".dcm"):
            store.remove(item.url)
    for name, data in files.items():
        store.write_bytes(join(url, name), data)
    told = {
        **exam.origin,
        "outcome": exam.outcome,
        "segmentations": sorted(files),
        **resolved(exam.found),
    }
    store.write_bytes(join(url, SUMMARY), (json.dumps(told, indent=1) + "\n").encode())


def write_table(store: Store, folder: str, exams: Iterable[ExportedExam]) -> str:
    """Write the table of a corpus's exams, one row each, and return its URL.

    Exams of earlier exports keep their rows.
    """
    url = join(folder, TABLE)
    rows = {row["exam"]: row for row in _rows(store, url)}
    rows |= {exam.found.exam: exam.row() for exam in exams}
    text = io.StringIO(newline="")
    writer = csv.DictWriter(text, COLUMNS, lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows[exam] for exam in sorted(rows))
    store.write_bytes(url, text.getvalue().encode())
    return url


def _rows(store: Store, url: str) -> list[dict[str, Any]]:
    if not store.exists(url):
        return []
    reader = csv.DictReader(io.StringIO(store.read_bytes(url).decode(), newline=""))
    # Of a version with other columns.
    return list(reader) if tuple(reader.fieldnames or ()) == COLUMNS else []
