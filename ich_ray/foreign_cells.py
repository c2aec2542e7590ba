"""Columns and cells of tables that other software wrote: what they mean, and what is wrong in them.

Columns are named by their number: a table without header has an exam's name where a column's should
be.
"""

import difflib
import math
import re
from collections.abc import Mapping, Sequence
from typing import Literal

from ich_ray.errors import ConfigError

Role = Literal["predictions", "reference"]

VALUE: Mapping[Role, str] = {"predictions": "score", "reference": "label"}
"""The column that says what an exam or a slice is."""

Cell = str | int | float | None
"""Of a table: CSV knows text alone."""

NEAR, TYPING_ERROR = 0.5, 0.8
"""How like a name is to the one that is missing: worth a hint; `patientid`, hardly another word."""

_NUMBER = re.compile(r"[+-]?([0-9]+\.?[0-9]*|\.[0-9]+)([eE][+-]?[0-9]+)?")
_WHOLE = re.compile(r"([0-9]+)\.0+")
_LABELS = {"true": 1.0, "false": 0.0}


def columns_of(header: Sequence[str], role: Role) -> dict[str, int]:
    """Return where the columns are that a table of this role may have; others are left alone.

    Raises:
        ConfigError: One is missing, is there twice, or is likely meant by another name.

    >>> columns_of(["score", "exam", "model"], "predictions")
    {'exam': 1, 'score': 0}
    """
    value = VALUE[role]
    known = ["exam", "slice", value, "map", *(["patient"] if role == "reference" else [])]
    names = [name.strip() for name in header]
    for name in known:
        if names.count(name) > 1:
            raise ConfigError(f"it has two columns {name}; keep one")
    needed = {"exam"} | (set() if "map" in names else {value})
    for name in known:
        if name in names:
            continue
        near = _nearest(name, names, known, NEAR if name in needed else TYPING_ERROR)
        if near is not None:
            raise ConfigError(
                f"there is no column {name}, and column {near + 1} is called almost so; name it "
                f"{name}" + ("" if name in needed else ", or something else")
            )
        if name in needed:
            raise ConfigError(
                f"there is no column {name}; the header, the first line of a CSV file, names the "
                f"columns: exam, {value} (or map), and others as they are needed"
            )
    return {name: names.index(name) for name in known if name in names}


def name_of(cell: Cell) -> str | None:
    """Return a name as text, None where there is none.

    Tables of numbers that hold gaps write whole numbers as fractions: those are names too.

    >>> name_of("007"), name_of(7), name_of(7.0), name_of("7.0"), name_of(" "), name_of(math.nan)
    ('007', '7', '7', '7', None, None)
    """
    if cell is None or (isinstance(cell, float) and math.isnan(cell)):
        return None
    text = str(cell).strip()
    whole = _WHOLE.fullmatch(text)
    return (whole[1] if whole else text) or None


def score_of(cell: Cell) -> float | None:
    """Return a probability, None where the cell is empty.

    Raises:
        ConfigError: It is none; says why.

    >>> score_of("0.93"), score_of(1), score_of("")
    (0.93, 1.0, None)
    """
    number = _number(cell, "a probability, e.g. 0.93 with a decimal point")
    if number is not None and not 0 <= number <= 1:
        raise ConfigError("it is outside 0 to 1; write a probability, not percent or a logit")
    return number


def label_of(cell: Cell) -> float | None:
    """Return a label as 0 or 1, None where the cell is empty.

    Raises:
        ConfigError: It is none; says why.

    >>> label_of("True"), label_of(0), label_of("1.0"), label_of(None)
    (1.0, 0.0, 1.0, None)
    """
    if isinstance(cell, str | bool) and str(cell).strip().lower() in _LABELS:
        return _LABELS[str(cell).strip().lower()]
    number = _number(cell, "0 or 1, or true or false")
    if number not in (0, 1, None):
        raise ConfigError("it is neither 0 nor 1; write 1 where there is a hemorrhage, else 0")
    return number


def _nearest(name: str, names: Sequence[str], known: Sequence[str], cutoff: float) -> int | None:
    others = {n.lower().replace(" ", "_"): i for i, n in enumerate(names) if n not in known}
    near = difflib.get_close_matches(name, others, n=1, cutoff=cutoff)
    return others[near[0]] if near else None


def _number(cell: Cell, wanted: str) -> float | None:
    if cell is None or (isinstance(cell, str) and not cell.strip()):
        return None
    text = str(cell).strip()
    if text.lower() in ("nan", "+nan", "-nan"):
        raise ConfigError(f"it is NaN; write {wanted}, or take the row out")
    if not _NUMBER.fullmatch(text):
        raise ConfigError(f"it is not a number; write {wanted}")
    return float(text)
