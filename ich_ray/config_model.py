"""What a network sees, and how it labels."""

from dataclasses import dataclass
from typing import Literal

from ich_ray.config_checks import at_least, positive_memory, require


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


RankerMode = Literal["paper", "ignore_band", "soft", "none", "image_oracle", "pixel_oracle"]


@dataclass(frozen=True, kw_only=True, slots=True)
class PseudoLabelConfig:
    """Which slices a teacher labels, and what the ranker keeps."""

    teacher: str
    """Name of the model that labels."""

    other_teachers: tuple[str, ...] = ()
    """A patient whom a teacher has learned from, or was chosen by, is labelled by those of all
    teachers that never saw him; what several say is averaged."""

    unlabelled: tuple[str, ...]
    """Selections of corpora; their own labels, if any, are read by the oracles alone."""

    mode: RankerMode = "paper"
    """What becomes of a slice (method.md 1.1):

    - `paper`: positive in the top C %, with a ternary mask; else negative;
    - `ignore_band`: the same, but those from C % to band_times * C % are ignored;
    - `soft`: the teacher's probabilities are the targets of all pixels;
    - `none`: no ranking: ternary masks of all slices;
    - `image_oracle`: the corpus' own label, of the slice as a whole; no pixel labels;
    - `pixel_oracle`: the corpus' own label, and the ternary mask where it is positive.
    """

    top_percent: float = 10.0
    """C: the share of all slices that are positive, by rank of their probability."""

    band_times: float = 3.0
    """Of mode ignore_band."""

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
            self.mode != "ignore_band" or 1 < self.band_times < 100 / self.top_percent,
            f"band_times={self.band_times} with top_percent={self.top_percent}: the band must "
            "begin after C %, and end before 100 %",
        )
        require(
            len({self.teacher, *self.other_teachers}) == 1 + len(self.other_teachers),
            "teacher and other_teachers name a model twice",
        )
        require(
            0 <= self.negative_below <= self.positive_above <= 1,
            "need 0 <= negative_below <= positive_above <= 1, "
            f"got {self.negative_below} and {self.positive_above}",
        )

    @property
    def teachers(self) -> tuple[str, ...]:
        """All of them."""
        return (self.teacher, *self.other_teachers)

    @property
    def ranked(self) -> bool:
        """Whether the order of the slices decides anything."""
        return self.mode in ("paper", "ignore_band")

    @property
    def truthful(self) -> bool:
        """Whether the corpus' own labels decide: an oracle, for comparison alone."""
        return self.mode in ("image_oracle", "pixel_oracle")


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

    parts_at_once: int = 2
    """Parts of a corpus that an actor reads and writes beside each other; one batch at a time is
    computed, so that reading and writing one part hides behind computing another."""

    inference: Literal["whole_slice", "windows"] = "whole_slice"
    """Whether a network sees a slice at once, or windows of the side of its training patches, half
    a side apart, their probabilities averaged (the paper's way; 3.5 times the arithmetic)."""

    flip: bool = False
    """Whether it sees each slice flipped left to right too, both probabilities averaged."""

    precision: Literal["float32", "tf32", "bfloat16"] = "float32"
    """Of convolutions, as of models; tf32 needs a GPU."""

    compiled: bool = False
    """Whether torch.compile fuses the trunk's passes, which pays on a GPU; an actor's first batch
    then takes a minute or more, and needs a C++ compiler on every node."""

    def __post_init__(self) -> None:
        """Check that there is someone to predict."""
        at_least(1, self, "actors", "batch", "parts_at_once")
        require(
            self.gpus_per_actor > 0 or self.precision != "tf32",
            "precision='tf32' needs gpus_per_actor above 0",
        )
        at_least(0, self, "gpus_per_actor")
        positive_memory(self.memory_gb)
        require(
            self.gpus_per_actor > 0 or not self.gpu_kind, "gpu_kind needs gpus_per_actor above 0"
        )
        require(
            self.gpus_per_actor < 1 or self.gpus_per_actor == int(self.gpus_per_actor),
            f"gpus_per_actor must be a share of one GPU or whole ones, got {self.gpus_per_actor}",
        )
