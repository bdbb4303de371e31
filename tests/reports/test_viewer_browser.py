"""Uses the slice viewer in headless Chromium as a reader would and looks at the pixels."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from medresnet3d.reports import render_report
from medresnet3d.reports.planes import PALETTE
from tests.reports.devtools import CHROMIUM, Browser
from tests.reports.samples import chest_page, heat_page, marks_page

pytestmark = pytest.mark.skipif(CHROMIUM is None, reason="needs Chromium")

AXIAL, CORONAL, SAGITTAL = (f".pane[data-plane='{number}']" for number in range(3))
SOFT, LUNG, BONE = (-125.0, 225.0), (-1350.0, 150.0), (-450.0, 1050.0)
BLUE = list(bytes.fromhex(PALETTE[0][1:]))
BAR = (1 - 24 / 48, 1 - 16 / 40)
"""Middle of the bar whose value names its slice, on the axial picture."""
RIB = (4 / 48, 0.6)
"""In the bone, which is at the patient's right and so at the left of the axial picture."""


@pytest.fixture(scope="module")
def pages(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    folder = tmp_path_factory.mktemp("pages")
    files = {name: folder / f"{name}.html" for name in ("chest", "heat", "marks")}
    files["chest"].write_text(render_report(chest_page()), encoding="utf-8")
    files["heat"].write_text(render_report(heat_page()), encoding="utf-8")
    files["marks"].write_text(render_report(marks_page()), encoding="utf-8")
    return files


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Browser]:
    with Browser(tmp_path_factory.mktemp("profile")) as browser:
        yield browser


@pytest.fixture
def desk(running: Browser, pages: dict[str, Path]) -> Browser:
    return opened(running, pages["chest"])


def opened(browser: Browser, page: Path, *, phone: bool = False, dark: bool = False) -> Browser:
    browser.problems.clear()
    browser.requests.clear()
    browser.open(page, 390 if phone else 1280, 844 if phone else 900, phone=phone, dark=dark)
    browser.wait("document.querySelector('.viewer-frame').viewer?.root.dataset.drawn")
    browser.settle()
    return browser


def slice_of(browser: Browser, pane: str) -> str:
    return str(browser.evaluate(f'document.querySelector("{pane} output").textContent'))


def readout(browser: Browser) -> str:
    return str(browser.evaluate("document.querySelector('.readout').textContent"))


def colour(browser: Browser, at: tuple[float, float], pane: str = AXIAL) -> NDArray[np.int64]:
    """The colour at a place of a picture, as fractions from left and top."""
    pixels = browser.pixels(f"{pane} canvas")
    return pixels[int(at[1] * pixels.shape[0]), int(at[0] * pixels.shape[1]), :3].astype(int)


def grey(value: float, window: tuple[float, float]) -> int:
    return round(255 * min(1.0, max(0.0, (value - window[0]) / (window[1] - window[0]))))


def bare(browser: Browser) -> None:
    """Take overlay and crosshair off by their keys."""
    browser.evaluate(f'document.querySelector("{AXIAL} input").focus()')
    browser.press("o")
    browser.press("x")


def test_the_planes_lie_as_the_patient_does(desk: Browser) -> None:
    bare(desk)
    assert desk.evaluate("getComputedStyle(document.querySelector('.still-only')).display") == "none"
    for pane, ratio, letters in ((AXIAL, 48 / 48, "RLAP"), (CORONAL, 48 / 60, "RLSI"), (SAGITTAL, 48 / 60, "APSI")):
        _, _, width, height = desk.box(f"{pane} canvas")
        assert width / height == pytest.approx(ratio, rel=0.02)
        found = f'[...document.querySelectorAll("{pane} .letter")].map((one) => one.textContent).join("")'
        assert desk.evaluate(found) == letters
    widths = [desk.box(f"{pane} canvas")[2] for pane in (AXIAL, CORONAL, SAGITTAL)]
    assert widths == pytest.approx([widths[0]] * 3, rel=0.02)  # one scale: all three are 48 mm wide
    desk.click("[data-window]:nth-of-type(3)")
    assert colour(desk, RIB)[0] == pytest.approx(grey(1000, BONE), abs=3)  # the patient's right is at the left
    assert colour(desk, (0.5, 0.05))[0] == grey(-900, BONE) == 0  # the front is at the top
    assert colour(desk, (0.9, 0.9))[0] == pytest.approx(grey(0, BONE), abs=3)
    desk.click(f"{AXIAL} canvas", BAR)
    assert colour(desk, (0.05, 0.5), SAGITTAL)[0] == grey(-900, BONE)  # the front is at the left
    assert desk.problems == [] and desk.requests == []


