"""Synthetic exams, written by the cluster's workers as DICOM for the other stages to read."""

from dataclasses import dataclass
from typing import Any

import numpy as np
import ray

from ich_ray.capacity import Need, Process
from ich_ray.distributed.progress import bar
from ich_ray.distributed.resources import check_fits, options
from ich_ray.distributed.session import Session
from ich_ray.storage.phantom_dicom import (
    PhantomCorpus,
    WrittenExam,
    is_written,
    write_exams,
    write_manifest,
)

EXAMS_OF_A_TASK = 4
WRITER = Process(memory=600_000_000)
"""Measured: 0.4 GB (20 slices of 256 x 256)."""


@dataclass(frozen=True, slots=True)
class PhantomSummary:
    """What was written."""

    name: str
    exams: int
    folder: str
    up_to_date: bool

    def line(self) -> str:
        """Return one line for a person."""
        done = "up to date" if self.up_to_date else f"{self.exams} exams written"
        return f"phantoms {self.name}: {done} in {self.folder}"


def write_phantoms(run: Session, name: str) -> PhantomSummary:
    """Write the exams of one phantoms section, unless they are there."""
    config = run.settings.phantoms[name]
    corpus = PhantomCorpus(
        site=config.site,
        seed=config.seed,
        num_exams=config.num_exams,
        matrix=config.matrix,
        num_slices=config.num_slices,
        labelled=config.labelled,
        reader=config.reader,
    )
    if is_written(config.folder, corpus):
        return PhantomSummary(name, config.num_exams, config.folder, up_to_date=True)
    run.ensure_ray()
    check_fits(run.settings.cluster, Need(what="writing phantoms", each=WRITER, pool=False))
    chunks = np.array_split(np.array(corpus.indices), max(1, config.num_exams // EXAMS_OF_A_TASK))
    write = ray.remote(**options(WRITER))(_write)
    pending = [write.remote(config.folder, corpus, chunk.tolist()) for chunk in chunks]
    written: list[WrittenExam] = []
    with bar(f"phantoms {name}", total=config.num_exams, unit="exam") as shown:
        while pending:
            ready, pending = ray.wait(pending)
            found: list[WrittenExam] = ray.get(ready[0])
            written += found
            shown.update(len(found))
    write_manifest(config.folder, corpus, written)
    return PhantomSummary(name, config.num_exams, config.folder, up_to_date=False)


def _write(folder: str, corpus: PhantomCorpus, indices: list[int]) -> list[Any]:
    return write_exams(folder, corpus, indices)
