"""What a stage's driver loads before it hands work to others."""

import subprocess
import sys

import pytest


@pytest.mark.parametrize("stage", ["ingest", "pseudo_label", "evaluate"])
def test_a_driver_that_computes_nothing_itself_loads_no_torch(stage: str) -> None:
    program = f"import sys, jobs.{stage}\nprint({{'torch', 'ray.train'}} & set(sys.modules))"
    command = [sys.executable, "-c", program]
    said = subprocess.run(command, check=True, capture_output=True, text=True).stdout
    assert said == "set()\n"