def test_the_wheel_turns_slices_and_at_the_end_the_page(desk: Browser) -> None:
    bare(desk)
    desk.click(f"{AXIAL} canvas", BAR)
    first = int(slice_of(desk, AXIAL).split()[1])
    before = desk.evaluate("scrollY")
    desk.wheel(f"{AXIAL} canvas", 120, 3)
    assert slice_of(desk, AXIAL) == f"slice {first - 3} of 20"
    assert colour(desk, BAR)[0] == pytest.approx(grey(10 * (first - 4), SOFT), abs=3)
    desk.wheel(f"{AXIAL} canvas", -100, 5)
    assert slice_of(desk, AXIAL) == f"slice {first + 2} of 20"
    assert colour(desk, BAR)[0] == pytest.approx(grey(10 * (first + 1), SOFT), abs=3)
    assert readout(desk).endswith("HU")
    assert desk.evaluate("scrollY") == before
    desk.evaluate(f'document.querySelector("{AXIAL} input").focus()')
    desk.press("Home")
    assert slice_of(desk, AXIAL) == "slice 1 of 20"
    desk.evaluate("new Promise((done) => setTimeout(done, 400))")
    desk.evaluate("document.body.style.paddingBottom = '2000px'")
    desk.wheel(f"{AXIAL} canvas", 200)
    desk.wait(f"scrollY > {before}")
    assert slice_of(desk, AXIAL) == "slice 1 of 20"


def test_a_trackpad_needs_several_small_turns(desk: Browser) -> None:
    first = int(slice_of(desk, CORONAL).split()[1])
    desk.wheel(f"{CORONAL} canvas", -10, 6)
    assert slice_of(desk, CORONAL) == f"slice {first + 2} of 40"


def test_a_click_takes_the_other_planes_along(desk: Browser) -> None:
    desk.click(f"{AXIAL} canvas", (10.5 / 48, 1 - 5.5 / 40))
    assert slice_of(desk, SAGITTAL) == "slice 38 of 48" and slice_of(desk, CORONAL) == "slice 6 of 40"
    # Voxel (37, 5) of the turned grid is (10, 34) of the file: 24 - 10 mm right and 30 - 1.2 x 34 mm anterior.
    assert readout(desk).startswith("R 14.0  P 10.8")
    desk.drag(f"{CORONAL} canvas", [(0.5, 0.5), (0.3, 0.4), (24.5 / 48, 1 - 3.5 / 20)])
    assert slice_of(desk, AXIAL) == "slice 4 of 20" and slice_of(desk, SAGITTAL) == "slice 24 of 48"
    crosshair = colour(desk, (24.5 / 48, 0.05), CORONAL)
    assert crosshair[0] > crosshair[2] + 40  # yellow


def test_keys_and_a_visible_focus(desk: Browser) -> None:
    desk.evaluate(f'document.querySelector("{AXIAL} input").focus()')
    style = f'getComputedStyle(document.querySelector("{AXIAL}")).outlineStyle'
    assert desk.evaluate(style) == "solid"
    first = int(slice_of(desk, AXIAL).split()[1])
    desk.press("ArrowUp", 2)
    assert slice_of(desk, AXIAL) == f"slice {first + 2} of 20"
    desk.press("ArrowLeft")
    assert slice_of(desk, AXIAL) == f"slice {first + 1} of 20"
    desk.press("Home")
    desk.press("PageUp")
    assert slice_of(desk, AXIAL) == "slice 11 of 20"
    desk.press("End")
    assert slice_of(desk, AXIAL) == "slice 20 of 20"
    assert desk.evaluate(f'document.querySelector("{AXIAL} input").getAttribute("aria-valuetext")') == "slice 20 of 20"
    desk.press("Tab")
    assert desk.evaluate(f'document.querySelector("{CORONAL}").contains(document.activeElement)')
    assert desk.evaluate(style) == "none"
    desk.press("r")
    assert slice_of(desk, AXIAL) == f"slice {first} of 20"


