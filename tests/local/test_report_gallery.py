"""The report's gallery in a real browser: turning, outlines, windows, and what is left without."""

import io
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from ich_ray.display import BRAIN, SUBDURAL, Window, greys_of_levels
from ich_ray.reporting.contents import GallerySlice
from ich_ray.reporting.page import to_html
from ich_ray.reporting.scrolled_exam import ScrolledExam, scrolled_exam
from tests.local.shown_heads import marked_slice, report_of, shown_head

pytest.importorskip("selenium", reason="no selenium to drive a browser with")
from selenium import webdriver
from selenium.webdriver.common.action_chains import ActionChains
from selenium.webdriver.common.actions.wheel_input import ScrollOrigin
from selenium.webdriver.common.by import By
from selenium.webdriver.common.keys import Keys
from selenium.webdriver.remote.webelement import WebElement

from tests.local.chromium import LACKS_CHROMIUM, chromium, faults, until

pytestmark = LACKS_CHROMIUM
TITLES = ("Reference", "Teacher", "Student")


class Page:
    """A report in Chromium, of which one exam is looked at."""

    def __init__(self, driver: webdriver.Chrome, folder: Path) -> None:
        self.driver, self.folder, self.exam = driver, folder, 0

    def open(self, *shown: GallerySlice) -> None:
        (self.folder / "index.html").write_text(to_html(report_of(*shown)))
        self.driver.get(f"file://{self.folder / 'index.html'}")

    def look_at(self, exam: int) -> None:
        self.exam = exam
        articles = self.driver.find_elements(By.CSS_SELECTOR, ".gallery article")
        self.driver.execute_script("arguments[0].scrollIntoView()", articles[exam])
        until(self.driver, lambda _: self.article.get_attribute("data-shown"))

    @property
    def article(self) -> WebElement:
        return self.driver.find_elements(By.CSS_SELECTOR, ".gallery article")[self.exam]

    def find(self, selector: str) -> WebElement:
        return self.article.find_element(By.CSS_SELECTOR, selector)

    def all(self, selector: str) -> list[WebElement]:
        return self.article.find_elements(By.CSS_SELECTOR, selector)

    def shows(self, number: int, window: str = "brain") -> None:
        expected = f"{number} {window}"
        until(self.driver, lambda _: self.article.get_attribute("data-shown") == expected)

    def press(self, *keys: str) -> None:
        for key in keys:
            self.driver.switch_to.active_element.send_keys(key)

    def wheel(self, *steps: int) -> None:
        canvas = ScrollOrigin.from_element(self.find("canvas"))
        for step in steps:
            ActionChains(self.driver).scroll_from_origin(canvas, 0, step).perform()

    def outlines(self) -> list[tuple[str | None, str | None]]:
        """Return path and colour of what is drawn."""
        return [
            (path.get_attribute("d"), path.get_attribute("stroke"))
            for path in self.all(".slice path")
        ]

    def pixels(self) -> np.ndarray:
        """Return what the canvas shows, red, green, blue and opacity."""
        rows, columns, values = self.driver.execute_script(
            "const c = arguments[0];"
            "const of = c.getContext('2d').getImageData(0, 0, c.width, c.height);"
            "return [c.height, c.width, [...of.data]]",
            self.find("canvas"),
        )
        return np.array(values, np.uint8).reshape(rows, columns, 4)


@pytest.fixture(scope="module")
def driver(tmp_path_factory: pytest.TempPathFactory) -> Iterator[webdriver.Chrome]:
    with chromium(tmp_path_factory.mktemp("browser")) as started:
        yield started


@pytest.fixture
def page(driver: webdriver.Chrome, tmp_path: Path) -> Iterator[Page]:
    yield Page(driver, tmp_path)
    assert faults(driver) == []


def exam_of(shown: GallerySlice) -> ScrolledExam:
    assert shown.exam_slices is not None
    return shown.exam_slices


def greys(picture: bytes, window: Window) -> np.ndarray:
    levels = np.asarray(Image.open(io.BytesIO(picture)).convert("L"))
    return np.array(greys_of_levels(window))[levels]


def expected(shown: GallerySlice) -> np.ndarray:
    """Cut the still's own pixels out as the pictures are."""
    top, left, bottom, right = (side + 96 for side in exam_of(shown).box)
    whole: np.ndarray = np.pad(shown.image, 96)[top:bottom, left:right]
    return whole


