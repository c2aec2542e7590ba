"""The least that a second ingest could do: list a source, and look for each key among the known.

python -m benchmarks.bare_listing SOURCE STORE
"""

import sys

import fsspec
import pyarrow.parquet as pq

from ich_ray.identity import PUBLIC_KEY, Pseudonyms


def main(source: str, store: str) -> None:
    """Print how many objects are new."""
    fs, root = fsspec.core.url_to_fs(source)
    prefix = root.rstrip("/") + "/"
    keys = [name.removeprefix(prefix) for name in fs.find(root, detail=True)]
    target, folder = fsspec.core.url_to_fs(store)
    known: set[str] = set()
    for path in target.glob(f"{folder}/corpora/bench/ledger/*.parquet"):
        with target.open(path) as stream:
            known.update(pq.read_table(stream, columns=["source"])["source"].to_pylist())
    names = Pseudonyms(PUBLIC_KEY)
    print(sum(names.of(key) not in known for key in keys))


if __name__ == "__main__":
    main(*sys.argv[1:])
