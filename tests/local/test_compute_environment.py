"""Freed tensors are used again without new pages, in whichever thread."""

import os
import platform
import subprocess
import sys
from collections.abc import Mapping

import pytest

from ich_ray.distributed.compute_environment import KEEP_FREED_MEMORY

FAULTS = """
import resource, threading
import torch

torch.set_num_threads(1)

def passes():
    for _ in range(3):
        for megabytes in (40, 80):
            torch.zeros(megabytes, 2**18).add_(1)

def faults():
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    thread = threading.Thread(target=passes)
    thread.start()
    thread.join()
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before

faults()
faults()
print(faults())
"""


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="another C library than glibc")
def test_what_was_freed_costs_no_page_faults_again() -> None:
    def measured(added: Mapping[str, str]) -> int:
        command = [sys.executable, "-c", FAULTS]
        environment = os.environ | dict(added)
        done = subprocess.run(command, check=True, capture_output=True, text=True, env=environment)
        return int(done.stdout)

    plain, kept = measured({}), measured(KEEP_FREED_MEMORY)
    # Pages are of 4 kB, or of 2 MB where the system makes them so: 360 MB are 180 of these.
    assert plain > 150, "memory is kept without a word"
    # Now and then something small lies in the way of the largest tensor, once.
    assert kept < plain / 2
