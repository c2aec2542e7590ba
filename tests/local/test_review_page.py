"""The page of a review in a real browser: keys, decisions, files, pixels."""

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from ich_ray.display import BONE, BRAIN, SUBDURAL, Window, grey_levels
from ich_ray.exam import IGNORED
from ich_ray.reporting.review_page import ReviewedSlice, ReviewPage, png_of_levels, to_html
from ich_ray.review_decisions import read_review

pytest.importorskip("selenium", reason="no selenium to drive a browser with")
from selenium import webdriver
from selenium.webdriver.common.by import By
from selenium.webdriver.common.keys import Keys
from selenium.webdriver.remote.webelement import WebElement

from tests.local.chromium import LACKS_CHROMIUM, chromium, faults, until

pytestmark = LACKS_CHROMIUM
PAGE = ReviewPage(
    name="pool", predictions="p" * 16, sample="s" * 16, positive_above=0.7, negative_below=0.3
)
ROWS, COLUMNS = 48, 64


def hu_of(i: int) -> np.ndarray:
    """A ramp over what a head holds, different in each slice."""
    ramp = np.linspace(-1000, 1500, ROWS * COLUMNS).reshape(ROWS, COLUMNS)
    ramp[:20] = np.arange(20 * COLUMNS).reshape(20, COLUMNS) % 100 + i
    return np.rint(ramp).astype(np.float32)


def slice_of(i: int, *, windowed: bool = False) -> ReviewedSlice:
    mask = np.zeros((ROWS, COLUMNS), np.uint8)
    mask[4:9, 8:20], mask[9:12, 8:20] = 1, IGNORED
    return ReviewedSlice(
        key=f"{i:032x}",
        picture=png_of_levels(hu_of(i)),
        center=40.0 if windowed else None,
        width=120.0 if windowed else None,
        mask=mask if i % 2 == 0 else np.zeros_like(mask),
        facts=[("exam", f"exam{i}"), ("slice", f"{i + 1} of 9")],
    )


class Browser:
    """A page in Chromium, and what a reader does with it."""

    def __init__(self, driver: webdriver.Chrome, folder: Path) -> None:
        self.driver, self.folder = driver, folder

    def open(self, slices: list[ReviewedSlice], page: ReviewPage = PAGE) -> None:
        (self.folder / "page.html").write_text(to_html(page, slices))
        self.driver.get(f"file://{self.folder / 'page.html'}")
        self.until("document.body.dataset.shown")

    def until(self, condition: str) -> Any:
        return until(self.driver, lambda driver: driver.execute_script(f"return {condition}"))

    def shows(self, i: int, window: str = "brain") -> None:
        self.until(f"document.body.dataset.shown === '{i:032x} {window}'")

    def find(self, selector: str) -> WebElement:
        return self.driver.find_element(By.CSS_SELECTOR, selector)

    def name(self, reader: str) -> None:
        self.find("#reader").clear()
        self.find("#reader").send_keys(reader, Keys.ENTER)

    def press(self, *keys: str) -> None:
        for key in keys:
            self.driver.switch_to.active_element.send_keys(key)

    def said(self) -> str:
        return self.find("#said").text

    def pressed(self, what: str) -> list[str]:
        return [
            button.get_attribute(f"data-{what}") or ""
            for button in self.driver.find_elements(By.CSS_SELECTOR, f"[data-{what}]")
            if button.get_attribute("aria-pressed") == "true"
        ]

    def pixels(self) -> np.ndarray:
        """Return what the canvas shows, red, green, blue and opacity."""
        values = self.driver.execute_script(
            "const c = document.querySelector('#slice canvas');"
            "return [...c.getContext('2d').getImageData(0, 0, c.width, c.height).data]"
        )
        return np.array(values, np.uint8).reshape(ROWS, COLUMNS, 4)

    def exported(self, kind: str) -> str:
        self.find(f"#export-{kind}").click()
        place = self.folder / "files" / f"review-pool-pppppppp.{kind}"
        until(self.driver, lambda _: place.exists())
        text = place.read_text()
        place.unlink()
        return text


