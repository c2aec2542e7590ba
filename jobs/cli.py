"""The command `ich-ray STAGE ...`: finds the job of the stage, and calls it."""

import importlib
import sys
from collections.abc import Sequence

STAGES = ("ingest", "train", "pseudo-label", "evaluate", "demo")
VIEWS = ("audit", "show", "export", "review", "rank", "diagnose", "power")
"""They read tables for a person, and no stage reads what they write."""

FAMILIES = ("experiment", "reproduce")
"""They run stages as processes of their own."""

ELSEWHERE = ("submit", "status")
"""They deal with jobs of a cluster, and with what has run."""

USAGE = f"""usage: ich-ray STAGE SETTINGS.toml [section.key=value ...] [--dry-run] [--json]

stages: {", ".join(STAGES)}
clusters: ich-ray submit STAGE SETTINGS.toml --address http://HOST:8265
runs: ich-ray status SETTINGS.toml [--address http://HOST:8265]
sweeps: ich-ray train SETTINGS.toml --sweep SWEEP.toml
families of variants: ich-ray experiment SETTINGS.toml
a published study: ich-ray reproduce lin2022 [SETTINGS.toml]
corpora: ich-ray audit SETTINGS.toml [CORPUS ...], ich-ray show SETTINGS.toml CORPUS [EXAM]
pseudo-labels: ich-ray review SETTINGS.toml NAME, ich-ray rank SETTINGS.toml NAME [--review FILE],
               ich-ray diagnose SETTINGS.toml NAME [--against OTHER]
results: ich-ray export SETTINGS.toml CORPUS [EXAM ...], ich-ray power SETTINGS.toml
other software: ich-ray evaluate --predictions PLACE [--predictions ...] --reference PLACE
exit codes: 0 done, 1 a bug, 2 settings or usage, 4 a data or quality gate failed,
            5 the surroundings failed (store, cluster, disk): try again
help: ich-ray STAGE --help
"""


def main(arguments: Sequence[str]) -> int:
    """Run the stage that the first argument names, with the others."""
    if not arguments or arguments[0] in ("-h", "--help"):
        sys.stdout.write(USAGE)
        return 0 if arguments else 2
    stage, *rest = arguments
    known = STAGES + FAMILIES + VIEWS + ELSEWHERE
    if stage not in known:
        sys.stderr.write(f"ich-ray: unknown stage {stage!r}; known: {', '.join(known)}\n")
        return 2
    module = importlib.import_module(f"jobs.{stage.replace('-', '_')}")
    return int(module.main(rest))


def run() -> None:
    """Enter from the command line."""
    sys.exit(main(sys.argv[1:]))
