"""`python -m jobs STAGE ...`: as `ich-ray STAGE ...`, where it may not be installed.

What a submitted job runs: a node without our packages says so, and is no bug.
"""

import sys

from ich_ray.requirements import refusal

if __name__ == "__main__":
    said = refusal(sys.version_info[:2])
    if said:
        sys.stderr.write(f"ich-ray: {said}\n")
        sys.exit(2)
    from jobs.cli import run

    run()
