import base64
import io
import json
import re
import shutil
import subprocess
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from ich_ray.exam import Slice
from ich_ray.storage.corpus import hounsfield
from ich_ray.storage.objects import Store
from jobs.cli import main
from tests.cluster.phantom_corpora import phantom_exam, write_corpus
from tests.cluster.tiny_experiment import files_under

SETTINGS = """
store = { root = "ROOT/store" }
show = { folder = "ROOT/show", thumbnails = 2 }
[corpora]
a = { layout = "folder", source = "none" }
w = { layout = "ct_ich", source = "none" }
"""
WINDOWS = {"brain": (0, 80), "subdural": (-20, 180), "bone": (-770, 1730)}


def bleeding() -> list[Slice]:
    """A phantom that bleeds."""
    return next(e for e in map(phantom_exam, range(20)) if any(s.label for s in e))


@pytest.fixture
def store(tmp_path: Path) -> Store:
    (tmp_path / "settings.toml").write_text(SETTINGS.replace("ROOT", str(tmp_path)))
    store = Store(str(tmp_path / "store"))
    write_corpus(store, "a", [bleeding(), *(phantom_exam(i, site="c") for i in (30, 31, 32))])
    return store


def shown(store: Store, *arguments: str) -> str:
    """Run the command without any key, and return the page that it wrote."""
    root = Path(store.root).parent
    before = files_under(Path(store.root))
    assert main(["show", str(root / "settings.toml"), *arguments]) == 0
    assert files_under(Path(store.root)) == before
    (page,) = (root / "show").iterdir()
    return page.read_text()


def slices_in(page: str) -> list[dict[str, Any]]:
    found = re.search(r'<script type="application/json" id="slices">(.*?)</script>', page, re.S)
    assert found
    slices: list[dict[str, Any]] = json.loads(found[1])
    return slices


def picture(uri: str) -> np.ndarray:
    kind, data = uri.split(",")
    assert kind == "data:image/jpeg;base64"
    return np.asarray(Image.open(io.BytesIO(base64.b64decode(data))).convert("L"), np.float64)


def test_every_slice_is_shown_in_three_windows_with_its_mask_and_its_facts(store: Store) -> None:
    exam = bleeding()
    page = shown(store, "a", exam[0].exam[:8])
    slices = slices_in(page)
    assert [item["key"] for item in slices] == [item.key for item in exam]
    assert [item["label"] for item in slices] == [item.label for item in exam]
    for drawn, item in zip(slices, exam, strict=True):
        for name, (low, high) in WINDOWS.items():
            expected = np.clip((hounsfield(item) - low) / (high - low), 0, 1) * 255
            # JPEG is for the eye: a mean error of a few levels of 255.
            assert np.abs(picture(drawn["pictures"][name]) - expected).mean() < 6
        assert bool(drawn["marks"]) == bool(item.label)
        facts = dict(drawn["facts"])
        assert facts["matrix"] == "64 x 64"
        assert facts["label"] == ("positive" if item.label else "negative")
    ends = [dict(slices[place]["facts"]) for place in (0, -1)]
    assert ends[0]["previous"] == ends[1]["next"] == "none: an end, a gap, or no position"
    assert dict(slices[1]["facts"])["previous"] == "slice 1, 5 mm away"
    assert exam[0].patient in page


def test_a_page_loads_nothing_and_names_nobody(store: Store) -> None:
    page = shown(store, "a", bleeding()[0].exam)
    # xmlns and the like are names, not addresses.
    assert re.findall(r'(?:src|href)="(?!data:)[^"]+"', page) == []
    assert "default-src 'none'" in page
    assert "a-0-" not in page
    assert "2.25." not in page


def test_without_an_exam_all_are_listed_and_some_are_pictured(store: Store) -> None:
    page = shown(store, "a")
    for exam in [bleeding(), *(phantom_exam(i, site="c") for i in (30, 31, 32))]:
        assert f"<code>{exam[0].exam}</code>" in page
    assert page.count("data:image/jpeg") == 2
    assert "2 exams, evenly chosen" in page
    assert "<script" not in page


