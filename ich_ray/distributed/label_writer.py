"""What the teachers say of a part of a corpus, as a part of a pseudo-label table."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
import ray
from jaxtyping import Float32, UInt8

from ich_ray.config import PseudoLabelConfig
from ich_ray.distributed import work
from ich_ray.distributed.origin import Origin
from ich_ray.errors import QualityError
from ich_ray.exam import IGNORED
from ich_ray.ranker import Cuts, Ranking, ternary_mask
from ich_ray.stopwatch import Stopwatch
from ich_ray.storage.objects import Store
from ich_ray.storage.predictions import (
    MAP_KIND,
    MASK_CODEC,
    PSEUDO_LABELS,
    WHOLE_CODEC,
    encode_mask,
    encode_soft_mask,
)
from ich_ray.storage.tables import Part, read_part, write_part
from ich_ray.storage.teacher_part import Said, TeacherPart
from ich_ray.windows import upsample


@dataclass(frozen=True, kw_only=True, slots=True)
class LabelWriter:
    """Turns the teachers' predictions of a part into a pseudo-label part."""

    store: Store
    url: str
    """Of the pseudo-label table."""

    config: PseudoLabelConfig
    side: int
    """Of the input's grid; 0: of the slices' own."""

    ranking: Any
    """Ray's reference to the Ranking of all slices: hundreds of MB of a hundred million."""

    cuts: Cuts
    teacher: str
    origin: Origin
    parts: Sequence[TeacherPart]
    names: Sequence[str]
    """Of the parts that are written."""

    corpus_files: Sequence[str]
    """Parts of the corpora, whose labels the oracles read."""

    def __call__(self, batch: Mapping[str, np.ndarray]) -> dict[str, list[Any]]:
        """Write the parts whose numbers a batch holds."""
        ranking = ray.get(self.ranking)
        with work.piece_of(self.origin) as watch:
            written = [self._part(int(number), ranking, watch) for number in batch["part"]]
        return {
            "path": [part.path for part, _ in written],
            "size": [part.size for part, _ in written],
            "rows": [part.rows for part, _ in written],
            "positive": [labels.count(True) for _, labels in written],
            "ignored": [labels.count(None) for _, labels in written],
        }

    def _part(
        self, number: int, ranking: Ranking, watch: Stopwatch
    ) -> tuple[Part, list[bool | None]]:
        """Write a part; return it with its labels."""
        truth = self._truth(number)
        rows: list[dict[str, Any]] = []
        sizes = []
        for said in self.parts[number].exams():
            rows += self._exam(said, ranking, truth)
            sizes.append(len(said.slices))
        table = pa.Table.from_pylist(rows, schema=PSEUDO_LABELS)
        part = write_part(self.store, self.url, self.names[number], table, sizes)
        work.tell("part labelled", watch, part=self.names[number], slices=part.rows)
        return part, [row["label"] for row in rows]

    def _truth(self, number: int) -> Mapping[str, bool | None]:
        """Read the corpus' own labels, for an oracle."""
        if not self.config.truthful:
            return {}
        rows = read_part(self.store, self.corpus_files[number], ("slice", "label"))
        return dict(zip(rows["slice"].to_pylist(), rows["label"].to_pylist(), strict=True))

    def _exam(
        self, said: Said, ranking: Ranking, truth: Mapping[str, bool | None]
    ) -> list[dict[str, Any]]:
        labels = self._labels(said, truth)
        ranks = ranking.rank(said.p)
        rows = []
        for i, key in enumerate(said.slices):
            label, target = self._target(int(labels[i]), said.maps[i])
            rows.append(
                {
                    "exam": said.exams[i],
                    "slice": key,
                    "label": None if label == IGNORED else bool(label),
                    **target,
                    "teacher": self.teacher,
                    "rank": int(ranks[i]),
                    "p": float(said.p[i]),
                    "cut": self.cuts.positive.p,
                }
            )
        return rows

    def _labels(self, said: Said, truth: Mapping[str, bool | None]) -> UInt8[np.ndarray, " slice"]:
        """Return 0, 1 or IGNORED for each slice of an exam, before its pixels are looked at."""
        if self.config.ranked:
            return self.cuts.labels(said.p, np.array(said.slices))
        if self.config.truthful:
            known = [truth[key] for key in said.slices]
            if None in known:
                raise QualityError(
                    f"slice {said.slices[known.index(None)]} of exam {said.exams[0]} has no label "
                    f"of its own, which mode={self.config.mode} needs; ingest the corpus with its "
                    "labels, or take another mode"
                )
            return np.array(known, np.uint8)
        return np.asarray(said.p >= 0.5, np.uint8)

    def _target(
        self, label: int, logits: Float32[np.ndarray, "cells cells2"]
    ) -> tuple[int, dict[str, Any]]:
        """Return a slice's label, and its columns `mask`, `mask_codec` and `mask_side`."""
        match self.config.mode:
            case "soft":
                return label, _columns(encode_soft_mask(logits), MAP_KIND, logits.shape[0])
            case "image_oracle":
                return label, _columns(None, WHOLE_CODEC, None)
            case "none":
                mask = self._mask(logits)
                if not mask.any():
                    return 0, _columns(None, None, None)
                # Where nothing is sure, the slice is neither.
                label = 1 if (mask == 1).any() else IGNORED
                return label, _columns(encode_mask(mask), MASK_CODEC, mask.shape[0])
        if label != 1:
            return label, _columns(None, None, None)
        mask = self._mask(logits)
        return label, _columns(encode_mask(mask), MASK_CODEC, mask.shape[0])

    def _mask(self, logits: Float32[np.ndarray, "cells cells2"]) -> UInt8[np.ndarray, "side side2"]:
        side = self.side or 8 * logits.shape[0]
        full = upsample(logits, rows=side, columns=side, size=side)
        return ternary_mask(
            1 / (1 + np.exp(-full)),
            positive_above=self.config.positive_above,
            negative_below=self.config.negative_below,
        )


def _columns(mask: bytes | None, codec: str | None, side: int | None) -> dict[str, Any]:
    return {"mask": mask, "mask_codec": codec, "mask_side": side}
