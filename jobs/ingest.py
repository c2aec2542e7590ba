"""Turn sources of DICOM into corpora. `python -m jobs.ingest SETTINGS.toml --only site_a`."""

import sys
from collections.abc import Sequence

from ich_ray.distributed.ingest import ingest, plan_ingest
from ich_ray.distributed.session import Session
from ich_ray.ingest_summary import IngestPlan, IngestSummary
from jobs.stage import run_stage


def plan(run: Session, name: str) -> IngestPlan:
    """Say what would be read."""
    return plan_ingest(run.settings, name, run.pseudonyms)


def work(run: Session, name: str) -> IngestSummary:
    """Ingest what is new in one source."""
    return ingest(
        run.settings,
        name,
        pseudonyms=run.pseudonyms,
        ensure_ray=run.ensure_ray,
        private_map=run.private_map,
        submission=run.submission,
    )


def main(arguments: Sequence[str] | None = None) -> int:
    """Ingest each corpus of the settings, or those that --only names."""
    return run_stage("ingest", arguments, names=lambda s: s.corpora, plan=plan, work=work)


if __name__ == "__main__":
    sys.exit(main())
