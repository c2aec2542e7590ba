"""A process that computes has what its environment asks Ray for."""

import os

import pytest
import ray

from ich_ray.distributed.compute_environment import training_environment


@pytest.mark.usefixtures("ray_cluster")
def test_a_process_of_a_training_gives_way_no_more_than_its_driver() -> None:
    @ray.remote(num_cpus=0)
    def niceness() -> int:
        return os.getpriority(os.PRIO_PROCESS, 0)

    environment = training_environment(use_gpu=True)
    ours = niceness.options(runtime_env={"env_vars": environment})
    plain, training = ray.get([niceness.remote(), ours.remote()])
    here = os.getpriority(os.PRIO_PROCESS, 0)
    assert training == here < plain
