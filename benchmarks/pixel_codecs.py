"""Which lossless encoding of CT pixels is smallest, and which decodes fastest?

Every candidate encodes the same slices in the same run, is checked to give them back, and is timed
in CPU time on one thread. Real CT lies in the folder that the environment variable
ICH_RAY_REAL_DATA names; without it phantoms take its place, and only the ratios between codecs mean
anything. Image codecs get what suits them: unsigned values from 0. Prints a table a source, and
last one line of JSON: ours, and the names of those that are better in both, which should be none.

    python -m benchmarks.pixel_codecs [slices per source] [repetitions]
"""

import io
import json
import logging
import os
import sys
import time
import warnings
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import imagecodecs
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pydicom
from numpy.typing import NDArray

from ich_ray.exam import Geometry, Slice
from ich_ray.phantom import SITES, make_exam
from ich_ray.storage import corpus, slice_codec, slice_rows
from ich_ray.storage.objects import Store
from ich_ray.storage.tables import write_groups

RAW_BYTES = 2 * 512 * 512
"""Of one slice: all rates are of slices of this size."""

SOURCES = {
    "GE": "ge-head-tilt",
    "Philips": "philips-head-phantom",
    "RSNA exam": "rsna/stage_2_test",
    "RSNA slices": "rsna/stage_2_train",
    "CT-ICH": "ct-ich-dicom",
}
OURS = "ours: gradient planes, zstd 1"

Pixels = NDArray[Any]


@dataclass(frozen=True)
class Codec:
    """Values to bytes and back; `column` is the compression that the Parquet column adds."""

    encode: Callable[[Pixels], bytes]
    decode: Callable[[bytes, Pixels], Pixels]
    """The second argument lends its shape and type, as a table's other columns would."""

    column: str = ""

    def write(self, values: Pixels) -> bytes:
        """Encode as a page of a Parquet column holds it."""
        data = self.encode(values)
        return _column(self.column).compress(data).to_pybytes() if self.column else data

    def read(self, data: bytes, like: Pixels, size: int) -> Pixels:
        """Decode; `size` is that of the page before its compression."""
        return self.decode(
            _column(self.column).decompress(data, size).to_pybytes() if self.column else data, like
        )


def _column(name: str) -> pa.Codec:
    return pa.Codec(name, compression_level=1) if name == "zstd" else pa.Codec(name)


def _from_bytes(data: bytes, like: Pixels) -> Pixels:
    return np.frombuffer(data, like.dtype).reshape(like.shape)


def _split(values: Pixels) -> bytes:
    return values.view(np.uint8).reshape(-1, 2).T.tobytes()


def _joined(data: bytes, like: Pixels) -> Pixels:
    values = np.empty_like(like)
    halves = values.view(np.uint8).reshape(-1, 2)
    halves[:, 0], halves[:, 1] = np.frombuffer(data, np.uint8).reshape(2, -1)
    return values


def _image(encode: Callable[..., Any], decode: Callable[..., Any], **options: Any) -> Codec:
    """An image codec: unsigned values from 0, whose offset goes before the bytes."""

    def write(values: Pixels) -> bytes:
        low = values.min()
        shifted = (values - low).view(np.uint16)
        return low.tobytes() + bytes(encode(shifted, **options))

    def read(data: bytes, like: Pixels) -> Pixels:
        low = np.frombuffer(data[:2], like.dtype)[0]
        found: Pixels = np.asarray(decode(data[2:])).view(like.dtype)
        return found.reshape(like.shape) + low

    return Codec(write, read)


def _blosc(shuffle: Any) -> Codec:
    options = {"compressor": imagecodecs.BLOSC2.COMPRESSOR.ZSTD, "typesize": 2, "numthreads": 1}

    def write(values: Pixels) -> bytes:
        return bytes(imagecodecs.blosc2_encode(values, level=1, shuffle=shuffle, **options))

    def read(data: bytes, like: Pixels) -> Pixels:
        return _from_bytes(imagecodecs.blosc2_decode(data, numthreads=1), like)

    return Codec(write, read)


def _delta(axes: tuple[int, ...]) -> Codec:
    """Differences by a library in C, then byte planes."""

    def write(values: Pixels) -> bytes:
        for axis in axes:
            values = imagecodecs.delta_encode(values, axis=axis)
        return _split(np.ascontiguousarray(values))

    def read(data: bytes, like: Pixels) -> Pixels:
        values = _joined(data, like)
        for axis in reversed(axes):
            values = imagecodecs.delta_decode(values, axis=axis)
        return values

    return Codec(write, read, "zstd")


def _ours() -> Codec:
    def read(data: bytes, like: Pixels) -> Pixels:
        name = f"gradient-{like.dtype.kind}16-2"
        return slice_codec.decode(name, data, *like.shape)

    return Codec(lambda values: slice_codec.encode(values)[1], read, "zstd")