def test_windows_for_ct(desk: Browser) -> None:
    bare(desk)
    labels = "[...document.querySelectorAll('[data-window]')].map((one) => one.textContent)"
    assert desk.evaluate(labels) == ["lung", "soft tissue", "bone", "brain"]
    desk.evaluate(f'document.querySelector("{AXIAL} input").focus()')
    for key, window in (("1", LUNG), ("2", SOFT), ("3", BONE), ("4", (0.0, 80.0))):
        desk.press(key)
        assert colour(desk, (0.9, 0.9))[0] == pytest.approx(grey(0, window), abs=3)
        pressed = "document.querySelector('[data-window][aria-pressed=true]').textContent"
        assert desk.evaluate(pressed) == ["lung", "soft tissue", "bone", "brain"][int(key) - 1]
    before_slice = slice_of(desk, SAGITTAL)
    told = desk.evaluate("document.querySelector('.window-text').textContent")
    assert told == "level 40, width 80 HU"
    desk.drag(f"{AXIAL} canvas", [(0.5, 0.5), (0.7, 0.6)], button="right")
    after = desk.evaluate("document.querySelector('.viewer-frame').viewer.window")
    assert after[1] - after[0] > 90 and (after[0] + after[1]) / 2 > 45
    assert slice_of(desk, SAGITTAL) == before_slice


def test_other_scans_have_no_hounsfield_windows(running: Browser, pages: dict[str, Path]) -> None:
    opened(running, pages["heat"])
    labels = "[...document.querySelectorAll('[data-window]')].map((one) => one.textContent)"
    assert running.evaluate(labels) == ["auto"]
    assert "HU" not in readout(running)


def test_structures_can_be_hidden_and_found(desk: Browser) -> None:
    box = ".structures tbody tr:nth-child({}) input"
    desk.click(".crosshair")
    plain = grey(1000, SOFT)
    shown = colour(desk, RIB)
    assert shown.tolist() != [plain] * 3 and shown[2] > shown[0] + 30  # the first colour is a blue
    desk.click(box.format(1))
    assert colour(desk, RIB).tolist() == [plain] * 3
    air = colour(desk, (0.5, 0.05))
    assert air[0] > air[2] + 30  # the second, an orange, is still there
    desk.click(".structures .every")
    assert colour(desk, (0.5, 0.05)).tolist() == [grey(-900, SOFT)] * 3
    desk.click(".structures .every")
    assert colour(desk, RIB).tolist() == shown.tolist()
    rows = """[...document.querySelectorAll('.structures tbody tr')]
        .map((row) => [...row.cells].map((one) => one.innerText.trim()))"""
    assert desk.evaluate(rows) == [["", "bone <left>", "23.0", "48.7"], ["", "air", "23.0", "41.1"]]
    desk.click(".structures tbody tr:nth-child(1) .goto")
    assert slice_of(desk, SAGITTAL) == "slice 41 of 48"
    assert "bone <left>" in readout(desk)


def ring_is_seen(browser: Browser, color: str) -> bool:
    """Whether the ring around the bar's middle crosses the axial picture to the right of it."""
    pixels = browser.pixels(f"{AXIAL} canvas").astype(int)
    height, width = pixels.shape[:2]
    right = (1 - 23.5 / 48) + (1.2 * 6 + 2) / 48
    row = pixels[int((1 - 15.5 / 40) * height), int(right * width) - 4 : int(right * width) + 5, :3]
    return bool((np.abs(row - list(bytes.fromhex(color))).max(axis=1) < 12).any())


