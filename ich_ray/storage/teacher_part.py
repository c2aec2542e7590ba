"""What one or several teachers say of the slices of one part of a corpus."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import pyarrow as pa
from jaxtyping import Float32, Int64

from ich_ray.errors import SurroundingsError
from ich_ray.storage.objects import Store
from ich_ray.storage.predictions import MAP_COLUMNS, decode_map
from ich_ray.storage.tables import iterate_groups, read_part


class Said(NamedTuple):
    """Of one exam."""

    exams: list[str]
    """Of each slice, the same one in a table that was written exam by exam."""

    slices: list[str]
    p: Float32[np.ndarray, " slice"]
    maps: list[Float32[np.ndarray, "cells cells2"]]
    """Logits at stride 8; empty where they were not asked for."""


@dataclass(frozen=True, slots=True)
class TeacherPart:
    """A shard of the ranking: the predictions parts of one part of a corpus, one of each teacher.

    What several teachers say is averaged as probabilities.
    """

    store: Store
    urls: tuple[str, ...]
    """Of each teacher's predictions part."""

    unseen_by: Mapping[str, tuple[int, ...]]
    """Exam -> which of the teachers label it, where not all of them do: those that never saw its
    patient."""

    def probabilities(self) -> Float32[np.ndarray, " slice"]:
        """Return the probability of hemorrhage of each slice."""
        if len(self.urls) == 1:
            # All that a ranking of one teacher reads, of a hundred million slices too.
            return np.asarray(read_part(self.store, self.urls[0], ("p",))["p"], np.float32)
        columns = ("exam", "slice", "p")
        return self._said([read_part(self.store, url, columns) for url in self.urls]).p

    def keys(self, rows: Int64[np.ndarray, " _"]) -> np.ndarray:
        """Return the pseudonyms of some of the slices."""
        column = read_part(self.store, self.urls[0], ("slice",))["slice"]
        return np.array(column.take(pa.array(rows)).to_pylist(), np.str_)

    def exams(self) -> Iterator[Said]:
        """Yield what is said of each exam, with its maps."""
        columns = ("exam", "slice", "p", *MAP_COLUMNS)
        for tables in zip(
            *(iterate_groups(self.store, u, columns) for u in self.urls), strict=True
        ):
            yield self._said(tables)

    def _said(self, tables: Sequence[pa.Table]) -> Said:
        exams, slices = (tables[0][name].to_pylist() for name in ("exam", "slice"))
        for table, url in zip(tables, self.urls, strict=True):
            if table["slice"].to_pylist() != slices:
                raise SurroundingsError(
                    f"{url} holds other slices than {self.urls[0]}, of the same part of the "
                    "corpus; remove the younger table, and it is predicted again"
                )
        asked = [self.unseen_by.get(exam, tuple(range(len(tables)))) for exam in exams]
        p = np.stack([table["p"].to_numpy() for table in tables]).astype(np.float64)
        mean = np.array([p[list(who), i].mean() for i, who in enumerate(asked)], np.float32)
        maps = []
        if "map" in tables[0].column_names:
            rows = [table.to_pylist() for table in tables]
            maps = [_mean_map([rows[t][i] for t in who]) for i, who in enumerate(asked)]
        return Said(exams, slices, mean, maps)


def _mean_map(rows: Sequence[Mapping[str, object]]) -> Float32[np.ndarray, "cells cells2"]:
    logits = [decode_map(row).astype(np.float32) for row in rows]
    if len(logits) == 1:
        return logits[0]
    p = np.mean([1 / (1 + np.exp(-one.astype(np.float64))) for one in logits], 0)
    # Of a probability that is 1 to all digits the logit would be infinite.
    p = np.clip(p, 1e-12, 1 - 1e-12)
    return np.asarray(np.log(p / (1 - p)), np.float32)
