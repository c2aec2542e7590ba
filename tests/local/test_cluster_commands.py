"""Every command of cluster/ is one that the CLI takes; a stage's exit code decides what is next."""

import os
import re
import shlex
import signal
import subprocess
import sys
import time
import venv
from pathlib import Path

import pytest
import yaml

from ich_ray.config import Settings
from ich_ray.settings import parse
from tests.local.cluster_commands import (
    ROOT,
    Refused,
    check,
    cluster_files,
    commands_in,
    split,
)

SCRIPT = ROOT / "cluster" / "until_final.sh"
OURS = {
    "aws.yaml": ["ingest"],
    "gcp.yaml": ["ingest"],
    "Dockerfile": ["--help"],
    "ingest.yaml": ["ingest"],
    "train.yaml": ["train"],
    "pseudo-label.yaml": ["pseudo-label"],
    "evaluate.yaml": ["evaluate"],
    "schedule.yaml": ["submit"],
}
COMMANDS = [(path, command) for path in cluster_files() for command in commands_in(path)]


def test_no_command_is_overlooked() -> None:
    found: dict[str, list[str]] = {}
    for path, command in COMMANDS:
        if command[0] == "ich-ray":
            found.setdefault(path.name, []).append(command[1])
    assert found == OURS


@pytest.mark.parametrize(
    ("path", "command"), COMMANDS, ids=lambda part: getattr(part, "name", None)
)
def test_every_command_is_one_that_the_command_line_takes(path: Path, command: list[str]) -> None:
    check(command)


@pytest.mark.parametrize(
    ("line", "match"),
    [
        ("ich-ray ingest cluster/production.toml --workers 4", "unrecognized arguments: --workers"),
        ("ich-ray ingets cluster/production.toml", "no stage 'ingets'"),
        ("ich-ray ingest", "the following arguments are required: settings"),
        ("ich-ray ingest cluster/staging.toml", "no settings file cluster/staging.toml"),
        ("ich-ray train cluster/production.toml --only techer", "has teacher, student"),
        ("ich-ray train cluster/production.toml modles.teacher.steps=1", "unknown setting modles"),
        ("python -m jobs.evaluate cluster/local.toml --dry_run", "unrecognized arguments"),
        ("cluster/until_final.sh 4 60 ich-ray trian cluster/local.toml", "no stage 'trian'"),
        ("umask 077 && ray start --dashbord-host=127.0.0.1", "No such option"),
        ("ray jobs submit -- ich-ray --help", "ray has no command 'jobs'"),
        ("ray job submit --address a -- ich-ray audti cluster/local.toml", "no stage 'audti'"),
    ],
)
def test_a_planted_mistake_is_refused(line: str, match: str) -> None:
    def check_all() -> None:
        for command in split(line):
            check(command)

    with pytest.raises(Refused, match=match):
        check_all()


def test_a_manifest_with_a_wrong_flag_is_refused(tmp_path: Path) -> None:
    text = (ROOT / "cluster" / "kuberay" / "train.yaml").read_text()
    planted = tmp_path / "train.yaml"
    planted.write_text(text.replace("--only teacher", "--model teacher"))
    (command,) = (c for c in commands_in(planted) if c[0] == "ich-ray")
    with pytest.raises(Refused, match="unrecognized arguments: --model"):
        check(command)


@pytest.mark.parametrize("name", ["local.toml", "production.toml"])
def test_settings_of_every_environment_are_read(name: str) -> None:
    settings = parse(Settings, (ROOT / "cluster" / name).read_text())
    assert settings.identity == "environment"
    if name == "production.toml":
        assert settings.cluster.address == "auto"
        assert settings.store.root.startswith("s3://")
        assert all(model.use_gpu for model in settings.models.values())


def stand_in(folder: Path, *codes: int) -> dict[str, str]:
    """Put an `ich-ray` on the path that ends with these codes in turn, and a `sleep` that notes."""
    (folder / "codes").write_text("".join(f"{code}\n" for code in codes))
    (folder / "ich-ray").write_text(
        f'#!/bin/sh\ncd {folder}\necho "$@" >> calls\n'
        "code=$(head -1 codes) && sed -i 1d codes && exit $code\n"
    )
    (folder / "sleep").write_text(f'#!/bin/sh\necho "$1" >> {folder}/pauses\n')
    for name in ("ich-ray", "sleep"):
        (folder / name).chmod(0o755)
    return os.environ | {"PATH": f"{folder}:{os.environ['PATH']}"}


def lines(path: Path) -> list[str]:
    return path.read_text().splitlines() if path.exists() else []


def travelled(name: str) -> str:
    """Return a job's entrypoint as its head gives it to a shell.

    KubeRay writes it behind `ray job submit --` in a line of bash, and Ray joins what arrives.
    """
    job = yaml.safe_load((ROOT / "cluster" / "kuberay" / f"{name}.yaml").read_text())
    entrypoint = job["spec"]["entrypoint"].replace("/opt/ich_ray", str(ROOT))
    words = subprocess.run(
        ["bash", "-ce", "--", f"printf '%s\\0' {entrypoint} ;"], capture_output=True, check=True
    ).stdout.decode()
    return shlex.join(words.removesuffix("\0").split("\0"))


