"""CT-ICH's division in experiments/lin2022_ct_ich.toml is the first that is balanced.

As in test_demo_real_split.py, the criterion knows patients and reference masks only. Of 5, 10 and
20 labelled patients the share of those who bleed is the corpus's, rounded up or down, and they
have half to twice their share of the bleeding pixels. The two large splits have their share of
patients give or take two, of those who bleed give or take one, and half to twice of the pixels, of
which no patient has more than half of the test split's.
"""

import tomllib
from collections import defaultdict
from itertools import count
from pathlib import Path

from benchmarks.few_labels import EXPERIMENT, LABELLED
from ich_ray.splits import split_of
from tests.real.test_demo_real_split import bleeding_pixels, needs_real_data


def is_balanced(pixels: dict[str, int], shares: dict[str, float], seed: int) -> bool:
    members = defaultdict(list)
    for patient, bleeding in pixels.items():
        members[split_of(patient, shares=shares, seed=seed)].append(bleeding)
    num_bleeding, total = sum(n > 0 for n in pixels.values()), sum(pixels.values())

    def has_its_share(found: list[int], share: float) -> bool:
        return share / 2 <= sum(found) / total <= share * 2

    for size, splits in LABELLED.items():
        labelled = [bleeding for split in splits for bleeding in members[split]]
        expected = size * num_bleeding / len(pixels)
        if len(labelled) != size or not has_its_share(labelled, size / len(pixels)):
            return False
        if not 0 <= sum(n > 0 for n in labelled) - int(expected) <= 1:
            return False
    return max(members["test"], default=0) <= sum(members["test"]) / 2 and all(
        abs(len(members[split]) - shares[split] * len(pixels)) <= 2
        and abs(sum(n > 0 for n in members[split]) - shares[split] * num_bleeding) <= 1
        and has_its_share(members[split], shares[split])
        for split in ("rest", "test")
    )


@needs_real_data
def test_the_split_seed_is_the_first_that_is_balanced() -> None:
    corpus = tomllib.loads(Path(EXPERIMENT).read_text())["corpora"]["ct_ich"]
    pixels = bleeding_pixels()
    first = next(seed for seed in count() if is_balanced(pixels, corpus["splits"], seed))
    assert corpus["split_seed"] == first
    divided = {split_of(one, shares=corpus["splits"], seed=first) for one in pixels}
    assert divided == set(corpus["splits"])
