"""The predicted lesion volume of each exam of a pseudo-label table: pixels, counted over Ray."""

import json
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import groupby
from typing import Any

import numpy as np
import pyarrow as pa
import ray.data
from scipy.special import expit

from ich_ray.capacity import Need, Process
from ich_ray.distributed import records, work
from ich_ray.distributed.origin import Origin, here
from ich_ray.distributed.progress import bar
from ich_ray.distributed.resources import check_fits, options
from ich_ray.distributed.session import Session
from ich_ray.errors import ConfigError
from ich_ray.exam_summary import extents_mm, voxel_mm3
from ich_ray.label_diagnostics import ExamVolume
from ich_ray.storage.objects import Store
from ich_ray.storage.predictions import (
    MAP_KIND,
    MASK_CODEC,
    WHOLE_CODEC,
    decode_mask,
    decode_soft_mask,
)
from ich_ray.storage.tables import iterate_groups, read_part
from ich_ray.windows import side_of, upsample

WORKER_BYTES = 800_000_000
"""Memory of a worker: the process, and the masks of an exam at a time."""

_MASKS = ("exam", "slice", "label", "mask", "mask_codec", "mask_side")
_GEOMETRY = (
    *("exam", "slice", "series", "index", "rows", "columns"),
    *("position_mm", "spacing_mm", "thickness_mm"),
)


@dataclass(frozen=True, kw_only=True, slots=True)
class VolumesOfPart:
    """Measures the positive slices of parts of a pseudo-label table; called by Ray Data."""

    store: Store
    size: int
    """`input.size`."""

    positive_above: float
    """K: where a teacher's probabilities are the targets themselves."""

    origin: Origin

    def __call__(self, batch: Mapping[str, np.ndarray]) -> dict[str, list[str]]:
        """Measure the parts that a batch names; a row each, JSON, so that none may be empty."""
        with work.piece_of(self.origin):
            pairs = zip(batch["labels"], batch["corpus"], strict=True)
            found = [list(self.of_part(str(labels), str(corpus))) for labels, corpus in pairs]
        return {"volumes": [json.dumps(exams) for exams in found]}

    def of_part(self, labels_url: str, corpus_url: str) -> Iterator[tuple[str, int, float | None]]:
        """Yield exam, positive slices and mL of each exam with a positive slice."""
        sizes = pixel_sizes_mm3(read_part(self.store, corpus_url, _GEOMETRY), size=self.size)
        of_exam: dict[str, list[float | None]] = defaultdict(list)
        for rows in iterate_groups(self.store, labels_url, _MASKS):
            for row in rows.filter(rows["label"]).to_pylist():
                of_exam[row["exam"]].append(self._slice_mm3(row, sizes[row["slice"]]))
        for exam, each in of_exam.items():
            known = [mm3 for mm3 in each if mm3 is not None]
            yield exam, len(each), sum(known) / 1000 if len(known) == len(each) else None

    def _slice_mm3(self, row: Mapping[str, Any], size: tuple[float | None, int]) -> float | None:
        """Return what the pixels above K of a slice are together; None where it is not known."""
        if row["mask_codec"] == WHOLE_CODEC:
            return None
        pixels, side = self._marked(row)
        if not pixels:
            return 0.0
        mm3, own_side = size
        # A pixel of the grid stands for this many of the slice's own, along either axis.
        return None if mm3 is None else pixels * mm3 * (own_side / side) ** 2

    def _marked(self, row: Mapping[str, Any]) -> tuple[int, int]:
        """Return how many pixels are above K, and the side of their grid."""
        side = row["mask_side"]
        match row["mask_codec"]:
            case codec if codec == MASK_CODEC:
                return int((decode_mask(row["mask"], side=side) == 1).sum()), side
            case codec if codec == MAP_KIND:
                logits = decode_soft_mask(row["mask"], cells=side)
                grid = self.size or 8 * side
                full = upsample(logits, rows=grid, columns=grid, size=grid)
                return int((expit(full) > self.positive_above).sum()), grid
        raise ConfigError(
            f"slice {row['slice']} of exam {row['exam']} has a mask of codec "
            f"{row['mask_codec']!r}, known are {MASK_CODEC}, {MAP_KIND} and {WHOLE_CODEC}; "
            "label again with this version"
        )


def pixel_sizes_mm3(rows: pa.Table, *, size: int) -> dict[str, tuple[float | None, int]]:
    """Return slice -> what one of its pixels stands for, mm3, and its square's side in pixels.

    Args:
        rows: Of a corpus part: exam, slice, series, index, rows, columns, position_mm, spacing_mm
            and thickness_mm.
        size: `input.size`.
    """
    ordered = sorted(rows.to_pylist(), key=lambda row: (row["exam"], row["series"], row["index"]))
    found: dict[str, tuple[float | None, int]] = {}
    for _, members in groupby(ordered, key=lambda row: (row["exam"], row["series"])):
        series = list(members)
        extents = extents_mm(
            [row["position_mm"] for row in series], [row["thickness_mm"] for row in series]
        )
        for row, extent in zip(series, extents, strict=True):
            spacing = None if row["spacing_mm"] is None else tuple(row["spacing_mm"])
            own_side = side_of((row["rows"], row["columns"]), size=size)
            found[row["slice"]] = voxel_mm3(spacing, extent), own_side
    return found


def exam_volumes(run: Session, name: str, parts: Sequence[tuple[str, str]]) -> list[ExamVolume]:
    """Measure every exam with a positive slice, ordered by pseudonym.

    Args:
        run: Its settings say which grid masks lie on.
        name: Of the pseudo-labels.
        parts: URL of a part of their table, and of the part of the corpus that it labels.

    Raises:
        ConfigError: A task does not fit the cluster, or a mask is of a kind that is not known.
    """
    run.ensure_ray()
    need = Need(what="diagnostics", each=Process(memory=WORKER_BYTES), pool=False)
    check_fits(run.settings.cluster, need)
    task = VolumesOfPart(
        store=run.store,
        size=run.settings.input.size,
        positive_above=run.settings.pseudo_labels[name].positive_above,
        origin=here().of("diagnose", name),
    )
    dataset = ray.data.from_items(
        [{"labels": labels, "corpus": corpus} for labels, corpus in parts],
        override_num_blocks=len(parts),
    ).map_batches(task, batch_size=1, batch_format="numpy", **options(need.each))
    found = []
    with bar(f"measure {name}", total=len(parts), unit="part") as shown:
        for row in records.rows("diagnose", dataset):
            found += [
                ExamVolume(exam=exam, positive_slices=slices, volume_ml=ml)
                for exam, slices, ml in json.loads(row["volumes"])
            ]
            shown.update(1)
    return sorted(found, key=lambda exam: exam.exam)
