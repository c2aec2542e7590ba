"""Look before pseudo-labels are believed. `python -m jobs.review SETTINGS.toml NAME`."""

import sys
from collections.abc import Sequence

from ich_ray.distributed.review import plan_review, review
from jobs.stage import arguments_of, guarded, run_sections


def main(arguments: Sequence[str] | None = None) -> int:
    """Write the page of a pseudo_labels section of the settings, or of all."""
    return guarded(
        lambda: run_sections(
            "review",
            arguments_of("review", arguments, words="NAME"),
            names=lambda s: s.pseudo_labels,
            plan=plan_review,
            work=review,
        )
    )


if __name__ == "__main__":
    sys.exit(main())