def test_an_exam_opens_with_its_slice_and_turns_by_keys_buttons_and_slider(page: Page) -> None:
    page.open(shown_head(0, of=200))
    page.look_at(0)
    page.shows(4)
    assert page.find("output").text == "Slice 4 of 200"
    page.find(".slice").click()
    page.press(Keys.ARROW_RIGHT, Keys.ARROW_DOWN)
    page.shows(6)
    page.press(Keys.ARROW_DOWN, Keys.ARROW_LEFT, Keys.ARROW_UP)
    page.shows(4)
    page.press(Keys.HOME)
    page.shows(1)
    page.press(Keys.END)
    page.shows(6)
    page.press(Keys.PAGE_UP)
    page.shows(1)
    page.find(".next").click()
    page.shows(2)
    page.find(".previous").click()
    page.shows(1)
    slider = page.find(".place")
    ActionChains(page.driver).move_to_element(slider).click().perform()
    assert slider.get_attribute("value") in ("3", "4")
    page.shows(int(slider.get_attribute("value") or 0))
    page.all(".strips div:first-child i")[4].click()
    page.shows(5)
    assert slider.get_attribute("value") == "5"


def test_the_slider_says_where_it_is_and_what_is_marked(page: Page) -> None:
    page.open(shown_head(0))
    page.look_at(0)
    said = [item.text for item in page.all(".said")]
    reference, teacher, student = said
    assert reference.endswith(" px")
    assert teacher.startswith("p = 0.30; ")
    assert "reference pixels found" in student
    told = page.find(".place").get_attribute("aria-valuetext")
    assert told == "Slice 4 of 6; " + "; ".join(
        f"{title}: {text}" for title, text in zip(TITLES, said, strict=True)
    )
    assert page.find(".place").get_attribute("aria-label") == "Slice"
    assert page.find("canvas").get_attribute("aria-label") == "Slice 4 of 6, brain window"


def test_the_wheel_turns_an_exam_that_was_clicked_and_else_the_page(page: Page) -> None:
    page.open(shown_head(0), shown_head(1))
    page.look_at(0)
    before = page.driver.execute_script("return scrollY")
    page.wheel(100)
    until(page.driver, lambda driver: driver.execute_script("return scrollY") > before)
    page.shows(4)
    page.look_at(0)
    page.find(".slice").click()
    before = page.driver.execute_script("return scrollY")
    page.wheel(100)
    page.shows(5)
    page.wheel(-100, -100)
    page.shows(3)
    # A touchpad's small steps add up.
    page.wheel(15, 15)
    page.shows(3)
    page.wheel(15)
    page.shows(4)
    assert page.driver.execute_script("return scrollY") == before
    page.press(Keys.ESCAPE)
    page.wheel(100)
    until(page.driver, lambda driver: driver.execute_script("return scrollY") > before)
    page.shows(4)


def test_outlines_are_those_of_the_slice_and_are_hidden_for_all_exams(page: Page) -> None:
    shown = [shown_head(0), shown_head(1)]
    page.open(*shown)
    page.look_at(0)
    (reference, teacher, student) = page.outlines()
    slice_ = exam_of(shown[0]).slices[3]
    assert [reference[0], teacher[0], student[0]] == [slice_.edge, *slice_.edges.values()]
    assert len({colour for _, colour in page.outlines()}) == 3
    box = exam_of(shown[0]).box
    view = page.find(".slice svg").get_dom_attribute("viewBox")
    assert view == f"{box[1]} {box[0]} {box[3] - box[1]} {box[2] - box[0]}"
    frame, drawn = page.find(".slice").rect, page.all(".slice path")[0].rect
    assert slice_.reference is not None
    (row, column) = (int(axis.min()) for axis in np.nonzero(shown[0].reference))
    scale = frame["width"] / (box[3] - box[1])
    assert drawn["x"] - frame["x"] == pytest.approx((column - box[1]) * scale, abs=2)
    assert drawn["y"] - frame["y"] == pytest.approx((row - box[0]) * scale, abs=2)
    page.all("[data-outline]")[1].click()
    until(page.driver, lambda _: page.outlines() == [reference, student])
    page.press(Keys.ARROW_RIGHT)
    page.shows(5)
    assert len(page.outlines()) == 2
    page.look_at(1)
    assert len(page.outlines()) == 2
    assert [box.is_selected() for box in page.all("[data-outline]")] == [True, False, True]
    page.find(".slice").click()
    page.press("m")
    until(page.driver, lambda _: page.outlines() == [])
    page.press("m")
    until(page.driver, lambda _: len(page.outlines()) == 3)
    # On the second slice nobody has outlined anything, and the student marks nothing.
    page.press(Keys.HOME, Keys.ARROW_RIGHT)
    page.shows(2)
    assert [d for d, _ in page.outlines()] == [exam_of(shown[1]).slices[1].edges["baseline"]]


