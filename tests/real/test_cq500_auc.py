"""CQ500: the majority of three readers against Qure's scores gives the AUCs on record."""

import csv
import os
from pathlib import Path

import numpy as np
import pytest

from ich_ray.statistics.roc import auc

pytestmark = pytest.mark.skipif(
    "ICH_RAY_REAL_DATA" not in os.environ,
    reason="ICH_RAY_REAL_DATA is not set, so there are no CQ500 reads and scores",
)


@pytest.mark.parametrize(
    ("finding", "recorded"),
    [
        ("ICH", 0.9419),
        ("IPH", 0.9544),
        ("IVH", 0.9310),
        ("SDH", 0.9521),
        ("EDH", 0.9731),
        ("SAH", 0.9574),
    ],
)
def test_auc_against_the_majority_is_the_one_on_record(finding: str, recorded: float) -> None:
    reads, scores = _rows("reads.csv"), _rows("prediction_probabilities.csv")
    votes = {name: sum(int(row[f"R{r}:{finding}"]) for r in (1, 2, 3)) for name, row in reads}
    majority = np.array([votes[name] >= 2 for name, _ in scores])
    found = auc(np.array([float(row[finding]) for _, row in scores]), majority)
    assert round(found, 4) == recorded


def _rows(file: str) -> list[tuple[str, dict[str, str]]]:
    """The exams of a CQ500 table, each with its columns."""
    folder = Path(os.environ["ICH_RAY_REAL_DATA"]) / "cq500"
    with (folder / file).open(newline="") as lines:
        return [(row["name"], row) for row in csv.DictReader(lines)]
