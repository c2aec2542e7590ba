"""Sources of exams, the corpora that they become, and synthetic ones."""

import string
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

from ich_ray.config_checks import at_least, require, shares
from ich_ray.errors import ConfigError


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
            require(
                names <= {"patient", "exam"} and bool(names) == bool(getattr(self, name)),
                f"nifti.{name} must hold {{patient}}, {{exam}} or both, and no other braces, "
                f"got {getattr(self, name)!r}",
            )
        require(
            not self.mask or template_names(self.mask) == template_names(self.image),
            "nifti.mask must hold the same names in braces as nifti.image",
        )
        require(
            self.labels == "none" or template_names(self.image) == {"patient"},
            "nifti.labels=ct_ich names patients: nifti.image must hold {patient} alone",
        )
        for value in self.mask_values:
            require(
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

    automatic_masks: bool = False
    """Take DICOM segmentations that say AUTOMATIC as reference masks: readers have checked them.
    Else they are rejected, as what this or another system has predicted."""

    max_rejected_share: float = 0.05
    """A larger share of rejected objects fails the ingest before anything is committed."""

    nifti: NiftiConfig = field(default_factory=NiftiConfig)

    def __post_init__(self) -> None:
        """Check shares and sizes."""
        require(
            self.layout != "nifti" or self.nifti.image != "",
            "layout nifti needs nifti.image, e.g. ct_scans/{patient}.nii",
        )
        require(
            not self.automatic_masks or self.layout not in ("ct_ich", "nifti"),
            f"automatic_masks is of DICOM segmentations, which layout {self.layout} does not have",
        )
        together = sum(self.splits.values())
        require(
            all(s > 0 for s in self.splits.values()) and together <= 1 + 1e-9,
            f"splits must be positive shares that add up to 1 at most, got {dict(self.splits)}",
        )
        at_least(1, self, "slices_per_part")
        at_least(0, self, "average_to_mm")
        shares(self, "max_rejected_share")


@dataclass(frozen=True, kw_only=True, slots=True)
class IngestConfig:
    """The rate by which `ich-ray ingest --dry-run` estimates hours; it changes no result."""

    cpu_seconds_per_1000_slices: float = 3.0
    """Of 512 x 512 uncompressed pixels on a 2.5 GHz core; `make bench-speed` measures yours."""

    def __post_init__(self) -> None:
        """Check the rate."""
        at_least(0, self, "cpu_seconds_per_1000_slices")


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
    reader: int = 0
    """Whose masks: 0: the truth; 1, 2, ...: other readings of the same exams, whose outlines differ
    as those of several readers do."""

    def __post_init__(self) -> None:
        """Check that there is something to write."""
        at_least(1, self, "num_exams", "num_slices", "matrix")
        at_least(0, self, "seed", "reader")
