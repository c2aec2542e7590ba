"""A published detector on CQ500: are our AUCs the published ones, and what lies around them?

Qure's scores of 491 exams against the reads of three radiologists, both of them published with the
data set. Each finding against the majority of readers, in all exams and in either batch; hemorrhage
also against any reader and against all of them. Intervals are DeLong's. Prints each figure, and
last one line of JSON: `cq500_auc` by finding, `cq500_matches_record`, that the six of hemorrhage
are those on record to four digits, and all figures. Null without the data.

    python -m benchmarks.evaluate_cq500 [--source $ICH_RAY_REAL_DATA/cq500]
"""

import argparse
import csv
import json
import os
from pathlib import Path
from typing import Any

import numpy as np

from ich_ray.errors import QualityError
from ich_ray.statistics import roc

BEYOND = ("CalvarialFracture", "MassEffect", "MidlineShift")
RECORDED = {
    "ICH": 0.9419,
    "IPH": 0.9544,
    "IVH": 0.9310,
    "SDH": 0.9521,
    "EDH": 0.9731,
    "SAH": 0.9574,
}
"""Majority of three readers, ties at midranks."""

RULES = {"any": 1, "majority": 2, "unanimous": 3}
"""Readers who have to see a finding."""


def rows_of(file: Path) -> dict[str, dict[str, str]]:
    """Return exam -> columns of a table of CQ500."""
    with file.open(newline="") as lines:
        return {row["name"]: row for row in csv.DictReader(lines)}


def figures(folder: Path) -> list[dict[str, Any]]:
    """Return the AUC of each finding, batch and rule, with what it rests on."""
    reads, scored = (
        rows_of(folder / name) for name in ("reads.csv", "prediction_probabilities.csv")
    )
    exams = sorted(scored)
    batch = np.array([reads[exam]["Category"] for exam in exams])
    found = []
    for finding in (*RECORDED, *BEYOND):
        scores = np.array([float(scored[exam][finding]) for exam in exams])
        votes = np.array(
            [
                sum(int(reads[exam][f"R{reader}:{finding}"]) for reader in (1, 2, 3))
                for exam in exams
            ]
        )
        for rule, readers in RULES.items():
            for where in ("all", "B1", "B2"):
                if finding != "ICH" and rule != "majority":
                    continue
                held = (batch == where) | (where == "all")
                labels = (votes >= readers)[held]
                row: dict[str, Any] = {"finding": finding, "rule": rule, "batch": where}
                row |= {"exams": int(held.sum()), "positive": int(labels.sum())}
                try:
                    of = roc.delong(scores[held], labels)
                except QualityError as error:
                    row["refused"] = str(error)
                else:
                    row |= {"auc": of.estimate, "low": of.low, "high": of.high}
                found.append(row)
    return found


def main() -> None:
    """Compute, and print what was found."""
    parser = argparse.ArgumentParser(description="Qure's scores on CQ500 against its readers.")
    parser.add_argument("--source", type=Path)
    options = parser.parse_args()
    root = os.environ.get("ICH_RAY_REAL_DATA")
    source = options.source or (Path(root) / "cq500" if root else None)
    if source is None:
        says = "ICH_RAY_REAL_DATA is not set: no CQ500"
        result = {"cq500_auc": None, "cq500_matches_record": None, "cq500": None}
        print(json.dumps(result | {"cq500_says": says}))
        return
    found = figures(source)
    for row in found:
        print(json.dumps(row))
    aucs = {
        row["finding"]: round(row["auc"], 4)
        for row in found
        if (row["rule"], row["batch"]) == ("majority", "all")
    }
    matches = all(aucs[finding] == auc for finding, auc in RECORDED.items())
    print(json.dumps({"cq500_auc": aucs, "cq500_matches_record": matches, "cq500": found}))


if __name__ == "__main__":
    main()