@pytest.mark.parametrize(
    ("name", "codes", "ends", "calls"),
    [
        ("ingest", [0], 0, 1),
        ("ingest", [3], 0, 1),  # kept for: the candidate did not beat the champion
        ("ingest", [1], 1, 1),
        ("ingest", [2], 2, 1),
        ("ingest", [4], 4, 1),
        ("ingest", [5, 0], 0, 2),
        ("ingest", [5, 4], 4, 2),
        ("ingest", [5, 5, 5, 5, 0], 5, 4),
        ("ingest", [137, 0], 0, 2),  # killed
        ("ingest", [137, 5, 137, 137, 0], 137, 4),
        ("ingest", [5, 137, 4], 4, 3),
        ("ingest", [130], 130, 1),  # told to stop
        ("ingest", [143], 143, 1),
        ("ingest", [5, 143], 143, 2),
        ("ingest", [139], 139, 1),
        ("train", [5, 5, 3], 0, 3),
        ("pseudo-label", [5, 2], 2, 2),
        ("evaluate", [5, 5, 0], 0, 3),
    ],
)
def test_only_failed_surroundings_and_killed_stages_are_tried_again(
    tmp_path: Path, name: str, codes: list[int], ends: int, calls: int
) -> None:
    environment = stand_in(tmp_path, *codes)
    line = travelled(name)
    ended = subprocess.run(line, shell=True, env=environment, check=False, capture_output=True)
    assert ended.returncode == ends
    assert [called.split()[0] for called in lines(tmp_path / "calls")] == [name] * calls
    assert lines(tmp_path / "pauses") == ["60"] * (calls - 1)


def test_a_stage_that_sigkill_ends_is_tried_again_and_the_log_says_why(tmp_path: Path) -> None:
    mark = tmp_path / "mark"
    stage = f"[ -e {mark} ] || {{ : > {mark}; kill -KILL $$; }}"
    ended = subprocess.run(
        [SCRIPT, "2", "0", "sh", "-c", stage], check=False, capture_output=True, text=True
    )
    assert ended.returncode == 0
    assert "until_final.sh: exit 137, attempt 2 of 2 in 0 s" in ended.stderr


def test_a_stage_that_is_killed_while_it_stops_is_not_tried_again(tmp_path: Path) -> None:
    stage = 'trap "kill -KILL \\$\\$" TERM; echo started; while true; do sleep 0.1; done'
    running = subprocess.Popen(
        [SCRIPT, "4", "0", "sh", "-c", stage],
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
    )
    assert running.stdout is not None
    assert running.stdout.readline() == "started\n"
    time.sleep(0.2)
    running.send_signal(signal.SIGTERM)
    assert running.communicate(timeout=20)[0] == ""
    assert running.returncode == 137


def test_the_schedule_leaves_retries_to_kubernetes(tmp_path: Path) -> None:
    job = yaml.safe_load((ROOT / "cluster" / "kuberay" / "schedule.yaml").read_text())
    (container,) = job["spec"]["jobTemplate"]["spec"]["template"]["spec"]["containers"]
    for code, ends in ((5, 5), (137, 137), (3, 0), (4, 4)):
        ended = subprocess.run(
            [*container["command"], *container["args"]],
            cwd=ROOT,
            env=stand_in(tmp_path, code),
            check=False,
        )
        assert ended.returncode == ends
    assert len(lines(tmp_path / "calls")) == 4


def test_a_stopped_pod_stops_its_stage(tmp_path: Path) -> None:
    stage = 'trap "echo stopped; exit 143" TERM; echo started; while true; do sleep 0.1; done'
    running = subprocess.Popen(
        [SCRIPT, "4", "60", "sh", "-c", stage], stdout=subprocess.PIPE, text=True
    )
    assert running.stdout is not None
    assert running.stdout.readline() == "started\n"
    time.sleep(0.2)
    running.send_signal(signal.SIGTERM)
    assert running.communicate(timeout=20)[0] == "stopped\n"
    assert running.returncode == 143


def test_scripts_of_the_image_lie_where_manifests_look() -> None:
    text = (ROOT / "cluster" / "Dockerfile").read_text()
    assert re.findall(r"(?m)^WORKDIR (.+)$", text) == ["/opt/ich_ray"]
    assert {"ich_ray", "jobs", "experiments", "cluster"} <= {
        source for source, target in re.findall(r"(?m)^COPY (\w+) (\w+)$", text) if source == target
    }
    assert os.access(SCRIPT, os.X_OK)


def test_a_node_without_our_packages_says_so_and_exits_2(tmp_path: Path) -> None:
    venv.create(tmp_path / "bare", with_pip=False)
    done = subprocess.run(
        [tmp_path / "bare" / "bin" / "python", "-m", "jobs", "train", "cluster/local.toml"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 2
    assert done.stdout == ""
    assert re.fullmatch(
        r"ich-ray: this node's Python lacks numpy, .*pydicom, .*torch, .*ray, .*; run the image of "
        r"cluster/Dockerfile on every node, .*\n",
        done.stderr,
    )


def test_a_job_s_command_line_is_that_of_the_stages() -> None:
    """`python -m jobs` runs what a submitter sends, and says what `ich-ray` would."""
    done = subprocess.run(
        [sys.executable, "-m", "jobs", "train", "cluster/local.toml", "--only", "nobody"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
        env=os.environ | {"ICH_RAY_HMAC_KEY": "a key of this test alone"},
    )
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.startswith("ich-ray: --only nobody: known are")
