"""What readers decided: the files that the page of a review exports, JSON or CSV, read strictly.

A reader's name stands in these files alone: messages and figures call readers by number.
"""

import csv
import io
import json
from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Literal, cast, get_args

from ich_ray.errors import ConfigError

FORMAT = "ich-ray review 1"
"""Raised when the files change."""

Verdict = Literal["accept", "reject", "unsure"]
"""Of the positive label that the slice would get."""

VERDICTS: tuple[Verdict, ...] = get_args(Verdict)
_OF_DECISION = ("slice", "decision", "reader", "time")
_OF_FILE = ("format", "predictions", "sample")
COLUMNS = (*_OF_FILE, *_OF_DECISION)
"""Of a CSV file; a JSON file has the first three once, and `decisions` with the others."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Decision:
    """One reader's verdict on one slice."""

    slice: str
    verdict: Verdict
    reader: str
    time: datetime


@dataclass(frozen=True, kw_only=True, slots=True)
class ReviewFile:
    """All decisions of one file, and what they are about."""

    where: str
    """What messages call the file: its name may be the reader's."""

    predictions: str
    """Identity of the predictions whose ranking was looked at."""

    sample: str
    """Identity of the sample that was drawn from it."""

    decisions: tuple[Decision, ...]


def read_review(text: str, where: str) -> ReviewFile:
    """Read an exported file.

    Args:
        text: JSON or CSV, told apart by the first character.
        where: What messages call the file.

    Raises:
        ConfigError: It is cut off, of another format, or holds a decision that is none.
    """
    text = text.removeprefix("\ufeff")
    json_text = text.lstrip().startswith(("{", "["))
    head, rows = _from_json(text, where) if json_text else _from_csv(text, where)
    if head["format"] != FORMAT:
        raise ConfigError(
            f"{where} is of the format {head['format']!r}, known is {FORMAT!r}; export it from "
            "the page that this version's ich-ray review writes"
        )
    if not rows:
        raise ConfigError(f"{where} holds no decisions; decide in the page, then export")
    decisions = [_decision(row, f"{where}, decision {n}") for n, row in enumerate(rows, start=1)]
    return ReviewFile(
        where=where,
        predictions=str(head["predictions"]),
        sample=str(head["sample"]),
        decisions=tuple(decisions),
    )


def verdicts_of(
    files: Sequence[ReviewFile], known: Collection[str]
) -> dict[str, dict[int, Verdict]]:
    """Return slice -> number of the reader -> verdict; readers count from 1, as they first appear.

    Args:
        files: Of any readers; the same decision in two files counts once.
        known: Keys of the slices of the sample.

    Raises:
        ConfigError: A slice is not of the sample, or one reader says two things of it.
    """
    numbers: dict[str, int] = {}
    found: dict[str, dict[int, Verdict]] = {}
    for file in files:
        for decision in file.decisions:
            if decision.slice not in known:
                raise ConfigError(
                    f"{file.where}: slice {decision.slice} is not one that ich-ray review shows; "
                    "was the file edited? export it again"
                )
            number = numbers.setdefault(decision.reader, len(numbers) + 1)
            before = found.setdefault(decision.slice, {}).setdefault(number, decision.verdict)
            if before != decision.verdict:
                raise ConfigError(
                    f"{file.where}: reader {number} says {before} and {decision.verdict} of slice "
                    f"{decision.slice}; keep one of the two"
                )
    return found


def majority(verdicts: Collection[Verdict]) -> Verdict:
    """Return what most readers say of a slice; a tie is unsure.

    >>> majority(["accept", "reject", "reject"]), majority(["accept", "reject"])
    ('reject', 'unsure')
    """
    (first, most), *others = Counter(verdicts).most_common()
    return "unsure" if others and others[0][1] == most else first


def _from_json(text: str, where: str) -> tuple[Mapping[str, Any], list[Any]]:
    try:
        tree = json.loads(text)
    except json.JSONDecodeError as error:
        raise ConfigError(
            f"{where} is no whole JSON (line {error.lineno}: {error.msg}): was it cut off? "
            "export it again"
        ) from None
    _expect_keys(tree, {*_OF_FILE, "decisions"}, where)
    if not isinstance(tree["decisions"], list):
        raise ConfigError(f"{where}: decisions must be a list; export it again")
    return tree, tree["decisions"]


def _from_csv(text: str, where: str) -> tuple[Mapping[str, Any], list[Any]]:
    reader = csv.DictReader(io.StringIO(text, newline=""), strict=True)
    try:
        rows = list(reader)
    except csv.Error as error:
        raise ConfigError(f"{where} is no whole CSV ({error}); export it again") from None
    if tuple(reader.fieldnames or ()) != COLUMNS:
        raise ConfigError(
            f"{where} is neither JSON nor a CSV with the columns {', '.join(COLUMNS)}; give the "
            "file that the page of ich-ray review exports"
        )
    heads = {tuple(row[name] for name in _OF_FILE) for row in rows}
    if len(heads) > 1:
        raise ConfigError(
            f"{where} mixes decisions about {len(heads)} reviews; give --review one file for each "
            "reader of this one"
        )
    head = dict(zip(_OF_FILE, next(iter(heads), (FORMAT, "", "")), strict=True))
    return head, [{k: v for k, v in row.items() if k not in _OF_FILE} for row in rows]


def _decision(row: Any, where: str) -> Decision:
    _expect_keys(row, set(_OF_DECISION), where)
    for name in _OF_DECISION:
        if not isinstance(row[name], str) or not row[name].strip():
            raise ConfigError(f"{where} has no {name}; export the file again")
    if row["decision"] not in VERDICTS:
        raise ConfigError(
            f"{where}, slice {row['slice']}: {row['decision']!r} is no decision; known are "
            f"{', '.join(VERDICTS)}"
        )
    try:
        time = datetime.fromisoformat(row["time"])
    except ValueError:
        raise ConfigError(
            f"{where}, slice {row['slice']}: {row['time']!r} is no time; write it as "
            "2026-11-30T08:00:00Z"
        ) from None
    verdict = cast(Verdict, row["decision"])
    reader = row["reader"].strip()
    return Decision(slice=row["slice"], verdict=verdict, reader=reader, time=time)


def _expect_keys(value: Any, keys: set[str], where: str) -> None:
    if not isinstance(value, dict) or value.keys() != keys:
        has = sorted(map(str, value)) if isinstance(value, dict) else type(value).__name__
        raise ConfigError(
            f"{where} must have {', '.join(sorted(keys))}; it has {has}: was it edited or cut "
            "off? export it again"
        )
