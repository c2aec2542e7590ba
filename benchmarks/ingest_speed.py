"""What does an ingest cost, beside what a user would write instead?

CPU time (user and system, of every process, Ray's daemons included) of a large corpus less that of
a small one, for 1,000 more slices of 512 x 512, uncompressed: our ingest, our ingest with pydicom
alone, a plain loop, and a naive Ray Data pipeline, with the arrays that pydicom gives and with our
encoding of them (benchmarks/ingest_rivals.py), taking turns, none with anything of the corpus in
the memory of the system, as with a corpus that is larger. Ours and the pipelines work in two
processes, the plain loop in one; `ours_one` is ours with one worker. On a cloud machine of 2 cores
repetitions of one command differ by 20 %: look at each of the runs, not at the median alone. Where
Ray's daemons and the driver share so few cores with the workers they count: idle, they take a sixth
of a core, which is half a second for 1,000 slices.
Then the memory of a worker, large beside small, and a second ingest of what is unchanged, beside a
bare listing. Prints each run, and last one line of JSON with the medians over the repetitions.

Every finished run is kept under OUT by the revision of the code, so that the benchmark goes on
where it was stopped; `--fresh` measures again.

    python -m benchmarks.ingest_speed [--small 2000] [--large 12000] [--memory 20000] [--s3 6000]
        [--parts speed memory unchanged s3] [--contenders ours plain_loop ...]
"""

import argparse
import json
import os
import shutil
import statistics
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path

import fsspec

from benchmarks import ingest_corpus, ingest_rivals
from benchmarks.process_tree import Usage, run
from ich_ray.distributed.local_store import local_s3, make_bucket

CONTENDERS = ("ours", "ours_one", "ours_pydicom", *ingest_rivals.CONTENDERS)
BUCKET = "bench"
PARTS = ("speed", "memory", "unchanged", "s3")
ATTEMPTS = 4
"""Of one run, before the benchmark gives up."""


@dataclass(frozen=True)
class Place:
    """A file system to measure on."""

    name: str
    sources: Mapping[int, str]
    """Slices -> URL of a corpus of so many."""

    output: str
    environment: Mapping[str, str]


@dataclass(frozen=True)
class Bench:
    """Runs contenders, and keeps what each run took."""

    records: Path

    def measured(self, name: str, work: Callable[[], Usage]) -> Usage:
        """Return what a run took: from its record, or by running it."""
        path = self.records / f"{name}.json"
        if path.exists():
            return Usage(**json.loads(path.read_text()))
        for attempt in range(ATTEMPTS):
            try:
                usage = work()
                break
            except RuntimeError as error:
                # On a busy machine Ray does not come up in its 30 s.
                print(f"{name} failed: {str(error).splitlines()[-1]}", flush=True)
                if attempt == ATTEMPTS - 1:
                    raise
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps(asdict(usage)))
        print(
            f"{name}: {usage.cpu_s:.1f} CPU s, {usage.wall_s:.1f} s, "
            f"worker {usage.worker_peak_mb:.0f} MB",
            flush=True,
        )
        return usage

    def ingest(self, place: Place, contender: str, slices: int, repetition: int) -> Usage:
        """Ingest one corpus by one contender, into nothing."""

        def work() -> Usage:
            _remove(place)
            _forget(place.sources[slices])
            usage = run(command(place, contender, slices), place.environment)
            _remove(place)
            return usage

        return self.measured(f"{place.name}-{contender}-{slices}-{repetition}", work)

    def marginal(self, place: Place, contender: str, repetition: int) -> float:
        """Return the CPU seconds of 1,000 more slices."""
        small, large = place.sources
        first, second = (self.ingest(place, contender, n, repetition) for n in (small, large))
        return 1000 * (second.cpu_s - first.cpu_s) / (large - small)


