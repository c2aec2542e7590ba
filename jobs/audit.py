"""Look for what corpora share, contradict and lack. `python -m jobs.audit SETTINGS.toml CORPUS`."""

import sys
from collections.abc import Sequence

from ich_ray.distributed.audit import AuditSummary, audit, plan_audit, refuse_leaks
from ich_ray.distributed.session import Session
from ich_ray.errors import ConfigError
from jobs.stage import (
    arguments_of,
    carry_out,
    describe,
    guarded,
    names_of,
    reading,
    report,
    resolved_summary,
    settings_of,
)


def main(arguments: Sequence[str] | None = None) -> int:
    """Audit the named corpora of the settings together, or all."""

    def inside() -> int:
        options = arguments_of("audit", arguments, words="CORPUS")
        settings = settings_of(options)
        names = names_of(options, settings.corpora)
        if not names:
            raise ConfigError("the settings have no [corpora] section; there is nothing to audit")
        with reading(settings) as run:
            if options.dry_run:
                shown = plan_audit(run, names)
                report(options, shown, describe(shown))
                return 0

            def work(run: Session, _: str) -> AuditSummary:
                summary = audit(run, names)
                refuse_leaks(summary)
                return summary

            summary = carry_out(run, "audit", ", ".join(names), work)
            report(options, resolved_summary(summary), summary.line())
        return 0

    return guarded(inside)


if __name__ == "__main__":
    sys.exit(main())
