"""Keyed pseudonyms instead of patients, and content hashes instead of names."""

import hashlib
import hmac
import json
from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

PUBLIC_KEY = b"ich-ray public corpora"
"""For public corpora and phantoms only: the same pseudonyms everywhere."""


@dataclass(frozen=True, slots=True)
class Pseudonyms:
    """HMAC-SHA256 of identifiers under one key; the key itself is never printed or written."""

    key: bytes

    def __repr__(self) -> str:
        """Name the key by its fingerprint."""
        return f"Pseudonyms({self.fingerprint})"

    def of(self, identifier: str) -> str:
        """Return the pseudonym of an identifier: 16 bytes as 32 hex digits.

        >>> Pseudonyms(PUBLIC_KEY).of("1.2.3")
        '4f2fa150d5c092970d9617b0e0a8762e'
        """
        return _pseudonym(self.key, identifier)

    @property
    def fingerprint(self) -> str:
        """What a table stores of the key: tables of different fingerprints are never joined."""
        return hashlib.sha256(b"fingerprint" + self.key).hexdigest()[:16]


# The slices of an exam share all of their identifiers but one.
@lru_cache(maxsize=1024)
def _pseudonym(key: bytes, identifier: str) -> str:
    return hmac.digest(key, identifier.encode(), "sha256")[:16].hex()


def content_hash(content: Mapping[str, Any]) -> str:
    """Hash plain values (numbers, strings, lists, mappings), whatever the order of their keys.

    >>> content_hash({"a": 1, "b": [2]}) == content_hash({"b": [2], "a": 1})
    True
    """
    text = json.dumps(content, sort_keys=True, separators=(",", ":"), allow_nan=False)
    return hashlib.sha256(text.encode()).hexdigest()[:16]