def test_a_strip_shows_on_which_slices_each_marks_anything(page: Page) -> None:
    page.open(shown_head(0))
    page.look_at(0)
    marked = [
        [bool(tick.get_attribute("style")) for tick in row.find_elements(By.TAG_NAME, "i")]
        for row in page.all(".strips div")
    ]
    exam = exam_of(shown_head(0))
    assert marked[0] == [bool(item.edge) for item in exam.slices]
    for row, name in zip(marked[1:], ("baseline", "semi_supervised"), strict=True):
        assert row == [bool(item.edges[name]) for item in exam.slices]


def test_every_window_is_painted_from_the_one_picture(page: Page) -> None:
    items = [marked_slice(1, place) for place in range(6)]
    one_window = scrolled_exam(items, first=2, of=6, center=40.0, width=120.0)
    shown = [shown_head(0), replace(shown_head(1), exam_slices=one_window)]
    # Every exam opens in the brain window, even where a wider one comes first.
    page.open(shown[1], shown[0])
    page.look_at(0)
    page.shows(3, "brain")
    page.open(*shown)
    page.look_at(0)
    picture = exam_of(shown[0]).slices[3].picture
    for window in (BRAIN, SUBDURAL):
        page.shows(4, window.name)
        seen = page.pixels()
        assert (seen[..., :3] == seen[..., :1]).all()
        assert (seen[..., 3] == 255).all()
        assert np.corrcoef(seen[..., 0].ravel(), expected(shown[0]).ravel())[0, 1] > 0.9
        # Another decoder of the same picture may round otherwise, by a level or two.
        assert np.abs(seen[..., 0] - greys(picture, window)).max() <= 10
        assert np.abs(seen[..., 0] - greys(picture, window)).mean() < 1
        page.find(".slice").click()
        page.press("w")
    page.shows(4, "brain")
    page.all("[data-window]")[1].click()
    page.shows(4, "subdural")
    # An exam that cannot be shown so is shown as it can.
    page.look_at(1)
    page.shows(3, "as published")
    assert [button.text for button in page.all("[data-window]")] == [
        "as published C 40 W 120",
        "brain C 40 W 80",
    ]


def test_without_scripts_and_in_print_the_one_slice_is_there(page: Page) -> None:
    driver = page.driver
    page.open(shown_head(0))
    page.look_at(0)
    pictures = page.all(".panels img")
    assert len(pictures) == 3
    assert not any(picture.is_displayed() for picture in pictures)
    driver.execute_cdp_cmd("Emulation.setEmulatedMedia", {"media": "print"})
    assert all(picture.is_displayed() for picture in pictures)
    assert len({picture.rect["y"] for picture in pictures}) == 1
    assert not page.find(".scroller").is_displayed()
    driver.execute_cdp_cmd("Emulation.setEmulatedMedia", {"media": ""})
    driver.execute_cdp_cmd("Emulation.setScriptExecutionDisabled", {"value": True})
    driver.refresh()
    assert all(picture.is_displayed() for picture in page.all(".panels img"))
    assert not page.find(".scroller").is_displayed()
    assert "reference only: missed" in driver.find_element(By.CSS_SELECTOR, ".gallery").text
    driver.execute_cdp_cmd("Emulation.setScriptExecutionDisabled", {"value": False})


def test_a_picture_that_cannot_be_decoded_leaves_the_one_slice(page: Page) -> None:
    shown = shown_head(0)
    broken = [replace(item, picture=b"RIFF") for item in exam_of(shown).slices]
    page.open(replace(shown, exam_slices=replace(exam_of(shown), slices=broken)))
    until(page.driver, lambda _: all(item.is_displayed() for item in page.all(".panels img")))
    assert not page.find(".scroller").is_displayed()


def test_no_other_script_runs_on_the_page(page: Page) -> None:
    page.open(shown_head(0))
    page.look_at(0)
    page.driver.execute_script(
        "const other = document.createElement('script');"
        "other.textContent = 'window.ran = true';"
        "document.body.append(other)"
    )
    assert page.driver.execute_script("return window.ran") is None
    (fault,) = faults(page.driver)
    assert "Content Security Policy" in fault["message"]


@pytest.mark.parametrize(("width", "columns"), [(400, 1), (1400, 2)])
def test_the_page_fits_a_narrow_window_and_a_wide_one(page: Page, width: int, columns: int) -> None:
    sized = {"width": width, "height": 800, "deviceScaleFactor": 1, "mobile": False}
    page.driver.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", sized)
    page.open(shown_head(0))
    page.look_at(0)
    inner, whole = page.driver.execute_script(
        "return [innerWidth, document.documentElement.scrollWidth]"
    )
    assert whole <= inner == width
    picture, sides = page.find(".slice").rect, page.find(".sides").rect
    assert picture["width"] == pytest.approx(picture["height"], abs=1)
    assert picture["width"] > 350
    assert (sides["x"] > picture["x"] + picture["width"]) == (columns == 2)
    page.driver.execute_cdp_cmd("Emulation.clearDeviceMetricsOverride", {})
