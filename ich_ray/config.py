"""Every setting, as a field of one frozen dataclass per section; settings.py reads them."""

import string
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

from ich_ray.config_budget import BudgetConfig
from ich_ray.config_log import LogConfig
from ich_ray.errors import ConfigError


def _require(fits: bool, message: str) -> None:  # noqa: FBT001  (the check itself)
    if not fits:
        raise ConfigError(message)


def _at_least(least: int, section: object, *names: str) -> None:
    for name in names:
        value = getattr(section, name)
        _require(value >= least, f"{name} must be at least {least}, got {value}")


def _positive_memory(section: "PredictConfig | ModelConfig") -> None:
    _require(section.memory_gb > 0, f"memory_gb must be above 0, got {section.memory_gb}")


def _shares(section: object, *names: str) -> None:
    for name in names:
        value = getattr(section, name)
        _require(0 <= value <= 1, f"{name} must lie in [0, 1], got {value}")


def template_names(template: str) -> set[str]:
    """Return the names in braces of a template.

    >>> sorted(template_names("ID_{patient}_ID_{exam}.nii.gz"))
    ['exam', 'patient']

    Raises:
        ConfigError: Its braces do not match.
    """
    try:
        fields = list(string.Formatter().parse(template))
    except ValueError as error:
        raise ConfigError(f"the template {template!r} cannot be read: {error}") from None
    return {name for _, name, _, _ in fields if name is not None}


@dataclass(frozen=True, kw_only=True, slots=True)
class StoreConfig:
    """Where tables and checkpoints live."""

    root: str
    """Any fsspec URL or local folder, e.g. s3://ich/experiment-7."""

    endpoint_url: str = ""
    """An S3-compatible server, e.g. http://127.0.0.1:8333; empty for AWS."""

    max_attempts: int = 10
    """Attempts of one request before the store counts as away."""


@dataclass(frozen=True, kw_only=True, slots=True)
class WorkersConfig:
    """Nodes of one kind that a cluster's autoscaler may start; Ray 2.60 does not tell.

    The name of the section is that of the node type of the launcher, or of KubeRay's worker group.
    """

    max: int
    """Nodes of this kind at most: max_workers, maxReplicas."""

    cpus: float
    memory_gb: float
    """What processes may reserve on one, GB: without what the object store holds."""

    gpus: float = 0.0
    gpu_kind: str = ""
    """As Ray calls it, e.g. A10G, L4, H100."""

    def __post_init__(self) -> None:
        """Check the figures."""
        _at_least(0, self, "max", "cpus", "memory_gb", "gpus")


@dataclass(frozen=True, kw_only=True, slots=True)
class ClusterConfig:
    """Which Ray cluster, and how much of it."""

    address: str = "local"
    """`local` starts one in this process's machine and ends it; `auto` joins the one around."""

    num_cpus: int = 2
    """CPUs of a cluster that is started here."""

    object_store_mb: int = 300
    """Shared memory of a cluster that is started here, MB."""

    cache: str = ""
    """Folder on each node for decoded slices; empty: in the system's temporary folder."""

    node_variables: tuple[str, ...] = ()
    """Environment variables that every node must have, e.g. AWS_SECRET_ACCESS_KEY; names only."""

    lease_s: float = 60.0
    """After as long without a sign of life another run may take over what one was writing."""

    join_s: float = 30.0
    """What does not fit waits as long for nodes to join before it is refused, as after a restart
    of the head; not for those of a cluster that is started here."""

    workers: Mapping[str, WorkersConfig] = field(default_factory=dict)
    """What a cluster that scales may add; without it, only what is there counts as room."""

    def __post_init__(self) -> None:
        """Check the lease: its holder beats four times within it, each a request to the store."""
        _at_least(1, self, "lease_s")
        _at_least(0, self, "join_s")


