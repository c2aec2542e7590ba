"""Look at a corpus, or at one exam of it. `python -m jobs.show SETTINGS.toml CORPUS [EXAM]`."""

import sys
from collections.abc import Sequence

from ich_ray.distributed.show import plan_show, show_corpus, show_exam
from ich_ray.errors import ConfigError
from ich_ray.settings import resolved
from jobs.stage import (
    arguments_of,
    describe,
    guarded,
    names_of,
    reading,
    report,
    settings_of,
)


def main(arguments: Sequence[str] | None = None) -> int:
    """Write the page of a corpus of the settings, or of an exam."""

    def inside() -> int:
        options = arguments_of("show", arguments, words="CORPUS [EXAM]")
        settings = settings_of(options)
        if not 1 <= len(options.words) <= 2:
            raise ConfigError(
                "name a corpus, and an exam if you want one: ich-ray show SETTINGS.toml CORPUS "
                f"[EXAM]; corpora: {', '.join(settings.corpora) or 'none'}"
            )
        (corpus, *exams) = options.words
        options.words = [corpus]
        names_of(options, settings.corpora)
        with reading(settings) as run:
            if options.dry_run:
                shown = plan_show(run, corpus, *exams)
                report(options, shown, describe(shown))
                return 0
            if exams:
                summary = show_exam(run, corpus, exams[0])
            else:
                command = f"ich-ray show {options.settings} {corpus}"
                summary = show_corpus(run, corpus, command=command)
            report(options, resolved(summary), summary.line())
        return 0

    return guarded(inside)


if __name__ == "__main__":
    sys.exit(main())
