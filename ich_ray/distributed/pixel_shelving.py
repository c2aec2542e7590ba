"""Shelves of the pixels of all patients, made on the cluster from what its tasks have bundled."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import ray.data
from jaxtyping import Int64

from ich_ray.capacity import Need, Process
from ich_ray.distributed import records, work
from ich_ray.distributed.gathering import Gathered
from ich_ray.distributed.metering import metered, tasks_at_once
from ich_ray.distributed.origin import Origin, here
from ich_ray.distributed.progress import bar
from ich_ray.distributed.resources import options
from ich_ray.distributed.session import Session
from ich_ray.statistics.pooled_exams import ComparedExams
from ich_ray.storage.objects import Store
from ich_ray.storage.pixel_shelves import (
    Bundle,
    StoredPixels,
    numbered,
    shelf_bins,
    shelf_of,
    write_shelf,
)
from ich_ray.storage.urls import join

SHELVER = Process(memory=1_000_000_000)

SHELVING_NEED = Need(what="the pixels of an evaluation, by level", each=SHELVER, pool=False)

SHELVING = "shelve"
"""The kind of this work, in the runs table."""

Bundled = tuple[Bundle, Int64[np.ndarray, " _exam"]]


@dataclass(frozen=True, kw_only=True, slots=True)
class Shelve:
    """Makes shelves; a plain value, called by Ray Data."""

    store: Store
    bundles: Sequence[Sequence[Bundled]]
    """Of each model."""

    num_patients: int
    origin: Origin

    def __call__(self, batch: Mapping[str, np.ndarray]) -> dict[str, list[str]]:
        """Make the shelves that a batch names by model and range of bins."""
        with work.piece_of(self.origin):
            for model, first, last, url in zip(
                *(batch[name] for name in ("model", "first", "last", "url")), strict=True
            ):
                shelf = shelf_of(
                    self.store,
                    self.bundles[int(model)],
                    range(int(first), int(last)),
                    num_patients=self.num_patients,
                )
                write_shelf(self.store, str(url), shelf)
        return {"url": [str(url) for url in batch["url"]]}


def shelve(
    run: Session, found: Gathered, names: Sequence[str], seen: ComparedExams, place: str
) -> dict[str, StoredPixels]:
    """Return the pixels of models by level and patient, shelved.

    Args:
        run: The session.
        found: What the tasks told, their bundles among it.
        names: Of the models.
        seen: The exams that they are compared on.
        place: Folder of the shelves.
    """
    floors = {name: found.models[name].pixels.floors() for name in names}
    patient_of = dict(zip(seen.keys, seen.exams.patient.tolist(), strict=True))
    num_patients = len(seen.exams.strata)
    pieces: list[dict[str, Any]] = []
    stored = {}
    for number, name in enumerate(names):
        ranges = shelf_bins(found.bundles[name], floors[name])
        urls = [join(place, "shelves", f"{number}-{i}.shelf") for i in range(len(ranges))]
        pieces += [
            {"model": number, "first": bins.start, "last": bins.stop, "url": url}
            for bins, url in zip(ranges, urls, strict=True)
        ]
        stored[name] = StoredPixels(
            store=run.store, urls=tuple(urls), levels=floors[name], num_clusters=num_patients
        )
    job = Shelve(
        store=run.store,
        bundles=[
            # Of the exams their patients' numbers suffice.
            [(replace(one, exams=()), numbered(one, patient_of)) for one in found.bundles[name]]
            for name in names
        ],
        num_patients=num_patients,
        origin=here().of("evaluate"),
    )
    _carry_out(run, job, pieces)
    return stored


def _carry_out(run: Session, job: Shelve, pieces: Sequence[Mapping[str, Any]]) -> None:
    if not pieces:
        return
    dataset = ray.data.from_items(list(pieces), override_num_blocks=len(pieces)).map_batches(
        job, batch_size=1, batch_format="numpy", **options(SHELVER)
    )
    at_once = tasks_at_once(len(pieces))
    with (
        bar("sort pixels by level", total=len(pieces), unit="piece") as shown,
        metered(run, SHELVING, SHELVER, processes=at_once) as meter,
    ):
        for done, _ in enumerate(records.rows("shelve", dataset), start=1):
            shown.update(1)
            meter.finished(1, more=done < len(pieces))
