"""Every measure of pseudo-labelling: the pool, the device, the ranking, and killed actors.

Runs the benchmarks one after the other, shows what they print, and puts their figures into one line
of JSON at the end. The kills go on where they were stopped.

    python -m benchmarks.pseudo_label
"""

from benchmarks.combined import run_all

if __name__ == "__main__":
    run_all(("label_speed", "label_device", "rank_speed", "label_kills"))
