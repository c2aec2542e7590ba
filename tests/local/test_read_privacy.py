import base64
import json
import logging
import warnings
from collections.abc import Callable
from typing import Any

import pytest

from ich_ray.errors import ConfigError, InvalidExam
from ich_ray.identity import PUBLIC_KEY, Pseudonyms
from ich_ray.storage import annotations_table, corpus, dicom, ledger, series_table, slice_rows
from ich_ray.storage.corpora.cq500 import FINDINGS, READERS, Cq500
from ich_ray.storage.corpora.folder import Folder
from tests.local.dicom_objects import to_bytes
from tests.local.planted import (
    BIRTH,
    EXAM,
    LABELS_HEADER,
    NAME,
    PATIENT,
    ROOT,
    SECRETS,
    forms,
    leaks,
    planted_slice,
    planting,
    refused_objects,
)

NAMES = Pseudonyms(PUBLIC_KEY)


@pytest.fixture(scope="module")
def refused() -> dict[str, bytes]:
    with planting():
        return refused_objects()


def said(work: Callable[[], Any]) -> str:
    """What a reader tells of an object: its reason and its message, with what they hang on."""
    try:
        work()
    except InvalidExam as refusal:
        told = [repr(refusal), str(refusal), refusal.reason]
        told += [repr(refusal.__cause__), str(refusal.__suppress_context__)]
        return "\n".join(told)
    return ""


def test_no_reader_tells_what_it_failed_on(
    refused: dict[str, bytes],
    caplog: pytest.LogCaptureFixture,
    capfd: pytest.CaptureFixture[str],
) -> None:
    told: list[tuple[str, bytes]] = []
    with caplog.at_level(logging.DEBUG), warnings.catch_warnings(record=True) as warned:
        warnings.simplefilter("always")
        for name, data in refused.items():
            for reader in (
                lambda d=data: dicom.read_header(d, whole=True),
                lambda d=data: dicom.read_header(d[:600], whole=False),
                lambda d=data: dicom.read_slice(d, NAMES),
                lambda d=data: dicom.read_masks(d, NAMES),
            ):
                try:
                    told.append((name, said(reader).encode()))
                except dicom.HeaderIncomplete as more:
                    told.append((name, repr(more).encode()))
    out, err = capfd.readouterr()
    told += [("log", caplog.text.encode()), ("stdout", out.encode()), ("stderr", err.encode())]
    told += [("warning", str(warning.message).encode()) for warning in warned]
    assert len([name for name, text in told if text]) > 30
    assert leaks(told) == []


def test_a_slice_keeps_nothing_that_names_its_patient() -> None:
    with planting():
        data = to_bytes(planted_slice(1))
    assert len(leaks([("object", data)])) > 6
    kept = slice_rows.to_table([[dicom.read_slice(data, NAMES)]]).to_pylist()
    assert leaks([("row", repr(kept).encode())]) == []


@pytest.mark.parametrize(
    "row",
    [
        f"{ROOT}.1.1,{NAME},0,0,0,0,0,{PATIENT}",
        f"{ROOT}.1.1,1,0,0,0,0,0,{PATIENT}\n{ROOT}.1.1,0,0,0,0,0,0,{BIRTH}",
        f"{ROOT}.1.1,0,{BIRTH}",
    ],
)
def test_a_bad_row_of_labels_is_named_by_its_line(row: str) -> None:
    with pytest.raises(ConfigError, match=r"the table of labels .*line \d") as refusal:
        Folder().read_labels(f"{LABELS_HEADER},{NAME}\n{row}")
    assert leaks([("message", str(refusal.value).encode())]) == []


def test_missing_columns_are_named_and_the_others_are_not() -> None:
    with pytest.raises(ConfigError, match="lacks the columns any") as refusal:
        Folder().read_labels(f"SOPInstanceUID,{NAME},{BIRTH}\n{ROOT}.1.1,0,0")
    assert leaks([("message", str(refusal.value).encode())]) == []


def test_a_batch_of_cq500_is_no_free_text() -> None:
    columns = [f"{reader}:{finding}" for reader in READERS for finding in FINDINGS]
    header, zeros = ",".join(["name", "Category", *columns]), ",0" * len(columns)
    assert Cq500().read_reads(f"{header}\nCQ500-CT-1,B1{zeros}")[0].category == "B1"
    with pytest.raises(ConfigError, match=r"line 2 of the reads holds another Category") as refusal:
        Cq500().read_reads(f"{header}\nCQ500-CT-1,{NAME}{zeros}")
    assert leaks([("message", str(refusal.value).encode())]) == []


def test_a_corpus_and_a_ledger_have_these_columns_and_no_others() -> None:
    assert corpus.SCHEMA.names == [
        *("exam", "slice", "patient", "series", "index", "previous", "next", "neighbours"),
        *("position_mm", "spacing_mm", "thickness_mm", "tilt_deg", "rows", "columns"),
        *("pixels", "codec", "checksum", "slope", "intercept", "kind", "center", "width"),
        *("label", "subtypes", "exam_label", "exam_subtypes", "mask", "mask_codec"),
        *("source", "etag"),
    ]
    assert ledger.SCHEMA.names == [
        *("source", "etag", "size", "role", "outcome", "reason", "patient", "exam"),
        *("slice", "part"),
    ]


def test_the_tables_beside_the_slices_have_these_columns_and_no_others() -> None:
    assert series_table.SCHEMA.names == [
        *("exam", "series", "kept", "rule", "signs", "number", "num_slices", "num_positions"),
        *("same_position", "coverage_mm", "spacing_mm", "thickness_mm", "tilt_deg", "gaps"),
    ]
    assert annotations_table.READS_SCHEMA.names == [
        *("exam", "reader", "category", "finding", "present")
    ]
    assert annotations_table.BOXES_SCHEMA.names == [
        *("slice", "series", "x", "y", "width", "height", "type", "origin")
    ]


@pytest.mark.parametrize("secret", SECRETS)
def test_the_search_finds_a_secret_in_every_form(secret: str) -> None:
    for data in (
        f"a name: {secret}!".encode(),
        secret.encode("utf-16-le"),
        secret.encode("utf-8").hex().upper().encode(),
        json.dumps({"a": secret}).encode(),
        secret.encode("utf-8").decode("latin-1").encode(),
        *(base64.b64encode(b"x" * shift + secret.encode() + b"tail") for shift in range(3)),
    ):
        assert leaks([("file", data)], [secret]), data
    assert leaks([("file", b"nothing " + EXAM.encode())], [secret]) == []
    assert all(len(data) > 6 for data in forms(secret).values())
