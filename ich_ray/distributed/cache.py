"""Decoded slices on each node: made once from a corpus, memory-mapped by every worker.

A derived cache: named by the hash of what it holds, so that another run finds it, and safe to
remove at any time between runs.
"""

import json
import os
import shutil
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import UInt8

from ich_ray.config import InputConfig
from ich_ray.distributed.inputs import neighbour_rows, on_grid
from ich_ray.distributed.session import Selection, fingerprint
from ich_ray.errors import ConfigError, SurroundingsError
from ich_ray.exam import IGNORED, SURE, Slice
from ich_ray.learning.sampling import SlicePool, SliceStack, Worker, bleeding
from ich_ray.storage.corpus import read_exams
from ich_ray.storage.objects import Store
from ich_ray.storage.predictions import (
    MAP_KIND,
    MASK_CODEC,
    WHOLE_CODEC,
    decode_mask,
    decode_soft_mask,
)
from ich_ray.storage.tables import iterate_groups, part_path
from ich_ray.storage.urls import join
from ich_ray.windows import head_box, mask_to_grid, preprocessing_id, upsample


@dataclass(frozen=True, kw_only=True, slots=True)
class PoolSource:
    """What a pool of slices is made of: a corpus with its own masks, or with a teacher's."""

    store: Store
    selection: Selection
    input: InputConfig
    pseudo_labels: str = ""
    """URL of the pseudo-label table; empty: the corpus's own masks."""


@dataclass(frozen=True, slots=True)
class _Truth:
    """The target of one slice."""

    mask: UInt8[np.ndarray, "side side2"]
    whole_label: int = IGNORED
    """As learning.sampling.SlicePool has it."""

    soft: bool = False
    """The mask holds probabilities, 0 to SURE."""


def open_pool(
    sources: Sequence[PoolSource],
    folder: str,
    *,
    worker: Worker,
    barrier: Callable[[], None],
) -> SlicePool:
    """Make what is missing of a cache together with the node's other workers, and map it.

    Args:
        sources: What the pool is made of.
        folder: `cluster.cache`; empty: in the system's temporary folder.
        worker: This process's place among the workers of its node.
        barrier: Waits for all workers.
    """
    root = Path(folder or Path(tempfile.gettempdir(), "ich_ray-cache"))
    pieces = [(source, url) for source in sources for url in source.selection.corpus.files]
    folders = [root / _piece_name(source, url) for source, url in pieces]
    for i, ((source, url), piece) in enumerate(zip(pieces, folders, strict=True)):
        if i % worker.world == worker.rank and not piece.exists():
            _make_piece(source, url, piece)
    barrier()
    filled = [piece for piece in folders if (piece / "images.npy").exists()]
    if not filled:
        names = ", ".join(sorted({source.selection.corpus.name for source in sources}))
        raise ConfigError(
            f"the selections of {names} hold no slice of any patient; give their split a larger "
            "share, or ingest more exams"
        )
    return _map(filled)


def _piece_name(source: PoolSource, url: str) -> str:
    return fingerprint(
        part=url,
        selection=source.selection.identity["split"],
        preprocessing=preprocessing_id(source.input),
        labels=source.pseudo_labels,
        format=4,
    )


def _make_piece(source: PoolSource, url: str, folder: Path) -> None:
    """Decode one part of a corpus; a folder appears under its name only when it is whole."""
    folder.parent.mkdir(parents=True, exist_ok=True)
    temporary = Path(tempfile.mkdtemp(dir=folder.parent, prefix=".piece-"))
    labels = _labels(source, url)
    images: list[np.ndarray] = []
    truths: list[_Truth] = []
    rows: list[dict[str, Any]] = []
    for exam in read_exams(
        source.store, url, splits=source.selection.holds, with_truth=labels is None
    ):
        if labels is not None and not labels:
            part = part_path(label_part_name(source.selection, url))
            raise SurroundingsError(
                f"{source.pseudo_labels} lacks {part}, of corpus {source.selection.corpus.name}; "
                "remove that folder, and the pseudo-labels are made again"
            )
        images.append(on_grid(exam, source.input))
        previous, following = neighbour_rows(exam)
        truths += [_truth(item, labels, source.input, images[-1].shape[1]) for item in exam]
        for i, item in enumerate(exam):
            near = [exam[previous[i]].key, exam[following[i]].key]
            box = head_box(images[-1][i])
            rows.append({"order": [item.exam, i], "key": item.key, "near": near, "box": box})
    if rows:
        np.save(temporary / "images.npy", np.concatenate(images))
        np.save(temporary / "masks.npy", np.stack([t.mask for t in truths]))
        for row, truth in zip(rows, truths, strict=True):
            row["positive"] = bool(bleeding(truth.mask, soft=truth.soft).any())
            row["whole_label"] = truth.whole_label
            row["soft"] = truth.soft
    (temporary / "rows.json").write_text(json.dumps(rows))
    try:
        os.rename(temporary, folder)
    except OSError:
        # Another run on this node was faster; its piece holds the same.
        shutil.rmtree(temporary, ignore_errors=True)