CODECS = {
    OURS: _ours(),
    "raw, lz4": Codec(lambda values: values.tobytes(), _from_bytes, "lz4"),
    "raw, zstd 1": Codec(lambda values: values.tobytes(), _from_bytes, "zstd"),
    "bytes split, zstd 1": Codec(_split, _joined, "zstd"),
    "blosc2 shuffle, zstd 1": _blosc(imagecodecs.BLOSC2.FILTER.SHUFFLE),
    "blosc2 bitshuffle, zstd 1": _blosc(imagecodecs.BLOSC2.FILTER.BITSHUFFLE),
    "delta along rows, bytes split, zstd 1": _delta((1,)),
    "delta along both, bytes split, zstd 1": _delta((1, 0)),
    "HTJ2K (OpenJPH)": _image(imagecodecs.htj2k_encode, imagecodecs.htj2k_decode),
    "JPEG-LS (CharLS)": _image(imagecodecs.jpegls_encode, imagecodecs.jpegls_decode),
    "JPEG 2000 (OpenJPEG)": _image(
        imagecodecs.jpeg2k_encode, imagecodecs.jpeg2k_decode, level=0, reversible=True, numthreads=1
    ),
    "JPEG lossless (SOF3)": _image(imagecodecs.ljpeg_encode, imagecodecs.ljpeg_decode),
    "JPEG XL, effort 1": _image(
        imagecodecs.jpegxl_encode, imagecodecs.jpegxl_decode, lossless=True, effort=1, numthreads=1
    ),
    "JPEG XL, effort 3": _image(
        imagecodecs.jpegxl_encode, imagecodecs.jpegxl_decode, lossless=True, effort=3, numthreads=1
    ),
    "PNG, 16 bits": _image(imagecodecs.png_encode, imagecodecs.png_decode, level=1),
    "LERC": _image(imagecodecs.lerc_encode, imagecodecs.lerc_decode, level=0),
    "pcodec": Codec(
        lambda values: bytes(imagecodecs.pcodec_encode(values, level=4)),
        lambda data, like: imagecodecs.pcodec_decode(data, shape=like.shape, dtype=like.dtype),
    ),
}


@dataclass
class Cost:
    """Sums over slices; times are the least of the repetitions, in CPU seconds."""

    size: int = 0
    encode_s: float = 0.0
    decode_s: float = 0.0


def measure(slices: list[Pixels], repetitions: int) -> dict[str, Cost]:
    """Encode and decode every slice by every codec, the codecs taking turns."""
    costs = {name: Cost() for name in CODECS}
    for values in slices:
        for name, codec in CODECS.items():
            before, data = len(codec.encode(values)), codec.write(values)
            if not np.array_equal(codec.read(data, values, before), values):
                raise ValueError(f"{name} does not give back what it was given")
            costs[name].size += len(data)
            costs[name].encode_s += _least(partial(codec.write, values), repetitions)
            read = partial(codec.read, data, values, before)
            costs[name].decode_s += _least(read, repetitions)
    return costs


def _least(work: Callable[[], object], repetitions: int) -> float:
    times = []
    for _ in range(repetitions):
        start = time.process_time()
        work()
        times.append(time.process_time() - start)
    return min(times)


