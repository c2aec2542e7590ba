"""The whole loop on an embedded store: phantoms, corpora, teacher, student, report."""

import sys
from collections.abc import Callable, Sequence

from ich_ray.distributed.ingest_hours import ingest_within_budget
from ich_ray.distributed.phantoms import write_phantoms
from ich_ray.distributed.pseudo_label import pseudo_label
from ich_ray.distributed.session import Session
from ich_ray.distributed.train import train
from ich_ray.errors import ConfigError
from ich_ray.order import steps_of
from jobs import evaluate
from jobs.stage import (
    Summary,
    arguments_of,
    carry_out,
    guarded,
    opened,
    report,
    resolved_summary,
    settings_of,
)

WORK: dict[str, Callable[[Session, str], Summary]] = {
    "ingest": ingest_within_budget,
    "train": train,
    "pseudo-label": pseudo_label,
    "evaluate": evaluate.work,
}


def main(arguments: Sequence[str] | None = None) -> int:
    """Run every step of the experiment that is not done yet, in order."""

    def inside() -> int:
        options = arguments_of("demo", arguments)
        if options.only:
            raise ConfigError(
                f"--only {options.only[0]}: demo runs every step; give --only to the stage itself"
            )
        settings = settings_of(options)
        steps = steps_of(settings)
        if options.dry_run:
            report(options, steps, "would run " + ", ".join(" ".join(s).strip() for s in steps))
            return 0
        with opened(settings) as run:
            for name in settings.phantoms:
                summary = write_phantoms(run, name)
                report(options, resolved_summary(summary), summary.line())
            for stage, name in steps:
                done = carry_out(run, stage, name, WORK[stage])
                report(options, resolved_summary(done), done.line())
        return 0

    return guarded(inside)


if __name__ == "__main__":
    sys.exit(main())
