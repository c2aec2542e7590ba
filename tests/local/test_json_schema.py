from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

import jsonschema
import numpy as np
import pytest
from jaxtyping import Bool, Float64, Int64

from ich_ray.reporting.json_schema import schema_of
from ich_ray.reporting.plain_values import plain


@dataclass(frozen=True)
class Part:
    """One of many. Nobody reads on."""

    name: str
    """What it is called."""

    share: float


@dataclass(frozen=True, eq=False)
class Whole:
    """Everything that a record may hold."""

    kind: Literal["one", "two"]
    parts: tuple[Part, ...]
    pair: tuple[int, str]
    by_name: Mapping[str, Sequence[bool]]
    maybe: Part | None
    grid: Float64[np.ndarray, "row column"]
    counts: Int64[np.ndarray, " bin"]
    told: Bool[np.ndarray, " bin"]
    anything: Any
    kept_apart: Float64[np.ndarray, " draw"] = field(metadata={"record": False})


def whole(**changed: Any) -> dict[str, Any]:
    value = Whole(
        kind="one",
        parts=(Part("a", 0.5), Part("b", float("nan"))),
        pair=(1, "x"),
        by_name={"a": [True, False]},
        maybe=None,
        grid=np.array([[0.5, np.inf]]),
        counts=np.array([3]),
        told=np.array([True]),
        anything={"deep": [1, None]},
        kept_apart=np.zeros(3),
    )
    found: dict[str, Any] = plain(value) | changed
    return found


@pytest.fixture(scope="module")
def schema() -> dict[str, Any]:
    return schema_of(Whole, title="All", identifier="all.json")


def test_a_record_keeps_to_the_schema_of_its_dataclasses(schema: dict[str, Any]) -> None:
    jsonschema.Draft202012Validator.check_schema(schema)
    jsonschema.validate(whole(), schema)
    assert "kept_apart" not in whole()
    assert "kept_apart" not in schema["$defs"]["Whole"]["properties"]


@pytest.mark.parametrize(
    ("changed", "match"),
    [
        ({"kind": "three"}, "'three' is not one of"),
        ({"pair": [1]}, "too short"),
        ({"pair": [1, 2]}, "2 is not of type 'string'"),
        ({"parts": [{"name": "a"}]}, "'share' is a required property"),
        ({"grid": [0.5]}, "0.5 is not of type 'array'"),
        ({"counts": [0.5]}, "0.5 is not of type 'integer'"),
        ({"told": [1]}, "1 is not of type 'boolean'"),
        ({"by_name": {"a": [3]}}, "3 is not of type 'boolean'"),
        ({"maybe": 3}, "3 is not valid under any of the given schemas"),
        ({"more": 1}, "'more' was unexpected"),
    ],
)
def test_anything_else_is_refused(
    schema: dict[str, Any], changed: dict[str, Any], match: str
) -> None:
    with pytest.raises(jsonschema.ValidationError, match=match):
        jsonschema.validate(whole(**changed), schema)


def test_descriptions_are_the_docstrings(schema: dict[str, Any]) -> None:
    part = schema["$defs"]["Part"]
    assert part["description"] == "One of many. Nobody reads on."
    assert part["properties"]["name"]["description"] == "What it is called."
    assert "description" not in part["properties"]["share"]


def test_a_type_without_a_form_is_named() -> None:
    @dataclass(frozen=True)
    class Odd:
        """Holds what JSON does not know."""

        when: complex

    with pytest.raises(TypeError, match=r"complex.* has no form in JSON"):
        schema_of(Odd, title="Odd", identifier="odd.json")