def test_marks_have_rings_and_their_rows_lead_to_them(running: Browser, pages: dict[str, Path]) -> None:
    page = opened(running, pages["marks"])
    assert slice_of(page, AXIAL) == "slice 5 of 20", "the first mark is shown at first"
    assert ring_is_seen(page, "FF0066")
    page.click("[data-mark='1']")
    assert slice_of(page, AXIAL) == "slice 16 of 20" and slice_of(page, SAGITTAL) == "slice 24 of 48"
    assert ring_is_seen(page, "009E73") and not ring_is_seen(page, "FF0066")
    page.evaluate(f'document.querySelector("{AXIAL} input").focus()')
    page.press("ArrowUp", 2)
    assert ring_is_seen(page, "009E73"), "6 mm away, on the last slice that cuts it"
    page.press("ArrowUp")
    assert not ring_is_seen(page, "009E73")
    page.click("[data-mark='1']")
    page.click(".rings")
    assert not ring_is_seen(page, "009E73")
    assert page.problems == [] and page.requests == []


def test_the_overlay_can_be_changed(desk: Browser) -> None:
    desk.click(".crosshair")
    half = colour(desk, RIB)
    desk.evaluate(f'document.querySelector("{AXIAL} input").focus()')
    desk.press("]", 6)
    full = colour(desk, RIB)
    np.testing.assert_allclose(full, BLUE, atol=2)
    np.testing.assert_allclose(half, 0.4 * full + 0.6 * 255, atol=3)
    desk.click(".outlines")
    assert colour(desk, RIB).tolist() == [255] * 3
    pixels = desk.pixels(f"{AXIAL} canvas").astype(int)
    edge = int(8 / 48 * pixels.shape[1])
    row = pixels[int(0.6 * pixels.shape[0]), edge - 2 : edge + 3]
    assert (np.abs(row[:, :3] - BLUE).max(axis=1) < 12).any()
    desk.click(".overlay [data-layer='-1']")
    pixels = desk.pixels(f"{AXIAL} canvas").astype(int)
    row = pixels[int(0.6 * pixels.shape[0]), edge - 2 : edge + 3]
    assert np.ptp(row[:, :3], axis=1).max() == 0


def test_a_distance_is_measured_in_mm(desk: Browser) -> None:
    before = slice_of(desk, CORONAL)
    desk.click(".measuring")
    desk.drag(f"{AXIAL} canvas", [(0.25, 0.25), (0.4, 0.4), (0.75, 0.5)])
    # Half of 48 mm across, a quarter of 40 voxels of 1.2 mm up.
    told = float(readout(desk).split("ruler ")[1].removesuffix(" mm"))
    assert told == pytest.approx(np.hypot(24.0, 12.0), abs=0.2)
    assert slice_of(desk, CORONAL) == before
    pixels = desk.pixels(f"{AXIAL} canvas").astype(int)
    y, x = (int(share * size) for share, size in zip((0.375, 0.5), pixels.shape, strict=False))
    assert (np.abs(pixels[y - 2 : y + 3, x, :3] - (125, 255, 176)).max(axis=1) < 40).any()
    desk.press("m")
    desk.click(f"{AXIAL} canvas", (0.5, 0.9))
    assert slice_of(desk, CORONAL) != before
    desk.click(".reset")
    assert "ruler" not in readout(desk)


def test_one_plane_can_be_large(desk: Browser) -> None:
    small = desk.box(f"{SAGITTAL} canvas")[2]
    desk.click(f"{SAGITTAL} canvas", count=2)
    assert desk.box(f"{SAGITTAL} canvas")[2] > 1.5 * small
    assert desk.evaluate(f'document.querySelector("{AXIAL}").hidden')
    desk.press("e")
    assert desk.box(f"{SAGITTAL} canvas")[2] == pytest.approx(small)
    desk.click("[data-show='1']")
    assert not desk.evaluate(f'document.querySelector("{CORONAL}").hidden')