@pytest.fixture(scope="module")
def driver(tmp_path_factory: pytest.TempPathFactory) -> Iterator[webdriver.Chrome]:
    with chromium(tmp_path_factory.mktemp("browser")) as started:
        yield started


@pytest.fixture
def browser(driver: webdriver.Chrome, tmp_path: Path) -> Iterator[Browser]:
    (tmp_path / "files").mkdir()
    allowed = {"behavior": "allow", "downloadPath": str(tmp_path / "files")}
    driver.execute_cdp_cmd("Browser.setDownloadBehavior", allowed)
    yield Browser(driver, tmp_path)
    driver.execute_script("localStorage.clear()")
    assert faults(driver) == []


def test_keys_decide_and_the_next_undecided_slice_follows(browser: Browser) -> None:
    browser.open([slice_of(i) for i in range(5)])
    browser.name("Ada")
    browser.shows(0)
    browser.press("a")
    browser.shows(1)
    browser.press("r")
    browser.shows(2)
    assert browser.said() == "Slice 2: reject. 3 left."
    browser.press(Keys.ARROW_RIGHT)
    browser.shows(3)
    browser.press("u")
    browser.shows(4)
    assert browser.find("#counted").text == "3 of 5 decided"
    browser.press(Keys.ARROW_LEFT)
    browser.shows(3)
    assert browser.pressed("verdict") == ["unsure"]
    ticks = [
        tick.get_attribute("class")
        for tick in browser.driver.find_elements("css selector", "#strip i")
    ]
    assert ticks == ["accept", "reject", "", "unsure here", ""]


def test_without_a_name_nothing_is_decided(browser: Browser) -> None:
    browser.open([slice_of(0), slice_of(1)])
    browser.find("#stage").click()
    browser.driver.execute_script("document.getElementById('stage').focus()")
    browser.press("a")
    assert "Write your name first" in browser.said()
    assert browser.find("#counted").text == "0 of 2 decided"
    # In the field the letters are a name.
    browser.press("a", "r", "u", Keys.ENTER, "r")
    browser.shows(1)
    (decision,) = json.loads(browser.exported("json"))["decisions"]
    assert (decision["reader"], decision["decision"]) == ("aru", "reject")


def test_a_decision_is_taken_back_or_changed(browser: Browser) -> None:
    browser.open([slice_of(i) for i in range(3)])
    browser.name("Ada")
    browser.press("a", "r")
    browser.shows(2)
    browser.press(Keys.HOME, "u")
    browser.shows(2)
    browser.press("z")
    browser.shows(0)
    assert browser.pressed("verdict") == ["accept"]
    browser.press(Keys.BACKSPACE)
    browser.shows(1)
    browser.press("z", "z")
    browser.shows(0)
    assert browser.said() == "There is nothing to take back."
    assert browser.find("#counted").text == "0 of 3 decided"


def test_what_is_not_on_the_screen_is_not_decided(browser: Browser) -> None:
    browser.open([slice_of(i) for i in range(6)])
    browser.name("Ada")
    browser.shows(0)
    browser.driver.execute_script(
        "window.before = Image.prototype.decode;"
        "Image.prototype.decode = function () {"
        "  return new Promise((done) => { window.release = done; });"
        "}"
    )
    browser.press(Keys.END, "a", "r")
    assert browser.said() == "This slice is not on the screen yet: decide when it is."
    assert browser.find("#counted").text == "0 of 6 decided"
    browser.driver.execute_script("Image.prototype.decode = window.before; window.release();")
    browser.shows(5)
    browser.press("a")
    assert browser.find("#counted").text == "1 of 6 decided"


def test_a_picture_that_cannot_be_shown_is_said_and_tried_again(browser: Browser) -> None:
    browser.open([slice_of(i) for i in range(6)])
    browser.name("Ada")
    browser.shows(0)
    browser.driver.execute_script(
        "window.before = Image.prototype.decode;"
        "Image.prototype.decode = () => Promise.reject(new Error('broken'));"
    )
    browser.press(Keys.END)
    browser.until("!document.getElementById('warning').hidden")
    assert "The picture of slice 6 cannot be shown" in browser.find("#warning").text
    browser.press("a")
    assert browser.find("#counted").text == "0 of 6 decided"
    browser.driver.execute_script("Image.prototype.decode = window.before;")
    browser.press(Keys.HOME, Keys.END)
    browser.shows(5)
    browser.press("a")
    assert browser.find("#counted").text == "1 of 6 decided"


