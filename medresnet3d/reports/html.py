"""Reports as one self-contained HTML file that needs no network."""

from __future__ import annotations

import base64
import io
import json
import math
import os
import re
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from markupsafe import Markup, escape

from medresnet3d._version import __version__
from medresnet3d.io.atomic import atomic_write_text
from medresnet3d.metrics.estimate import NO_VALUE, Estimate
from medresnet3d.reports.blocks import DISCLAIMER, Cases, Heading, Link, Report, Viewer
from medresnet3d.reports.marks import mark_columns

if TYPE_CHECKING:
    from jinja2 import Environment
    from matplotlib.figure import Figure as MatplotlibFigure

_CODE = re.compile(r"`([^`\n]+)`")
_SIGNATURES = {b"\x89PNG": "image/png", b"\xff\xd8\xff": "image/jpeg", b"GIF8": "image/gif"}


@dataclass(frozen=True)
class Cell:
    """A table cell: its text, the value it is sorted by, whether it is a number, and where it leads."""

    text: str
    sort: float | str
    numeric: bool
    href: str = ""


def format_value(value: Any) -> str:
    """Give a value as a person reads it: three decimals up to one, fewer for larger numbers, a dash for nothing."""
    if value is None:
        return NO_VALUE
    if isinstance(value, bool):
        return "yes" if value else "no"
    if hasattr(value, "item") and getattr(value, "ndim", 0) == 0:
        value = value.item()
    if isinstance(value, float):
        return _format_float(value)
    if isinstance(value, (list, tuple)):
        return ", ".join(format_value(one) for one in value)
    return str(value)


def _format_float(value: float) -> str:
    if math.isnan(value):
        return NO_VALUE
    if value and (abs(value) < 1e-3 or abs(value) >= 1e6):
        return f"{value:.3g}"
    size = abs(value)
    return f"{value:.3f}" if size <= 1 else f"{value:.2f}" if size < 10 else f"{value:.1f}"


def cell(value: Any) -> Cell:
    """Prepare one value for a table."""
    if isinstance(value, Estimate):
        return Cell(str(value), _sortable(value.value), True)
    if isinstance(value, Link):
        return Cell(value.text, value.text, False, value.href)
    if hasattr(value, "item") and getattr(value, "ndim", 0) == 0:
        value = value.item()
    if isinstance(value, (int, float)) and not isinstance(value, bool):
        return Cell(format_value(value), _sortable(float(value)), True)
    return Cell(format_value(value), format_value(value), False)


def _sortable(value: float) -> float | str:
    return value if math.isfinite(value) else ""


def with_code(text: str) -> Markup:
    """Escape a text and show what stands between backticks as code."""
    return Markup(_CODE.sub(r"<code>\1</code>", str(escape(text))))


def numeric_columns(rows: Sequence[Sequence[Any]]) -> list[bool]:
    """Say for every column whether all its filled cells are numbers (shown to the right)."""
    width = max((len(row) for row in rows), default=0)
    columns: list[bool] = []
    for index in range(width):
        filled = [row[index] for row in rows if index < len(row) and row[index] is not None]
        columns.append(bool(filled) and all(cell(value).numeric for value in filled))
    return columns


def data_uri(image: bytes | MatplotlibFigure) -> str:
    """Give a picture as a ``data:`` URI; matplotlib figures become SVG, or PNG when they hold pixels.

    Args:
        image: PNG, JPEG, GIF or SVG bytes, or a matplotlib figure.
    """
    if not isinstance(image, bytes):
        image = figure_bytes(image)
    kind = next((mime for start, mime in _SIGNATURES.items() if image.startswith(start)), "image/svg+xml")
    return f"data:{kind};base64,{_base64(image)}"


def viewer_json(viewer: Viewer) -> Markup:
    """Give what the page's script must know of a viewer, as JSON that cannot end the script element around it."""
    content = {
        "shape": viewer.shape,
        "spacing": viewer.spacing,
        "affine": viewer.affine,
        "values": viewer.values,
        "window": viewer.window,
        "unit": viewer.unit,
        "centre": viewer.centre,
        "marked": viewer.marked,
        "layers": [{"name": one.name, "kind": one.kind, "colors": list(one.colors)} for one in viewer.layers],
        "structures": [{"code": one.code, "name": one.name, "color": one.color} for one in viewer.structures],
        "marks": [
            {
                "at": one.voxel,
                "reach": one.reach,
                "radius": one.mark.radius_mm,
                "color": one.mark.color,
                "name": one.mark.name,
            }
            for one in viewer.marks
        ],
    }
    return Markup(json.dumps(content).replace("<", "\\u003c"))


def _base64(data: bytes) -> str:
    return base64.b64encode(data).decode("ascii")


def figure_bytes(figure: MatplotlibFigure) -> bytes:
    """Draw a matplotlib figure as SVG, or as PNG when it holds pixel images."""
    from matplotlib import rc_context

    pixels = any(axes.images for axes in figure.axes)
    buffer = io.BytesIO()
    if pixels:
        figure.savefig(buffer, format="png", dpi=130, bbox_inches="tight", facecolor=figure.get_facecolor())
    else:
        with rc_context({"svg.hashsalt": "medresnet3d"}):  # the same figure gives the same bytes
            figure.savefig(buffer, format="svg", bbox_inches="tight", transparent=True, metadata={"Date": None})
    return buffer.getvalue()


@cache
def _environment() -> Environment:
    from jinja2 import Environment, FileSystemLoader, StrictUndefined

    environment = Environment(
        loader=FileSystemLoader(Path(__file__).with_name("templates")),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters.update(value=format_value, cell=cell, uri=data_uri, numeric_columns=numeric_columns)
    environment.filters.update(code=with_code, base64=_base64, viewer_json=viewer_json, mark_columns=mark_columns)
    environment.tests["block"] = lambda block, name: type(block).__name__ == name
    return environment


def render_report(report: Report) -> str:
    """Give the report as the text of one HTML page.

    Every picture is a ``data:`` URI, style and script are inline, and the page's content security policy forbids
    fetching anything.
    """
    scripts = ["report.js", "unpack.js", "scene.js", "viewer.js"] if _has_viewer(report) else ["report.js"]
    headings = [block.text for block in report.blocks if isinstance(block, Heading)]
    return (
        _environment()
        .get_template("report.html.j2")
        .render(
            report=report,
            headings=headings,
            style="\n".join(map(_asset, ("report.css", "viewer.css"))),
            scripts=[_asset(name) for name in scripts],
            disclaimer=DISCLAIMER,
            version=__version__,
        )
        .lstrip()
    )


def _asset(name: str) -> str:
    return (Path(__file__).with_name("templates") / name).read_text(encoding="utf-8")


def _has_viewer(report: Report) -> bool:
    cards = [card for block in report.blocks if isinstance(block, Cases) for card in block.items]
    return any(isinstance(block, Viewer) for block in report.blocks) or any(card.viewer for card in cards)


def write_report(report: Report, path: str | os.PathLike[str]) -> Path:
    """Write the report as one self-contained HTML file, whole or not at all.

    Args:
        report: what to show.
        path: the file to write, usually ``.../report.html``.

    Returns:
        The path of the file.
    """
    path = Path(path)
    atomic_write_text(path, render_report(report))
    return path
