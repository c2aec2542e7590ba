"""Every measure of evaluation: speed and sameness, CQ500, what intervals are worth, its memory.

Runs the benchmarks one after the other, shows what they print, and puts their figures into one line
of JSON at the end.

    python -m benchmarks.evaluate
"""

from benchmarks.combined import run_all

if __name__ == "__main__":
    run_all(("evaluate_speed", "evaluate_cq500", "evaluate_coverage", "evaluate_scale"))
