"""Leaks: exams that the settings test on, among those that they let a model learn from."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np

from ich_ray.distributed.session import Session
from ich_ray.reporting.audit_contents import Leak
from ich_ray.sharing import Members, leaked
from ich_ray.splits import split_of


def find(run: Session, corpora: Mapping[str, Members]) -> Iterator[Leak]:
    """Compare the test exams with those of every setting that a model learns from.

    Args:
        run: Names the selections.
        corpora: By name; selections of others are left out.
    """
    if run.settings.evaluate is None:
        return
    names = run.settings.evaluate.test
    test = _chosen(run, corpora, names)
    for where, selections in _sides(run).items():
        patients, images = leaked(test, _chosen(run, corpora, selections))
        if patients or images:
            said = ", ".join(names)
            yield Leak(test=said, training=where, patients=patients, images=images)


def unchecked(run: Session, corpora: Sequence[str]) -> Iterator[str]:
    """Say which selections of the settings no audit of these corpora has compared."""
    if run.settings.evaluate is None:
        return
    sides = {"evaluate.test": run.settings.evaluate.test, **_sides(run)}
    absent = {
        where: [name for name in names if name.partition(":")[0] not in corpora]
        for where, names in sides.items()
    }
    said = "; ".join(f"{', '.join(names)} of {where}" for where, names in absent.items() if names)
    if said:
        yield f"Not audited, so a leak there stays unseen: {said}."


def identity(run: Session, corpora: Sequence[str]) -> dict[str, Any]:
    """Return what of the settings decides the leaks."""
    evaluate = run.settings.evaluate
    return {
        "test": [] if evaluate is None else list(evaluate.test),
        "training": {where: list(names) for where, names in _sides(run).items()},
        "splits": {
            name: [list(map(list, config.splits.items())), config.split_seed]
            for name, config in run.settings.corpora.items()
            if name in corpora
        },
    }


def _sides(run: Session) -> dict[str, tuple[str, ...]]:
    """Return the settings that name exams to learn from, and the selections that they name."""
    settings = run.settings
    return {
        **{f"models.{name}.labelled": model.labelled for name, model in settings.models.items()},
        **{
            f"pseudo_labels.{name}.unlabelled": labels.unlabelled
            for name, labels in settings.pseudo_labels.items()
        },
    }


def _chosen(
    run: Session, corpora: Mapping[str, Members], selections: Sequence[str]
) -> list[Members]:
    """Return the slices of those selections whose corpora are audited."""
    found = []
    for selection in selections:
        name, _, split = selection.partition(":")
        if name not in corpora:
            continue
        members = corpora[name]
        if split:
            config = run.settings.corpora[name]
            held = [
                patient
                for patient in np.unique(members.patient).tolist()
                if split_of(patient.decode(), shares=config.splits, seed=config.split_seed) == split
            ]
            members = members.chosen(np.isin(members.patient, np.array(held, "S32")))
        found.append(members)
    return found
