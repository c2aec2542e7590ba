"""The one boundary where anything may be raised: decoders of hostile bytes."""

import contextlib
import logging
import warnings
from collections.abc import Iterator

from ich_ray.errors import InvalidExam, Reason

_LOGGERS = tuple(logging.getLogger(name) for name in ("pydicom", "nibabel.global"))


class Unsure(Exception):
    """A fast reader leaves an object to the reader of reference."""


@contextlib.contextmanager
def decoding(reason: Reason, what: str) -> Iterator[None]:
    """Turn whatever a decoder of hostile bytes raises into a reason of the ledger.

    The one place with `except Exception`: decoders raise anything here, from struct.error to
    RecursionError. Their warnings and messages quote values of the header, so they end here too.
    """
    disabled = [logger.disabled for logger in _LOGGERS]
    for logger in _LOGGERS:
        logger.disabled = True
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    except (InvalidExam, Unsure):
        raise
    except MemoryError:
        raise InvalidExam(Reason.TOO_LARGE, f"{what} (it takes too much memory)") from None
    except Exception as error:  # noqa: BLE001  (the documented boundary)
        raise InvalidExam(reason, f"{what} ({type(error).__name__})") from None
    finally:
        for logger, before in zip(_LOGGERS, disabled, strict=True):
            logger.disabled = before
