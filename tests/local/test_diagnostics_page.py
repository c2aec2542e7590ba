"""The page of diagnostics: self-contained, the same bytes again, silent on what is not known."""

import json
import re
from html.parser import HTMLParser

import numpy as np
import pytest
from scipy.special import expit

from ich_ray.exam import IGNORED
from ich_ray.label_diagnostics import (
    UNKNOWN,
    ExamVolume,
    LabelledSlices,
    against_hidden,
    patient_shares,
    score_histograms,
    volumes_of,
)
from ich_ray.label_drift import agreement, drift
from ich_ray.reporting.diagnostics_contents import Diagnostics, to_json
from ich_ray.reporting.diagnostics_page import headline, to_html

PERCENTILES = (1.0, 2.0, 5.0, 10.0, 15.0, 20.0, 25.0, 30.0, 50.0)


def diagnostics_of(
    number: int = 6000, *, alone: bool = False, positives: bool = True
) -> Diagnostics:
    """A pool of 6,000 slices of which 14 % are positive, as RSNA's are, cut at 10 %."""
    rng = np.random.default_rng(3)
    patient_of = np.sort(rng.integers(0, max(number // 30, 1), number))
    ill = rng.random(patient_of.max() + 1) < 0.4
    hidden = (ill[patient_of] & (rng.random(number) < 0.35)).astype(np.int8)
    x = np.where(hidden == 1, rng.normal(1.5, 2.5, number), rng.normal(-5, 2.2, number))
    p, student = expit(x).astype(np.float32), expit(1.2 * x + 0.4 + rng.normal(0, 0.8, number))
    order = np.argsort(-p)
    label = np.zeros(number, np.uint8)
    if positives:
        label[order[: number // 10]] = 1
        label[order[number // 10 : 3 * number // 10]] = IGNORED
    key = np.array([f"{i:06d}" for i in range(number)], np.bytes_)
    second = np.where(student > np.quantile(student, 0.9), 1, 0).astype(np.uint8)
    volumes = [
        ExamVolume(exam=f"{i:04x}", positive_slices=3, volume_ml=ml)
        for i, ml in enumerate([None, 0.0, 0.0, *np.exp(rng.normal(1, 1.6, 60)).tolist()])
        if positives
    ]
    slices = LabelledSlices(
        key=key,
        exam=patient_of,
        patient=patient_of,
        label=label,
        p=p,
        hidden=np.full(number, UNKNOWN, np.int8) if alone else hidden,
    )
    return Diagnostics(
        name="pool <1>",
        mode="ignore_band",
        cut=float(np.quantile(p, 0.9)),
        exams=len(np.unique(patient_of)),
        slices=number,
        positive=int((label == 1).sum()),
        ignored=int((label == IGNORED).sum()),
        patients=patient_shares(patient_of, label == 1),
        volumes=volumes_of(volumes),
        exam_volumes=volumes,
        scores=score_histograms(p, label),
        against=None
        if alone
        else ("round2", agreement((key, label, p), (key, second, student.astype(np.float32)))),
        students={} if alone else {"student": drift(p, student.astype(np.float32), label)},
        hidden=against_hidden(slices, PERCENTILES),
        notes=("Model student <x> is not compared: it has not been trained.",),
        provenance={"teacher": "00ff", "code revision": "abc"},
    )


class References(HTMLParser):
    """What a page would fetch."""

    def __init__(self) -> None:
        super().__init__()
        self.found: list[str] = []
        self.headings: list[str] = []
        self.heading = False

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.found += [value or "" for name, value in attrs if name in ("src", "href")]
        self.heading = tag == "h2"

    def handle_data(self, data: str) -> None:
        if self.heading:
            self.headings.append(data)
        self.heading = False


def read(page: str) -> References:
    parser = References()
    parser.feed(page)
    return parser


@pytest.fixture(scope="module")
def whole() -> str:
    return to_html(diagnostics_of())


def test_the_page_fetches_nothing_and_shows_every_part(whole: str) -> None:
    read_page = read(whole)
    assert len(read_page.found) == 6
    assert all(found.startswith("data:image/svg+xml;base64,") for found in read_page.found)
    assert read_page.headings == [
        *("Positives by patient", "Predicted lesion volume", "Scores", "Agreement with round2"),
        *("From teacher to student", "By hidden labels", "Provenance"),
    ]


def test_hidden_labels_are_marked_as_a_diagnostic_that_never_feeds_back(whole: str) -> None:
    assert "A diagnostic that never feeds back" in whole
    record = json.loads(to_json(diagnostics_of()))
    assert "never feeds back" in record["hidden_labels"]["notice"]
    assert len(record["hidden_labels"]["found"]["percentiles"]) == len(PERCENTILES)


def test_names_are_escaped(whole: str) -> None:
    assert "pool <1>" not in whole
    assert "student <x>" not in whole


def test_the_same_diagnostics_give_the_same_bytes(whole: str) -> None:
    assert to_html(diagnostics_of()) == whole
    assert to_json(diagnostics_of()) == to_json(diagnostics_of())


def test_what_is_not_known_has_no_section() -> None:
    page = to_html(diagnostics_of(alone=True))
    assert read(page).headings == [
        *("Positives by patient", "Predicted lesion volume", "Scores", "Provenance"),
    ]
    record = json.loads(to_json(diagnostics_of(alone=True)))
    assert (record["agreement"], record["hidden_labels"]["found"]) == (None, None)


def test_a_table_without_a_positive_is_told_too() -> None:
    found = diagnostics_of(positives=False)
    assert headline(found).startswith("0 of 6,000 slices (0.0 %) are positive, in 0 patients")
    page = to_html(found)
    assert not re.search(r"\bnan\b", page, re.I)
    assert json.loads(to_json(found))["volumes"]["summary"]["quartiles_ml"] == [None, None, None]


def test_a_few_slices_make_a_page_too() -> None:
    assert to_html(diagnostics_of(30)).count("<img") == 6