def test_only_exams_with_anything_new_since_a_version_are_listed(
    store: Store, capsys: pytest.CaptureFixture[str]
) -> None:
    late = phantom_exam(40, site="c")
    write_corpus(store, "a", [late])
    page = shown(store, "a", "show.since=0")
    assert re.findall(r"<code>([0-9a-f]{32})</code>", page) == [late[0].exam]
    root = Path(store.root).parent
    assert main(["show", str(root / "settings.toml"), "a", "show.since=1"]) == 2
    assert "no slice of it is new since show.since=1" in capsys.readouterr().err
    assert main(["show", str(root / "settings.toml"), "a", "show.since=7"]) != 0


def test_a_windowed_corpus_shows_no_window_beyond_its_own(store: Store) -> None:
    exam = [
        replace(
            s,
            stored=np.clip((s.stored + s.intercept + 20) / 120 * 255, 0, 255).astype(np.uint8),
            slope=120 / 255,
            intercept=-20.0,
            kind="window",
            center=40.0,
            width=120.0,
        )
        for s in bleeding()
    ]
    write_corpus(store, "w", [exam])
    page = shown(store, "w", exam[0].exam)
    assert set(slices_in(page)[0]["pictures"]) == {"as published", "brain"}
    assert "only the window C 40 W 120" in page


def test_a_long_exam_is_thinned_evenly_and_says_so(store: Store) -> None:
    page = shown(store, "a", bleeding()[0].exam, "show.max_slices=3")
    keys = [item["key"] for item in slices_in(page)]
    exam = [item.key for item in bleeding()]
    assert keys == [exam[1], exam[4], exam[6]]
    assert "3 of 8 slices, evenly chosen" in page


@pytest.mark.parametrize(
    ("arguments", "match"),
    [
        ([], "name a corpus.*corpora: a, w"),
        (["a", "b", "c"], "name a corpus"),
        (["c"], "c: known are a, w"),
        (["w"], "corpus w has not been ingested"),
        (["a", "zzzz"], "corpus a has no exam 'zzzz'.*e.g. [0-9a-f]{8}"),
        (["a", ""], "corpus a has no exam ''"),
    ],
)
def test_what_cannot_be_shown_is_answered_with_what_can(
    store: Store, arguments: list[str], match: str, capsys: pytest.CaptureFixture[str]
) -> None:
    settings = str(Path(store.root).parent / "settings.toml")
    assert main(["show", settings, *arguments]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert re.search(match, line), line


def test_a_beginning_of_several_exams_asks_for_more(
    store: Store, capsys: pytest.CaptureFixture[str]
) -> None:
    twin = [replace(s, exam=f"{bleeding()[0].exam[:-1]}x", key=f"x{s.key}") for s in bleeding()]
    write_corpus(store, "a", [twin])
    settings = str(Path(store.root).parent / "settings.toml")
    assert main(["show", settings, "a", bleeding()[0].exam[:6]]) == 2
    assert "2 exams of corpus a begin with" in capsys.readouterr().err


def test_a_dry_run_names_the_exam_and_writes_nothing(
    store: Store, capsys: pytest.CaptureFixture[str]
) -> None:
    root = Path(store.root).parent
    exam = bleeding()[0].exam
    assert main(["show", str(root / "settings.toml"), "a", exam[:6], "--dry-run", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["exam"] == exam
    assert not (root / "show").exists()


@pytest.mark.skipif(shutil.which("chromium") is None, reason="no chromium to run the page in")
def test_a_browser_turns_to_the_slice_that_the_address_names(store: Store) -> None:
    exam = bleeding()
    shown(store, "a", exam[0].exam)
    (page,) = (Path(store.root).parent / "show").iterdir()
    place = [bool(item.label) for item in exam].index(True)
    profile, address = page.parent.parent / "browser", f"file://{page}#slice={place + 1}"
    quiet = ["--headless", "--no-sandbox", "--disable-gpu", f"--user-data-dir={profile}"]
    dumped = subprocess.run(
        ["chromium", *quiet, "--dump-dom", address],
        capture_output=True,
        text=True,
        timeout=120,
        check=True,
    ).stdout
    assert f">{place + 1} of {len(exam)}<" in dumped
    assert f"<dd>{exam[place].key}</dd>" in dumped
    assert dumped.count('<svg aria-hidden="true" viewBox="0 0 64 64"><path') == len(WINDOWS)
    assert dumped.count('class="positive marked') == sum(bool(item.label) for item in exam)
