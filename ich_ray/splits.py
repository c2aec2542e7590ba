"""Patient -> split, by hash: new exams never move old ones."""

import hashlib
from collections.abc import Mapping


def split_of(patient: str, *, shares: Mapping[str, float], seed: int) -> str | None:
    """Return the split of a patient, or None for the rest beyond the shares.

    Args:
        patient: Pseudonym of the patient.
        shares: Split name -> share of the patients, in order; together at most 1.
        seed: Another seed, another division.

    >>> split_of("p", shares={"train": 1.0}, seed=0)
    'train'
    """
    digest = hashlib.sha256(f"{seed}:{patient}".encode()).digest()
    place = int.from_bytes(digest[:8], "big") / 2**64
    for name, share in shares.items():
        if place < share:
            return name
        place -= share
    return None
