"""Label the unlabelled slices with a teacher. `python -m jobs.pseudo_label SETTINGS.toml`."""

import sys
from collections.abc import Sequence

from ich_ray.distributed.pseudo_label import plan_pseudo_label, pseudo_label
from jobs.stage import run_stage


def main(arguments: Sequence[str] | None = None) -> int:
    """Make each pseudo-label table of the settings, or those that --only names."""
    return run_stage(
        "pseudo-label",
        arguments,
        names=lambda s: s.pseudo_labels,
        plan=plan_pseudo_label,
        work=pseudo_label,
    )


if __name__ == "__main__":
    sys.exit(main())
