"""What an audit can find: the closed list of oddities, and what each means to a person."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Literal

NO_BONE_HU, NO_AIR_HU = 500.0, -500.0
"""An exam whose highest value is below the one holds no skull; above the other, no air."""

SCALE_HU = (-1100.0, 4095.0)
"""12 bits reach from -1024 to 3071, or to 4095 with intercept 0; air is noisy by a few HU."""

PADDING_HU = -4096.0
"""Scanners pad with -2000, -2048, -3024 ... HU; below this no padding is known."""

FIELD_OF_VIEW_MM = (150.0, 350.0)
STEP_MM = (0.3, 12.0)
"""Of a head CT's slices, generously."""

TILTED_DEG, NOT_AXIAL_DEG = 1.0, 45.0
MATRIX = 512

Gravity = Literal["error", "warning", "note"]


class Oddity(StrEnum):
    """The closed list of what an audit reports of an exam, the worst first."""

    EXAM_OF_TWO_PATIENTS = "exam_of_two_patients"
    IMAGE_UNDER_TWO_PATIENTS = "image_under_two_patients"
    SLICE_TWICE = "slice_twice"
    NEGATIVE_BUT_MARKED = "negative_but_marked"
    POSITIVE_BUT_UNMARKED = "positive_but_unmarked"
    ANY_CONTRADICTS_SUBTYPES = "any_contradicts_subtypes"
    MASK_CONTRADICTS_SUBTYPES = "mask_contradicts_subtypes"
    IMAGE_IN_TWO_EXAMS = "image_in_two_exams"
    IMAGE_TWICE_IN_EXAM = "image_twice_in_exam"
    SUBTYPE_UNMARKED = "subtype_unmarked"
    BLANK = "blank"
    BELOW_AIR = "below_air"
    BEYOND_SCALE = "beyond_scale"
    NO_BONE = "no_bone"
    NO_AIR = "no_air"
    NO_POSITION = "no_position"
    SAME_PLACE = "same_place"
    GAP = "gap"
    ODD_STEP = "odd_step"
    NOT_AXIAL = "not_axial"
    NO_SPACING = "no_spacing"
    OBLONG_PIXELS = "oblong_pixels"
    ODD_FIELD_OF_VIEW = "odd_field_of_view"
    MIXED_GRID = "mixed_grid"
    MIXED_THICKNESS = "mixed_thickness"
    UNEVEN_STEPS = "uneven_steps"
    SINGLE_SLICE = "single_slice"
    PADDED = "padded"
    TILTED = "tilted"
    OTHER_MATRIX = "other_matrix"


@dataclass(frozen=True, slots=True)
class Meaning:
    """What an oddity is to a person."""

    gravity: Gravity
    title: str
    advice: str


