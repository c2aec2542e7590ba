"""What the Python of a node must be and have before a stage can start there.

Loaded where nothing but the standard library may be installed, and by Pythons that are too old.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from importlib.metadata import PackageNotFoundError, version

PYTHON = (3, 11)

# The distributions of pyproject.toml that a stage needs: its extra `cluster` and all below it.
DISTRIBUTIONS = (
    *("numpy", "scipy", "scikit-learn", "jaxtyping"),
    *("deltalake", "dicomsdl", "fsspec", "highdicom", "isal", "nibabel", "obstore", "pillow"),
    *("pyarrow", "pydicom", "pyjpegls", "pylibjpeg", "pylibjpeg-libjpeg", "pylibjpeg-openjpeg"),
    *("s3fs", "tenacity", "safetensors", "torch", "jinja2", "matplotlib", "tensorboard"),
    *("ray", "tomli-w", "tqdm"),
)


def refusal(python: Sequence[int], installed: Callable[[str], str] = version) -> str:
    """Return why no stage can start in an environment, and what to do; empty if it can.

    Args:
        python: Major and minor version.
        installed: Returns the version of a distribution, or raises PackageNotFoundError.

    >>> refusal((3, 10), lambda name: "1.0")[:38]
    'this node has Python 3.10, and ich_ray'
    """
    do = (
        "run the image of cluster/Dockerfile on every node, or install constraints.txt there "
        '(submit.dependencies = "lock" does so for a job)'
    )
    if tuple(python) < PYTHON:
        has, needs = (".".join(map(str, numbers)) for numbers in (python, PYTHON))
        return f"this node has Python {has}, and ich_ray needs {needs}; {do}"
    lacks = []
    for name in DISTRIBUTIONS:
        try:
            installed(name)
        except PackageNotFoundError:
            lacks.append(name)
    return f"this node's Python lacks {', '.join(lacks)}; {do}" if lacks else ""
