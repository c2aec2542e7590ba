"""Two readers, one answer: dicomsdl and pydicom on every real and every hostile file, and GDCM."""

import contextlib
import os
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from benchmarks.mutated_dicom import mutated, read_sources
from benchmarks.mutated_dicom import outcome as outcome_of
from ich_ray.errors import InvalidExam
from ich_ray.identity import PUBLIC_KEY, Pseudonyms
from ich_ray.storage import dicom
from ich_ray.storage.corpora.folder import Folder
from ich_ray.storage.decoding import Unsure
from ich_ray.storage.guarded import Guard
from ich_ray.storage.objects import Store
from ich_ray.storage.part_writer import PartWriter
from ich_ray.storage.plain_dicom import PlainDataset

pytestmark = pytest.mark.skipif(
    "ICH_RAY_REAL_DATA" not in os.environ, reason="ICH_RAY_REAL_DATA names no folder of real data"
)

DATA = Path(os.environ.get("ICH_RAY_REAL_DATA", ""))
NAMES = Pseudonyms(PUBLIC_KEY)
REAL = (
    "rsna/stage_2_test",
    "rsna/stage_2_train",
    "ge-head-tilt",
    "philips-head-phantom",
    "ct-ich-dicom",
)


def objects(folder: str) -> Iterator[tuple[str, bytes]]:
    for path in sorted((DATA / folder).rglob("*")):
        if path.is_file():
            yield path.relative_to(DATA).as_posix(), path.read_bytes()


def outcome(data: bytes, reader: dicom.Reader) -> list[object]:
    """All that a reader makes of an object: its header and its slice, or the reasons why not."""
    token = dicom.READER.set(reader)
    found: list[object] = []
    try:
        try:
            header = dicom.read_header(data[: dicom.HEADER_BYTES], whole=False)
        except dicom.HeaderIncomplete:
            header = dicom.read_header(data, whole=True)
        found.append(header)
        if header.role == "slice":
            item = dicom.read_slice(data, NAMES)
            found += [item.stored.tobytes(), item.stored.shape, item.stored.dtype]
            found += [item.slope, item.intercept, item.geometry]
            found += [item.exam, item.key, item.patient, item.series]
    except InvalidExam as refusal:
        found += [refusal.reason, str(refusal)]
    finally:
        dicom.READER.reset(token)
    return found


def is_plain(data: bytes) -> bool:
    try:
        plain = PlainDataset(data)
        plain.check_rest(data)
        plain.pixels(data, decompress=False)
    except Unsure:
        return False
    return True


@pytest.mark.parametrize("folder", [*REAL, "odd-dicom"])
def test_both_readers_give_the_same_slices_headers_and_reasons(folder: str) -> None:
    differing = [
        name
        for name, data in objects(folder)
        if outcome(data, "dicomsdl") != outcome(data, "pydicom")
    ]
    assert differing == []


def test_real_slices_go_the_fast_way() -> None:
    slices = [data for name in REAL[:3] for _, data in objects(name)]
    assert sum(is_plain(data) for data in slices) == len(slices) == 127


KNOWN = {
    # Lossy: one grey level of 4096 in 4 % of the pixels, which T.83 leaves to a decoder's rounding.
    "odd-dicom/cornerstone_ts/CTImage.dcm_JPEGProcess2_4TransferSyntax_1.2.840.10008.1.2.4.51.dcm",
    # The data set says signed, the JPEG 2000 stream unsigned. pydicom takes the data set's word:
    # -2000, padding of a CT; GDCM the stream's: 6192. PS3.5 8.2.4: the two must agree.
    "odd-dicom/pydicom_testfiles/J2K_pixelrep_mismatch.dcm",
}
"""Files on which pydicom and GDCM disagree."""


def test_what_is_accepted_is_what_gdcm_reads() -> None:
    """GDCM crashes on some of these files, which is why it runs in a guarded process as well."""
    guard = Guard()
    equal: list[str] = []
    differing: set[str] = set()
    try:
        for name, data in (
            found for folder in (*REAL[:4], "odd-dicom") for found in objects(folder)
        ):
            with contextlib.suppress(InvalidExam):
                _, (stored,) = guard.call("tests.real.stored_values:ours", data)
                _, (reference,) = guard.call("tests.real.stored_values:by_gdcm", data)
                if np.array_equal(stored, reference):
                    equal.append(name)
                else:
                    differing.add(name)
    finally:
        guard.close()
    assert differing == KNOWN
    assert len(equal) == 545


def test_a_sample_of_mutated_files_ends_with_a_slice_a_mask_or_a_reason(tmp_path: Path) -> None:
    sources = read_sources(DATA)
    writer = PartWriter(Store(str(tmp_path)), "mutated", Folder(), NAMES)
    path = tmp_path / "object"
    outcomes = set()
    for number in range(300):
        path.write_bytes(mutated(sources, 7, number))
        outcomes.add(outcome_of(writer, path))
    assert "unaccounted" not in outcomes
    assert {"accepted", "not_an_image", "truncated_pixels", "not_dicom"} <= outcomes
