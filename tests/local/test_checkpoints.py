"""A checkpoint is tensors and a record; anything else is refused, and nothing is unpickled."""

import io
import pickle
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from ich_ray.errors import ConfigError
from ich_ray.storage.checkpoints import (
    decode_tensors,
    encode_tensors,
    load_record,
    load_weights,
    save_record,
    save_weights,
    weights_url,
)
from ich_ray.storage.objects import Store

few = settings(max_examples=30)

RECORD = {"name": "teacher", "steps": 3}


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store(str(tmp_path))


def tensors(seed: int = 0) -> dict[str, np.ndarray]:
    rng = np.random.default_rng(seed)
    return {
        "trunk.weight": rng.normal(size=(4, 3, 3, 3)).astype(np.float32),
        "trunk.bias": np.zeros(0, np.float32),
        "count": np.array(7),
        "half": rng.normal(size=5).astype(np.float16),
    }


def assert_same(found: dict[str, np.ndarray], expected: dict[str, np.ndarray]) -> None:
    assert found.keys() == expected.keys()
    for name, value in expected.items():
        assert (found[name].shape, found[name].dtype) == (value.shape, value.dtype)
        np.testing.assert_array_equal(found[name], value)


class Trap:
    """Leaves a trace when it is unpickled."""

    sprung = False

    def __reduce__(self) -> tuple[object, ...]:
        return setattr, (Trap, "sprung", True)


def test_tensors_come_back_as_they_were_those_without_axes_too() -> None:
    assert_same(decode_tensors(encode_tensors(tensors()), name="w"), tensors())


def test_a_view_is_stored_as_its_values() -> None:
    turned = np.arange(6, dtype=np.float32).reshape(2, 3).T
    assert_same(decode_tensors(encode_tensors({"t": turned}), name="w"), {"t": turned})


def test_equal_tensors_are_equal_bytes_in_any_order() -> None:
    backwards = dict(reversed(tensors().items()))
    assert encode_tensors(backwards) == encode_tensors(tensors())


def test_a_model_is_found_with_its_record(store: Store) -> None:
    url = store.url("models", "teacher")
    assert load_record(store, url) is None
    identity = save_weights(store, url, tensors())
    assert load_record(store, url) is None
    save_record(store, url, {**RECORD, "model": identity})
    record = load_record(store, url)
    assert record == {**RECORD, "model": identity}
    assert_same(load_weights(store, url, record), tensors())


def test_a_model_s_identity_is_that_of_its_weights(store: Store) -> None:
    one = save_weights(store, store.url("one"), tensors())
    assert save_weights(store, store.url("two"), tensors()) == one
    assert save_weights(store, store.url("three"), tensors(1)) != one


def test_a_pickle_is_refused_and_not_opened(store: Store) -> None:
    written = io.BytesIO()
    torch.save({"weight": torch.zeros(2)}, written)
    for payload in (pickle.dumps(Trap()), written.getvalue()):
        with pytest.raises(ConfigError, match=r"teacher is no safetensors file .* tensors only"):
            decode_tensors(payload, name="teacher")
    assert not Trap.sprung


@few
@given(st.binary(max_size=64))
def test_arbitrary_bytes_are_refused_with_the_name_of_their_file(data: bytes) -> None:
    with pytest.raises(ConfigError, match="w is no safetensors file"):
        decode_tensors(data, name="w")


def test_truncated_weights_are_refused() -> None:
    with pytest.raises(ConfigError, match="w is no safetensors file"):
        decode_tensors(encode_tensors(tensors())[:-1], name="w")


def test_swapped_weights_are_refused(store: Store) -> None:
    url = store.url("teacher")
    record = {**RECORD, "model": save_weights(store, url, tensors())}
    store.write_bytes(weights_url(url, record["model"]), encode_tensors(tensors(1)))
    with pytest.raises(ConfigError, match=r"is not the file that its model\.json describes"):
        load_weights(store, url, record)


def test_of_two_runs_that_write_one_model_neither_spoils_the_other_s_weights(store: Store) -> None:
    url = store.url("teacher")
    first, second = (save_weights(store, url, tensors(seed)) for seed in (0, 1))
    for seed, identity in enumerate((first, second)):
        assert_same(load_weights(store, url, {**RECORD, "model": identity}), tensors(seed))
