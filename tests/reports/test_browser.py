"""Opens a report in headless Chromium where there is one, as a person would, and looks at what became of it."""

from __future__ import annotations

import html
import json
import re
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest

CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
pytestmark = pytest.mark.skipif(CHROMIUM is None, reason="needs Chromium")

DESKTOP, PHONE = 1280, 390
PROBE = Path(__file__).with_name("probe.html")


def look(folder: Path, text: str, width: int) -> dict[str, Any]:
    """Open the page in a frame of ``width`` pixels, use it, and say what was seen."""
    assert CHROMIUM is not None
    (folder / "report.html").write_text(text, encoding="utf-8")
    probe = folder / "probe.html"
    content = PROBE.read_text(encoding="utf-8")
    probe.write_text(content.replace("PAGE", "report.html").replace("WIDTH", str(width)), encoding="utf-8")
    options = [
        "--headless",
        "--no-sandbox",
        "--disable-gpu",
        "--no-first-run",
        "--disable-sync",
        "--disable-extensions",
    ]
    options += ["--disable-background-networking", "--disable-component-update", "--disable-default-apps"]
    options += ["--allow-file-access-from-files", "--host-resolver-rules=MAP * ~NOTFOUND", "--disable-dev-shm-usage"]
    options += [
        f"--user-data-dir={folder / f'profile{width}'}",
        "--virtual-time-budget=10000",
        "--window-size=1400,1000",
    ]
    done = subprocess.run(
        [CHROMIUM, *options, "--dump-dom", probe.as_uri()], capture_output=True, text=True, timeout=180, check=True
    )
    found = re.search(r'<pre id="result">(.*?)</pre>', done.stdout, re.DOTALL)
    assert found and found.group(1), done.stderr[-2000:]
    return dict(json.loads(html.unescape(found.group(1))))


@pytest.mark.parametrize("width", [DESKTOP, PHONE])
def test_pictures_load_and_nothing_is_fetched_or_cut_off(sample_page: str, width: int, tmp_path: Path) -> None:
    seen = look(tmp_path, sample_page, width)
    assert seen["pictures"] > 15
    assert seen["broken"] == []
    assert seen["fetched"] == []
    assert seen["scroll"] <= seen["width"] <= width
    assert seen["small"] == 0
    # A click sorts by value, upwards and then downwards, with empty cells last; then by name.
    assert seen["orders"] == ["badc", "dabc", "abcd"]
    assert seen["shown"] == ["truth"] * 3
    assert seen["dialog"] is True


def test_the_checks_would_notice(sample_page: str, tmp_path: Path) -> None:
    """A page with a broken picture, a picture from outside and a box that is too wide fails each of them."""
    policy = re.compile(r'<meta http-equiv="Content-Security-Policy"[^>]*>')
    extra = '<img src="data:image/png;base64,AAAA" alt="broken"><img src="http://example.invalid/a.png" alt="outside">'
    extra += '<div style="width:700px">wide</div></main>'
    seen = look(tmp_path, policy.sub("", sample_page).replace("</main>", extra), PHONE)
    assert seen["broken"] == ["broken", "outside"]
    assert seen["fetched"] == ["http://example.invalid/a.png"]
    assert seen["scroll"] > PHONE