def command(place: Place, contender: str, slices: int) -> list[str]:
    """Return the command line of one contender."""
    source = place.sources[slices]
    if not contender.startswith("ours"):
        rivals = [sys.executable, "-m", "benchmarks.ingest_rivals"]
        return [*rivals, contender, source, place.output]
    settings = Path("out/bench/ingest.toml")
    settings.write_text(
        'identity = "public"\n'
        'store = { root = "out/bench/store" }\n'
        'corpora = { bench = { layout = "folder", source = "" } }\n'
    )
    overrides = [f"corpora.bench.source={source}", f"store.root={place.output}"]
    if "AWS_ENDPOINT_URL" in place.environment:
        overrides.append(f"store.endpoint_url={place.environment['AWS_ENDPOINT_URL']}")
    if contender == "ours_pydicom":
        overrides.append("corpora.bench.reader=pydicom")
    if contender == "ours_one":
        overrides.append("cluster.num_cpus=1")
    return [sys.executable, "-m", "jobs.ingest", str(settings), *overrides, "--json"]


def ratios(
    bench: Bench, place: Place, repetitions: int, contenders: Sequence[str]
) -> dict[str, float]:
    """Measure every contender in turn, and compare ours with each rival of its repetition."""
    found: dict[str, list[float]] = {name: [] for name in contenders}
    for repetition in range(repetitions):
        turn = repetition % len(contenders)
        for name in (*contenders[turn:], *contenders[:turn]):
            found[name].append(bench.marginal(place, name, repetition))
    result = {f"{name}_cpu_s_per_1000": statistics.median(found[name]) for name in contenders}
    for ours in found.keys() - ingest_rivals.CONTENDERS:
        for rival in found.keys() & ingest_rivals.CONTENDERS:
            quotients = [a / b for a, b in zip(found[ours], found[rival], strict=True)]
            name = f"cpu_over_{rival}{ours.removeprefix('ours')}"
            result[name] = statistics.median(quotients)
    return dict(sorted(result.items()))


def memory(bench: Bench, place: Place, repetitions: int) -> dict[str, float]:
    """Compare the peak memory of a worker on a large corpus with that on a small one."""
    small, large = place.sources
    growth, workers, mains = [], [], []
    for repetition in range(repetitions):
        first, second = (bench.ingest(place, "ours", n, repetition) for n in (small, large))
        growth.append(second.worker_peak_mb / first.worker_peak_mb)
        workers.append(second.worker_peak_mb)
        mains.append(second.main_peak_mb)
    return {
        "rss_growth": statistics.median(growth),
        "rss_slices": large,
        "worker_peak_mb": statistics.median(workers),
        "main_peak_mb": statistics.median(mains),
    }


def unchanged(bench: Bench, place: Place, repetitions: int) -> dict[str, float | bool]:
    """Ingest a prefix twice, and list it barely."""
    large = max(place.sources)
    ingest = command(place, "ours", large)
    listing = [sys.executable, "-m", "benchmarks.bare_listing", place.sources[large], place.output]
    names = [f"{place.name}-unchanged-{i}" for i in range(repetitions)]
    listings = [f"{place.name}-listing-{i}" for i in range(repetitions)]
    first = bench.ingest(place, "ours", large, 0)
    if not all((bench.records / f"{name}.json").exists() for name in [*names, *listings]):
        _remove(place)
        run(ingest, place.environment)
    again = [bench.measured(name, lambda: run(ingest, place.environment)) for name in names]
    bare = [bench.measured(name, lambda: run(listing, place.environment)) for name in listings]
    _remove(place)
    again_s = statistics.median(usage.cpu_s for usage in again)
    bare_s = statistics.median(usage.cpu_s for usage in bare)
    return {
        "unchanged_objects": large,
        "unchanged_rerun_cpu_share": again_s / first.cpu_s,
        "unchanged_rerun_cpu_s": again_s,
        "bare_listing_cpu_s": bare_s,
        "unchanged_over_bare_listing": again_s / bare_s,
        "unchanged_started_ray": any(usage.started_ray for usage in again),
    }


def _remove(place: Place) -> None:
    if place.output.startswith("s3://"):
        options = {"endpoint_url": place.environment["AWS_ENDPOINT_URL"]}
        keys = place.environment
        fs = fsspec.filesystem(
            "s3",
            key=keys["AWS_ACCESS_KEY_ID"],
            secret=keys["AWS_SECRET_ACCESS_KEY"],
            use_listings_cache=False,
            **options,
        )
        if fs.exists(place.output):
            fs.rm(place.output, recursive=True)
        return
    shutil.rmtree(place.output, ignore_errors=True)


