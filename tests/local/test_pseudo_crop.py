"""Pseudo-labelled slices that are cropped otherwise than labelled ones, e.g. not at all."""

import dataclasses

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional

from ich_ray.config import ModelConfig
from ich_ray.exam import IGNORED
from ich_ray.learning.augment import crops
from ich_ray.learning.epoch import Training, train_steps
from ich_ray.learning.loading import fractions, slice_loader
from ich_ray.learning.sampling import SamplingRule, SlicePool, Worker, draw
from tests.local.slice_pools import pool
from tests.local.trainings import training

SIDE = 64
CONFIG = ModelConfig(
    labelled=("a",),
    pseudo_labelled=("p",),
    network="drn_d_narrow",
    crop=32,
    pseudo_crop=SIDE,
    batch=8,
    steps=3,
    num_workers=1,
    positive_slice_share=0.5,
    patch_loss_weight=0.5,
)
LABELLED = pool(6, side=SIDE, positive=3)


def labelled_as_wholes() -> SlicePool:
    """Slices of which only is known whether there is a bleed."""
    slices = pool(6, side=SIDE, positive=3, seed=1)
    unknown = np.full_like(slices.masks.pieces[0], IGNORED)
    return dataclasses.replace(
        slices,
        masks=dataclasses.replace(slices.masks, pieces=(unknown,)),
        positive=np.zeros(6, np.bool_),
        whole_label=np.array([1, 1, 1, 0, 0, 0], np.uint8),
    )


POOLS = (LABELLED, labelled_as_wholes())


def test_a_minibatch_of_each_size_holds_the_items_that_were_drawn() -> None:
    loader = slice_loader(CONFIG, POOLS, channels=3, worker=Worker())
    seen = set()
    for step in range(20):
        batches = loader(step)
        seen.add(len(batches))
        drawn = [draw(loader.rule, POOLS, step=step, item=place) for place in range(8)]
        found = {p: item for b in batches for p, item in zip(b.places, b.items, strict=True)}
        assert [found[place] for place in range(8)] == drawn
        for batch in batches:
            assert {loader.rule.crop_of(item.pool) for item in batch.items} == {batch.crop}
            assert list(batch.places) == sorted(batch.places)
    assert seen == {2}


def test_what_is_cropped_as_large_as_its_slice_is_whole() -> None:
    loader = slice_loader(CONFIG, POOLS, channels=1, worker=Worker())
    corners = [
        (item.top, item.left)
        for step in range(20)
        for b in loader(step)
        for item in b.items
        if item.pool
    ]
    assert set(corners) == {(0, 0)}
    assert len(corners) > 20


def test_processes_together_load_what_one_does() -> None:
    def of(worker: Worker) -> dict[int, list[object]]:
        found: dict[int, list[object]] = {32: [], SIDE: []}
        for batch in slice_loader(CONFIG, POOLS, channels=1, worker=worker)(5):
            found[batch.crop] += zip(batch.items, batch.names, strict=True)
        return found

    parts = [of(Worker(rank=rank, world=4)) for rank in range(4)]
    assert {crop: [one for part in parts for one in part[crop]] for crop in (32, SIDE)} == of(
        Worker()
    )


def test_the_loss_is_over_all_valid_pixels_and_patches_of_both_sizes() -> None:
    todo = training(CONFIG, *POOLS)
    pixels, patches = [], []
    todo.network.train()
    with torch.no_grad():
        for batch in todo.loader(0):
            cut, masks = crops(
                fractions(batch.images),
                batch.masks,
                batch.items,
                crop=batch.crop,
                corners=batch.corners,
            )
            logits = todo.network(cut)
            if batch.crop == SIDE:
                assert (masks == IGNORED).all()
                truth = batch.whole_label.float()
            else:
                truth = (masks == 1).flatten(1).any(1).float()
                pixel = functional.interpolate(
                    logits.pixel[:, None], scale_factor=8, mode="bilinear", align_corners=False
                )[:, 0]
                # What a zoom brings in from outside of the slice is ignored.
                known = masks != IGNORED
                pixels.append(
                    functional.binary_cross_entropy_with_logits(
                        pixel[known], (masks == 1).float()[known], reduction="none"
                    )
                )
            patches.append(
                functional.binary_cross_entropy_with_logits(
                    logits.patch.flatten(), truth, reduction="none"
                )
            )
    expected = float(torch.cat(pixels).mean()) + 0.5 * float(torch.cat(patches).mean())
    # Statistics are of a minibatch each, and the weights those before the first step.
    (_, loss), *_ = train_steps(
        training(CONFIG, *POOLS), worker=Worker(), first_step=0, total=lambda value: value
    )
    assert loss == pytest.approx(expected, rel=1e-5)


def first_mean(todo: Training) -> Tensor:
    """Return the running mean of the first normalisation after a step."""
    next(train_steps(todo, worker=Worker(), first_step=0, total=lambda value: value))
    (first, *_) = (m for m in todo.unwrapped.modules() if isinstance(m, nn.BatchNorm2d))
    assert first.running_mean is not None
    return first.running_mean


def test_the_items_of_both_sizes_count_in_the_running_statistics_by_their_number() -> None:
    plain = training(CONFIG, *POOLS)
    batches = plain.loader(0)
    assert len(batches) == 2
    seen: list[Tensor] = []
    (convolution, *_) = (m for m in plain.network.modules() if isinstance(m, nn.Conv2d))
    convolution.register_forward_hook(lambda _, __, out: seen.append(out.detach()))
    found = first_mean(plain)
    expected = torch.zeros_like(found)
    for batch, out in zip(batches, seen, strict=True):
        momentum = 0.1 * len(batch.items) / 8
        expected = (1 - momentum) * expected + momentum * out.mean((0, 2, 3))
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-6)


def test_what_is_positive_as_a_whole_is_drawn_as_positive_where_it_is_seen_whole() -> None:
    rule = SamplingRule(
        seed=0, crop=32, pseudo_crop=SIDE, labelled_share=0.5, positive_slice_share=1.0
    )
    items = [draw(rule, POOLS, step=step, item=0) for step in range(300)]
    assert {item.slice for item in items if item.pool} == {0, 1, 2}
    cropped = dataclasses.replace(rule, pseudo_crop=0)
    items = [draw(cropped, POOLS, step=step, item=0) for step in range(300)]
    assert {item.slice for item in items if item.pool} == set(range(6))
