"""A place in the store that is kept no longer than an evaluation takes."""

import contextlib
import shutil
from collections.abc import Iterator

from ich_ray.storage.leases import Lease
from ich_ray.storage.objects import Store
from ich_ray.storage.urls import is_local, path_of


@contextlib.contextmanager
def place_for_pixels(store: Store, place: str, lease: Lease) -> Iterator[str]:
    """Keep pixels by patient below a place for the block; what a killed run left there goes first.

    Args:
        store: Where it lies.
        place: A folder of the evaluation that holds the lease.
        lease: Who lost it removes nothing: what lies there is another's.
    """
    remove_all(store, place)
    try:
        yield place
    finally:
        lease.check()
        remove_all(store, place)


def remove_all(store: Store, place: str) -> None:
    """Remove what lies below a place, and on a disk its folders."""
    if is_local(place):
        # What a task that was given up still writes there is the next run's to remove.
        shutil.rmtree(path_of(place), ignore_errors=True)
        return
    for item in store.listing(place):
        store.remove(item.url)
