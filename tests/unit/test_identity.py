"""Pseudonyms depend on identifier and key; content hashes on content alone."""

import hashlib
import hmac
import random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ich_ray.identity import PUBLIC_KEY, Pseudonyms, content_hash

few = settings(max_examples=30)  # the whole unit tier has ten seconds


@few
@given(st.text(), st.binary(min_size=1))
def test_a_pseudonym_is_the_first_half_of_the_hmac(identifier: str, key: bytes) -> None:
    expected = hmac.digest(key, identifier.encode(), hashlib.sha256)[:16]
    assert bytes.fromhex(Pseudonyms(key).of(identifier)) == expected


def test_many_objects_share_one_string() -> None:
    names = Pseudonyms(PUBLIC_KEY)
    exam = names.shared("exam")
    assert exam == names.of("exam")
    for number in range(3000):
        names.of(str(number))
    assert names.shared("exam") is exam


def test_another_key_gives_another_pseudonym_and_fingerprint() -> None:
    public, secret = Pseudonyms(PUBLIC_KEY), Pseudonyms(b"a secret of a site")
    assert public.of("1.2.3") != secret.of("1.2.3")
    assert public.fingerprint != secret.fingerprint


def test_the_key_is_not_printed() -> None:
    secret = Pseudonyms(b"a secret of a site")
    assert "secret" not in repr(secret) + str(secret) + secret.fingerprint
    assert secret.fingerprint in repr(secret)


@few
@given(st.dictionaries(st.text(), st.one_of(st.integers(), st.text(), st.lists(st.integers()))))
def test_the_order_of_keys_does_not_change_a_content_hash(content: dict[str, object]) -> None:
    keys = list(content)
    random.Random(0).shuffle(keys)
    assert content_hash({key: content[key] for key in keys}) == content_hash(content)


def test_another_value_changes_a_content_hash() -> None:
    assert content_hash({"seed": 1}) != content_hash({"seed": 2})
    assert content_hash({"seed": 1}) != content_hash({"seed": "1"})


def test_nan_has_no_content_hash() -> None:
    with pytest.raises(ValueError, match="Out of range float"):
        content_hash({"cut": float("nan")})
