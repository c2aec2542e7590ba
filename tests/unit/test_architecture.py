"""Imports point down only: jobs, then distributed, then three strangers, then the core."""

import ast
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]

CORE = {"numpy", "scipy", "sklearn", "jaxtyping"}
STORES = {"fsspec", "s3fs", "obstore", "aiohttp", "botocore", "tenacity", "pyarrow", "deltalake"}
MAY_IMPORT = {  # beyond the standard library and its own floor
    "ich_ray": CORE,
    "ich_ray.storage": CORE
    | STORES
    | {"pydicom", "dicomsdl", "highdicom", "isal", "nibabel", "PIL"}
    | {"safetensors"}
    | {"ich_ray"},
    "ich_ray.learning": CORE | {"torch", "safetensors", "ich_ray"},
    "ich_ray.reporting": CORE | {"matplotlib", "jinja2", "PIL", "tensorboard", "ich_ray"},
    "ich_ray.distributed": CORE
    | {"ray", "torch", "tqdm", "pyarrow", "s3fs"}  # s3fs: the local server's first bucket
    | {"aiohttp", "requests", "tomli_w"}  # what Ray's job client raises; settings for a job
    | {"ich_ray", "ich_ray.storage", "ich_ray.learning", "ich_ray.reporting"},
    "jobs": {"ich_ray", "ich_ray.distributed"},
}
"""Folders that are no floor of their own (ich_ray/phantom) are part of the one above them."""


def floor_of(module: str) -> str:
    """Return the floor of one of our modules, or the top name of a foreign one."""
    own = [floor for floor in MAY_IMPORT if module == floor or module.startswith(f"{floor}.")]
    return max(own, key=len) if own else module.partition(".")[0]


def imports_of(source: str) -> Iterator[str]:
    """Name every module that is imported, also inside functions and for types only."""
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, "relative imports hide the floor"
            # `from ich_ray import storage` imports a floor by its name.
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


def violations(root: Path) -> list[str]:
    """Return every import that the table does not allow."""
    found = []
    for path in sorted([*root.glob("ich_ray/**/*.py"), *root.glob("jobs/**/*.py")]):
        module = ".".join(path.relative_to(root).with_suffix("").parts)
        floor = floor_of(module)
        for imported in imports_of(path.read_text()):
            target = floor_of(imported)
            allowed = {floor, *MAY_IMPORT[floor]}
            if target not in allowed and target not in sys.stdlib_module_names:
                found.append(f"{path.relative_to(root)} imports {imported}")
    return found


def test_every_import_points_down() -> None:
    assert violations(ROOT) == []


@pytest.mark.parametrize(
    ("path", "source"),
    [
        ("ich_ray/planted.py", "import torch"),
        ("ich_ray/planted.py", "from ich_ray.storage.objects import Store"),
        ("ich_ray/planted.py", "from ich_ray import learning"),
        ("ich_ray/phantom/planted.py", "import pydicom"),
        ("ich_ray/storage/planted.py", "from ich_ray.learning.drn import Drn"),
        ("ich_ray/learning/planted.py", "import ich_ray.storage.objects"),
        ("ich_ray/reporting/planted.py", "import ray"),
        ("ich_ray/learning/planted.py", "def later():\n    import ray.data"),
        ("ich_ray/distributed/planted.py", "from jobs.stage import report"),
        ("jobs/planted.py", "from ich_ray.storage.objects import Store"),
    ],
)
def test_a_planted_violation_is_caught(tmp_path: Path, path: str, source: str) -> None:
    planted = tmp_path / path
    planted.parent.mkdir(parents=True)
    planted.write_text(source)
    assert len(violations(tmp_path)) == 1


def test_what_the_table_allows_is_let_through(tmp_path: Path) -> None:
    planted = tmp_path / "ich_ray" / "storage" / "planted.py"
    planted.parent.mkdir(parents=True)
    planted.write_text("import json\nimport pyarrow.fs\nfrom ich_ray import exam\n")
    assert violations(tmp_path) == []


def test_the_check_sees_every_floor() -> None:
    assert all((ROOT / floor.replace(".", "/")).is_dir() for floor in MAY_IMPORT)
