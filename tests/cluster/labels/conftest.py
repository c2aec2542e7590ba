from pathlib import Path

import pytest

from jobs.cli import main
from tests.cluster.tiny_family import prepared, words


@pytest.fixture(scope="session")
def grown(finished: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a whole family, made by the command line; copy it before changing anything."""
    root = prepared(tmp_path_factory.mktemp("family"), finished)
    assert main(words(root)) == 0
    return root