@dataclass(frozen=True, kw_only=True, slots=True)
class SubmitConfig:
    """How `ich-ray submit` starts a stage as a job of a cluster; changes no result."""

    code: Literal["upload", "image"] = "upload"
    """Send the packages of this installation along, or use those of the nodes' image."""

    dependencies: Literal["image", "lock"] = "image"
    """Those of the nodes' image, or install constraints.txt on each node first (minutes)."""

    driver_cpus: float = 0.0
    """Reserved for the job's own process; 0 lets it run on a head without CPUs."""

    driver_memory_gb: float = 0.0
    """Reserved for the job's own process, GB."""

    driver_resources: Mapping[str, float] = field(default_factory=dict)
    """Custom resources of the node that the job's own process needs."""

    attempts: int = 1
    """How often a job is started that the surroundings ended (exit code 5)."""

    def __post_init__(self) -> None:
        """Check the numbers."""
        _at_least(0, self, "driver_cpus", "driver_memory_gb")
        _at_least(1, self, "attempts")


@dataclass(frozen=True, kw_only=True, slots=True)
class IngestConfig:
    """The rate by which `ich-ray ingest --dry-run` estimates hours; it changes no result."""

    cpu_seconds_per_1000_slices: float = 3.0
    """Of 512 x 512 uncompressed pixels on a 2.5 GHz core; `make bench-speed` measures yours."""

    def __post_init__(self) -> None:
        """Check the rate."""
        _at_least(0, self, "cpu_seconds_per_1000_slices")


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
        _require(self.window[0] < self.window[1], f"need low < high in window, got {self.window}")
        _require(
            self.size >= 0 and self.size % 8 == 0,
            f"size must be a multiple of the network's stride 8, got {self.size}",
        )

    @property
    def num_channels(self) -> int:
        """Channels of the network's input."""
        return 3 if self.channels == "neighbours" else 1


MaskMeaning = Literal[
    "any", "epidural", "intraparenchymal", "intraventricular", "subarachnoid", "subdural"
]
"""What a value of a mask stands for; `any`: a hemorrhage of no known type."""


@dataclass(frozen=True, kw_only=True, slots=True)
class NiftiConfig:
    """Where NIfTI files of a source lie and what they hold; keys, with `{patient}` and `{exam}`.

    Layout `nifti` needs `image`, and reads `mask` where it is given. Layout `folder` finds the
    exam of a NIfTI mask among the DICOM objects beside it, or, with both templates, in the folder
    `image`.
    """

    image: str = ""
    """E.g. `ct_scans/{patient}.nii`; of layout `folder` a folder of DICOM, `images/{exam}`."""

    mask: str = ""
    """E.g. `masks/{patient}.nii`."""

    prefix: str = ""
    """Set before each name to make it an identifier: bare numbers name others elsewhere."""

    mask_values: Mapping[str, MaskMeaning] = field(default_factory=dict)
    """What a mask's values above 0 mean; empty: all of them a hemorrhage."""

    labels: Literal["none", "ct_ich"] = "none"
    """`ct_ich`: the root holds `hemorrhage_diagnosis_raw_ct.csv`, a row a slice."""

    def __post_init__(self) -> None:
        """Check the templates and the values."""
        for name in ("image", "mask"):
            names = template_names(getattr(self, name))
            _require(
                names <= {"patient", "exam"} and bool(names) == bool(getattr(self, name)),
                f"nifti.{name} must hold {{patient}}, {{exam}} or both, and no other braces, "
                f"got {getattr(self, name)!r}",
            )
        _require(
            not self.mask or template_names(self.mask) == template_names(self.image),
            "nifti.mask must hold the same names in braces as nifti.image",
        )
        _require(
            self.labels == "none" or template_names(self.image) == {"patient"},
            "nifti.labels=ct_ich names patients: nifti.image must hold {patient} alone",
        )
        for value in self.mask_values:
            _require(
                value.isdecimal() and 0 < int(value) < 256,
                f"nifti.mask_values must be whole numbers from 1 to 255, got {value!r}",
            )


