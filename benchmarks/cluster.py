"""Every measure of the cluster: how it scales, and what its losses cost.

Runs both benchmarks, shows what they print, and puts their figures into one line of JSON at the
end. The faults go on where they were stopped.

    python -m benchmarks.cluster
"""

from benchmarks.combined import run_all

if __name__ == "__main__":
    run_all(("cluster_scaling", "cluster_faults"))
