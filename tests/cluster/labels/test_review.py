"""A look through the command line: page, decisions, and what they say of C."""

import base64
import io
import json
import re
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from ich_ray.config import ReviewConfig
from ich_ray.display import to_levels
from ich_ray.distributed.lineage import pseudo_label_lineage
from ich_ray.distributed.review import sampled
from ich_ray.review_decisions import COLUMNS
from ich_ray.storage.corpus import hounsfield, open_corpus, read_exams
from jobs.cli import main
from tests.cluster.tiny_experiment import files_under, opened

READER = "Dr. Ada Lovelace"
FEW = "review.slices_per_percentile=4"


def run(root: Path, verb: str, *arguments: str) -> int:
    return main(
        [verb, str(root / "settings.toml"), "pool", f"review.folder={root / 'review'}", *arguments]
    )


def page_of(root: Path) -> str:
    (page,) = (root / "review").iterdir()
    return page.read_text()


def content_of(page: str) -> dict[str, Any]:
    found = re.search(r'<script type="application/json" id="review">(.*?)</script>', page, re.S)
    assert found
    content: dict[str, Any] = json.loads(found[1])
    return content


def exported(root: Path, content: dict[str, Any], verdicts: dict[str, str], **changed: Any) -> Path:
    """Write what the page would export."""
    decisions = [
        {"slice": key, "decision": verdict, "reader": READER, "time": "2026-11-30T08:00:00Z"}
        for key, verdict in verdicts.items()
    ]
    head = {name: content[name] for name in ("format", "predictions", "sample")}
    path = root / "lovelace.json"
    path.write_text(json.dumps(head | {"decisions": decisions} | changed))
    return path


def percents_of(root: Path) -> dict[str, tuple[float, ...]]:
    with opened(root, FEW) as session:
        found = sampled(session, "pool", pseudo_label_lineage(session, "pool"))
    return {item.key: item.percents for item in found.slices}


def test_the_page_shows_the_slices_of_the_sample_and_nothing_that_tells_their_rank(
    root: Path,
) -> None:
    assert run(root, "review", FEW) == 0
    page = page_of(root)
    content = content_of(page)
    assert [one["key"] for one in content["slices"]] == list(percents_of(root))
    assert {key for one in content["slices"] for key in one} == {
        *("key", "rows", "columns", "windows", "marks", "facts"),
    }
    assert {name for one in content["slices"] for name, _ in one["facts"]} == {
        *("corpus", "exam", "slice", "thickness", "marked"),
    }
    with opened(root) as session:
        corpus = open_corpus(session.store, "b")
        exams = [exam for url in corpus.files for exam in read_exams(session.store, url)]
    places = {item.key: (exam, i) for exam in exams for i, item in enumerate(exam)}
    for number, one in enumerate(content["slices"]):
        exam, i = places[one["key"]]
        facts = dict(one["facts"])
        assert (facts["exam"], facts["slice"]) == (exam[i].exam, f"{i + 1} of {len(exam)}")
        found = re.search(rf'id="picture-{number}">data:image/png;base64,([^<]+)<', page)
        assert found
        levels = np.asarray(Image.open(io.BytesIO(base64.b64decode(found[1]))))
        np.testing.assert_array_equal(levels, to_levels(hounsfield(exam[i])))
    patients = {exam[0].patient for exam in exams}
    assert not any(patient in page for patient in patients)


def test_a_second_review_writes_the_same_page_and_predicts_nothing(root: Path) -> None:
    assert run(root, "review", FEW) == 0
    before = files_under(root / "review")
    predictions = files_under(root / "store" / "predictions")
    assert run(root, "review", FEW) == 0
    assert files_under(root / "review") == before
    assert files_under(root / "store" / "predictions") == predictions


