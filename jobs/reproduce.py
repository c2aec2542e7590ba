"""Make the tables of a published study anew. `python -m jobs.reproduce lin2022 [SETTINGS.toml]`."""

import sys
from collections.abc import Sequence
from pathlib import Path

from ich_ray.distributed.reproduce import plan_reproduction, reproduce
from ich_ray.errors import ConfigError
from jobs.stage import (
    arguments_of,
    guarded,
    opened,
    refuse_nothing,
    report,
    resolved_summary,
    settings_of,
)

STUDIES = {"lin2022": Path(__file__).parents[1] / "experiments" / "reproduce_lin2022.toml"}
"""Study -> its settings on synthetic heads, for who gives none of his own."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Do what is missing of the study, several steps at once, and print its tables."""

    def inside() -> int:
        options = arguments_of("reproduce", with_settings(arguments))
        if options.only:
            raise ConfigError(
                f"--only {options.only[0]}: reproduce runs every step that is missing; shorten "
                "experiment.variants, experiment.seeds or reproduce.contrasts instead"
            )
        settings = settings_of(options)
        refuse_nothing("reproduce", settings)
        with opened(settings) as run:
            if options.dry_run:
                plan = plan_reproduction(run)
                report(options, plan, "\n".join(f"{said}: {step}" for step, said in plan.items()))
                return 0
            summary = reproduce(run, _tell, as_json=options.json)
        report(options, resolved_summary(summary), summary.line())
        return summary.exit_code

    return guarded(inside)


def with_settings(arguments: Sequence[str] | None) -> list[str]:
    """Take the name of the study off, and put its own settings where none are given."""
    words = list(sys.argv[1:] if arguments is None else arguments)
    if not words or words[0] not in STUDIES:
        return words
    study, *rest = words
    given = rest and not rest[0].startswith("-") and "=" not in rest[0]
    return rest if given else [str(STUDIES[study]), *rest]


def _tell(line: str) -> None:
    sys.stderr.write(f"{line}\n")
    sys.stderr.flush()


if __name__ == "__main__":
    sys.exit(main())
