"""The one parser: TOML text and `section.key=value` overrides into frozen dataclasses."""

import dataclasses
import difflib
import tomllib
import types
from collections.abc import Callable, Iterable, Mapping
from typing import Any, Literal, TypeVar, Union, get_args, get_origin, get_type_hints

from ich_ray.config import CorpusConfig, NiftiConfig, Settings
from ich_ray.errors import ConfigError
from ich_ray.identity import Pseudonyms

T = TypeVar("T")


def parse(
    into: type[T],
    text: str,
    overrides: Iterable[str] = (),
    *,
    change: Callable[[dict[str, Any]], Mapping[str, Any]] | None = None,
) -> T:
    """Read settings.

    Args:
        into: A frozen dataclass; its fields name the sections and keys.
        text: TOML.
        overrides: `section.key=value`, later ones win. A value that is no TOML is a string.
        change: Makes other settings of the plain values of these, once they have been checked.

    Raises:
        ConfigError: The text is no TOML, a key is unknown (the nearest one is offered),
            missing, of another type, or refused by its section.
    """
    try:
        tree = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise ConfigError(f"the settings are no valid TOML: {error}") from None
    for override in overrides:
        _override(tree, override)
    value: T = _build(into, tree, "")
    if change is not None:
        value = _build(into, change(tree), "")
    return value


def read_section(into: type[T], tree: Mapping[str, Any], path: str) -> T:
    """Read plain values as one section of settings.

    Args:
        into: A frozen dataclass.
        tree: Key -> value.
        path: What messages call it.

    Raises:
        ConfigError: As of `parse`.
    """
    value: T = _build(into, dict(tree), path)
    return value


def resolved(settings: Any) -> Any:
    """Return settings as plain values for JSON, every default written out."""
    if dataclasses.is_dataclass(settings) and not isinstance(settings, type):
        return {
            field.name: resolved(getattr(settings, field.name))
            for field in dataclasses.fields(settings)
        }
    if isinstance(settings, Mapping):
        return {key: resolved(value) for key, value in settings.items()}
    if isinstance(settings, tuple | list):
        return [resolved(value) for value in settings]
    return settings


def for_record(settings: Settings, pseudonyms: Pseudonyms) -> dict[str, Any]:
    """Return resolved settings as tables and reports keep them, which others may read.

    The places of a corpus, of predictions and of a reference become pseudonyms: a prefix, an
    archive, a template of names or a table of labels may be named after a patient.
    """
    record: dict[str, Any] = resolved(settings)
    for corpus in record["corpora"].values():
        for section, kind in ((corpus, CorpusConfig), (corpus["nifti"], NiftiConfig)):
            places = [name for name, value in get_type_hints(kind).items() if value is str]
            section |= {name: section[name] and pseudonyms.of(section[name]) for name in places}
    evaluate = record["evaluate"]
    if evaluate is not None:
        given = evaluate["predictions"]
        evaluate["predictions"] = {name: pseudonyms.of(place) for name, place in given.items()}
        for name in ("reference", "tuning_reference"):
            evaluate[name] = evaluate[name] and pseudonyms.of(evaluate[name])
    for model in record["models"].values():
        model["init_trunk"] = model["init_trunk"] and pseudonyms.of(model["init_trunk"])
    return record


def _override(tree: dict[str, Any], override: str) -> None:
    path, equals, text = override.partition("=")
    if not equals or not path:
        raise ConfigError(
            f"cannot read the override {override!r}; write section.key=value, "
            "e.g. models.teacher.steps=200"
        )
    try:
        value = tomllib.loads(f"value = {text}")["value"]
    except tomllib.TOMLDecodeError:
        value = text
    *sections, key = path.split(".")
    for section in sections:
        tree = tree.setdefault(section, {})
        if not isinstance(tree, dict):
            raise ConfigError(f"{path}: {section} is a value, not a section")
    tree[key] = value


def _build(into: Any, value: Any, path: str) -> Any:
    """Turn a TOML value into the annotated type, or say where and why not."""
    if into is object:
        # Of a type that something else knows.
        return value
    if dataclasses.is_dataclass(into):
        return _section(into, value, path)
    origin, arguments = get_origin(into), get_args(into)
    if origin in (Union, types.UnionType):
        return _build(next(a for a in arguments if a is not type(None)), value, path)
    if origin is Literal:
        if value in arguments:
            return value
        raise ConfigError(f"{path} must be one of {', '.join(map(str, arguments))}; got {value!r}")
    if origin is tuple:
        return _tuple(arguments, value, path)
    if origin in (Mapping, dict):
        _expect(isinstance(value, dict), path, "a section", value)
        return {key: _build(arguments[1], item, f"{path}.{key}") for key, item in value.items()}
    if into is float and isinstance(value, int) and not isinstance(value, bool):
        return float(value)
    _expect(type(value) is into, path, into.__name__, value)
    return value


def _section(into: Any, value: Any, path: str) -> Any:
    _expect(isinstance(value, dict), path or "the settings", "a section", value)
    value = _with_preset(into, value)
    fields = {field.name: field for field in dataclasses.fields(into)}
    hints = get_type_hints(into)
    dot = f"{path}." if path else ""
    for key in value:
        if key not in fields:
            near = difflib.get_close_matches(key, fields, n=1, cutoff=0.5)
            hint = f"did you mean {dot}{near[0]}?" if near else f"known: {', '.join(fields)}"
            raise ConfigError(f"unknown setting {dot}{key}; {hint}")
    for name, field in fields.items():
        required = (
            field.default is dataclasses.MISSING and field.default_factory is dataclasses.MISSING
        )
        if required and name not in value:
            raise ConfigError(f"the setting {dot}{name} is missing; it has no default")
    built = {key: _build(hints[key], item, f"{dot}{key}") for key, item in value.items()}
    try:
        return into(**built)
    except ConfigError as error:
        raise ConfigError(f"{path}: {error}" if path else str(error)) from None


def _with_preset(into: Any, value: dict[str, Any]) -> dict[str, Any]:
    """Put what a section's `preset` says under what the section says itself."""
    presets: Mapping[str, Mapping[str, Any]] = getattr(into, "PRESETS", {})
    # An unknown name is refused where its type is checked.
    return {**presets.get(str(value.get("preset")), {}), **value}


def _tuple(arguments: tuple[Any, ...], value: Any, path: str) -> tuple[Any, ...]:
    _expect(isinstance(value, list), path, "a list", value)
    if arguments[-1] is Ellipsis:
        return tuple(_build(arguments[0], item, f"{path}[{i}]") for i, item in enumerate(value))
    _expect(len(value) == len(arguments), path, f"a list of {len(arguments)}", value)
    return tuple(
        _build(kind, item, f"{path}[{i}]")
        for i, (kind, item) in enumerate(zip(arguments, value, strict=True))
    )


def _expect(fits: bool, path: str, what: str, value: Any) -> None:  # noqa: FBT001  (the check itself)
    if not fits:
        raise ConfigError(f"{path} must be {what}; got {value!r}")