def test_without_predictions_rank_says_so_and_review_makes_them(
    root: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(root, "rank", "--json") == 0
    ranked = json.loads(capsys.readouterr().out)
    shutil.rmtree(root / "store" / "predictions")
    assert run(root, "rank") == 2
    assert "run ich-ray review SETTINGS.toml pool" in capsys.readouterr().err
    assert run(root, "review", "--dry-run", "--json") == 0
    planned = json.loads(capsys.readouterr().out)
    assert planned["predictions_to_make"] == 1
    assert planned["predictions"] == ranked["predictions"]
    assert not (root / "review").exists()
    assert run(root, "review", FEW, "--json") == 0
    made = json.loads(capsys.readouterr().out)
    assert made["predictions"] == ranked["predictions"]
    assert run(root, "rank", "--json") == 0
    assert json.loads(capsys.readouterr().out) == ranked


def test_rank_shows_what_each_c_would_do(root: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(root, "rank", "--json") == 0
    shown = json.loads(capsys.readouterr().out)
    percents = ReviewConfig().percentiles
    assert [one["percent"] for one in shown["choices"]] == list(percents)
    assert [one["positive"] for one in shown["choices"]] == [round(64 * p / 100) for p in percents]
    with opened(root) as session:
        table = pseudo_label_lineage(session, "pool").table
    assert table is not None
    labelled = json.loads(table.properties["figures"])
    (ten,) = [one for one in shown["choices"] if one["percent"] == 10]
    assert (ten["positive"], ten["cut"]) == (labelled["positive"], labelled["cut"])
    assert run(root, "rank") == 0
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == 2 + len(percents)
    assert lines[1].split() == ["C", "positive", "cut", "at", "p"]


def test_decisions_say_which_c_to_take_and_the_reader_s_name_goes_nowhere(
    root: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(root, "review", FEW) == 0
    content = content_of(page_of(root))
    percents = percents_of(root)
    # What is drawn at 20 % or beyond, and at no lower percentile, is false.
    verdicts = {key: "accept" if min(of) < 20 else "reject" for key, of in percents.items()}
    stored = files_under(root / "store")
    file = exported(root, content, verdicts)
    capsys.readouterr()
    assert run(root, "rank", FEW, "--review", str(file), "--json") == 0
    told = capsys.readouterr()
    shown = json.loads(told.out)
    for look in shown["looks"]:
        said = [verdicts[key] for key, of in percents.items() if look["percent"] in of]
        assert (look["accept"], look["reject"]) == (said.count("accept"), said.count("reject"))
    rates = [look["reject"] / look["shown"] for look in shown["looks"]]
    acceptable = [rate <= 0.5 for rate in rates]
    expected = ReviewConfig().percentiles[[*acceptable, False].index(False) - 1]
    assert shown["advice"]["top_percent"] == expected
    assert run(root, "rank", FEW, "--review", str(file)) == 0
    told_too = capsys.readouterr()
    assert f"pseudo_labels.pool.top_percent={expected:g}" in told_too.out
    assert "Lovelace" not in told.out + told.err + told_too.out + told_too.err
    assert files_under(root / "store") == stored


def test_two_readers_are_compared(root: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(root, "review", FEW) == 0
    content = content_of(page_of(root))
    keys = [one["key"] for one in content["slices"]]
    first = exported(root, content, dict.fromkeys(keys, "accept"))
    head = ",".join(content[name] for name in COLUMNS[:3])
    second = root / "second.csv"
    rows = [
        f"{head},{key},{'accept' if i else 'reject'},B,2026-11-30" for i, key in enumerate(keys)
    ]
    second.write_text("\r\n".join([",".join(COLUMNS), *rows, ""]))
    capsys.readouterr()
    asked = ("--review", str(first), "--review", str(second))
    assert run(root, "rank", FEW, *asked, "--json") == 0
    shown = json.loads(capsys.readouterr().out)
    assert shown["readers"] == 2
    (both,) = shown["agreements"]
    assert both["slices"] == len(keys)
    assert both["share"] == pytest.approx(1 - 1 / len(keys))
    assert both["kappa"] == 0
    assert sum(look["unsure"] for look in shown["looks"]) >= 1
    assert run(root, "rank", FEW, *asked) == 0
    assert "readers 1 and 2: the same verdict on" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("changed", "settings", "match"),
    [
        ({"predictions": "0123"}, (), "is about predictions 0123, and these settings are about"),
        ({}, ("review.seed=1",), "is about sample .* now draws .*set review.percentiles"),
        ({"format": "?"}, (), "is of the format '\\?'"),
    ],
)
def test_a_review_of_another_ranking_is_refused(
    root: Path,
    changed: dict[str, Any],
    settings: tuple[str, ...],
    match: str,
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert run(root, "review", FEW) == 0
    content = content_of(page_of(root))
    file = exported(root, content, {content["slices"][0]["key"]: "accept"}, **changed)
    capsys.readouterr()
    assert run(root, "rank", FEW, *settings, "--review", str(file)) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert re.search(match, line), line
    assert "ovelace" not in line


@pytest.mark.parametrize(
    ("verb", "arguments", "match"),
    [
        ("rank", ("--review", "nowhere.json"), "cannot read the --review file: No such file"),
        ("review", ("--review", "x.json"), "--review is an option of rank"),
        ("review", ("pond",), "pond: known are pool"),
    ],
)
def test_what_cannot_be_reviewed_is_answered_with_what_can(
    root: Path,
    verb: str,
    arguments: tuple[str, ...],
    match: str,
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert run(root, verb, *arguments) == 2
    assert match in capsys.readouterr().err
