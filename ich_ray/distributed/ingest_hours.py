"""An ingest within the budget: its hours are counted, and it stops between parts."""

import contextlib
from dataclasses import replace

from ich_ray.budget import Reserved
from ich_ray.capacity import Process
from ich_ray.config import CorpusConfig
from ich_ray.distributed.estimates import Planned, estimated, warned
from ich_ray.distributed.ingest import ingest, plan_ingest
from ich_ray.distributed.metering import Meter, metered
from ich_ray.distributed.resources import cluster_cpus
from ich_ray.distributed.session import Session
from ich_ray.ingest_summary import IngestPlan, IngestSummary

ONE_CPU = Process()


def plan_with_hours(run: Session, name: str) -> IngestPlan:
    """Say what an ingest would do, its hours by what earlier ones took."""
    plan = plan_ingest(run.settings, name, run.pseudonyms)
    work = Planned(
        kind=kind_of_work(run.settings.corpora[name]),
        units=plan.slices,
        setting=plan.estimated_by,
        seconds=run.settings.ingest.cpu_seconds_per_1000_slices / 1000,
        each=Reserved(cpus=ONE_CPU.cpus),
    )
    found = estimated(run, [work])
    return replace(
        plan,
        cpu_hours=found.hours.cpu,
        cost=found.hours.cost,
        estimated_by=", ".join(found.origins) or plan.estimated_by,
        warning=warned(run, found.hours),
    )


def ingest_within_budget(run: Session, name: str) -> IngestSummary:
    """Ingest what is new in one source.

    Its tasks take what CPUs the cluster has: these are counted, from the first use of Ray on.

    Raises:
        BudgetError: The budget is passed. Nothing was committed; the parts that were written are
            not written again.
        Others: as ich_ray.distributed.ingest.ingest.
    """
    meters: list[Meter] = []
    with contextlib.ExitStack() as stack:

        def begin() -> None:
            run.ensure_ray()
            kind = kind_of_work(run.settings.corpora[name])
            opened = metered(run, kind, ONE_CPU, processes=cluster_cpus)
            meters.append(stack.enter_context(opened))

        def passed(_: str) -> None:
            for meter in meters:
                meter.finished(0)

        summary = ingest(
            run.settings,
            name,
            pseudonyms=run.pseudonyms,
            ensure_ray=begin,
            progress=passed,
            private_map=run.private_map,
            writing=run.writing,
        )
        for meter in meters:
            meter.finished(summary.accepted_slices, more=False)
    return summary


def kind_of_work(config: CorpusConfig) -> str:
    """Name what decides how long ingesting a slice takes."""
    return f"ingest {config.layout} {config.reader}"
