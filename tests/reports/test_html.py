from __future__ import annotations

import base64
import re
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest

from medresnet3d.metrics import Estimate
from medresnet3d.reports import (
    DISCLAIMER,
    CaseCard,
    Cases,
    Figure,
    Link,
    Report,
    Table,
    render_report,
    roc_plot,
    write_report,
)
from medresnet3d.reports.html import cell, data_uri, format_value, numeric_columns, with_code

VOID = {"meta", "link", "img", "br", "hr", "input"}


class Page(HTMLParser):
    """Collects elements and checks that they are closed in order."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self.open: list[str] = []
        self.text: list[str] = []
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attrs)))
        if tag not in VOID:
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        if self.open and self.open[-1] not in ("script", "style"):
            self.text.append(data)


@pytest.fixture(scope="module")
def page(sample_page: str) -> Page:
    return Page(sample_page)


def test_elements_are_closed_in_order(sample_page: str, page: Page) -> None:
    assert sample_page.startswith("<!doctype html>")
    assert page.open == []


def test_the_disclaimer_is_at_the_top_and_at_the_bottom(page: Page) -> None:
    assert DISCLAIMER == "Research use only. Not for clinical use."
    assert [part.strip() for part in page.text].count(DISCLAIMER) == 2


def test_nothing_is_referred_to_outside(sample_page: str, page: Page) -> None:
    for tag, attributes in page.elements:
        for name in ("src", "href", "srcset", "action", "data", "poster", "background"):
            value = attributes.get(name)
            assert value is None or value.startswith(("data:", "#")), (tag, name, value)
    assert "@import" not in sample_page
    assert not re.search(r"url\((?!['\"]?data:)", sample_page)
    (policy,) = [a["content"] for tag, a in page.elements if tag == "meta" and a.get("http-equiv")]
    assert policy is not None and policy.startswith("default-src 'none'; img-src data:;")


def test_every_picture_has_an_alternative_text(page: Page) -> None:
    shown = [attributes for tag, attributes in page.elements if tag == "img" and "src" in attributes]
    assert len(shown) > 15
    assert all(attributes["alt"] for attributes in shown)


def test_texts_are_escaped(sample_page: str, page: Page) -> None:
    assert "<script>alert(1)" not in sample_page
    assert "Every block <b>& more</b>" in "".join(page.text)


def test_backticks_become_code() -> None:
    assert with_code("run `a <b>` & `c`") == "run <code>a &lt;b&gt;</code> &amp; <code>c</code>"


def test_a_report_is_written_whole(tmp_path: Path) -> None:
    path = write_report(Report("Short"), tmp_path / "new" / "report.html")
    assert path.read_text(encoding="utf-8") == render_report(Report("Short"))
    assert [child.name for child in path.parent.iterdir()] == ["report.html"]


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (None, "\N{EN DASH}"),
        (float("nan"), "\N{EN DASH}"),
        (0.12345, "0.123"),
        (123.456, "123.5"),
        (2.3456, "2.35"),
        (1.0, "1.000"),
        (0.00012, "0.00012"),
        (12_345_678.0, "1.23e+07"),
        (0.0, "0.000"),
        (7, "7"),
        (np.float32(0.5), "0.500"),
        (np.int64(3), "3"),
        (True, "yes"),
        (["a", 2], "a, 2"),
        ("text", "text"),
        (Path("/a/b"), "/a/b"),
    ],
)
def test_values_are_readable(value: object, expected: str) -> None:
    assert format_value(value) == expected


def test_cells_sort_by_value_and_not_by_text() -> None:
    assert cell(Estimate(0.9, 0.8, 0.95)).sort == 0.9
    assert cell(np.float64(10.5)).sort == 10.5
    assert cell(float("nan")).sort == ""
    assert cell("text").sort == "text"
    assert numeric_columns([["a", 1, None], ["b", None, None]]) == [False, True, False]


def test_cells_and_cases_lead_to_their_pages() -> None:
    link = Link("case <1>", "cases/case%20%3C1%3E.html")
    assert (cell(link).sort, cell(link).numeric) == ("case <1>", False)
    card = CaseCard("case <1>", href=link.href)
    page = Page(
        render_report(Report("All", blocks=[Table(["case"], [[link]]), Cases([card])], back=Link("up", "../up")))
    )
    links = [attributes["href"] for tag, attributes in page.elements if tag == "a"]
    assert links == ["../up", link.href, link.href] and page.open == []


def test_plots_are_drawings_and_pictures_are_pixels() -> None:
    plot = data_uri(roc_plot(np.array([[0.2, 0.8], [0.7, 0.3]]), np.array([1, 0])))
    assert plot.startswith("data:image/svg+xml;base64,")
    assert b"<svg" in base64.b64decode(plot.split(",")[1])
    assert data_uri(b"\x89PNG....").startswith("data:image/png;")
    assert data_uri(b"\xff\xd8\xff....").startswith("data:image/jpeg;")


def test_same_report_same_bytes() -> None:
    prob, label = np.array([[0.2, 0.8], [0.7, 0.3]]), np.array([1, 0])
    one, two = (render_report(Report("Plot", blocks=[Figure(roc_plot(prob, label))])) for _ in range(2))
    assert one == two


def test_an_empty_table_is_no_error() -> None:
    assert "<tbody>" in render_report(Report("Empty", blocks=[Table(["a"], [])]))
