"""The submitter's side: what it finds, what it refuses, and whose exit code it has."""

import json
import os
import re
import signal
import subprocess
import sys
import time

import pytest

from benchmarks.cluster_faults import WHOLE, Bench


def submitted(
    hosts: Bench, *words: str, root: str = WHOLE, more: dict[str, str] | None = None
) -> "subprocess.CompletedProcess[str]":
    stage, *options = words
    return hosts.cluster.run(
        hosts.cluster.submitter,
        [
            *(sys.executable, "-m", "jobs.submit", stage, str(hosts.folder / "faults.toml")),
            *(f"store.root={root}", f"store.endpoint_url={hosts.cluster.server.endpoint_url}"),
            *("--address", hosts.cluster.address, *options),
        ],
        more=more,
    )


def test_a_submission_that_is_repeated_finds_the_finished_one(hosts: Bench) -> None:
    root = "s3://ich/repeated"
    first = submitted(hosts, "ingest", "--only", "a", root=root)
    assert first.returncode == 0, first.stdout + first.stderr
    assert "ingest a: 80 slices" in first.stdout
    second = submitted(hosts, "ingest", "--only", "a", "--json", root=root)
    assert second.returncode == 0
    assert "is finished; --again runs it anew" in second.stderr
    outcome = json.loads(second.stdout.strip().splitlines()[-1])
    assert outcome["state"] == "finished before"
    assert outcome["submission"].endswith("-1")
    third = submitted(hosts, "ingest", "--only", "a", "--again", "--json", root=root)
    assert "ingest a: up to date" in third.stdout
    assert json.loads(third.stdout.strip().splitlines()[-1])["submission"].endswith("-2")


def test_of_two_submitters_at_once_both_follow_one_job(hosts: Bench) -> None:
    words = ["ingest", "--only", "c"]
    root = "s3://ich/two-submitters"
    both = [hosts.begin(tuple(words), root) for _ in range(2)]
    said = [process.communicate(timeout=300)[0] for process in both]
    assert [process.returncode for process in both] == [0, 0], said
    ids = {line.split()[1] for text in said for line in text.splitlines() if "submission " in line}
    assert len(ids) == 1
    assert all("ingest c: 64 slices" in text for text in said)


@pytest.mark.parametrize(
    ("words", "code", "message"),
    [
        (
            ("train", "--only", "teacher", "models.teacher.use_gpu=true", "cluster.join_s=5.0"),
            2,
            "GPU",
        ),
        (
            ("ingest", "--only", "a", "cluster.node_variables=['ICH_ABSENT']"),
            2,
            "this process lacks ICH_ABSENT",
        ),
        (("train", "--only", "nobody"), 2, "settings file of another stage"),
        (("ingest", "corpora.a.source=dicom/a"), 2, "is a path within a folder of this machine"),
        (("ingest", "--only", "a", "store.root=s3://no-such-bucket/x"), 5, "no bucket"),
    ],
)
def test_the_stage_s_exit_code_is_the_submitter_s(
    hosts: Bench, words: tuple[str, ...], code: int, message: str
) -> None:
    root = f"s3://ich/refused-{len(message)}"
    if words[0] == "train" and "--only" in words and "teacher" in words:
        hosts.inside("copy", WHOLE, root, "train")
    overrides = [word for word in words if word.startswith("store.root=")]
    done = submitted(hosts, *words, root=overrides[0].partition("=")[2] if overrides else root)
    assert done.returncode == code, done.stdout + done.stderr
    assert message in done.stdout + done.stderr


def wait_for_work(hosts: Bench, stage: str, submitter: "subprocess.Popen[str]") -> None:
    deadline = time.monotonic() + 120
    while not hosts.at_work(stage):
        assert submitter.poll() is None, submitter.communicate()[0]
        assert time.monotonic() < deadline
        time.sleep(0.1)


def test_a_submitter_with_attempts_goes_on_where_a_killed_head_left_the_stage(
    hosts: Bench,
) -> None:
    root = "s3://ich/attempts"
    submitter = hosts.begin(("ingest", "--only", "b", "submit.attempts=4"), root)
    wait_for_work(hosts, "ingest", submitter)
    hosts.cluster.kill(hosts.cluster.head)
    said, _ = submitter.communicate(timeout=300)
    hosts.cluster.wait_until_whole()
    assert submitter.returncode == 0, said
    assert re.search(r"its head was started anew;.* attempt 2 of 4 follows", said), said
    assert "ingest b: 64 slices" in said


RESERVED = """
import json, ray, sys
from ich_ray.distributed.training_group import COORDINATOR
ray.init(address="auto", log_to_driver=False)
made = [one["state"] for one in ray.util.placement_group_table().values()]
coordinator = ray.get_actor(COORDINATOR, namespace=COORDINATOR)
asked = ray.get(coordinator.__ray_call__.remote(lambda self: [*self._ongoing_reqs]))
print(json.dumps([[state for state in made if state != "REMOVED"], asked]))
"""
"""Program that prints the states of placement groups, and who asks the cluster for room."""


@pytest.mark.parametrize("sent", [signal.SIGTERM, signal.SIGINT])
def test_a_submitter_that_is_told_to_stop_ends_the_job_where_it_was_told_so(
    hosts: Bench, sent: signal.Signals
) -> None:
    root = f"s3://ich/stopped-{sent}"
    hosts.inside("copy", WHOLE, root, "train")
    words = ("train", "--only", "teacher", "--stop-job", "models.teacher.steps=5000")
    submitter = hosts.begin(words, root)
    wait_for_work(hosts, "train", submitter)
    (pid,) = (
        pid
        for pid, command in hosts.cluster.submitter.processes().items()
        if "jobs.submit" in command
    )
    os.kill(pid, sent)
    said, _ = submitter.communicate(timeout=120)
    assert submitter.returncode == 130, said
    assert "stopped, exit code 130: the same command goes on" in said
    deadline = time.monotonic() + 30
    while hosts.at_work("train"):
        assert time.monotonic() < deadline
        time.sleep(0.2)
    # The next stage would wait for what it still holds, or asks for.
    found = hosts.cluster.run(hosts.cluster.head, [sys.executable, "-c", RESERVED])
    assert json.loads(found.stdout.splitlines()[-1]) == [[], []], found.stderr


@pytest.mark.parametrize(
    "more",
    [{"RAY_AUTH_TOKEN": "0" * 32}, {"RAY_AUTH_TOKEN": ""}, {"RAY_AUTH_MODE": "disabled"}],
    ids=["another", "empty", "none"],
)
def test_without_a_token_or_with_another_one_nothing_is_submitted(
    hosts: Bench, more: dict[str, str]
) -> None:
    done = submitted(hosts, "ingest", more=more)
    assert done.returncode == 2, done.stderr
    assert re.search("refuses the token|set RAY_AUTH_TOKEN", done.stderr), done.stderr
    assert hosts.cluster.token not in done.stdout + done.stderr


def test_settings_that_hold_a_secret_are_refused_by_its_name(hosts: Bench) -> None:
    done = submitted(
        hosts,
        "ingest",
        "corpora.a.labels=s3://ich/very-secret-key/labels.csv",
        more={"AWS_SECRET_ACCESS_KEY": "very-secret-key"},
    )
    assert done.returncode == 2
    assert "the value of AWS_SECRET_ACCESS_KEY" in done.stderr
