"""Write predictions as DICOM SEG. `python -m jobs.export SETTINGS.toml CORPUS [EXAM ...]`."""

import sys
from collections.abc import Sequence

from ich_ray.distributed.export import ExportSummary, export, plan_export, refuse_unwritten
from ich_ray.distributed.session import Session
from ich_ray.errors import ConfigError
from jobs.stage import (
    arguments_of,
    carry_out,
    describe,
    guarded,
    names_of,
    opened,
    report,
    resolved_summary,
    settings_of,
)


def main(arguments: Sequence[str] | None = None) -> int:
    """Export a corpus of the settings, or some exams of it."""

    def inside() -> int:
        options = arguments_of("export", arguments, words="CORPUS [EXAM ...]")
        settings = settings_of(options)
        if not options.words:
            raise ConfigError(
                "name a corpus, and exams if not all: ich-ray export SETTINGS.toml CORPUS "
                f"[EXAM ...]; corpora: {', '.join(settings.corpora) or 'none'}"
            )
        corpus, *exams = options.words
        options.words = [corpus]
        names_of(options, settings.corpora)
        with opened(settings) as run:
            if options.dry_run:
                shown = plan_export(run, corpus, exams)
                report(options, shown, describe(shown))
                return 0

            def work(run: Session, name: str) -> ExportSummary:
                summary = export(run, name, exams)
                refuse_unwritten(summary)
                return summary

            summary = carry_out(run, "export", corpus, work)
            report(options, resolved_summary(summary), summary.line())
        return 0

    return guarded(inside)


if __name__ == "__main__":
    sys.exit(main())
