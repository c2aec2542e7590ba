import re
import tomllib
from importlib.metadata import PackageNotFoundError
from pathlib import Path

from ich_ray.requirements import DISTRIBUTIONS, PYTHON, refusal

PROJECT = tomllib.loads((Path(__file__).parents[2] / "pyproject.toml").read_text())["project"]


def needed(requirements: list[str]) -> set[str]:
    """Name what requirements ask for, those of our own extras included."""
    found = set()
    for requirement in requirements:
        name, extras = re.match(r"([\w-]+)(?:\[([\w,]+)\])?", requirement).groups()  # type: ignore[union-attr]
        if name != "ich-ray":
            found.add(name)
            continue
        for extra in extras.split(","):
            found |= needed(PROJECT["optional-dependencies"][extra])
    return found


def test_a_node_must_have_what_the_extra_cluster_installs() -> None:
    wanted = needed([*PROJECT["dependencies"], "ich-ray[cluster]"])
    assert set(DISTRIBUTIONS) == wanted
    assert PROJECT["requires-python"] == f">={'.'.join(map(str, PYTHON))}"


def test_what_is_missing_is_named_with_what_to_do() -> None:
    def installed(name: str) -> str:
        if name in ("torch", "pydicom"):
            raise PackageNotFoundError(name)
        return "1.0"

    said = refusal((3, 12), installed)
    assert said.startswith("this node's Python lacks pydicom, torch; run the image of")
    assert refusal((3, 11), lambda _: "1.0") == ""
