"""One synthetic exam: a head, its bleeds, and what a site's scanner makes of them."""

import hashlib
from dataclasses import dataclass, replace

import numpy as np
from jaxtyping import Bool, Float32, Float64, Integer, UInt8

from ich_ray.errors import ConfigError
from ich_ray.exam import HEMORRHAGE_TYPES
from ich_ray.phantom.anatomy import grow
from ich_ray.phantom.bleeds import bleed
from ich_ray.phantom.head import Geometry
from ich_ray.phantom.readers import read_again
from ich_ray.phantom.scanner import measure
from ich_ray.phantom.sites import Site

THICKNESS_MM = 5.0
SMALLEST_MATRIX = 32
EXAMS_PER_FOLLOW_UP = 5  # every fifth exam is a second one of the patient before
ATTEMPTS = 100


@dataclass(frozen=True, kw_only=True, eq=False)
class PhantomExam:
    """One exam with its truth. Arrays are ordered from the base of the skull to the vertex."""

    site: Site
    exam: str
    """Name of the exam, e.g. `a-0-00007`."""

    patient: str
    """Name of the patient; a follow-up shares that of the exam before."""

    study_uid: str
    series_uid: str
    sop_uids: tuple[str, ...]
    stored: Integer[np.ndarray, "slice row col"]
    """Stored values, int16 or uint16; HU = slope * stored + intercept."""

    slope: float
    intercept: float
    mask: UInt8[np.ndarray, "slice row col"]
    """0, or 1 + the place of the bleed's type in `HEMORRHAGE_TYPES`."""

    spacing_mm: tuple[float, float]
    """(row, column)."""

    thickness_mm: float
    tilt_deg: float
    positions_mm: Float64[np.ndarray, "slice 3"]
    """Centre of the first pixel of each slice, patient coordinates: left, posterior, superior."""

    reader: int = 0
    """Whose outlines the mask has; 0: the truth."""

    @property
    def hounsfield(self) -> Float32[np.ndarray, "slice row col"]:
        """The measured image in HU."""
        return self.stored.astype(np.float32) * np.float32(self.slope) + np.float32(self.intercept)

    @property
    def subtypes(self) -> Bool[np.ndarray, "slice subtype"]:
        """Which types bleed in which slice, in the order of `HEMORRHAGE_TYPES`."""
        codes = np.arange(1, len(HEMORRHAGE_TYPES) + 1)
        found = [[(plane == code).any() for code in codes] for plane in self.mask]
        return np.array(found, bool)

    @property
    def orientation(self) -> tuple[float, float, float, float, float, float]:
        """Image Orientation (Patient) (0020,0037): direction of the rows, then of the columns."""
        tilt = np.deg2rad(self.tilt_deg)
        return 1.0, 0.0, 0.0, 0.0, float(np.cos(tilt)), -float(np.sin(tilt))


def make_exam(
    site: Site, *, seed: int, index: int, matrix: int = 256, num_slices: int = 20
) -> PhantomExam:
    """Make one exam; it depends on the arguments alone.

    Args:
        site: Population and scanner; `site.positive_share` of the exams bleed.
        seed: Of the corpus, 0 or more.
        index: Of the exam in the corpus, 0 or more. Every fifth is a second exam of one patient.
        matrix: Rows and columns, 32 or more.
        num_slices: Slices of 5 mm, centred a little above the middle of the brain.

    Raises:
        ConfigError: An argument is out of range.
    """
    if seed < 0 or index < 0 or matrix < SMALLEST_MATRIX or num_slices < 1:
        raise ConfigError(
            f"phantom: need seed >= 0, index >= 0, matrix >= {SMALLEST_MATRIX} and "
            f"num_slices >= 1, got {seed}, {index}, {matrix} and {num_slices}"
        )
    follow_up = index % EXAMS_PER_FOLLOW_UP == EXAMS_PER_FOLLOW_UP - 1
    patient = f"{site.name}-{seed}-p{index - follow_up:05d}"
    exam = f"{site.name}-{seed}-{index:05d}"
    rng = _generator(exam)
    positive = rng.random() < site.positive_share
    geometry = _position(site, rng, matrix, num_slices)
    anatomy = grow(site, geometry, _generator(patient))
    mask = np.zeros(anatomy.hu.shape, np.uint8)
    for _ in range(ATTEMPTS if positive else 0):
        mask = bleed(anatomy, rng)
        if mask.any():
            break
    stored = measure(anatomy.hu, anatomy.head, site, rng)
    positions = np.zeros((num_slices, 3))
    half = (matrix - 1) / 2 * geometry.pixel_mm
    tilt = np.deg2rad(site.tilt_deg)
    positions[:, 0] = -half
    positions[:, 1] = -half * np.cos(tilt)
    positions[:, 2] = (
        geometry.first_z_mm + geometry.step_mm * np.arange(num_slices) + half * np.sin(tilt)
    )
    return PhantomExam(
        site=site,
        exam=exam,
        patient=patient,
        study_uid=uid(exam, "study"),
        series_uid=uid(exam, "series"),
        sop_uids=tuple(uid(exam, f"slice {number}") for number in range(num_slices)),
        stored=stored,
        slope=1.0,
        intercept=float(site.intercept),
        mask=mask,
        spacing_mm=(geometry.pixel_mm, geometry.pixel_mm),
        thickness_mm=THICKNESS_MM,
        tilt_deg=site.tilt_deg,
        positions_mm=positions.round(4),
    )


def read_by(exam: PhantomExam, reader: int) -> PhantomExam:
    """Return an exam as another reader outlines it; 0 is the truth.

    >>> from ich_ray.phantom.sites import SITES
    >>> exam = make_exam(SITES["a"], seed=0, index=1, matrix=32, num_slices=4)
    >>> read_by(exam, 0) is exam
    True
    """
    if reader == 0:
        return exam
    rng = _generator(f"{exam.exam} reader {reader}")
    mask = read_again(exam.mask, spacing_mm=exam.spacing_mm, rng=rng)
    return replace(exam, mask=mask, reader=reader)


def uid(*parts: str) -> str:
    """Return a DICOM UID that depends on the parts alone.

    Source: DICOM PS3.5 B.2 (UIDs of the root 2.25 from an integer of 128 bits).
    """
    digest = hashlib.sha256("\0".join(("ich_ray phantom", *parts)).encode()).digest()
    return f"2.25.{int.from_bytes(digest[:16])}"


def _generator(name: str) -> np.random.Generator:
    """Return the generator that belongs to one exam or patient."""
    digest = hashlib.sha256(f"ich_ray phantom {name}".encode()).digest()
    return np.random.default_rng(np.random.SeedSequence(int.from_bytes(digest)))


def _position(site: Site, rng: np.random.Generator, matrix: int, num_slices: int) -> Geometry:
    """Lay the patient on the table: never quite straight, never quite in the middle."""
    step = THICKNESS_MM / np.cos(np.deg2rad(site.tilt_deg))
    return Geometry(
        matrix=matrix,
        pixel_mm=round(site.field_of_view_mm * rng.uniform(0.98, 1.03) / matrix, 6),
        thickness_mm=THICKNESS_MM,
        tilt_deg=site.tilt_deg,
        first_z_mm=round(float(rng.normal(12, 2) - step * (num_slices - 1) / 2), 3),
        num_slices=num_slices,
        rotation_deg=float(rng.normal(0, 5)),
        shift_mm=(float(rng.normal(0, 4)), float(rng.normal(-4, 4))),
    )
