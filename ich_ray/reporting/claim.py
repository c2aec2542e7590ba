"""The CLAIM 2024 checklist as far as a run knows the answers; the rest is named as open.

What no run can know, such as who annotated and who paid, is open, and never "not applicable": that
too is a person's to say.
"""

from dataclasses import dataclass
from typing import Literal

from ich_ray.reporting.claim_answers import ANSWERS
from ich_ray.reporting.claim_items import ITEMS
from ich_ray.reporting.contents import Report


@dataclass(frozen=True, kw_only=True, slots=True)
class ClaimItem:
    """An item of the checklist, with what this run says to it."""

    number: int
    section: str
    topic: str
    status: Literal["reported", "open"]
    answer: str
    """What this run knows; empty where it is open."""

    to_write: str
    """What a person must write, all or the rest; empty where nothing is left."""


def claim_checklist(report: Report) -> tuple[ClaimItem, ...]:
    """Return all items of CLAIM 2024, in their order.

    Args:
        report: Of an evaluation; an item is reported where its values answer it.

    Source: Tejani et al., Radiology: Artificial Intelligence 6 (2024) e240300.
    """
    found = []
    for item in ITEMS:
        answer = ANSWERS[item.number](report) if item.number in ANSWERS else ""
        found.append(
            ClaimItem(
                number=item.number,
                section=item.section,
                topic=item.topic,
                status="reported" if answer else "open",
                answer=answer,
                to_write=item.beside if answer else item.to_write,
            )
        )
    return tuple(found)