def test_a_heat_map_and_a_marked_point(running: Browser, pages: dict[str, Path]) -> None:
    opened(running, pages["heat"])
    running.click(".crosshair")
    place = ((12 + 0.5) / 40, 1 - (10 + 0.5) / 32)
    warm = colour(running, place)
    assert warm[0] > warm[2] + 60
    assert "attention" in readout(running)
    running.click(".overlay [data-layer='-1']")
    assert np.ptp(colour(running, place)) == 0
    pixels = running.pixels(f"{AXIAL} canvas").astype(int)
    y, x = int(place[1] * pixels.shape[0]), int(place[0] * pixels.shape[1])
    ring = pixels[y, x + 10 : x + 17]
    assert (ring[:, 0] > ring[:, 2] + 60).any()


def test_a_phone_shows_one_plane_and_takes_a_finger(running: Browser, pages: dict[str, Path]) -> None:
    phone = opened(running, pages["chest"], phone=True)
    assert phone.evaluate("document.documentElement.scrollWidth") <= 390
    assert phone.evaluate("[...document.querySelectorAll('.pane')].filter((one) => !one.hidden).length") == 1
    first = int(slice_of(phone, AXIAL).split()[1])
    top = phone.box(f"{AXIAL} canvas")[1]
    phone.swipe(f"{AXIAL} canvas", [(0.5, 0.3), (0.5, 0.4), (0.5, 0.5), (0.5, 0.6)])
    turned = int(slice_of(phone, AXIAL).split()[1])
    assert turned < first
    assert phone.evaluate(f'document.querySelector("{AXIAL} canvas").getBoundingClientRect().top') == pytest.approx(top)
    phone.swipe(f"{AXIAL} canvas", [(0.25, 0.75)])
    assert readout(phone).startswith("R 13.0")
    assert slice_of(phone, AXIAL) == f"slice {turned} of 20"
    phone.click("[data-show='all']")
    widths = [phone.box(f"{pane} canvas")[2] for pane in (AXIAL, CORONAL, SAGITTAL)]
    assert min(widths) > 120 and phone.evaluate("document.documentElement.scrollWidth") <= 390
    small = """[...document.querySelectorAll('.viewer-frame button, .viewer-frame input[type=range]')]
        .filter((one) => one.offsetHeight && one.offsetHeight < 24 && !one.matches('.goto')).length"""
    assert phone.evaluate(small) == 0
    assert phone.problems == [] and phone.requests == []


def test_a_dark_page(running: Browser, pages: dict[str, Path]) -> None:
    light = "getComputedStyle(document.body).backgroundColor"
    opened(running, pages["chest"])
    bright = running.evaluate(light)
    opened(running, pages["chest"], dark=True)
    assert running.evaluate(light) != bright


def test_without_the_means_the_fixed_slices_stay(running: Browser, pages: dict[str, Path]) -> None:
    added = running.send("Page.addScriptToEvaluateOnNewDocument", source="delete globalThis.DecompressionStream")
    running.open(pages["chest"], 1280, 900)
    running.wait("!document.querySelector('.cannot').hidden")
    running.send("Page.removeScriptToEvaluateOnNewDocument", identifier=added["identifier"])
    assert "fixed slices" in running.evaluate("document.querySelector('.cannot').textContent")
    seen = "[...document.querySelectorAll('.still-only img')].filter((one) => one.offsetWidth > 100).length"
    assert running.evaluate(seen) >= 3
    assert running.evaluate("[...document.querySelectorAll('.live-only')].every((one) => !one.offsetWidth)")


def test_without_scripts_the_fixed_slices_and_the_table_stay(running: Browser, pages: dict[str, Path]) -> None:
    running.send("Emulation.setScriptExecutionDisabled", value=True)
    running.open(pages["chest"], 1280, 900)
    seen = "[...document.querySelectorAll('.still-only img')].filter((one) => one.offsetWidth > 100).length"
    shown = running.evaluate(seen)
    text = running.evaluate("document.body.innerText")
    running.send("Emulation.setScriptExecutionDisabled", value=False)
    assert shown >= 3
    assert "Where scripts are allowed" in text and "bone <left>" in text and "23.0" in text
