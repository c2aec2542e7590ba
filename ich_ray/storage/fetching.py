"""Objects of a source, as bytes or with the reason why they could not be had."""

from collections.abc import Sequence

from ich_ray.errors import InvalidExam, Reason, SurroundingsError
from ich_ray.storage.nifti_volume import MAX_BYTES
from ich_ray.storage.objects import Store
from ich_ray.storage.read_ahead import DEPTH
from ich_ray.storage.urls import is_local

LARGEST_OBJECT = MAX_BYTES
"""A larger object is not fetched: a worker holds it whole, and nobody's slices are so large."""

_AHEAD_BYTES = 64 * 1024**2
"""Of objects that were fetched and wait."""


def depth_of(urls: Sequence[str], largest: int) -> int:
    """Return how many objects to fetch ahead: none from a disk, few of large ones."""
    if all(is_local(url) for url in urls):
        return 0
    return max(1, min(DEPTH, _AHEAD_BYTES // max(largest, 1)))


def fetch(store: Store, url: str, source: str, size: int, *, end: int | None = None) -> bytes:
    """Return an object's bytes.

    Args:
        store: Reaches the object.
        url: Of the object.
        source: Its pseudonym.
        size: As it was listed.
        end: Only the bytes before this one; None reads all.

    Raises:
        InvalidExam: It is gone, too large, or nobody may read it.
        SurroundingsError: The store failed; its message names the pseudonym alone.
    """
    if end is None and size > LARGEST_OBJECT:
        raise InvalidExam(Reason.TOO_LARGE, f"{size} bytes; at most {LARGEST_OBJECT} are read")
    try:
        return store.read_bytes(url, once=True) if end is None else store.read_range(url, 0, end)
    except FileNotFoundError:
        raise InvalidExam(Reason.UNREADABLE, "listed, and then not there") from None
    except SurroundingsError as error:
        # One file without permission is that file's fault; a store that refuses is not.
        if is_local(url) and isinstance(error.__cause__, PermissionError):
            raise InvalidExam(Reason.UNREADABLE, "no permission to read it") from None
        # Not the URL, and no chain to the error that quotes it: names of files name patients.
        # Without a cause, the bucket itself is not there.
        why = type(error.__cause__).__name__ if error.__cause__ else "its bucket is gone"
        raise SurroundingsError(
            f"the object {source} of the source could not be read ({why}); check the "
            "disk or the object store and its credentials, then run the same command again"
        ) from None
