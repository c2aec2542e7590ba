"""Pack CT-ICH 1.0.0 for a machine that has nothing but numpy and torch: out/pack/ct_ich.npz.

The corpus of experiments/ct_ich_folds.toml, on its grid and window and with its folds, ingested and
cached by the product where make bench-ctich has not done so. Reads the file back and counts what
differs from the product's cache, which is brought to the file's precision (packed_corpus.py) for
that. Prints one line of JSON.

    python -m benchmarks.pack_ctich [--source $ICH_RAY_REAL_DATA/ct-ich-v1]
        [--work out/bench/ct_ich] [--out out/pack/ct_ich.npz]
"""

import argparse
import json
import os
import time
from pathlib import Path

import numpy as np
import tomli_w

from benchmarks.ct_ich_folds import CORPUS, experiment
from benchmarks.packed_corpus import (
    PackedSlices,
    differences,
    packed,
    read_pack,
    write_pack,
)
from ich_ray.config import Settings
from ich_ray.distributed.cache import PoolSource, open_pool
from ich_ray.distributed.ingest_hours import ingest_within_budget
from ich_ray.distributed.session import Session, select
from ich_ray.learning.sampling import SlicePool, Worker
from ich_ray.settings import parse
from ich_ray.splits import split_of
from ich_ray.storage.corpus import index_table
from jobs.stage import carry_out, opened

LIMIT_BYTES = 40 * 2**20


def cached(run: Session) -> SlicePool:
    """Return the product's own cache of the whole corpus."""
    folds = [f"{CORPUS}:{name}" for name in run.settings.corpora[CORPUS].splits]
    sources = [
        PoolSource(store=run.store, selection=one, input=run.settings.input)
        for one in select(run, folds)
    ]
    return open_pool(sources, run.settings.cluster.cache, worker=Worker(), barrier=lambda: None)


def with_keys(run: Session, pool: SlicePool) -> PackedSlices:
    """Return a pool's arrays with patient, fold and label of each slice."""
    config = run.settings.corpora[CORPUS]
    rows = index_table(run.store, run.corpus(CORPUS)).to_pylist()
    # A pool's names are "exam EXAM slice SLICE".
    of_slice = {f"exam {row['exam']} slice {row['slice']}": row for row in rows}
    patients = [of_slice[name]["patient"] for name in pool.names]
    folds = [split_of(p, shares=config.splits, seed=config.split_seed) for p in patients]
    return packed(
        pool,
        patient=np.unique(patients, return_inverse=True)[1],
        fold=np.array([[*config.splits].index(str(fold)) for fold in folds]),
        label=np.array([of_slice[name]["label"] for name in pool.names]),
    )


def main() -> None:
    """Pack, read back, and print."""
    parser = argparse.ArgumentParser(description="Pack CT-ICH for a lent machine.")
    parser.add_argument("--source", default="")
    parser.add_argument("--work", type=Path, default=Path("out/bench/ct_ich"))
    parser.add_argument("--out", type=Path, default=Path("out/pack/ct_ich.npz"))
    options = parser.parse_args()
    data = os.environ.get("ICH_RAY_REAL_DATA")
    if not options.source and not data:
        parser.error("set ICH_RAY_REAL_DATA to the folder that holds ct-ich-v1, or give --source")
    work = options.work.resolve()
    source = str(Path(options.source or f"{data}/ct-ich-v1").resolve())
    settings = parse(Settings, tomli_w.dumps(experiment(work, str(work / "store"), source)))
    with opened(settings) as run:
        carry_out(run, "ingest", CORPUS, ingest_within_budget)
        pool = cached(run)
        slices = with_keys(run, pool)
    write_pack(slices, options.out)
    began = time.monotonic()
    back = read_pack(options.out)
    read_s = time.monotonic() - began
    errors = [
        np.abs(back.images[i].astype(np.int32) - pool.images[i]).max() for i in range(len(pool))
    ]
    low, high = settings.input.window
    print(
        json.dumps(
            {
                "file": str(options.out),
                "bytes": options.out.stat().st_size,
                "limit_bytes": LIMIT_BYTES,
                "slices": len(pool),
                "grid": settings.input.size,
                "different_slices": differences(back, pool),
                "largest_error_hu": round(float(max(errors)) / 65535 * (high - low), 3),
                "slices_a_fold": np.bincount(slices.fold).tolist(),
                "read_s": round(read_s, 1),
            }
        )
    )


if __name__ == "__main__":
    main()
