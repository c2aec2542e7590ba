"""Run a stage as a job of a cluster: `python -m jobs.submit STAGE SETTINGS.toml --address URL`."""

import argparse
import os
import sys
from collections.abc import Sequence

from ich_ray.config import Settings
from ich_ray.distributed.submit import Outcome, Request, Terminal, request_of, submit
from ich_ray.errors import ConfigError
from jobs.stage import (
    KEY_VARIABLE,
    guarded,
    refuse_nothing,
    refuse_sweep,
    report,
    resolved_summary,
    settings_of,
    sweep_of,
)

STAGES = ("ingest", "train", "pseudo-label", "evaluate", "demo", "experiment", "reproduce")
SECRETS = ("AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN", "RAY_AUTH_TOKEN", KEY_VARIABLE)


def parser() -> argparse.ArgumentParser:
    """Return what reads the command line."""
    found = argparse.ArgumentParser(
        prog="ich-ray submit",
        description="Run a stage as a job of a Ray cluster and follow it; its exit code is the "
        "stage's. The same command finds the job that it started before. RAY_AUTH_TOKEN is asked "
        "for by the cluster; keys of the store are on its nodes, and are never sent.",
    )
    found.add_argument("stage", choices=STAGES)
    found.add_argument("settings", help="settings file (TOML)")
    found.add_argument("overrides", nargs="*", help="section.key=value")
    found.add_argument("--address", required=True, metavar="URL", help="http://HOST:8265")
    found.add_argument("--only", action="append", metavar="NAME", help="this section only")
    found.add_argument("--sweep", metavar="FILE", help="of train: as ich-ray train --sweep FILE")
    found.add_argument("--again", action="store_true", help="also if the cluster has done it")
    found.add_argument("--detach", action="store_true", help="return once it is submitted")
    found.add_argument(
        "--stop-job",
        action="store_true",
        help="end the job, without a question, when this command is told to stop",
    )
    found.add_argument("--dry-run", action="store_true", help="say what would be submitted")
    found.add_argument("--json", action="store_true", help="print the outcome as JSON")
    return found


def main(arguments: Sequence[str] | None = None) -> int:
    """Submit, follow, and return the stage's exit code."""
    options = parser().parse_intermixed_args(arguments)

    def inside() -> int:
        refuse_sweep(options.stage, options)
        settings = settings_of(options)
        request = _request(options, settings)
        if options.dry_run:
            shown = {"submission": request.name, "entrypoint": request.entrypoint}
            report(options, shown, f"would submit {request.name}-N: {request.entrypoint}")
            return 0
        outcome: Outcome = submit(
            request,
            options.address,
            Terminal(_write, _tell, (lambda _: True) if options.stop_job else _asks_to_cancel),
            detach=options.detach,
        )
        report(options, resolved_summary(outcome), outcome.line())
        return outcome.exit_code

    return guarded(inside)


def _request(options: argparse.Namespace, settings: Settings) -> Request:
    refuse_nothing(options.stage, settings)
    known = {
        "ingest": settings.corpora,
        "train": settings.models,
        "pseudo-label": settings.pseudo_labels,
    }.get(options.stage, {})
    for name in options.only or []:
        if name not in known:
            raise ConfigError(
                f"--only {name}: {options.stage} knows {', '.join(known) or 'no sections'}; "
                "is this the settings file of another stage?"
            )
    return request_of(
        options.stage,
        settings,
        tuple(options.only or ()),
        again=options.again,
        secrets={name: os.environ[name] for name in SECRETS if name in os.environ},
        sweep=sweep_of(options),
    )


def _write(text: str) -> None:
    sys.stdout.write(text)
    sys.stdout.flush()


def _tell(line: str) -> None:
    sys.stderr.write(f"ich-ray: {line}\n")
    sys.stderr.flush()


def _asks_to_cancel(submission: str) -> bool:
    """Ask after Ctrl-C; without a terminal the job goes on."""
    if not sys.stdin.isatty():
        return False
    sys.stderr.write(f"\nend the job {submission} too? [y/N] ")
    sys.stderr.flush()
    return sys.stdin.readline().strip().lower() in ("y", "yes")


if __name__ == "__main__":
    sys.exit(main())
