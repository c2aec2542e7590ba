"""Stages submitted to a cluster of hosts that loses parts of itself, one fault a stage."""

import json

import pytest

from benchmarks.cluster_faults import WHOLE, Bench
from benchmarks.cluster_stages import ARGUMENTS

FAULT_OF = {
    "ingest": "submitter_gone",
    "train": "process_killed",
    "pseudo-label": "worker_killed",
    "evaluate": "store_down_10s",
}
"""In CI one fault a stage; `make bench-cluster` has all of them."""


@pytest.mark.parametrize("stage", ARGUMENTS)
def test_a_stage_that_loses_a_part_of_its_cluster_leaves_what_it_should(
    hosts: Bench, stage: str
) -> None:
    if stage == "ingest":
        # Tags of objects are the server's.
        whole = hosts.measure(stage)["digest"]
    else:
        whole = json.loads(hosts.inside("digest", WHOLE, stage))
    assert whole["count"] == whole["distinct"] > 0
    hosts.undisturbed[stage] = {"digest": whole, "work_s": 3.0, "took_s": 0.0}
    found = hosts.trial(stage, FAULT_OF[stage], seed=0)
    assert found["struck"], found
    assert found["code"] == 0, found
    assert found["digest"] == whole
