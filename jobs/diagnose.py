"""What pseudo-labels are like. `python -m jobs.diagnose SETTINGS.toml NAME [--against OTHER]`."""

import sys
from collections.abc import Sequence

from ich_ray.distributed.label_diagnostics import diagnose, plan_diagnose
from ich_ray.errors import ConfigError
from jobs.stage import arguments_of, guarded, run_sections, settings_of


def main(arguments: Sequence[str] | None = None) -> int:
    """Write the diagnostics of a pseudo_labels section of the settings, or of all."""

    def inside() -> int:
        options = arguments_of("diagnose", arguments, words="NAME")
        other = options.against or ""
        known = settings_of(options).pseudo_labels
        if other and other not in known:
            raise ConfigError(f"--against {other}: known are {', '.join(known) or 'none'}")
        names = [*(options.only or []), *options.words]
        if other and (len(names) != 1 or other in names):
            raise ConfigError(
                f"--against {other} compares it with one other round: ich-ray diagnose "
                f"SETTINGS.toml NAME --against {other}"
            )
        return run_sections(
            "diagnose",
            options,
            names=lambda s: s.pseudo_labels,
            plan=lambda run, name: plan_diagnose(run, name, other),
            work=lambda run, name: diagnose(run, name, other),
        )

    return guarded(inside)


if __name__ == "__main__":
    sys.exit(main())
