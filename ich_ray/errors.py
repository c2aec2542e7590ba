"""What can go wrong that a user can act on, each with the exit code of its kind."""

from enum import StrEnum


class IchRayError(Exception):
    """An error that a person can act on; its message says what, where and what to do.

    Anything else that is raised is a bug of ours, and crashes with exit code 1.
    """

    exit_code = 1

    def __init__(self, message: str) -> None:
        """Keep the sentence for a person."""
        super().__init__(message)
        self.message = message

    def __str__(self) -> str:
        """Return the sentence alone: Ray Data appends advice of its own to `args`."""
        return self.message


class ConfigError(IchRayError):
    """Settings or usage are wrong; raised before anything runs."""

    exit_code = 2


class QualityError(IchRayError):
    """A gate on data or quality failed; nothing was committed past the gate."""

    exit_code = 4


class BudgetError(QualityError):
    """The hours or the cost of a job have passed its budget; what was finished is kept."""


class SurroundingsError(IchRayError):
    """The store, the cluster or the disk failed; the same command may be tried again."""

    exit_code = 5


class Reason(StrEnum):
    """Why an input object is not in the corpus: the closed list of the ledger."""

    UNREADABLE = "unreadable"
    """The store listed the object and then did not give its bytes."""

    MISSING = "missing"
    """A label names an object that the source does not hold."""

    UNSUPPORTED_MEMBER = "unsupported_member"
    """A member of an archive that is encrypted, or packed otherwise than by deflate."""

    NOT_DICOM = "not_dicom"
    NOT_NIFTI = "not_nifti"
    NOT_CT = "not_ct"
    NOT_AXIAL = "not_axial"
    """A volume whose slices were not taken across the patient's long axis."""

    LOCALIZER = "localizer"
    """A scout: it plans the exam, and is no slice of it."""

    DOCUMENT = "document"
    """A dose report, a screen or a presentation state beside the slices of an exam."""

    OTHER_SERIES = "other_series"
    """Of a series that is not read; the table of series says by which rule."""

    SAME_POSITION = "same_position"
    """Its series holds an earlier slice at the same position."""

    NOT_AN_IMAGE = "not_an_image"
    """No pixels, or pixels that are no single grey plane: reports, multi-frame, colour."""

    NO_IDENTITY = "no_identity"
    """Patient, exam, series or instance identifier absent: grouping would be a guess."""

    NO_RESCALE = "no_rescale"
    """Nothing makes HU of the stored values."""

    INEXACT_PIXELS = "inexact_pixels"
    """Floating-point pixels that no integers of 16 bits hold exactly."""

    BAD_HEADER = "bad_header"
    TRUNCATED_PIXELS = "truncated_pixels"
    UNDECODABLE_PIXELS = "undecodable_pixels"
    DECODER_CRASHED = "decoder_crashed"
    """Its decoder ended the process that ran it, twice."""

    TOO_SLOW = "too_slow"
    TOO_LARGE = "too_large"
    """Decoding it takes more time, or more memory, than one object may."""

    MASK_WITHOUT_SLICE = "mask_without_slice"
    MASK_MISMATCH = "mask_mismatch"
    AUTOMATIC_MASK = "automatic_mask"
    """A segmentation that an algorithm has made alone: a prediction, and no reference."""

    UNKNOWN_FILE = "unknown_file"
    """Not an object that this layout knows."""


EXPECTED = frozenset(
    {
        Reason.MISSING,
        Reason.LOCALIZER,
        Reason.DOCUMENT,
        Reason.OTHER_SERIES,
        Reason.AUTOMATIC_MASK,
    }
)
"""What any healthy source holds beside the slices that are read: no sign of a broken one."""


class InvalidExam(Exception):
    """One input object cannot be used; the ledger records the reason, and the job goes on."""

    def __init__(self, reason: Reason, message: str) -> None:
        """Keep the code for the ledger and the sentence for a person."""
        super().__init__(message)
        self.reason = reason


def first_line(said: object) -> str:
    """Return the first line of what an error or a text says; of a silent error its class's name."""
    lines = str(said).strip().splitlines()
    if lines:
        return lines[0]
    return type(said).__name__ if isinstance(said, BaseException) else ""
