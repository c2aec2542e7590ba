"""Does a student learn from real CT that nobody has labelled, and from how few labels?

Of CT-ICH 1.0.0, 5, 10 and 20 patients are labelled; all others but the held-out ones, and the RSNA
2019 slices, are unlabelled. For each number a teacher and its student are trained with several
seeds, by the product's own stages (experiments/lin2022_ct_ich.toml), and compared on the held-out
patients: intervals over seeds, and over patients resampled. What is finished is not done again.

    python -m benchmarks.few_labels [--labelled 5 10 20] [--seeds 0 1 2]
        [--data $ICH_RAY_REAL_DATA] [--out out/bench/few_labels]

Prints the table of each number, and last one line of JSON: student less teacher.
"""

import argparse
import json
import os
import sys
import tomllib
from pathlib import Path
from typing import Any

import tomli_w

from jobs import experiment

EXPERIMENT = "experiments/lin2022_ct_ich.toml"
LABELLED = {
    5: ["first_5"],
    10: ["first_5", "next_5"],
    20: ["first_5", "next_5", "next_10"],
}
"""Number of patients -> their splits: who is labelled among few is so among more."""

SOURCES = {
    "ct_ich": "ct-ich-v1",
    "rsna_slices": "rsna/stage_2_train",
    "rsna_exam": "rsna/stage_2_test",
}


def settings_of(labelled: int, *, seeds: list[int], data: Path, out: Path) -> dict[str, Any]:
    """Return the experiment with so many labelled patients."""
    raw = tomllib.loads(Path(EXPERIMENT).read_text())
    own = [f"ct_ich:{split}" for split in LABELLED[labelled]]
    others = [f"ct_ich:{split}" for split in LABELLED[max(LABELLED)]]
    raw["store"]["root"] = str(out / "store")
    raw["cluster"]["cache"] = str(out / "cache")
    for corpus, folder in SOURCES.items():
        raw["corpora"][corpus]["source"] = str(data / folder)
    for model in raw["models"].values():
        model["labelled"] = own
    pool = raw["pseudo_labels"]["pool"]
    pool["prevalence_of"] = own
    pool["unlabelled"] = [*(one for one in others if one not in own), *pool["unlabelled"]]
    raw["experiment"] |= {"seeds": seeds, "report": str(out / str(labelled))}
    return raw


def main() -> int:
    """Run the experiments, one after the other, and print what they found."""
    parser = argparse.ArgumentParser(description="Teacher and student with few labelled patients.")
    parser.add_argument("--labelled", type=int, nargs="+", default=LABELLED, choices=LABELLED)
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--data", default=os.environ.get("ICH_RAY_REAL_DATA", ""))
    parser.add_argument("--out", type=Path, default=Path("out/bench/few_labels"))
    options = parser.parse_args()
    if not options.data:
        parser.error(
            "set ICH_RAY_REAL_DATA to the folder that holds ct-ich-v1 and rsna, or give --data"
        )
    out, found = options.out.resolve(), {}
    for labelled in options.labelled:
        data = Path(options.data).resolve()
        raw = settings_of(labelled, seeds=options.seeds, data=data, out=out)
        settings = out / f"{labelled}.toml"
        settings.parent.mkdir(parents=True, exist_ok=True)
        settings.write_text(tomli_w.dumps(raw))
        print(f"{labelled} labelled patients", flush=True)
        code = experiment.main([str(settings)])
        if code:
            return code
        report = json.loads((out / str(labelled) / "experiment.json").read_text())
        found[labelled] = {row["name"]: row for row in report["rows"]}
    print(json.dumps({"labelled": found}))
    return 0


if __name__ == "__main__":
    sys.exit(main())
