"""CT-ICH's folds in experiments/ct_ich_folds.toml are the first that are balanced.

The seed is the first that meets a criterion which knows patients and reference masks only, never a
prediction (rerandomisation: Morgan and Rubin, Annals of Statistics 2012). Each of the five folds
has a fifth of the patients, give or take 2, 7 or 8 of the 36 who bleed, and between a tenth and two
fifths of the bleeding pixels. One patient holds 21 % of these, so no tighter bound would do.
"""

import os
import tomllib
from collections import defaultdict
from itertools import count
from pathlib import Path

import numpy as np
import pytest

from benchmarks.ct_ich_scores import HALF, PatientScores, figures
from benchmarks.packed_corpus import differences, packed, read_pack, write_pack
from ich_ray.exam import IGNORED
from ich_ray.identity import PUBLIC_KEY, Pseudonyms
from ich_ray.learning.sampling import SlicePool, SliceStack
from ich_ray.splits import split_of
from ich_ray.statistics.pixel_histograms import slice_histogram
from ich_ray.storage.corpora.ct_ich import CtIch
from ich_ray.storage.corpus import hounsfield
from ich_ray.windows import head_box, mask_to_grid, to_input
from tests.real.test_demo_real_split import bleeding_pixels, needs_real_data

EXPERIMENT = tomllib.loads(
    (Path(__file__).parents[2] / "experiments" / "ct_ich_folds.toml").read_text()
)


def are_balanced(pixels: dict[str, int], shares: dict[str, float], seed: int) -> bool:
    members = defaultdict(list)
    # Those who bleed come first: most seeds fail by them.
    for patient in sorted(pixels, key=lambda one: pixels[one] == 0):
        fold = members[split_of(patient, shares=shares, seed=seed)]
        fold.append(pixels[patient])
        if sum(n > 0 for n in fold) > 8:
            return False
    total = sum(pixels.values())
    return set(members) == set(shares) and all(
        abs(len(fold) - len(pixels) / 5) <= 2
        and sum(n > 0 for n in fold) in (7, 8)
        and 0.1 <= sum(fold) / total <= 0.4
        for fold in members.values()
    )


@needs_real_data
def test_the_seed_of_the_folds_is_the_first_that_is_balanced() -> None:
    corpus = EXPERIMENT["corpora"]["ct_ich"]
    pixels = bleeding_pixels()
    first = next(seed for seed in count() if are_balanced(pixels, corpus["splits"], seed))
    assert corpus["split_seed"] == first


def test_each_model_learns_from_the_folds_that_it_is_not_named_for() -> None:
    folds = set(EXPERIMENT["corpora"]["ct_ich"]["splits"])
    assert set(EXPERIMENT["models"]) == folds
    for name, model in EXPERIMENT["models"].items():
        assert {one.removeprefix("ct_ich:") for one in model["labelled"]} == folds - {name}
    recipes = [
        {key: value for key, value in model.items() if key != "labelled"}
        for model in EXPERIMENT["models"].values()
    ]
    assert all(recipe == recipes[0] for recipe in recipes)


def real_pool(numbers: range) -> SlicePool:
    """Return slices of the patient who bleeds most, as the product's cache has them."""
    layout, names = CtIch(), Pseudonyms(PUBLIC_KEY)
    images, masks = [], []
    for number in numbers:
        key = f"Patients_CT/071/brain/{number}"
        file = Path(os.environ["ICH_RAY_REAL_DATA"]) / "ct-ich-v1" / key
        item = layout.read_slices(f"{key}.jpg", file.with_suffix(".jpg").read_bytes(), names)[0]
        images.append(to_input(hounsfield(item), window=(-20.0, 100.0), size=320))
        mask = file.with_name(f"{number}_HGE_Seg.jpg")
        found = np.zeros(item.stored.shape, np.uint8)
        if mask.exists():
            slices = {item.key: item}
            read = layout.read_masks(f"{key}_HGE_Seg.jpg", mask.read_bytes(), slices, names)
            found = read[item.key]
        masks.append(mask_to_grid(found, size=320))
    rows = np.arange(len(numbers))
    return SlicePool(
        images=SliceStack((np.stack(images),), np.zeros_like(rows), rows),
        masks=SliceStack((np.stack(masks),), np.zeros_like(rows), rows),
        previous=np.maximum(rows - 1, 0),
        next=np.minimum(rows + 1, rows[-1]),
        positive=np.stack(masks).any((1, 2)),
        whole_label=np.full(len(rows), IGNORED, np.uint8),
        boxes=np.array([head_box(image) for image in images]),
        names=[f"exam e slice {number}" for number in numbers],
    )


@needs_real_data
def test_a_pack_says_what_the_cache_says_to_within_half_a_step(tmp_path: Path) -> None:
    pool, zeros = real_pool(range(12, 20)), np.zeros(8, np.int64)
    assert pool.positive.any()
    write_pack(packed(pool, patient=zeros, fold=zeros, label=pool.positive), tmp_path / "pack.npz")
    back = read_pack(tmp_path / "pack.npz")
    assert differences(back, pool) == 0
    off = np.abs(back.images[3].astype(np.int64) - pool.images[3])
    assert off.max() <= 65535 / 63 / 2 + 1


@needs_real_data
def test_a_pack_that_differs_in_one_pixel_is_counted(tmp_path: Path) -> None:
    pool, zeros = real_pool(range(12, 16)), np.zeros(4, np.int64)
    write_pack(packed(pool, patient=zeros, fold=zeros, label=pool.positive), tmp_path / "pack.npz")
    back = read_pack(tmp_path / "pack.npz")
    back.images.pieces[0][1, 160, 160] ^= 2**15
    assert differences(back, pool) == 1


def patient(name: str, overlaps: list[tuple[int, int, int]]) -> PatientScores:
    """Return a patient of whose bleeding slices true and false positives and misses are known."""
    tp, fp, fn = np.sum([(0, 0, 0), *overlaps], axis=0)
    levels = np.array([[HALF] * (tp + fp) + [HALF - 1] * (fn + 1)], np.uint16)
    truth = np.array([[True] * tp + [False] * fp + [True] * fn + [False]])
    return PatientScores(
        patient=name,
        labels=np.array([bool(overlaps)]),
        p=np.array([0.9 if overlaps else 0.1]),
        pixels=slice_histogram(levels, truth),
        slice_dsc=np.array([2 * tp / (2 * tp + fp + fn) for tp, fp, fn in overlaps]),
    )


def test_the_published_dice_is_the_mean_over_bleeding_patients_of_their_slices_means() -> None:
    found = figures(
        [
            patient("a", [(3, 0, 0), (0, 1, 2)]),  # 1 and 0: 0.5
            patient("b", [(2, 1, 0)]),  # 0.8
            patient("chronic", [(0, 0, 3)]),  # 0, and left out
            patient("healthy", []),
            patient("healthy too", []),
        ],
        chronic="chronic",
        resamples=100,
    )
    assert found["dsc_published"].estimate == pytest.approx((0.5 + 0.8) / 2)
    assert found["dsc_published_all"].estimate == pytest.approx((0.5 + 0.8 + 0) / 3)
    assert found["dsc"].estimate == pytest.approx(2 * 5 / (2 * 5 + 2 + 5))
    assert found["slice_auc"].estimate == found["exam_auc"].estimate == 1.0
