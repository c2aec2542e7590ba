"""Of a stranger's file of weights its tensors are read, and nothing in it is run."""

import io
import os
import pickle
from collections.abc import Callable
from pathlib import Path

import pytest
import safetensors.torch
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor, nn

from ich_ray.errors import ConfigError
from ich_ray.learning.weight_file import read_state

TENSORS = {"layer0.0.weight": torch.arange(6.0).reshape(2, 3), "layer0.1.count": torch.tensor(3)}


def zipped(held: object) -> bytes:
    file = io.BytesIO()
    torch.save(held, file)
    return file.getvalue()


def legacy(held: object) -> bytes:
    """As before PyTorch 1.6, like fyu/drn's files."""
    file = io.BytesIO()
    torch.save(held, file, _use_new_zipfile_serialization=False)
    return file.getvalue()


def bare(held: object) -> bytes:
    return pickle.dumps(held, protocol=2)


FILES = {
    "zipped": zipped(TENSORS),
    "legacy": legacy(TENSORS),
    "safetensors": safetensors.torch.save(TENSORS),
}


class Command:
    """Makes a folder, where its pickle is believed."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def __reduce__(self) -> tuple[Callable[[str], None], tuple[str]]:
        return os.mkdir, (str(self.folder),)


@pytest.mark.parametrize("kind", FILES)
def test_the_tensors_of_each_kind_of_file_are_read(kind: str) -> None:
    found = read_state(FILES[kind], name="w")
    assert set(found) == set(TENSORS)
    assert all(torch.equal(found[name], value) for name, value in TENSORS.items())


def test_parameters_are_read_as_tensors_without_a_gradient() -> None:
    found = read_state(zipped({"a": nn.Parameter(torch.ones(2))}), name="w")
    assert not found["a"].requires_grad
    assert found["a"].tolist() == [1, 1]


@pytest.mark.parametrize("write", [zipped, legacy, bare])
def test_the_code_in_a_file_is_not_run(write: Callable[[object], bytes], tmp_path: Path) -> None:
    folder = tmp_path / "made"
    data = write({"layer0.0.weight": Command(folder)})
    with pytest.raises(ConfigError, match=r"^drn\.pth asks for more than tensors, which") as told:
        read_state(data, name="drn.pth")
    assert not folder.exists()
    assert "weights_only" not in str(told.value)
    if write is bare:
        pickle.loads(data)
        assert folder.exists()


def test_a_file_with_code_says_how_to_get_its_weights(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"where you trust it, .*network\.state_dict\(\)"):
        read_state(zipped({"a": Command(tmp_path / "made")}), name="w")


@pytest.mark.parametrize(
    ("held", "said"),
    [
        ({"epoch": 3, "state_dict": TENSORS}, "holds 'epoch', a int, beside .* 'state_dict'"),
        ({0: torch.ones(1)}, "holds 0, a Tensor"),
        ({"a": torch.ones(2).to_sparse()}, "holds 'a', a Tensor, .* dense"),
        ({"a": torch.ones(2, device="meta")}, "holds 'a', a Tensor, .* dense"),
        ([torch.ones(1)], "holds one list, and no tensors by name"),
        (torch.ones(1), "holds one Tensor, and no tensors by name"),
    ],
)
def test_what_is_no_flat_mapping_of_tensors_is_refused(held: object, said: str) -> None:
    with pytest.raises(ConfigError, match=f"^w {said}"):
        read_state(zipped(held), name="w")


@pytest.mark.parametrize("kind", FILES)
def test_no_part_of_a_file_passes_for_it(kind: str) -> None:
    for end in range(len(FILES[kind])):
        with pytest.raises(ConfigError, match=r"^w .*(damaged|no file of weights)"):
            read_state(FILES[kind][:end], name="w")


@pytest.mark.filterwarnings("ignore:Detected pickle protocol:UserWarning")
@given(st.sampled_from(sorted(FILES)), st.lists(st.tuples(st.floats(0, 1), st.integers(0, 255))))
def test_an_altered_file_gives_tensors_or_is_refused(
    kind: str, changes: list[tuple[float, int]]
) -> None:
    data = bytearray(FILES[kind])
    for place, value in changes:
        data[int(place * (len(data) - 1))] = value
    try:
        found = read_state(bytes(data), name="w")
    except ConfigError:
        return
    assert all(isinstance(value, Tensor) for value in found.values())


def test_a_web_page_is_no_file_of_weights() -> None:
    with pytest.raises(ConfigError, match=r"^w is no file of weights, .* fetch it again"):
        read_state(b"<html><body>404 Not Found</body></html>", name="w")
