import pytest
import ray.exceptions

from ich_ray.distributed.causes import cause_of
from ich_ray.errors import ConfigError, QualityError


def wrapped(error: Exception) -> ray.exceptions.RayTaskError:
    return ray.exceptions.RayTaskError("task", "Traceback ...", error)


def test_a_package_that_a_node_lacks_and_the_driver_has_is_named_with_what_to_do() -> None:
    found = cause_of(wrapped(ModuleNotFoundError("No module named ...", name="safetensors.numpy")))
    assert isinstance(found, ConfigError)
    assert str(found).startswith("a node of the cluster lacks the package safetensors, which")


@pytest.mark.parametrize(
    "error", [ModuleNotFoundError("no such", name="no_such_package"), KeyError("slice")]
)
def test_a_bug_in_a_task_stays_one(error: Exception) -> None:
    raised = wrapped(error)
    assert cause_of(raised) is raised


def test_what_a_task_raised_for_a_person_is_found_within_ray_s_wrapping() -> None:
    inner = QualityError("no positive slice")
    assert cause_of(wrapped(inner)) is inner
