"""Groups of exams that readers make: the category that an exam came with, and whose word is truth.

Where several readers read an exam, its label is what most of them say. Exams on which they differ
are the hard ones: a model looks better against the word of all, and other against that of any.
"""

from collections.abc import Mapping, Sequence

import numpy as np
from jaxtyping import Bool

from ich_ray.annotations import ANY_HEMORRHAGE, Read
from ich_ray.statistics.breakdown import Group


def reader_groups(
    reads: Mapping[str, Sequence[Read]], keys: Sequence[str], labels: Bool[np.ndarray, " exam"]
) -> list[Group]:
    """Return the groups of exams that have reads; none where no exam has any.

    Args:
        reads: Exam -> what each reader says of it.
        keys: Of all exams that are compared.
        labels: Of the same.

    Returns:
        A group a category, where there are several; and all exams that were read, with the word of
        any reader and with that of every reader for their label.

    >>> said = [
    ...     Read(exam="e", reader=reader, category="", findings={"ICH": reader == "R1"})
    ...     for reader in ("R1", "R2")
    ... ]
    >>> found = reader_groups({"e": said}, ["e"], np.array([False]))
    >>> [(group.name, group.labels.tolist()) for group in found]
    [('any reader', [True]), ('every reader', [False])]
    """
    votes = {exam: _votes(reads[exam]) for exam in keys if _votes(reads.get(exam, ()))}
    if not votes:
        return []
    categories = np.array([reads[k][0].category if k in votes else "" for k in keys], np.str_)
    names = [str(name) for name in np.unique(categories) if name]
    read = np.array([key in votes for key in keys], np.bool_)
    rules = {"any reader": any, "every reader": all}
    return [
        *(
            Group(kind="category", name=name, members=categories == name, labels=labels)
            for name in names
            if len(names) > 1
        ),
        *(
            Group(
                kind="truth",
                name=name,
                members=read,
                labels=np.array([rule(votes.get(key, [False])) for key in keys], np.bool_),
            )
            for name, rule in rules.items()
        ),
    ]


def _votes(reads: Sequence[Read]) -> list[bool]:
    return [read.findings[ANY_HEMORRHAGE] for read in reads if ANY_HEMORRHAGE in read.findings]
