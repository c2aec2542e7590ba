"""CT-ICH's division in experiments/demo_real.toml is the first that is balanced.

Hashing alone leaves a small corpus to luck: one seed gave the test split five bleeding patients,
one of whom held 71 % of its bleeding pixels. So the seed is the first that meets a criterion
which knows patients and reference masks only, never a prediction (rerandomisation: Morgan and
Rubin, Annals of Statistics 2012).
"""

import os
import tomllib
from collections import defaultdict
from itertools import count
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from ich_ray.identity import PUBLIC_KEY, Pseudonyms
from ich_ray.splits import split_of
from ich_ray.storage.corpora.ct_ich import CtIch

needs_real_data = pytest.mark.skipif(
    "ICH_RAY_REAL_DATA" not in os.environ, reason="ICH_RAY_REAL_DATA names no folder of real data"
)

SETTINGS = Path(__file__).parents[2] / "experiments" / "demo_real.toml"


def bleeding_pixels() -> dict[str, int]:
    """Return pseudonym of each patient -> pixels of his masks."""
    layout, names = CtIch(), Pseudonyms(PUBLIC_KEY)
    folder = Path(os.environ["ICH_RAY_REAL_DATA"]) / "ct-ich-v1"
    pixels: dict[str, int] = defaultdict(int)
    for path in folder.glob("Patients_CT/*/brain/*.jpg"):
        key = path.relative_to(folder).as_posix()
        place = layout.place(key)
        assert place is not None
        is_mask = layout.role(key) == "mask"
        pixels[names.of(place.patient)] += (
            int((np.asarray(Image.open(path)) > 127).sum()) if is_mask else 0
        )
    return pixels


def is_balanced(pixels: dict[str, int], shares: dict[str, float], seed: int) -> bool:
    members = defaultdict(list)
    for patient, bleeding in pixels.items():
        members[split_of(patient, shares=shares, seed=seed)].append(bleeding)
    num_bleeding, total = sum(n > 0 for n in pixels.values()), sum(pixels.values())
    return max(members["test"]) <= sum(members["test"]) / 2 and all(
        abs(len(members[split]) - share * len(pixels)) <= 2
        and abs(sum(n > 0 for n in members[split]) - share * num_bleeding) <= 1
        and share / 2 <= sum(members[split]) / total <= share * 2
        for split, share in shares.items()
    )


@needs_real_data
def test_the_split_seed_is_the_first_that_is_balanced() -> None:
    corpus = tomllib.loads(SETTINGS.read_text())["corpora"]["ct_ich"]
    pixels = bleeding_pixels()
    assert len(pixels) == 82
    first = next(seed for seed in count() if is_balanced(pixels, corpus["splits"], seed))
    assert corpus["split_seed"] == first
