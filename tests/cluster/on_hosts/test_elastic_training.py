"""A training whose cluster shrinks goes on with fewer processes, and with more when it grows."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

from benchmarks.cluster_faults import FIRST_STEP, WHOLE, Bench
from ich_ray.distributed.local_hosts import Host

PATIENCE_S = 240
NOTICE_S = 60
"""A cloud gives twice as much; long enough for two looks of the training."""

GOING = "about to be taken away"


def logged(hosts: Bench, said: str, *, since: str) -> list[dict[str, Any]]:
    """Return the lines of all training workers with these words, in the order of their times."""
    found = []
    for worker in hosts.cluster.workers:
        search = f"grep -hs '{said}' /tmp/ray/session_*/logs/worker-*.err"
        lines = hosts.cluster.run(worker, ["bash", "-c", search]).stdout.splitlines()
        found += [line for line in map(json.loads, lines) if line["time"] >= since]
    return sorted(found, key=lambda line: str(line["time"]))


def drain(hosts: Bench, worker: Host) -> None:
    """Tell Ray what a cloud tells of a spot node."""
    program = (
        "import ray\n"
        "from ray._raylet import GcsClient\n"
        f"client = GcsClient(address='{hosts.cluster.head.address}:6379')\n"
        "nodes = client.get_all_node_info(timeout=5).values()\n"
        "(node,) = [n for n in nodes if n.state == 0 and n.node_manager_address == "
        f"'{worker.address}']\n"
        "print(node.node_id.hex())"
    )
    ray = str(Path(sys.executable).parent / "ray")
    node = hosts.cluster.run(hosts.cluster.head, [sys.executable, "-c", program])
    assert node.returncode == 0, node.stderr
    told = hosts.cluster.run(
        hosts.cluster.head,
        [
            *(ray, "drain-node", f"--address={hosts.cluster.head.address}:6379"),
            *("--node-id", node.stdout.strip(), "--reason", "DRAIN_NODE_REASON_PREEMPTION"),
            *("--reason-message", "spot", "--deadline-remaining-seconds", str(NOTICE_S)),
        ],
    )
    assert told.returncode == 0, told.stderr


def test_a_training_outlives_a_node_that_is_taken_away_and_takes_one_that_comes(
    hosts: Bench,
) -> None:
    root = "s3://ich/elastic"
    hosts.inside("copy", WHOLE, root, "train")
    began = time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime())
    settings = ("min_workers=1", "steps=100000", "checkpoint_every=90000", "validation.tuning=[]")
    # It is stopped in the end: how long so many steps take depends on the machine.
    words = (
        "train",
        "--only",
        "teacher",
        "--stop-job",
        *(f"models.teacher.{one}" for one in settings),
    )
    with hosts.begin(words, root) as submitter:
        try:
            outlive(hosts, submitter, began)
        finally:
            # Else the job would take the hosts from the tests after this one.
            said = stop(hosts, submitter)
    assert submitter.returncode == 130, said
    hosts.cluster.wait_until_whole()


def outlive(hosts: Bench, submitter: "subprocess.Popen[str]", began: str) -> None:
    """Take a node from a training and give it back, and look how it goes on."""

    def starts() -> list[dict[str, Any]]:
        """Return the starts of the group, as its first process tells them."""
        return [line for line in logged(hosts, FIRST_STEP, since=began) if line["rank"] == 0]

    def wait_until_known() -> None:
        """Wait until both processes know that a node is about to go."""
        while len({line["rank"] for line in logged(hosts, GOING, since=began)}) < 2:
            assert submitter.poll() is None, submitter.communicate()[0]
            assert time.monotonic() < gone, "the notice did not reach both processes"
            time.sleep(1)

    def wait_for(world: int) -> dict[str, Any]:
        """Wait until the group has so many processes: it begins with those that fit."""
        deadline = time.monotonic() + PATIENCE_S
        while True:
            found = starts()
            if found and found[-1]["world"] == world:
                return found[-1]
            assert submitter.poll() is None, submitter.communicate()[0]
            assert time.monotonic() < deadline, [line["world"] for line in found]
            time.sleep(1)

    whole = wait_for(2)
    leaving = hosts.cluster.workers[-1]
    gone = time.monotonic() + NOTICE_S
    drain(hosts, leaving)
    wait_until_known()
    time.sleep(max(0.0, gone - time.monotonic()))
    hosts.cluster.stop_role(leaving)
    alone = wait_for(1)
    hosts.cluster.start_role(leaving)
    grown = wait_for(2)
    told = logged(hosts, GOING, since=began)
    # It went on where it was when it last heard of it, long before a checkpoint was due.
    assert alone["step"] in {line["step"] for line in told}
    assert alone["step"] > whole["step"]
    assert whole["time"] < alone["time"] < grown["time"]


def stop(hosts: Bench, submitter: "subprocess.Popen[str]") -> str:
    """Tell the submitter to end its job; return what it said."""
    for pid, command in hosts.cluster.submitter.processes().items():
        if "jobs.submit" in command:
            os.kill(pid, signal.SIGTERM)
    try:
        return submitter.communicate(timeout=PATIENCE_S)[0]
    except subprocess.TimeoutExpired:
        submitter.kill()
        raise
