"""What a network sees, how it is trained, and how it labels."""

from dataclasses import dataclass
from typing import Literal

from ich_ray.config_checks import at_least, positive_memory, require, shares


@dataclass(frozen=True, kw_only=True, slots=True)
class InputConfig:
    """What a network sees: its preprocessing id is a hash of this section."""

    window: tuple[float, float] = (-40.0, 160.0)
    """HU clipped to this range and scaled to [0, 1]."""

    size: int = 0
    """Side of the square pixel grid; 0 keeps the slices' own, which must then agree."""

    channels: Literal["neighbours", "single"] = "neighbours"
    """The slice and its two physical neighbours, or the slice alone."""

    def __post_init__(self) -> None:
        """Check the window and the grid."""
        require(self.window[0] < self.window[1], f"need low < high in window, got {self.window}")
        require(
            self.size >= 0 and self.size % 8 == 0,
            f"size must be a multiple of the network's stride 8, got {self.size}",
        )

    @property
    def num_channels(self) -> int:
        """Channels of the network's input."""
        return 3 if self.channels == "neighbours" else 1


@dataclass(frozen=True, kw_only=True, slots=True)
class ModelConfig:
    """A network and how it is trained. Defaults are the paper's, or (ours) where it is silent."""

    network: Literal["drn_d_38", "drn_d_22", "drn_d_narrow"] = "drn_d_38"
    labelled: tuple[str, ...]
    """Selections of corpora with masks: `corpus` or `corpus:split`."""

    pseudo_labelled: tuple[str, ...] = ()
    """Names of pseudo_labels sections; empty for a teacher."""

    labelled_share: float = 0.6
    """Probability that an item of a minibatch is drawn from the labelled corpora."""

    init: str = "random"
    """`random`, or the name of the model whose weights it starts from."""

    crop: int = 240
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

    normalisation: Literal["local", "synchronised", "frozen"] = "local"
    """Batch normalisation by the mean and variance of each process's own items, of the items of all
    processes (GPUs only), or by those that the starting weights came with, which stay."""

    positive_patch_share: float = 0.5
    """In a positive slice, at least this share of the patches hold a positive pixel."""

    positive_slice_share: float = 0.0
    """At least this share of the items come from positive slices; 0 draws slices uniformly."""

    augment: bool = True
    num_workers: int = 2
    """Processes of the DDP group."""

    use_gpu: bool = False
    gpu_kind: str = ""
    """As Ray calls it, e.g. A10G, L4, H100; empty: any."""

    memory_gb: float = 2.0
    """That each process reserves. Measured: 0.9 GB (drn_d_narrow, CPU, 8 items of 160 x 160)."""

    checkpoint_every: int = 1_000
    """Steps between checkpoints."""

    seed: int = 0
    max_failures: int = 3
    """Restarts of the worker group from the last checkpoint before the run gives up."""

    def __post_init__(self) -> None:
        """Check what can be checked without the other sections."""
        require(self.crop % 8 == 0 and self.crop > 0, f"crop must be a multiple of 8: {self.crop}")
        at_least(1, self, "steps", "batch", "num_workers", "checkpoint_every")
        at_least(0, self, "seed", "max_failures", "warmup_steps")
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
            self.batch % self.num_workers == 0,
            f"batch={self.batch} must be a multiple of num_workers={self.num_workers}",
        )
        positive_memory(self.memory_gb)
        require(self.use_gpu or not self.gpu_kind, "gpu_kind needs use_gpu=true")
        require(
            self.use_gpu or self.normalisation != "synchronised",
            "normalisation='synchronised' needs use_gpu=true: torch has it for GPUs only",
        )
        require(len(self.labelled) > 0, "labelled must name at least one corpus")
        require(
            not self.pseudo_labelled or 0 < self.labelled_share < 1,
            f"labelled_share must lie between 0 and 1, got {self.labelled_share}",
        )


@dataclass(frozen=True, kw_only=True, slots=True)
class PseudoLabelConfig:
    """Which slices a teacher labels, and what the ranker keeps."""

    teacher: str
    """Name of the model that labels."""

    unlabelled: tuple[str, ...]
    """Selections of corpora; their own labels, if any, are not read."""

    top_percent: float = 10.0
    """C: the share of all slices that are positive, by rank of their probability."""

    prevalence_of: tuple[str, ...] = ()
    """Take C from the prevalence of these labelled selections instead of top_percent."""

    positive_above: float = 0.7
    """K: in a positive slice, pixels above this are positive ..."""

    negative_below: float = 0.3
    """... below this negative, and between the two ignored."""

    def __post_init__(self) -> None:
        """Check the thresholds."""
        require(
            0 < self.top_percent < 100,
            f"top_percent must lie between 0 and 100, got {self.top_percent}: "
            "0 would leave no positive, 100 no negative",
        )
        require(
            0 <= self.negative_below <= self.positive_above <= 1,
            "need 0 <= negative_below <= positive_above <= 1, "
            f"got {self.negative_below} and {self.positive_above}",
        )


@dataclass(frozen=True, kw_only=True, slots=True)
class PredictConfig:
    """The actor pool that predicts, for pseudo-labels and for evaluation."""

    actors: int = 2
    gpus_per_actor: float = 0.0
    gpu_kind: str = ""
    """As Ray calls it, e.g. A10G, L4, H100; empty: any."""

    memory_gb: float = 1.5
    """That each actor reserves. Measured: 0.5 GB, at exams of 20 slices of 256 x 256 on a CPU; a
    slice of 512 x 512 takes 3 MB more, so that the default holds exams of about 300."""

    batch: int = 8
    """Slices of one forward pass."""

    def __post_init__(self) -> None:
        """Check that there is someone to predict."""
        at_least(1, self, "actors", "batch")
        at_least(0, self, "gpus_per_actor")
        positive_memory(self.memory_gb)
        require(
            self.gpus_per_actor > 0 or not self.gpu_kind, "gpu_kind needs gpus_per_actor above 0"
        )
        require(
            self.gpus_per_actor < 1 or self.gpus_per_actor == int(self.gpus_per_actor),
            f"gpus_per_actor must be a share of one GPU or whole ones, got {self.gpus_per_actor}",
        )