def expected(i: int, window: Window) -> np.ndarray:
    return grey_levels(hu_of(i), window)


def test_every_window_shows_the_slice_s_own_hounsfield_units(browser: Browser) -> None:
    browser.open([slice_of(i) for i in range(3)])
    browser.name("Ada")
    browser.shows(0)
    brain = browser.pixels()
    # Whole HU of brain and blood are exact; beyond, one level is 1 % of the bone window.
    np.testing.assert_array_equal(brain[:20, :, 0], expected(0, BRAIN)[:20])
    assert (brain[..., :3] == brain[..., :1]).all()
    assert (brain[..., 3] == 255).all()
    browser.press("w")
    browser.shows(0, "subdural")
    np.testing.assert_array_equal(browser.pixels()[:20, :, 0], expected(0, SUBDURAL)[:20])
    browser.press("4")
    browser.shows(0, "bone")
    away = browser.pixels()[20:, :, 0].astype(int) - expected(0, BONE)[20:]
    assert np.abs(away).max() <= 3
    browser.press("w")
    browser.shows(0, "brain")
    browser.press("W")
    browser.shows(0, "bone")
    browser.press(Keys.ARROW_RIGHT)
    browser.shows(1, "bone")


def test_a_slice_that_holds_one_window_offers_no_other(browser: Browser) -> None:
    browser.open([slice_of(0, windowed=True), slice_of(1)])
    browser.name("Ada")
    offered = [
        b.text.split("\n")[0]
        for b in browser.driver.find_elements(By.CSS_SELECTOR, "[data-window]")
        if b.is_enabled()
    ]
    assert [re.sub(r"^\d ", "", text) for text in offered] == ["as published", "brain", "stroke"]
    browser.press(Keys.ARROW_RIGHT)
    browser.shows(1)


def test_the_contour_is_the_teacher_s_and_can_be_hidden(browser: Browser) -> None:
    browser.open([slice_of(0), slice_of(1)])
    browser.name("Ada")
    browser.shows(0)
    paths = browser.driver.find_elements(By.CSS_SELECTOR, "#slice svg path")
    assert len(paths) == 2
    assert all(path.is_displayed() for path in paths)
    box, frame = paths[-1].rect, browser.find("#slice canvas").rect
    scale = frame["width"] / COLUMNS
    assert box["x"] - frame["x"] == pytest.approx(8 * scale, abs=2)
    assert box["width"] == pytest.approx(12 * scale, abs=3)
    browser.press("c")
    assert not any(path.is_displayed() for path in paths)
    browser.press("c")
    assert all(path.is_displayed() for path in paths)
    browser.press(Keys.ARROW_RIGHT)
    browser.shows(1)
    assert browser.driver.find_elements(By.CSS_SELECTOR, "#slice svg path") == []


def test_what_the_page_exports_is_what_the_command_reads(browser: Browser) -> None:
    browser.open([slice_of(i) for i in range(3)])
    browser.name('Ada "A." Lovelace, MD')
    browser.press("a", "r", "u")
    browser.until("document.getElementById('counted').textContent.startsWith('3 of 3')")
    assert "All are decided" in browser.said()
    read = read_review(browser.exported("json"), "the file")
    assert read == read_review(browser.exported("csv"), "the file")
    assert (read.predictions, read.sample) == (PAGE.predictions, PAGE.sample)
    assert [(d.slice, d.verdict) for d in read.decisions] == [
        (f"{i:032x}", verdict) for i, verdict in enumerate(("accept", "reject", "unsure"))
    ]
    assert {d.reader for d in read.decisions} == {'Ada "A." Lovelace, MD'}