def _forget(source: str) -> None:
    """Have nothing of a corpus in the memory of the system: a real one is larger than that."""
    if "://" in source:
        return
    for path in Path(source).rglob("*.dcm"):
        with path.open("rb") as stream:
            os.posix_fadvise(stream.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)


def local_place(out: Path, *sizes: int) -> Place:
    """Make the corpora of some sizes on the local disk."""
    whole = out / "corpus"
    ingest_corpus.write(whole, max(sizes))
    sources = {}
    for size in sizes:
        folder = out / f"corpus-{size}"
        sources[ingest_corpus.linked(whole, folder, size)] = str(folder.resolve())
    return Place("local", sources, str((out / "store").resolve()), {})


@contextmanager
def s3_place(out: Path, *sizes: int) -> Iterator[Place]:
    """Run a real S3 server that holds the corpora of some sizes."""
    local = local_place(out, *sizes)
    with local_s3(out / "s3") as server:
        make_bucket(server, BUCKET)
        environment = {
            "AWS_ACCESS_KEY_ID": server.access_key,
            "AWS_SECRET_ACCESS_KEY": server.secret_key,
            "AWS_ENDPOINT_URL": server.endpoint_url,
            "AWS_REGION": "us-east-1",
            "AWS_ALLOW_HTTP": "true",
        }
        fs = fsspec.filesystem(
            "s3",
            key=server.access_key,
            secret=server.secret_key,
            endpoint_url=server.endpoint_url,
        )
        sources = {}
        for size, folder in local.sources.items():
            if not fs.exists(f"{BUCKET}/corpus-{size}"):
                fs.put(f"{folder}/", f"{BUCKET}/corpus-{size}/", recursive=True)
            sources[size] = f"s3://{BUCKET}/corpus-{size}"
        yield Place("s3", sources, f"s3://{BUCKET}/store", environment)


def revision() -> str:
    """Return the revision of the code: runs of another one are not compared with it."""
    answer = subprocess.run(
        ["git", "describe", "--always", "--dirty"], capture_output=True, text=True, check=True
    )
    return answer.stdout.strip()


def main() -> None:
    """Measure what is missing, and print the JSON line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--small", type=int, default=2_000)
    parser.add_argument("--large", type=int, default=12_000)
    parser.add_argument("--memory", type=int, default=20_000, help="slices; 0 takes --large")
    parser.add_argument("--s3", type=int, default=6_000, help="slices, on the S3 server")
    parser.add_argument("--parts", nargs="+", choices=PARTS, default=PARTS)
    parser.add_argument("--contenders", nargs="+", choices=CONTENDERS, default=CONTENDERS)
    parser.add_argument("--repetitions", type=int, default=3)
    parser.add_argument("--out", type=Path, default=Path("out/bench"))
    parser.add_argument("--fresh", action="store_true", help="forget the runs of this revision")
    options = parser.parse_args()
    bench = Bench(options.out / "ingest" / revision())
    if options.fresh:
        shutil.rmtree(bench.records, ignore_errors=True)
    result: dict[str, float | bool | str] = {"revision": revision()}
    if "speed" in options.parts:
        local = local_place(options.out, options.small, options.large)
        result |= ratios(bench, local, options.repetitions, options.contenders)
    for name, measure in (("memory", memory), ("unchanged", unchanged)):
        if name in options.parts:
            largest = local_place(options.out, options.small, options.memory or options.large)
            result |= measure(bench, largest, options.repetitions)
    if "s3" in options.parts:
        with s3_place(options.out, options.s3 // 6, options.s3) as remote:
            found = ratios(bench, remote, options.repetitions, options.contenders)
            result |= {f"s3_{name}": value for name, value in found.items()}
    rounded = {k: round(v, 4) if isinstance(v, float) else v for k, v in result.items()}
    print(json.dumps(rounded))


if __name__ == "__main__":
    main()
