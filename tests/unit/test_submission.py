import re
import tomllib
from collections.abc import Mapping
from typing import Any

import pytest
import tomli_w
from hypothesis import given
from hypothesis import strategies as st

from ich_ray.errors import ConfigError, SurroundingsError
from ich_ray.submission import (
    RUNNING,
    SURROUNDINGS,
    Finished,
    Follow,
    Submit,
    exit_code_of,
    next_submission,
    refuse_secrets,
    submission_name,
)

NAME = "train-0123456789abcdef"
OTHERS = {
    f"{NAME}0-3": "RUNNING",
    f"{NAME}-extra-4": "RUNNING",
    f"{NAME}-": "RUNNING",
    NAME: "RUNNING",
    f"re{NAME}-5": "RUNNING",
    "raysubmit_6": "RUNNING",
}
"""Ids that begin or end as ours do, and are none of its attempts."""


@pytest.mark.parametrize("again", [False, True])
@pytest.mark.parametrize("jobs", [{}, OTHERS])
def test_what_the_cluster_does_not_know_is_started(jobs: Mapping[str, str], *, again: bool) -> None:
    assert next_submission(NAME, jobs, again=again) == Submit(f"{NAME}-1")


@pytest.mark.parametrize("again", [False, True])
@pytest.mark.parametrize("status", sorted(RUNNING))
def test_what_runs_is_followed_even_if_it_is_to_be_done_again(status: str, *, again: bool) -> None:
    jobs = {f"{NAME}-1": "FAILED", f"{NAME}-2": status}
    assert next_submission(NAME, jobs, again=again) == Follow(f"{NAME}-2")


def test_what_is_done_is_done_again_only_when_asked() -> None:
    jobs = {f"{NAME}-1": "FAILED", f"{NAME}-2": "SUCCEEDED"}
    assert next_submission(NAME, jobs, again=False) == Finished(f"{NAME}-2")
    assert next_submission(NAME, jobs, again=True) == Submit(f"{NAME}-3")


@pytest.mark.parametrize("again", [False, True])
@pytest.mark.parametrize("status", ["FAILED", "STOPPED"])
def test_what_failed_or_was_stopped_gets_the_next_number(status: str, *, again: bool) -> None:
    jobs = {f"{NAME}-1": "SUCCEEDED", f"{NAME}-2": status}
    assert next_submission(NAME, jobs, again=again) == Submit(f"{NAME}-3")


def test_the_tenth_attempt_comes_after_the_ninth() -> None:
    jobs = {f"{NAME}-{number}": "FAILED" for number in (10, 9, 1)}
    assert next_submission(NAME, jobs, again=False) == Submit(f"{NAME}-11")
    assert next_submission(NAME, jobs | {f"{NAME}-10": "RUNNING"}, again=False) == Follow(
        f"{NAME}-10"
    )


@given(
    jobs=st.dictionaries(
        st.integers(1, 12).map(lambda number: f"{NAME}-{number}"),
        st.sampled_from(["PENDING", "RUNNING", "STOPPED", "SUCCEEDED", "FAILED"]),
    ),
    again=st.booleans(),
)
def test_jobs_of_others_change_nothing_and_a_new_id_is_free(
    jobs: dict[str, str], *, again: bool
) -> None:
    step = next_submission(NAME, jobs, again=again)
    assert next_submission(NAME, OTHERS | jobs, again=again) == step
    assert (step.submission in jobs) != isinstance(step, Submit)


@pytest.mark.parametrize(
    "value",
    [
        "correct-horse",
        "8 signs +",
        "wJalrXUtnFEMI/K7MDENG+bPxRfiCYEXAMPLEKEY",
        'of "quotes" and \\ more',
        "two\nlines",
        "schlüssel",
    ],
)
def test_settings_with_the_value_of_a_secret_are_refused_by_its_name_alone(value: str) -> None:
    text = tomli_w.dumps({"store": {"root": f"s3://key:{value}@bucket"}})
    assert value in tomllib.loads(text)["store"]["root"]
    with pytest.raises(ConfigError, match="the settings hold the value of MY_SECRET") as refused:
        refuse_secrets(text, {"OTHER": "battery-staple", "MY_SECRET": value})
    assert value not in str(refused.value)
    assert refused.value.exit_code == 2