def _labels(source: PoolSource, url: str) -> dict[str, dict[str, Any]] | None:
    """Read the pseudo-labels of one part of a corpus, where its pool has some.

    A part without a patient of the selection has no file: nothing is returned.
    """
    if not source.pseudo_labels:
        return None
    part = join(source.pseudo_labels, part_path(label_part_name(source.selection, url)))
    if not source.store.exists(part):
        return {}
    return {
        row["slice"]: row
        for group in iterate_groups(source.store, part)
        for row in group.to_pylist()
    }


def part_name(selection: Selection, url: str) -> str:
    """Return the name of what is derived from one part of a corpus."""
    stem = url.rsplit("/", 1)[1].removeprefix("part-").removesuffix(".parquet")
    return f"{selection.corpus.name}-{stem}"


def label_part_name(selection: Selection, url: str) -> str:
    """Return the name of the pseudo-labels of one part: two splits of a corpus share its parts."""
    name = part_name(selection, url)
    if selection.split is None:
        return name
    return f"{name}-{fingerprint(split=selection.identity['split'])}"


def _truth(
    item: Slice, labels: dict[str, dict[str, Any]] | None, config: InputConfig, side: int
) -> _Truth:
    """Bring a slice's own mask, or its teacher's, to the grid."""
    if labels is None:
        if item.mask is None:
            return _unmasked(side, positive=item.label is True)
        return _Truth(mask_to_grid(item.mask, size=config.size))
    row = labels.get(item.key)
    return _unmasked(side) if row is None else _pseudo_truth(row, side)


def _unmasked(side: int, *, positive: bool = False) -> _Truth:
    return _Truth(np.full((side, side), IGNORED, np.uint8), 1 if positive else IGNORED)


def _pseudo_truth(row: dict[str, Any], side: int) -> _Truth:
    """Read a row of a pseudo-label table; see storage.predictions.PSEUDO_LABELS."""
    match row["mask_codec"]:
        case None if row["label"] is None:
            return _unmasked(side)
        case None:
            return _Truth(np.zeros((side, side), np.uint8))
        case code if code == WHOLE_CODEC:
            return _Truth(np.full((side, side), IGNORED, np.uint8), int(row["label"]))
        case code if code == MAP_KIND:
            logits = decode_soft_mask(row["mask"], cells=row["mask_side"])
            full = upsample(logits, rows=side, columns=side, size=side)
            p = 1 / (1 + np.exp(-full.astype(np.float64)))
            return _Truth(np.rint(p * SURE).astype(np.uint8), soft=True)
        case code if code == MASK_CODEC:
            mask = decode_mask(row["mask"], side=row["mask_side"])
            sure = bool((mask == 1).any())
            return _Truth(mask, 1 if row["label"] and not sure else IGNORED)
    raise ConfigError(
        f"pseudo-labels hold masks of codec {row['mask_codec']!r}, which this version does not "
        "know; label again with this version"
    )


def _map(folders: Sequence[Path]) -> SlicePool:
    """Open the pieces, their slices in the order of (exam, index), however parts are cut."""
    found = [json.loads((folder / "rows.json").read_text()) for folder in folders]
    places = [(p, r) for p, rows in enumerate(found) for r in range(len(rows))]
    places.sort(key=lambda place: found[place[0]][place[1]]["order"])
    piece, row = (np.array(column) for column in zip(*places, strict=True))
    facts = [found[p][r] for p, r in places]
    by_key = {fact["key"]: i for i, fact in enumerate(facts)}
    return SlicePool(
        images=SliceStack(_pieces(folders, "images.npy"), piece, row),
        masks=SliceStack(_pieces(folders, "masks.npy"), piece, row),
        previous=np.array([by_key[fact["near"][0]] for fact in facts]),
        next=np.array([by_key[fact["near"][1]] for fact in facts]),
        positive=np.array([fact["positive"] for fact in facts]),
        whole_label=np.array([fact["whole_label"] for fact in facts], np.uint8),
        soft=any(fact["soft"] for fact in facts),
        boxes=np.array([fact["box"] for fact in facts]),
        names=[f"exam {fact['order'][0]} slice {fact['key']}" for fact in facts],
    )


def _pieces(folders: Sequence[Path], name: str) -> tuple[np.ndarray, ...]:
    return tuple(np.load(folder / name, mmap_mode="r") for folder in folders)