def real_slices(folder: Path, count: int) -> list[Pixels]:
    """Read slices of 16 bits, evenly over a folder; masks, scouts and reports are left out."""
    found = []
    for path in sorted(path for path in folder.rglob("*") if path.is_file()):
        try:
            values = pydicom.dcmread(path).pixel_array
        except (pydicom.errors.InvalidDicomError, AttributeError):
            continue
        square = values.ndim == 2 and values.shape[0] == values.shape[1]
        if square and values.dtype.itemsize == 2 and len(np.unique(values)) > 2:
            found.append(np.ascontiguousarray(values))
    step = max(1, len(found) // count)
    return found[::step][:count]


def sources(count: int) -> Iterator[tuple[str, list[Pixels]]]:
    """Yield real slices, or phantoms where there are none."""
    root = os.environ.get("ICH_RAY_REAL_DATA")
    if root:
        for name, folder in SOURCES.items():
            yield name, real_slices(Path(root, folder), count)
        return
    print("ICH_RAY_REAL_DATA is not set: phantoms")
    for site in SITES:
        exam = make_exam(SITES[site], seed=1, index=0, matrix=512)
        yield f"phantom {site}", list(exam.stored[:: max(1, len(exam.stored) // count)][:count])


def figures(cost: Cost, raw: int) -> dict[str, float]:
    """Turn sums into rates of slices of 512 x 512."""
    slices = raw / RAW_BYTES
    return {
        "bytes_per_raw_byte": round(cost.size / raw, 4),
        "encode_ms": round(1000 * cost.encode_s / slices, 2),
        "decode_ms": round(1000 * cost.decode_s / slices, 2),
    }


def better_in_both(table: dict[str, dict[str, float]]) -> list[str]:
    """Name the codecs that are smaller than ours and decode faster."""
    ours = table[OURS]
    keys = ("bytes_per_raw_byte", "decode_ms")
    return [name for name, row in table.items() if all(row[key] < ours[key] for key in keys)]


class CountingFile(io.FileIO):
    """A file that notes what is asked of it: each read would be a range request of a store."""

    def __init__(self, path: str) -> None:
        """Open it; nothing was asked yet."""
        super().__init__(path)
        self.asked: list[int] = []

    def read(self, size: int | None = -1, /) -> bytes:
        """Note and answer."""
        data = super().read(-1 if size is None else size)
        self.asked.append(len(data))
        return data


def range_requests(slices: list[Pixels], folder: Path) -> dict[str, list[int]]:
    """Write exams as ingest does, and return the bytes of each request that a read makes."""

    def exam(number: int) -> pa.Table:
        made = [
            Slice(
                exam=f"{number:032x}",
                key=f"{100 * number + i:032x}",
                patient=f"{number:032x}",
                series=f"{number:032x}",
                stored=values,
                slope=1.0,
                intercept=-1024.0,
                geometry=Geometry(
                    position_mm=5.0 * i, spacing_mm=(0.5, 0.5), thickness_mm=5.0, tilt_deg=0.0
                ),
                mask=np.zeros(values.shape, np.uint8),
            )
            for i, values in enumerate(slices)
        ]
        return slice_rows.to_table([made])

    part = write_groups(
        Store(str(folder)), str(folder), "range-requests", corpus.SCHEMA, map(exam, range(3))
    )
    with CountingFile(str(folder / part.path)) as stream:
        file = pq.ParquetFile(stream, pre_buffer=True)
        asked = {"footer": stream.asked.copy()}
        stream.asked.clear()
        file.read_row_group(1)
        asked["exam"] = stream.asked.copy()
        stream.asked.clear()
        names = ["slice", "rows", "columns", "pixels", "codec", "checksum", "slope", "intercept"]
        file.read_row_group(1, columns=names)
        asked["slice"] = stream.asked.copy()
    return asked


def main() -> None:
    """Measure, print the tables, print the JSON line."""
    count = int(sys.argv[1]) if len(sys.argv) > 1 else 16
    repetitions = int(sys.argv[2]) if len(sys.argv) > 2 else 3
    logging.getLogger("pydicom").setLevel(logging.ERROR)
    warnings.simplefilter("ignore")  # odd headers of real files, not ours to repair
    totals, raw = {name: Cost() for name in CODECS}, 0
    by_source: dict[str, dict[str, dict[str, float]]] = {}
    exam: list[Pixels] = []
    for source, slices in sources(count):
        exam = max(exam, slices, key=len)
        size = sum(values.nbytes for values in slices)
        costs = measure(slices, repetitions)
        by_source[source] = {name: figures(cost, size) for name, cost in costs.items()}
        for name, cost in costs.items():
            totals[name].size += cost.size
            totals[name].encode_s += cost.encode_s
            totals[name].decode_s += cost.decode_s
        raw += size
    table = {name: figures(cost, raw) for name, cost in totals.items()}
    for source, rows in (*by_source.items(), ("all", table)):
        print(f"{source}\n  {'':40}bytes/raw byte  encode ms  decode ms")
        for name, row in sorted(rows.items(), key=lambda item: item[1]["bytes_per_raw_byte"]):
            ratio, encode_ms, decode_ms = row.values()
            print(f"  {name:40}{ratio:14.4f}{encode_ms:11.2f}{decode_ms:11.2f}")
    folder = Path("out/bench/codecs")
    folder.mkdir(parents=True, exist_ok=True)
    asked = range_requests(exam, folder)
    for what, reads in asked.items():
        print(f"{what}: {len(reads)} requests, {sum(reads)} bytes")
    print(
        json.dumps(
            {
                "bytes_per_raw_byte": table[OURS]["bytes_per_raw_byte"],
                "decode_slices_per_s": round(1000 / table[OURS]["decode_ms"]),
                "encode_slices_per_s": round(1000 / table[OURS]["encode_ms"]),
                "dominated_by": better_in_both(table),
                "dominated_by_source": {
                    name: better_in_both(rows) for name, rows in by_source.items()
                },
                "requests": {what: len(reads) for what, reads in asked.items()},
                "slices": raw // RAW_BYTES,
            }
        )
    )


if __name__ == "__main__":
    main()