MEANINGS: Mapping[Oddity, Meaning] = {
    Oddity.EXAM_OF_TWO_PATIENTS: Meaning(
        "error", "one exam under two patients", "repair Patient ID, or splits tear the exam apart"
    ),
    Oddity.IMAGE_UNDER_TWO_PATIENTS: Meaning(
        "error",
        "the same image under two patients",
        "one person under two names, or a copy: splits by patient do not hold; drop one",
    ),
    Oddity.SLICE_TWICE: Meaning(
        "error", "one slice in two rows", "ingest into a new store.root; a table holds a slice once"
    ),
    Oddity.NEGATIVE_BUT_MARKED: Meaning(
        "error", "labelled negative, and the mask marks pixels", "correct the label or the mask"
    ),
    Oddity.POSITIVE_BUT_UNMARKED: Meaning(
        "error", "labelled positive, and the mask is empty", "complete the mask, or leave it out"
    ),
    Oddity.ANY_CONTRADICTS_SUBTYPES: Meaning(
        "error", "the label contradicts its own subtypes", "correct the row of the labels"
    ),
    Oddity.MASK_CONTRADICTS_SUBTYPES: Meaning(
        "error", "the mask marks a subtype that the labels deny", "correct the label or the mask"
    ),
    Oddity.IMAGE_IN_TWO_EXAMS: Meaning(
        "warning",
        "the same image in two exams of one patient",
        "a copy under another study; drop one, or the patient counts double",
    ),
    Oddity.IMAGE_TWICE_IN_EXAM: Meaning(
        "warning", "the same image twice in an exam", "a series sent twice; choose one series"
    ),
    Oddity.SUBTYPE_UNMARKED: Meaning(
        "warning",
        "the labels name a subtype that the mask does not mark",
        "look whether the mask is complete",
    ),
    Oddity.BLANK: Meaning("warning", "all pixels are the same", "leave the slice out"),
    Oddity.BELOW_AIR: Meaning(
        "warning",
        f"values below {PADDING_HU:g} HU",
        "a wrong rescale, or values that wrapped: compare air with -1000 HU",
    ),
    Oddity.BEYOND_SCALE: Meaning(
        "warning", f"values above {SCALE_HU[1]:g} HU", "metal, or a wrong rescale: look at bone"
    ),
    Oddity.NO_BONE: Meaning(
        "warning",
        f"no value reaches {NO_BONE_HU:g} HU: no skull",
        "windowed before the export, a wrong rescale, or no head",
    ),
    Oddity.NO_AIR: Meaning(
        "warning",
        f"no value is below {NO_AIR_HU:g} HU: no air",
        "windowed before the export, or a wrong rescale",
    ),
    Oddity.NO_POSITION: Meaning(
        "warning", "slices without a position", "their order is a guess, and they have no neighbour"
    ),
    Oddity.SAME_PLACE: Meaning(
        "warning", "two slices of a series at one place", "two reconstructions in one series"
    ),
    Oddity.GAP: Meaning(
        "warning", "a gap between slices", "slices are missing; look for them in the ledger"
    ),
    Oddity.ODD_STEP: Meaning(
        "warning",
        f"slices not {STEP_MM[0]:g} to {STEP_MM[1]:g} mm apart",
        "positions in another unit, or a selection of slices",
    ),
    Oddity.NOT_AXIAL: Meaning(
        "warning", "coronal or sagittal slices", "a reformatted series: choose the axial one"
    ),
    Oddity.NO_SPACING: Meaning(
        "warning", "no pixel spacing", "sizes and volumes cannot be given in mm"
    ),
    Oddity.OBLONG_PIXELS: Meaning(
        "warning", "pixels that are not square", "resample, or leave the exam out"
    ),
    Oddity.ODD_FIELD_OF_VIEW: Meaning(
        "warning",
        f"a field of view not of {FIELD_OF_VIEW_MM[0]:g} to {FIELD_OF_VIEW_MM[1]:g} mm",
        "not a head, or the spacing is wrong",
    ),
    Oddity.MIXED_GRID: Meaning(
        "warning", "slices of several matrices or spacings in a series", "two series under one name"
    ),
    Oddity.MIXED_THICKNESS: Meaning(
        "note", "several slice thicknesses in a series", "usual where the base is scanned thinner"
    ),
    Oddity.UNEVEN_STEPS: Meaning(
        "note", "slices closer together in part of a series", "usual with two thicknesses"
    ),
    Oddity.SINGLE_SLICE: Meaning(
        "note", "a series of a single slice", "it is its own neighbour in the network's input"
    ),
    Oddity.PADDED: Meaning(
        "note",
        f"values below {SCALE_HU[0]:g} HU: padding without its tag",
        "none needed: every window takes it for air",
    ),
    Oddity.TILTED: Meaning("note", "a tilted gantry", "none needed: order is along the normal"),
    Oddity.OTHER_MATRIX: Meaning(
        "note", f"slices that are not {MATRIX} x {MATRIX}", "none needed: input.size fits them"
    ),
}


@dataclass(frozen=True, kw_only=True, slots=True)
class Finding:
    """One oddity of one exam."""

    oddity: Oddity
    corpus: str
    exam: str
    count: int
    """Slices that show it."""

    slices: tuple[str, ...]
    """Some of them."""

    detail: str = ""
    """The numbers."""


def worst_first(findings: Sequence[Finding]) -> list[Finding]:
    """Return findings by the order of `Oddity`, then by their number of slices."""
    place = {oddity: i for i, oddity in enumerate(Oddity)}
    return sorted(findings, key=lambda f: (place[f.oddity], -f.count, f.corpus, f.exam))
