"""Run a family of variants over seeds. `python -m jobs.experiment experiments/lin2022.toml`."""

import sys
from collections.abc import Sequence

from ich_ray.distributed.experiment import plan_experiment, run_experiment
from ich_ray.errors import ConfigError
from jobs.stage import arguments_of, guarded, opened, report, resolved_summary, settings_of


def main(arguments: Sequence[str] | None = None) -> int:
    """Do what is missing of the experiment, several steps at once, and print its table."""

    def inside() -> int:
        options = arguments_of("experiment", arguments)
        if options.only:
            raise ConfigError(
                f"--only {options.only[0]}: experiment runs every step that is missing; shorten "
                "experiment.variants or experiment.seeds instead"
            )
        with opened(settings_of(options)) as run:
            if options.dry_run:
                plan = plan_experiment(run)
                report(options, plan, "\n".join(f"{said}: {step}" for step, said in plan.items()))
                return 0
            summary = run_experiment(run, _tell, as_json=options.json)
        report(options, resolved_summary(summary), summary.line())
        return summary.exit_code

    return guarded(inside)


def _tell(line: str) -> None:
    sys.stderr.write(f"{line}\n")
    sys.stderr.flush()


if __name__ == "__main__":
    sys.exit(main())
