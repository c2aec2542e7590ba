"""What a user would write instead of our ingest: a plain loop, and a plain Ray Data pipeline.

    python -m benchmarks.ingest_rivals CONTENDER SOURCE OUTPUT

    plain_loop              one process; encodes the pixels as we do
    naive_ray_data          Ray Data, everything by default; pixels as the arrays that pydicom gives
    naive_ray_data_encoded  the same, but handed our encoding of pixels

All read the same objects with pydicom and write Parquet; none hashes an identifier, keeps a ledger,
sorts slices, checks or repairs anything. A source may be a folder, or s3:// with the keys and
AWS_ENDPOINT_URL in the environment.
"""

import io
import sys
from collections.abc import Callable, Iterator
from typing import Any

import fsspec
import numpy as np
import pyarrow as pa
import pyarrow.fs
import pyarrow.parquet as pq
import pydicom

from ich_ray.storage import slice_codec

FILES_PER_PART = 512
SCHEMA = pa.schema(
    [
        ("exam", pa.string()),
        ("slice", pa.string()),
        ("patient", pa.string()),
        ("series", pa.string()),
        ("position_mm", pa.float64()),
        ("thickness_mm", pa.float64()),
        ("rows", pa.int32()),
        ("columns", pa.int32()),
        ("pixels", pa.binary()),
        ("codec", pa.string()),
        ("slope", pa.float64()),
        ("intercept", pa.float64()),
    ]
)


def facts(dataset: pydicom.FileDataset) -> dict[str, Any]:
    """Return what a row says of a slice beside its pixels."""
    return {
        "exam": dataset.StudyInstanceUID,
        "slice": dataset.SOPInstanceUID,
        "patient": dataset.PatientID,
        "series": dataset.SeriesInstanceUID,
        "position_mm": float(dataset.ImagePositionPatient[2]),
        "thickness_mm": float(dataset.SliceThickness),
        "rows": dataset.Rows,
        "columns": dataset.Columns,
        "slope": float(dataset.RescaleSlope),
        "intercept": float(dataset.RescaleIntercept),
    }


def row(dataset: pydicom.FileDataset) -> dict[str, Any]:
    """Return one slice as a row, its pixels encoded as we do."""
    codec, pixels = slice_codec.encode(dataset.pixel_array)
    return {**facts(dataset), "pixels": pixels, "codec": codec}


def plain_loop(source: str, output: str) -> None:
    """One process: every file after the other, a Parquet file of every 512."""
    fs, root = fsspec.core.url_to_fs(source)
    target, folder = fsspec.core.url_to_fs(output)
    target.makedirs(folder, exist_ok=True)
    paths = sorted(fs.find(root))
    for start in range(0, len(paths), FILES_PER_PART):
        buffer = io.BytesIO()
        with pq.ParquetWriter(
            buffer, SCHEMA, compression="zstd", compression_level=1, use_dictionary=False
        ) as writer:
            for rows in _exams(_datasets(fs, paths[start : start + FILES_PER_PART])):
                writer.write_table(pa.Table.from_pylist(rows, SCHEMA))
        target.pipe_file(f"{folder}/part-{start:07d}.parquet", buffer.getvalue())


def _datasets(fs: Any, paths: list[str]) -> Iterator[pydicom.FileDataset]:
    local = "file" in fs.protocol
    for path in paths:
        yield pydicom.dcmread(path if local else io.BytesIO(fs.cat_file(path)))


def _exams(datasets: Iterator[pydicom.FileDataset]) -> Iterator[list[dict[str, Any]]]:
    rows: list[dict[str, Any]] = []
    for dataset in datasets:
        if rows and rows[-1]["exam"] != dataset.StudyInstanceUID:
            yield rows
            rows = []
        rows.append(row(dataset))
    if rows:
        yield rows


def naive_ray_data(source: str, output: str) -> None:
    """The straightforward pipeline: files, a map over batches, Parquet; all by default."""

    def decoded(batch: dict[str, Any]) -> dict[str, Any]:
        datasets = [pydicom.dcmread(io.BytesIO(data)) for data in batch["bytes"]]
        rows = [facts(dataset) for dataset in datasets]
        columns = {name: np.array([row[name] for row in rows]) for name in rows[0]}
        return {**columns, "pixels": np.stack([dataset.pixel_array for dataset in datasets])}

    _through_ray_data(source, output, decoded)


def naive_ray_data_encoded(source: str, output: str) -> None:
    """The same with our encoding of pixels, which a user would first have to write."""

    def encoded(batch: dict[str, Any]) -> pa.Table:
        rows = [row(pydicom.dcmread(io.BytesIO(data))) for data in batch["bytes"]]
        return pa.Table.from_pylist(rows, SCHEMA)

    _through_ray_data(source, output, encoded)


def _through_ray_data(source: str, output: str, function: Callable[[dict[str, Any]], Any]) -> None:
    import ray

    ray.init(address="local", num_cpus=2, include_dashboard=False, log_to_driver=False)
    options: dict[str, Any] = {}
    if source.startswith("s3://"):
        handler = pyarrow.fs.FSSpecHandler(fsspec.filesystem("s3"))
        options = {"filesystem": pyarrow.fs.PyFileSystem(handler)}
    ray.data.read_binary_files(source.removeprefix("s3://"), **options).map_batches(
        function
    ).write_parquet(output.removeprefix("s3://"), **options)
    ray.shutdown()


CONTENDERS = {
    "plain_loop": plain_loop,
    "naive_ray_data": naive_ray_data,
    "naive_ray_data_encoded": naive_ray_data_encoded,
}

if __name__ == "__main__":
    CONTENDERS[sys.argv[1]](*sys.argv[2:])
