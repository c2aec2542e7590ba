"""What each C would do, and what readers found. `python -m jobs.rank SETTINGS.toml NAME`."""

import sys
from collections.abc import Sequence

from ich_ray.distributed.rank import plan_rank, rank
from ich_ray.errors import ConfigError
from jobs.stage import (
    arguments_of,
    describe,
    guarded,
    names_of,
    opened,
    refuse_nothing,
    report,
    resolved_summary,
    settings_of,
)


def main(arguments: Sequence[str] | None = None) -> int:
    """Show the ranking of a pseudo_labels section of the settings; writes nothing."""

    def inside() -> int:
        options = arguments_of("rank", arguments, words="NAME")
        settings = settings_of(options)
        refuse_nothing("rank", settings)
        names = names_of(options, settings.pseudo_labels)
        if options.review and len(names) > 1:
            raise ConfigError(
                f"--review is about one ranking; name one of {', '.join(names)}: "
                "ich-ray rank SETTINGS.toml NAME --review FILE"
            )
        with opened(settings) as run:
            for name in names:
                if options.dry_run:
                    shown = plan_rank(run, name, options.review)
                    report(options, shown, describe(shown))
                else:
                    summary = rank(run, name, options.review)
                    report(options, resolved_summary(summary), summary.line())
        return 0

    return guarded(inside)


if __name__ == "__main__":
    sys.exit(main())
