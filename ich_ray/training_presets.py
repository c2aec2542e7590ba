"""Recipes of training by name: the settings that a model's section does not give itself."""

from collections.abc import Mapping
from typing import Any

PRESETS: Mapping[str, Mapping[str, Any]] = {
    "lin2022": {
        "network": "drn_d_38",
        "labelled_share": 0.6,
        "crop": 240,
        "batch": 16,
        "steps": 144_000,
        "optimizer": "sgd",
        "learning_rate": 0.01,
        "momentum": 0.9,
        "weight_decay": 1e-4,
        "schedule": "poly",
        "patch_loss_weight": 1.0,
        "precision": "float32",
        "normalisation": "local",
        "positive_patch_share": 0.5,
        "positive_slice_share": 0.0,
        "augment": True,
        "contrast": "all",
        "read_ahead": 2,
    },
    "fast": {
        "network": "drn_d_38",
        "labelled_share": 0.6,
        "crop": 240,
        "batch": 64,
        "steps": 36_000,
        "optimizer": "adamw",
        "learning_rate": 0.001,
        "weight_decay": 1e-4,
        "schedule": "cosine",
        "warmup_steps": 500,
        "average_decay": 0.999,
        "patch_loss_weight": 0.1,
        "precision": "bfloat16",
        "compiled": True,
        "normalisation": "local",
        "positive_patch_share": 0.5,
        "positive_slice_share": 0.4,
        "augment": True,
        "contrast": "all",
        "read_ahead": 2,
    },
    "cpu": {
        "network": "drn_d_narrow",
        "crop": 160,
        "batch": 16,
        "steps": 800,
        "optimizer": "adamw",
        "learning_rate": 0.003,
        "patch_loss_weight": 0.1,
        "positive_slice_share": 0.4,
        "memory_gb": 1.0,
        "checkpoint_every": 100,
    },
}
"""`lin2022`: Lin & Yuh's, with method.md's values where the paper is silent.

`fast`: the same number of crops in a quarter of the steps. `cpu`: the demo's, for a laptop.
"""
