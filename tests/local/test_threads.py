"""Figures are the same to the last bit, whatever number of threads sums them."""

import os
import subprocess
import sys

FIGURES = """
import numpy as np
from ich_ray.statistics import pixel_histograms, score_levels
from ich_ray.statistics.comparison import Exams, Predicted, compare, pixel_aps, resampled
models = {}
for name, seed in (("a", 1), ("b", 2)):
    rng, histograms = np.random.default_rng(seed), []
    for patient in range(40):
        mask = (np.random.default_rng(patient).random((256, 64)) < 0.02) & (patient % 2 > 0)
        levels = score_levels.quantise_logits(rng.normal(0, 3, mask.shape) + 4 * mask)
        histograms.append(pixel_histograms.slice_histogram(levels, mask))
    models[name] = Predicted.of_stack(
        scores=rng.random(40), stack=pixel_histograms.stack(histograms), level=2**15 + 8_000
    )
exams = Exams(labels=np.arange(40) % 2 > 0, patient=np.arange(40))
samples = resampled(exams, models, [("a", "b")], seed=1, resamples=range(100))
print(samples.errors)
print(compare(exams, models, [("a", "b")], samples, pixel_aps(models), seed=1))
"""


def test_figures_do_not_depend_on_the_number_of_threads() -> None:
    def made(threads: int) -> str:
        number = str(threads)
        environment = os.environ | {"OPENBLAS_NUM_THREADS": number, "OMP_NUM_THREADS": number}
        command = [sys.executable, "-c", FIGURES]
        done = subprocess.run(command, check=True, capture_output=True, text=True, env=environment)
        return done.stdout

    assert made(1) == made(2)
    assert "pixel_ap" in made(1)
