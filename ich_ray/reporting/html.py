"""HTML pages that need no other file: one way to fill a template, and what every page writes."""

import base64
import hashlib
import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from importlib import resources
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined

DASH = "\N{EN DASH}"


def render(template: str, filters: Mapping[str, Callable[..., str]], **values: Any) -> str:
    """Fill a template of this folder; every text is escaped.

    Args:
        template: Name of the file.
        filters: Beside those of this module.
        values: By the names that the template uses, all of them.
    """
    environment = Environment(
        loader=PackageLoader("ich_ray.reporting", "."),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters |= {**FILTERS, **filters}
    return environment.get_template(template).render(**values)


@dataclass(frozen=True, slots=True)
class Script:
    """A script that a page holds in itself."""

    text: str
    """Between its tags, never escaped."""

    source: str
    """What a content security policy calls it: a page that names it runs no other script."""


def script(*names: str) -> Script:
    """Return files of this folder, one after the other, as one script."""
    folder = resources.files("ich_ray.reporting")
    text = "".join(folder.joinpath(name).read_text(encoding="utf-8") for name in names)
    digest = base64.b64encode(hashlib.sha256(text.encode()).digest()).decode("ascii")
    return Script(text, f"'sha256-{digest}'")


def data_uri(content: bytes, kind: str) -> str:
    """Return content that a page holds in itself; `kind` is its media type."""
    return f"data:{kind};base64,{base64.b64encode(content).decode('ascii')}"


def number(value: float | None, digits: int = 3) -> str:
    """Write a number for a table; a dash where there is none.

    >>> number(0.9071), number(float("nan"))
    ('0.907', '\u2013')
    """
    return f"{value:.{digits}f}" if value is not None and math.isfinite(value) else DASH


def count(value: int | None) -> str:
    """Write a count; a dash where nobody counted.

    >>> count(12345)
    '12,345'
    """
    return DASH if value is None else f"{value:,}"


def share(part: int | None, whole: int) -> str:
    """Write a share in per cent, empty where it is not known.

    >>> share(1, 8)
    '12.5 %'
    """
    return f"{100 * part / whole:.1f} %" if part is not None and whole else ""


def shortened(pseudonym: str) -> str:
    """Cut a pseudonym to what tells it apart at a glance."""
    return pseudonym if len(pseudonym) <= 12 else f"{pseudonym[:8]}…"


FILTERS: Mapping[str, Callable[..., str]] = {
    "number": number,
    "count": count,
    "share": share,
    "shortened": shortened,
}