def test_decisions_outlive_a_reload_and_an_export_goes_on_elsewhere(
    browser: Browser, tmp_path: Path
) -> None:
    slices = [slice_of(i) for i in range(4)]
    browser.open(slices)
    browser.name("Ada")
    browser.press("a", "r")
    browser.shows(2)
    kept = tmp_path / "kept.json"
    kept.write_text(browser.exported("json"))
    browser.driver.refresh()
    browser.shows(2)
    assert browser.find("#counted").text == "2 of 4 decided"
    browser.driver.execute_script("localStorage.clear()")
    browser.driver.refresh()
    browser.shows(0)
    assert browser.find("#counted").text == "0 of 4 decided"
    browser.name("Ada")
    browser.find("#import").send_keys(str(kept))
    browser.shows(2)
    assert browser.said() == "2 decisions taken over from the file."
    assert json.loads(browser.exported("json")) == json.loads(kept.read_text())


def test_the_next_reader_sees_nothing_of_the_one_before(browser: Browser) -> None:
    browser.open([slice_of(0), slice_of(1)])
    browser.name("Ada")
    browser.press("a")
    browser.shows(1)
    browser.find("#start-over").click()
    browser.driver.switch_to.alert.dismiss()
    assert browser.find("#counted").text == "1 of 2 decided"
    browser.find("#start-over").click()
    browser.driver.switch_to.alert.accept()
    browser.shows(0)
    assert browser.find("#counted").text == "0 of 2 decided"
    browser.press("Bob", Keys.ENTER, "r")
    browser.shows(1)
    (decision,) = json.loads(browser.exported("json"))["decisions"]
    assert (decision["reader"], decision["decision"]) == ("Bob", "reject")


@pytest.mark.parametrize(
    ("changed", "said"),
    [
        ({"predictions": "other"}, "it is of predictions other, this page of pppp"),
        ({"sample": "other"}, "it is of sample other"),
        ({"format": "?"}, "it is of format ?"),
        ({"decisions": [{"slice": "x"}]}, "slice x is not on this page"),
        ({"decisions": [{"slice": f"{0:032x}", "decision": "yes"}]}, "yes is no decision"),
        ({"decisions": [{"slice": f"{0:032x}", "decision": "accept"}]}, "lacks reader or time"),
    ],
)
def test_a_file_of_another_review_is_not_taken_over(
    browser: Browser, tmp_path: Path, changed: dict[str, Any], said: str
) -> None:
    browser.open([slice_of(0), slice_of(1)])
    head = {"format": "ich-ray review 1", "predictions": PAGE.predictions, "sample": PAGE.sample}
    (tmp_path / "other.json").write_text(json.dumps(head | {"decisions": []} | changed))
    browser.find("#import").send_keys(str(tmp_path / "other.json"))
    browser.until("document.getElementById('said').textContent.includes('not taken over')")
    assert said in browser.said()
    assert browser.find("#counted").text == "0 of 2 decided"


def test_the_page_fits_the_window_and_its_help_opens_by_a_key(browser: Browser) -> None:
    browser.open([slice_of(0), slice_of(1)])
    browser.name("Ada")
    for width, height in ((1400, 900), (1000, 700), (1900, 1000)):
        browser.driver.set_window_size(width, height)
        inner = browser.until("[innerWidth, innerHeight, document.body.scrollHeight]")
        frame = browser.find("#slice").rect
        assert inner[2] <= inner[1]
        assert frame["width"] / frame["height"] == pytest.approx(COLUMNS / ROWS, rel=0.01)
        assert frame["height"] <= inner[1]
        assert max(frame["width"] / (inner[0] - 21 * 16), frame["height"] / inner[1]) > 0.75
    browser.driver.set_window_size(1400, 900)
    browser.press("?")
    assert browser.find("#help").is_displayed()
    browser.press("a", Keys.ESCAPE)
    browser.until("!document.getElementById('help').open")
    assert browser.find("#counted").text == "0 of 2 decided"


def test_the_page_loads_nothing() -> None:
    html = to_html(PAGE, [slice_of(0), slice_of(1)])
    assert re.findall(r'(?:src|href)="(?!data:)[^"]+"', html) == []
    assert "default-src 'none'" in html
    assert re.findall(r"https?://(?!www\.w3\.org/2000/svg)\S+", html) == []
