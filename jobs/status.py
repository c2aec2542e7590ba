"""List runs and where their outputs lie. `python -m jobs.status SETTINGS.toml [--address URL]`."""

import argparse
import sys
from collections.abc import Sequence

from ich_ray.distributed.status import status
from ich_ray.errors import ConfigError
from jobs.stage import guarded, report, resolved_summary, settings_of


def parser() -> argparse.ArgumentParser:
    """Return what reads the command line."""
    found = argparse.ArgumentParser(
        prog="ich-ray status",
        description="List the runs of a store, what is being written there now, and a cluster's "
        "jobs.",
    )
    found.add_argument("settings", help="settings file (TOML)")
    found.add_argument("overrides", nargs="*", help="section.key=value")
    found.add_argument("--address", metavar="URL", help="also this cluster's jobs")
    found.add_argument("--last", type=int, default=20, metavar="N", help="runs and jobs at most")
    found.add_argument("--json", action="store_true", help="print JSON, one run a line")
    return found


def main(arguments: Sequence[str] | None = None) -> int:
    """Print one line a run, the latest last."""
    options = parser().parse_intermixed_args(arguments)

    def inside() -> int:
        if options.last < 1:
            raise ConfigError(f"--last {options.last}: give how many runs to list, 1 or more")
        settings = settings_of(options)
        for line in status(settings.store, options.address, last=options.last):
            report(options, resolved_summary(line), line.line())
        return 0

    return guarded(inside)


if __name__ == "__main__":
    sys.exit(main())
