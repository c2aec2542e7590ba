"""Rank a hundred million synthetic slice scores: how long, in how much memory, and whether exactly.

    python -m benchmarks.rank_speed [--slices 100000000]

The scores lie in shards on disk, as predictions parts do; keys are made when they are asked for.
Two corpora: one whose scores are all but distinct, and one of scores of three decimals, where the
cut falls among tens of thousands of equal ones. Each is ranked by a process of its own.
"""

import argparse
import hashlib
import json
import resource
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np

from ich_ray.ranker import Ranking

PERCENT = 10.0
DECIMALS = {"distinct": 0, "tied": 3}
"""Of the scores; 0: all that float32 has."""

_MIX = (np.uint64(0xBF58476D1CE4E5B9), np.uint64(0x94D049BB133111EB))


@dataclass(frozen=True, slots=True)
class FileShard:
    """Scores in a file of float32."""

    path: Path
    first: int
    """Number of the first slice."""

    def probabilities(self) -> np.ndarray:
        """Read them."""
        return np.load(self.path)

    def keys(self, rows: np.ndarray) -> np.ndarray:
        """Return 16 hexadecimal digits a slice, in no order (splitmix64, Steele et al. 2014)."""
        x = (rows.astype(np.uint64) + np.uint64(self.first + 1)) * np.uint64(0x9E3779B97F4A7C15)
        for shift, factor in zip((30, 27), _MIX, strict=True):
            x = (x ^ (x >> np.uint64(shift))) * factor
        x ^= x >> np.uint64(31)
        return np.array([f"{value:016x}" for value in x.tolist()], np.str_)


def write_shards(folder: Path, slices: int, num_shards: int, decimals: int) -> None:
    """Write the scores; the same corpus however many shards it lies in."""
    edges = np.linspace(0, slices, num_shards + 1).astype(int)
    for shard, (first, end) in enumerate(pairwise(edges)):
        p = np.concatenate(list(_scores(int(first), int(end), decimals)))
        np.save(folder / f"{shard:04d}-{first}.npy", p)


def _scores(first: int, end: int, decimals: int) -> Any:
    block = 1_000_000
    for number in range(first // block, -(-end // block)):
        logits = np.random.default_rng([7, number]).normal(-3, 2, block).astype(np.float32)
        p = 1 / (1 + np.exp(-logits))
        start = number * block
        p = p[max(first - start, 0) : end - start]
        yield np.round(p, decimals).astype(np.float32) if decimals else p


def shards_of(folder: Path) -> list[FileShard]:
    """Find what was written."""
    return [FileShard(p, int(p.stem.split("-")[1])) for p in sorted(folder.glob("*.npy"))]


def rank(folder: Path) -> dict[str, Any]:
    """Rank the shards of a folder; return what came of it, with time and memory."""
    start = time.perf_counter()
    shards = shards_of(folder)
    ranking = Ranking.of([shard.probabilities() for shard in shards])
    count = ranking.num_positive(PERCENT)
    cut = ranking.cut(count, shards)
    positive = ranks = 0
    # Sums and exclusive ors of what is in the set: the same for any order of the same set.
    members = 0
    for shard in shards:
        p = shard.probabilities()
        tied = np.flatnonzero(p == np.float32(cut.p))
        within = p > np.float32(cut.p)
        within[tied] = cut.within(p[tied], shard.keys(tied))
        chosen = np.flatnonzero(within) + shard.first
        positive += len(chosen)
        members ^= int(np.bitwise_xor.reduce(chosen * np.int64(0x5DEECE66D), initial=0))
        ranks += int(ranking.rank(p).sum())
    return {
        "seconds": round(time.perf_counter() - start, 1),
        "peak_gib": round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024**2, 2),
        "slices": len(ranking),
        "wanted": count,
        "positive": positive,
        "cut": list(cut),
        "set": hash_of(positive, members, ranks),
    }


def exact(folder: Path) -> str:
    """Return the same set's hash by an independent way: one full sort by (score, key)."""
    shards = shards_of(folder)
    p = np.concatenate([shard.probabilities() for shard in shards])
    count = int(np.clip(round(len(p) * PERCENT / 100), 1, len(p) - 1))
    p_cut = -np.partition(-p, count - 1)[count - 1]
    above, tied = np.flatnonzero(p > p_cut), np.flatnonzero(p == p_cut)
    keys = FileShard(shards[0].path, 0).keys(tied)
    chosen = np.concatenate([above, tied[np.argsort(keys)][: count - len(above)]])
    members = int(np.bitwise_xor.reduce(chosen * np.int64(0x5DEECE66D), initial=0))
    _, counts = np.unique(p, return_counts=True)
    ranks = int(((len(p) - np.cumsum(counts)) * counts).sum())
    return hash_of(count, members, ranks)


def hash_of(positive: int, members: int, ranks: int) -> str:
    """Return the hash by which two rankings are compared."""
    return hashlib.sha256(f"{positive} {members} {ranks}".encode()).hexdigest()[:16]


def measured(slices: int) -> dict[str, Any]:
    """Rank both corpora, in 16 shards and in one."""
    found: dict[str, Any] = {"rank_slices": slices, "rank_exact": True, "rank_peak_gib": 0.0}
    for name, decimals in DECIMALS.items():
        sets = set()
        for num_shards in (16, 1):
            with tempfile.TemporaryDirectory() as folder:
                write_shards(Path(folder), slices, num_shards, decimals)
                command = [sys.executable, "-m", "benchmarks.rank_speed", "--folder", folder]
                done = subprocess.run(command, check=True, capture_output=True, text=True)
                one = json.loads(done.stdout)
                sets |= {one["set"], exact(Path(folder))}
            if num_shards == 16:
                found[f"rank_{name}_seconds"] = one["seconds"]
                found["rank_peak_gib"] = max(found["rank_peak_gib"], one["peak_gib"])
        found["rank_exact"] &= len(sets) == 1
    found["rank_1e8_seconds"] = max(found[f"rank_{name}_seconds"] for name in DECIMALS)
    if slices != 100_000_000:
        found["rank_1e8_seconds"] = None
    return found


def main() -> None:
    """Measure, or rank the shards of one folder."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--slices", type=int, default=100_000_000)
    parser.add_argument("--folder", type=Path)
    options = parser.parse_args()
    found = measured(options.slices) if options.folder is None else rank(options.folder)
    sys.stdout.write(json.dumps(found) + "\n")


if __name__ == "__main__":
    main()