@dataclass(frozen=True, kw_only=True, slots=True)
class CorpusConfig:
    """One source of exams and the corpus that it becomes."""

    layout: Literal["rsna", "cq500", "ct_ich", "nifti", "folder"]
    """How the source lays out its objects; see ich_ray/storage/corpora."""

    source: str
    """Folder or prefix of the objects: any fsspec URL, also a zip archive or a path within one."""

    labels: str = ""
    """CSV of labels where it lies outside the source; empty: as the layout has it."""

    series_overrides: str = ""
    """CSV of `name,decision`: exams or series to keep or drop, whatever the rules of series say."""

    average_to_mm: float = 0.0
    """Average thinner slices of a series to about this thickness; 0 keeps them as they are."""

    splits: Mapping[str, float] = field(default_factory=dict)
    """Shares of patients by name, by hash, e.g. {train = 0.8, tune = 0.2}; together at most 1."""

    split_seed: int = 0
    """Another seed, another division of the same patients."""

    slices_per_part: int = 512
    """Slices of one Parquet part, about; an exam is never divided, nor a patient."""

    reader: Literal["dicomsdl", "pydicom"] = "dicomsdl"
    """Who reads ordinary DICOM objects; pydicom reads all others, and gives the same slices."""

    max_rejected_share: float = 0.05
    """A larger share of rejected objects fails the ingest before anything is committed."""

    nifti: NiftiConfig = field(default_factory=NiftiConfig)

    def __post_init__(self) -> None:
        """Check shares and sizes."""
        _require(
            self.layout != "nifti" or self.nifti.image != "",
            "layout nifti needs nifti.image, e.g. ct_scans/{patient}.nii",
        )
        shares = sum(self.splits.values())
        _require(
            all(s > 0 for s in self.splits.values()) and shares <= 1 + 1e-9,
            f"splits must be positive shares that add up to 1 at most, got {dict(self.splits)}",
        )
        _at_least(1, self, "slices_per_part")
        _at_least(0, self, "average_to_mm")
        _shares(self, "max_rejected_share")


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
    schedule: Literal["poly", "step"] = "poly"
    patch_loss_weight: float = 1.0
    """Lambda: the weight of the patch cross-entropy beside the pixel cross-entropy."""

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
        _require(self.crop % 8 == 0 and self.crop > 0, f"crop must be a multiple of 8: {self.crop}")
        _at_least(1, self, "steps", "batch", "num_workers", "checkpoint_every")
        _at_least(0, self, "seed", "max_failures")
        _shares(self, "positive_patch_share", "positive_slice_share")
        _require(
            self.learning_rate > 0, f"learning_rate must be positive, got {self.learning_rate}"
        )
        _require(
            self.batch % self.num_workers == 0,
            f"batch={self.batch} must be a multiple of num_workers={self.num_workers}",
        )
        _positive_memory(self)
        _require(self.use_gpu or not self.gpu_kind, "gpu_kind needs use_gpu=true")
        _require(len(self.labelled) > 0, "labelled must name at least one corpus")
        _require(
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
        _require(
            0 < self.top_percent < 100,
            f"top_percent must lie between 0 and 100, got {self.top_percent}: "
            "0 would leave no positive, 100 no negative",
        )
        _require(
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
        _at_least(1, self, "actors", "batch")
        _at_least(0, self, "gpus_per_actor")
        _positive_memory(self)
        _require(
            self.gpus_per_actor > 0 or not self.gpu_kind, "gpu_kind needs gpus_per_actor above 0"
        )
        _require(
            self.gpus_per_actor < 1 or self.gpus_per_actor == int(self.gpus_per_actor),
            f"gpus_per_actor must be a share of one GPU or whole ones, got {self.gpus_per_actor}",
        )


@dataclass(frozen=True, kw_only=True, slots=True)
class EvaluateConfig:
    """Which models are compared on which exams, and how."""

    models: Mapping[str, str]
    """Name in the report -> name of the model, e.g. baseline = "teacher"."""

    test: tuple[str, ...]
    """Selections with masks that no model has seen."""

    tuning: tuple[str, ...] = ()
    """Selections on which the pixel threshold of each model is fixed; empty: p = 0.5."""

    exam_score_slices: int = 1
    """An exam's score is the mean of this many highest slice probabilities; 1 is the maximum."""

    resamples: int = 2_000
    seed: int = 0
    actors: int = 2
    gallery: int = 12
    """Slices shown in the report."""

    report: str = "out/report"
    """Local folder of report.json and index.html."""

    def __post_init__(self) -> None:
        """Check that an interval can be made."""
        _require(self.resamples >= 100, f"resamples={self.resamples}: an interval needs 100")
        _require(len(self.models) > 0, "models must name at least one model")
        _at_least(1, self, "actors", "exam_score_slices")
        _at_least(0, self, "seed", "gallery")


@dataclass(frozen=True, kw_only=True, slots=True)
class AuditConfig:
    """Where the audit of the corpora goes, and how much of them it shows."""

    report: str = "out/audit"
    """Local folder of audit.json and index.html."""

    thumbnails: int = 60
    """Exams of the contact sheet: those with findings, then others evenly over all."""

    def __post_init__(self) -> None:
        """Check the number of pictures."""
        _at_least(0, self, "thumbnails")


@dataclass(frozen=True, kw_only=True, slots=True)
class ShowConfig:
    """Where the pages of exams go, and how large they may become."""

    folder: str = "out/show"
    """Local folder: one page an exam, and one a corpus."""

    thumbnails: int = 120
    """Exams that the page of a corpus shows a picture of, evenly over all."""

    max_slices: int = 400
    """Slices of one page; of a longer exam they are chosen evenly, and the page says so."""

    since: int = -1
    """Version of the corpus: its page lists exams that hold anything new since; -1 lists all."""

    def __post_init__(self) -> None:
        """Check the numbers of pictures."""
        _at_least(0, self, "thumbnails")
        _at_least(1, self, "max_slices")


@dataclass(frozen=True, kw_only=True, slots=True)
class PhantomConfig:
    """Synthetic exams, written as DICOM before the stages read them."""

    site: Literal["a", "b", "c"]
    folder: str
    """Local folder or prefix that receives the objects: any fsspec URL."""

    num_exams: int
    labelled: bool = True
    """Write labels.csv and the masks; without them the site is an unlabelled source."""

    num_slices: int = 20
    matrix: int = 256
    seed: int = 0

    def __post_init__(self) -> None:
        """Check that there is something to write."""
        _at_least(1, self, "num_exams", "num_slices", "matrix")
        _at_least(0, self, "seed")


@dataclass(frozen=True, kw_only=True, slots=True)
class Settings:
    """A whole experiment: named corpora, models and pseudo-labels, and one comparison."""

    store: StoreConfig
    cluster: ClusterConfig = ClusterConfig()
    log: LogConfig = field(default_factory=LogConfig)
    identity: Literal["public", "environment"] = "environment"
    """Where the pseudonyms' key comes from: the public one, or ICH_RAY_HMAC_KEY."""

    submit: SubmitConfig = SubmitConfig()
    budget: BudgetConfig = field(default_factory=BudgetConfig)
    ingest: IngestConfig = IngestConfig()
    input: InputConfig = InputConfig()
    predict: PredictConfig = PredictConfig()
    phantoms: Mapping[str, PhantomConfig] = field(default_factory=dict)
    corpora: Mapping[str, CorpusConfig] = field(default_factory=dict)
    models: Mapping[str, ModelConfig] = field(default_factory=dict)
    pseudo_labels: Mapping[str, PseudoLabelConfig] = field(default_factory=dict)
    evaluate: EvaluateConfig | None = None
    audit: AuditConfig = AuditConfig()
    show: ShowConfig = ShowConfig()

    def __post_init__(self) -> None:
        """Check that every name that one section uses is a section of its kind."""
        for name, model in self.models.items():
            self._selections(f"models.{name}.labelled", model.labelled)
            for pool in model.pseudo_labelled:
                self._known(f"models.{name}.pseudo_labelled", pool, self.pseudo_labels)
            if model.init != "random":
                self._known(f"models.{name}.init", model.init, self.models)
        for name, labels in self.pseudo_labels.items():
            self._known(f"pseudo_labels.{name}.teacher", labels.teacher, self.models)
            self._selections(f"pseudo_labels.{name}.unlabelled", labels.unlabelled)
            self._selections(f"pseudo_labels.{name}.prevalence_of", labels.prevalence_of)
        if self.evaluate is not None:
            for model_name in self.evaluate.models.values():
                self._known("evaluate.models", model_name, self.models)
            self._selections("evaluate.test", self.evaluate.test)
            self._selections("evaluate.tuning", self.evaluate.tuning)

    def _known(self, where: str, name: str, section: Mapping[str, object]) -> None:
        if name not in section:
            raise ConfigError(f"{where} names {name!r}; known: {', '.join(section) or 'none'}")

    def _selections(self, where: str, selections: tuple[str, ...]) -> None:
        for selection in selections:
            corpus, _, split = selection.partition(":")
            self._known(where, corpus, self.corpora)
            if split:
                self._known(f"{where} ({corpus})", split, self.corpora[corpus].splits)
