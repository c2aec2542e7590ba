"""Objects are read by one client and written by another: what they hold must not depend on it."""

import pytest

from ich_ray.storage.objects import Store

KEYS = [
    *("a b.dcm", "ü.dcm", "a%20b", "a+b", "~a", "#a?b", "[a]{b}", "a&b=c;d", "*a", "a\\b"),
    *(" end ", "a:b@c", '"q"', "'q'", "a|b^`<>", "two//slashes"),
]


@pytest.mark.parametrize("key", KEYS)
def test_an_object_of_any_name_is_read_as_it_was_written(s3_store: Store, key: str) -> None:
    url = s3_store.url("names", key)
    s3_store.write_bytes(url, key.encode())
    assert s3_store.read_bytes(url) == key.encode()
    assert s3_store.read_range(url, 1, 3) == key.encode()[1:3]
    assert s3_store.read_range(url, 1, 1000) == key.encode()[1:]


def test_what_is_not_there_is_missing(s3_store: Store) -> None:
    with pytest.raises(FileNotFoundError, match="names/none does not exist"):
        s3_store.read_bytes(s3_store.url("names", "none"))
