"""The one boundary where anything may be raised: decoders of hostile bytes."""

import logging
import warnings

from ich_ray.errors import InvalidExam, Reason

_LOGGERS = tuple(logging.getLogger(name) for name in ("pydicom", "nibabel.global"))


class Unsure(Exception):
    """A fast reader leaves an object to the reader of reference."""


class decoding:
    """Turn whatever a decoder of hostile bytes raises into a reason of the ledger.

    The one place that catches everything: decoders raise anything here, from struct.error to
    RecursionError. Their warnings and messages quote values of the header, so they end here too.
    A class, since a generator costs each of a million slices as much as reading its header.
    """

    __slots__ = ("_before", "_reason", "_warnings", "_what")

    def __init__(self, reason: Reason, what: str) -> None:
        """Say what a failure means.

        Args:
            reason: Of the ledger.
            what: For a person, e.g. `its header cannot be read`.
        """
        self._reason, self._what = reason, what

    def __enter__(self) -> None:
        """Silence decoders."""
        self._before = [logger.disabled for logger in _LOGGERS]
        for logger in _LOGGERS:
            logger.disabled = True
        self._warnings = warnings.catch_warnings()
        self._warnings.__enter__()
        warnings.simplefilter("ignore")

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, _: object
    ) -> None:
        """Let decoders speak again, and say what happened."""
        self._warnings.__exit__(None, None, None)
        for logger, before in zip(_LOGGERS, self._before, strict=True):
            logger.disabled = before
        if not isinstance(error, Exception) or isinstance(error, InvalidExam | Unsure):
            return
        if isinstance(error, MemoryError):
            raise InvalidExam(
                Reason.TOO_LARGE, f"{self._what} (it takes too much memory)"
            ) from None
        raise InvalidExam(self._reason, f"{self._what} ({type(error).__name__})") from None