@pytest.mark.parametrize("value", ["", "7 signs", "s3", "train"])
def test_a_value_too_short_to_be_a_secret_is_not_looked_for(value: str) -> None:
    refuse_secrets('root = "s3://train/7 signs"', {"MY_SECRET": value})


def test_settings_that_only_name_a_secret_are_taken() -> None:
    secrets = {"AWS_SECRET_ACCESS_KEY": "correct-horse", "RAY_AUTH_TOKEN": "battery-staple"}
    refuse_secrets('node_variables = ["AWS_SECRET_ACCESS_KEY", "RAY_AUTH_TOKEN"]', secrets)
    refuse_secrets("", secrets)


@pytest.mark.parametrize(
    ("status", "driver", "code"),
    [
        ("SUCCEEDED", 0, 0),
        ("SUCCEEDED", None, 0),
        ("FAILED", 1, 1),
        ("FAILED", 2, 2),
        ("FAILED", 3, 3),
        ("FAILED", 4, 4),
        ("FAILED", 5, 5),
        ("FAILED", None, 5),  # never started: its head, its node, its environment
        ("FAILED", -9, 5),  # SIGKILL: of memory
        ("FAILED", -15, 5),  # SIGTERM, and nobody stopped the job: its node
        ("FAILED", -11, 5),
        ("FAILED", 137, 5),  # SIGKILL, told by a shell
        ("FAILED", 130, 130),  # told to stop, and it said so
        ("FAILED", 143, 143),
        ("STOPPED", None, 130),
        ("STOPPED", 0, 130),
        ("STOPPED", -9, 130),
        ("STOPPED", 143, 130),
    ],
)
def test_a_job_ends_with_its_stage_s_code_or_as_one_to_try_again(
    status: str, driver: int | None, code: int
) -> None:
    assert exit_code_of(status, driver) == code


def test_what_may_be_tried_again_has_the_code_of_its_error() -> None:
    assert SurroundingsError.exit_code == SURROUNDINGS


SETTINGS = {"seed": 1, "models": {"teacher": {"steps": 800, "labelled": ["a:train", "b:train"]}}}


def changed(**teacher: Any) -> dict[str, Any]:
    return {"seed": 1, "models": {"teacher": SETTINGS["models"]["teacher"] | teacher}}  # type: ignore[index]


def test_each_stage_setting_and_section_makes_another_submission() -> None:
    names = [
        submission_name("train", SETTINGS, ()),
        submission_name("predict", SETTINGS, ()),
        submission_name("train", SETTINGS | {"seed": 2}, ()),
        submission_name("train", changed(steps=801), ()),
        submission_name("train", changed(labelled=["b:train", "a:train"]), ()),
        submission_name("train", changed(seed=None), ()),
        submission_name("train", SETTINGS, ("teacher",)),
        submission_name("train", SETTINGS, ("student",)),
        submission_name("train", SETTINGS, ("student", "teacher")),
    ]
    assert len(set(names)) == len(names)


def test_the_order_of_keys_and_of_sections_makes_no_other_submission() -> None:
    turned = {
        "models": {"teacher": {"labelled": ["a:train", "b:train"], "steps": 800}},
        "seed": 1,
    }
    assert list(turned) != list(SETTINGS)
    assert submission_name("train", turned, ()) == submission_name("train", SETTINGS, ())
    assert submission_name("train", SETTINGS, ("a", "b")) == submission_name(
        "train", SETTINGS, ("b", "a")
    )


def test_a_name_begins_with_its_stage_and_tells_nothing_of_the_settings() -> None:
    name = submission_name("pseudo-label", {"store": "s3://of-one-patient"}, ("pool",))
    assert re.fullmatch("pseudo-label-[0-9a-f]{16}", name)
