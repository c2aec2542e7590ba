"""The JSON schema of a record, from the dataclasses that it is made of.

A schema that is written by hand says something else than the program before long. Descriptions are
the docstrings: of the classes, and the strings below their fields.
"""

import ast
import dataclasses
import inspect
import textwrap
import types
from collections.abc import Mapping, Sequence
from typing import Any, Literal, Union, get_args, get_origin, get_type_hints

from jaxtyping import AbstractArray

from ich_ray.reporting.plain_values import in_record

PLAIN: dict[Any, dict[str, Any]] = {
    str: {"type": "string"},
    int: {"type": "integer"},
    bool: {"type": "boolean"},
    # JSON knows no NaN and no infinity.
    float: {"type": ["number", "null"]},
    type(None): {"type": "null"},
    Any: {},
    object: {},
}


def schema_of(record: type, *, title: str, identifier: str) -> dict[str, Any]:
    """Return the schema of a dataclass and of all that it holds.

    Args:
        record: As `plain_values.plain` writes it.
        title: Of the schema.
        identifier: Its `$id`.

    Raises:
        TypeError: A field is of a type that has no form in JSON.

    >>> from ich_ray.statistics.bootstrap import Interval
    >>> found = schema_of(Interval, title="An interval", identifier="interval.json")
    >>> found["$defs"]["Interval"]["properties"]["low"]
    {'type': ['number', 'null'], 'description': 'Lower bound.'}
    """
    definitions: dict[str, Any] = {}
    root = _of(record, definitions)
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "$id": identifier,
        "title": title,
        **root,
        "$defs": dict(sorted(definitions.items())),
    }


def _of(kind: Any, definitions: dict[str, Any]) -> dict[str, Any]:
    if kind in PLAIN:
        return dict(PLAIN[kind])
    origin, arguments = get_origin(kind), get_args(kind)
    if origin is Literal:
        return {"enum": list(arguments)}
    if origin in (Union, types.UnionType):
        return {"anyOf": [_of(one, definitions) for one in arguments]}
    if origin in (tuple, list) or (inspect.isclass(origin) and issubclass(origin, Sequence)):
        return _array(origin, arguments, definitions)
    if inspect.isclass(origin) and issubclass(origin, Mapping):
        return {"type": "object", "additionalProperties": _of(arguments[1], definitions)}
    if inspect.isclass(kind) and issubclass(kind, AbstractArray):
        return _nested(kind)
    if dataclasses.is_dataclass(kind):
        return _reference(kind, definitions)
    raise TypeError(f"{kind} has no form in JSON: give it one in json_schema.py")


def _array(origin: Any, arguments: tuple[Any, ...], definitions: dict[str, Any]) -> dict[str, Any]:
    if origin is tuple and arguments[-1] is not Ellipsis:
        items = [_of(one, definitions) for one in arguments]
        size = len(items)
        return {"type": "array", "prefixItems": items, "minItems": size, "maxItems": size}
    return {"type": "array", "items": _of(arguments[0], definitions)}


def _nested(kind: Any) -> dict[str, Any]:
    """Return the form of an array: lists of lists, as deep as it has axes."""
    whole = all(name.startswith(("int", "uint")) for name in kind.dtypes)
    plain = bool if kind.dtypes[0].startswith("bool") else int if whole else float
    inner: dict[str, Any] = dict(PLAIN[plain])
    for _ in kind.dims:
        inner = {"type": "array", "items": inner}
    return inner


def _reference(kind: Any, definitions: dict[str, Any]) -> dict[str, Any]:
    name = kind.__name__
    if name not in definitions:
        definitions[name] = {}  # of a class that holds itself
        hints, told, kept = get_type_hints(kind), _told(kind), in_record(kind)
        definitions[name] = {
            "description": inspect.cleandoc(kind.__doc__ or "").partition("\n")[0],
            "type": "object",
            "properties": {
                one.name: _of(hints[one.name], definitions)
                | ({"description": told[one.name]} if one.name in told else {})
                for one in kept
            },
            "required": [one.name for one in kept],
            "additionalProperties": False,
        }
    return {"$ref": f"#/$defs/{name}"}


def _told(kind: Any) -> dict[str, str]:
    """Return field -> the string below it."""
    (node,) = ast.parse(textwrap.dedent(inspect.getsource(kind))).body
    assert isinstance(node, ast.ClassDef)
    found = {}
    for before, after in zip(node.body, node.body[1:], strict=False):
        if (
            isinstance(before, ast.AnnAssign)
            and isinstance(before.target, ast.Name)
            and isinstance(after, ast.Expr)
            and isinstance(after.value, ast.Constant)
        ):
            found[before.target.id] = " ".join(str(after.value.value).split())
    return found
