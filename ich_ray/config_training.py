"""How a network is trained, and what is watched meanwhile."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, ClassVar, Literal

from ich_ray.config_checks import at_least, positive_memory, require, shares
from ich_ray.training_presets import PRESETS


@dataclass(frozen=True, kw_only=True, slots=True)
class ValidationConfig:
    """What a training is measured on while it runs, by the code that evaluates models."""

    tuning: tuple[str, ...] = ()
    """Selections with masks, of patients that no model learns from; empty: nothing is measured."""

    every: int = 1_000
    """Steps between measurements; the last step is always measured."""

    exam_score_slices: int = 1
    """As evaluate.exam_score_slices."""

    metric: Literal["exam_auc", "dsc", "pixel_ap"] = "pixel_ap"
    """The one that says which weights are best; DSC is that at p = 0.5."""

    keep: Literal["last", "best"] = "last"
    """Whose weights the model has: those of the last step, or those that were best."""

    patience: int = 0
    """Measurements without a better one after which the run ends; 0: it never ends early."""

    def __post_init__(self) -> None:
        """Check that what depends on the tuning selections has some."""
        at_least(1, self, "every", "exam_score_slices")
        at_least(0, self, "patience")
        asked = [self.keep == "best" and "keep='best'", self.patience > 0 and "patience"]
        for setting in filter(None, asked):
            require(len(self.tuning) > 0, f"{setting} needs tuning: selections that it is told by")


@dataclass(frozen=True, kw_only=True, slots=True)
class ModelConfig:
    """A network and how it is trained. Defaults are the paper's, or (ours) where it is silent."""

    PRESETS: ClassVar[Mapping[str, Mapping[str, Any]]] = PRESETS

    preset: Literal["none", "lin2022", "fast", "cpu"] = "none"
    """A recipe (training_presets.py) for the settings that are not given here."""

    network: Literal["drn_d_38", "drn_d_22", "drn_d_narrow"] = "drn_d_38"
    labelled: tuple[str, ...]
    """Selections of corpora with masks: `corpus` or `corpus:split`."""

    pseudo_labelled: tuple[str, ...] = ()
    """Names of pseudo_labels sections; empty for a teacher."""

    labelled_share: float = 0.6
    """Probability that an item of a minibatch is drawn from the labelled corpora."""

    init: str = "random"
    """`random`, or the name of the model whose weights it starts from."""

    init_trunk: str = ""
    """URL of a file with weights for the trunk in fyu/drn's layout, .pth or .safetensors."""

    crop: int = 240
    pseudo_crop: int = 0
    """Side of the crops of pseudo-labelled slices, pixels; 0: as `crop`. With input.size they are
    seen whole."""

    batch: int = 16
    """Items of a step over all workers together."""

    steps: int = 144_000
    optimizer: Literal["sgd", "adamw"] = "sgd"
    learning_rate: float = 0.01
    momentum: float = 0.9
    weight_decay: float = 1e-4
    schedule: Literal["poly", "step", "cosine"] = "poly"
    warmup_steps: int = 0
    """First steps, in which the learning rate rises from nothing to what the schedule says."""

    average_decay: float = 0.0
    """Of the exponential moving average of the weights, a step; the averaged weights are the
    model's. 0: the weights of the last step are."""

    patch_loss_weight: float = 1.0
    """Lambda: the weight of the patch cross-entropy beside the pixel cross-entropy."""

    precision: Literal["float32", "tf32", "bfloat16"] = "float32"
    """Of convolutions: float32 in full, or on a GPU with the 10 bits of TF32, or bfloat16
    (autocast). Weights, statistics, losses and the optimizer are float32 always."""

    compiled: bool = False
    """Whether torch.compile fuses the network's passes, which pays on a GPU; the first step then
    takes a minute or more, and needs a C++ compiler on every node."""

    normalisation: Literal["local", "synchronised", "frozen"] = "local"
    """Batch normalisation by the mean and variance of each process's own items, of the items of all
    processes (GPUs only), or by those that the starting weights came with, which stay."""

    positive_patch_share: float = 0.5
    """In a positive slice, at least this share of the patches hold a positive pixel."""

    positive_slice_share: float = 0.0
    """At least this share of the items come from positive slices; 0 draws slices uniformly."""

    augment: bool = True
    contrast: Literal["all", "power", "log", "none"] = "all"
    """Of the augmentation: power law, logarithm and none for a third of the items each, or one of
    them for every item (Lin & Yuh, table 2)."""

    validation: ValidationConfig = field(default_factory=ValidationConfig)
    num_workers: int = 2
    """Processes of the DDP group."""

    min_workers: int = 0
    """Fewest processes that it goes on with when the cluster shrinks, until it has grown again; the
    minibatch, and the shares of it that batch normalisation averages over, stay as num_workers have
    them, a process passing several one after another. 0: always num_workers."""

    use_gpu: bool = False
    gpu_kind: str = ""
    """As Ray calls it, e.g. A10G, L4, H100; empty: any."""

    memory_gb: float = 2.0
    """That each process reserves. Measured: 0.9 GB (drn_d_narrow, CPU, 8 items of 160 x 160)."""

    read_ahead: int = 0
    """Threads of each process that make the next minibatches while it trains on one."""

    checkpoint_every: int = 1_000
    """Steps between checkpoints."""

    checkpoints_kept: int = 2
    """The last ones."""

    stall_s: float = 600.0
    """A process that makes no step for so long is ended, its stacks in its log, and the group goes
    on from its last checkpoint; longer than a checkpoint takes to the store. 0: nobody looks."""

    seed: int = 0
    max_failures: int = 3
    """Restarts of the worker group from the last checkpoint before the run gives up."""

    def __post_init__(self) -> None:
        """Check what can be checked without the other sections."""
        require(self.crop % 8 == 0 and self.crop > 0, f"crop must be a multiple of 8: {self.crop}")
        require(
            self.pseudo_crop % 8 == 0 and self.pseudo_crop >= 0,
            f"pseudo_crop must be 0 or a multiple of 8: {self.pseudo_crop}",
        )
        require(
            self.pseudo_crop in (0, self.crop) or self.normalisation != "synchronised",
            f"normalisation='synchronised' needs crops of one size: pseudo_crop={self.pseudo_crop} "
            f"is not crop={self.crop}",
        )
        at_least(1, self, "steps", "batch", "num_workers", "checkpoint_every", "checkpoints_kept")
        at_least(0, self, "seed", "max_failures", "warmup_steps", "min_workers", "read_ahead")
        at_least(0, self, "stall_s")
        shares(self, "positive_patch_share", "positive_slice_share")
        require(
            0 <= self.average_decay < 1,
            f"average_decay must be at least 0 and below 1, got {self.average_decay}",
        )
        require(
            self.warmup_steps < self.steps,
            f"warmup_steps={self.warmup_steps} leave none of steps={self.steps} at the full rate",
        )
        require(self.learning_rate > 0, f"learning_rate must be positive, got {self.learning_rate}")
        require(
            self.num_workers <= self.batch,
            f"batch={self.batch} leaves some of num_workers={self.num_workers} without an item",
        )
        require(
            self.min_workers <= self.num_workers,
            f"min_workers={self.min_workers} is more than num_workers={self.num_workers}",
        )
        positive_memory(self.memory_gb)
        require(self.use_gpu or not self.gpu_kind, "gpu_kind needs use_gpu=true")
        require(self.use_gpu or self.precision != "tf32", "precision='tf32' needs use_gpu=true")
        require(
            self.use_gpu or self.normalisation != "synchronised",
            "normalisation='synchronised' needs use_gpu=true: torch has it for GPUs only",
        )
        require(
            self.init != "random" or self.normalisation != "frozen",
            "normalisation='frozen' needs init: a model whose statistics it keeps",
        )
        require(len(self.labelled) > 0, "labelled must name at least one corpus")
        require(
            not self.pseudo_labelled or 0 < self.labelled_share < 1,
            f"labelled_share must lie between 0 and 1, got {self.labelled_share}",
        )
        require(
            self.init == "random" or not self.init_trunk,
            f"init={self.init} and init_trunk both say where the weights come from; leave one",
        )
