"""Turn sources of DICOM into corpora. `python -m jobs.ingest SETTINGS.toml --only site_a`."""

import sys
from collections.abc import Sequence

from ich_ray.distributed.ingest_hours import ingest_within_budget, plan_with_hours
from jobs.stage import run_stage


def main(arguments: Sequence[str] | None = None) -> int:
    """Ingest each corpus of the settings, or those that --only names."""
    return run_stage(
        "ingest",
        arguments,
        names=lambda s: s.corpora,
        plan=plan_with_hours,
        work=ingest_within_budget,
    )


if __name__ == "__main__":
    sys.exit(main())
