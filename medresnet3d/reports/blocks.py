"""What a report consists of: a title and a list of blocks, all plain data.

The blocks know nothing of HTML; :func:`medresnet3d.reports.write_report` lays them out.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from matplotlib.figure import Figure as MatplotlibFigure

DISCLAIMER = "Research use only. Not for clinical use."


@dataclass(frozen=True)
class Heading:
    """A section title; ``note`` is a quieter line below it."""

    text: str
    note: str = ""


@dataclass(frozen=True)
class Text:
    """Plain paragraphs, separated by blank lines."""

    text: str


@dataclass(frozen=True)
class Warnings:
    """Things the reader must know; nothing is shown for an empty list."""

    items: Sequence[str]
    title: str = "Warnings"


@dataclass(frozen=True)
class KeyValues:
    """A list of names with values, e.g. what was run and with which versions.

    Attributes:
        items: values by name.
        title: a title above the list.
        folded: shown closed, for long lists.
        command: a command line above the list.
    """

    items: Mapping[str, Any]
    title: str = ""
    folded: bool = False
    command: str = ""


@dataclass(frozen=True)
class Tile:
    """One large figure: ``Tile("Dice, grey matter", "0.93", "0.92 to 0.94")``."""

    label: str
    value: str
    note: str = ""


@dataclass(frozen=True)
class Tiles:
    """The few figures that answer the question, large."""

    items: Sequence[Tile]


@dataclass(frozen=True)
class Table:
    """A table that a click on a column title sorts.

    Attributes:
        columns: column titles.
        rows: cells in the order of the columns: text, numbers, None, :class:`~medresnet3d.metrics.Estimate`.
        caption: what the table shows.
        folded: shown closed, for long lists.
    """

    columns: Sequence[str]
    rows: Sequence[Sequence[Any]]
    caption: str = ""
    folded: bool = False


@dataclass(frozen=True)
class Figure:
    """A picture with a caption.

    Attributes:
        image: PNG, JPEG or SVG bytes, or a matplotlib figure (drawn as SVG when it holds no pixel image).
        caption: what it shows, printed below.
        alt: the text for those who cannot see it; the caption by default.
    """

    image: bytes | MatplotlibFigure
    caption: str = ""
    alt: str = ""


@dataclass(frozen=True)
class Figures:
    """Several pictures side by side where there is room."""

    items: Sequence[Figure]


@dataclass(frozen=True)
class LegendEntry:
    """One colour of an overlay, as ``#rrggbb``, and its meaning."""

    name: str
    color: str


@dataclass(frozen=True)
class Plane:
    """One slice through a volume, ready to show.

    Attributes:
        name: "axial", "coronal", "sagittal" or "image".
        image: PNG bytes of the picture; its pixels are square and of one size in all planes of a view.
        size: width and height of the picture in pixels.
        layers: PNG bytes of the same size with transparency, by layer name.
        letters: orientation letters (left, right, top, bottom); empty strings where unknown.
        marker: where to draw the position mark, as fractions from left and top.
        detail: which slice this is.
    """

    name: str
    image: bytes
    size: tuple[int, int]
    layers: Mapping[str, bytes] = field(default_factory=dict)
    letters: tuple[str, str, str, str] = ("", "", "", "")
    marker: tuple[float, float] | None = None
    detail: str = ""


@dataclass(frozen=True)
class PlaneView:
    """The planes of one volume with overlays that the reader can switch.

    Attributes:
        planes: usually axial, coronal and sagittal.
        layers: names of the overlays, the first of which is shown at first.
        legend: the colours of the label overlays.
        alt: what the pictures show.
    """

    planes: Sequence[Plane]
    layers: Sequence[str] = ()
    legend: Sequence[LegendEntry] = ()
    alt: str = ""


@dataclass(frozen=True)
class Bars:
    """Named probabilities from 0 to 1 as horizontal bars; ``truth`` is the name of the true class, if known."""

    names: Sequence[str]
    values: Sequence[float]
    truth: str | None = None


@dataclass(frozen=True)
class CaseCard:
    """One case: pictures, bars, facts and warnings.

    Attributes:
        title: the case's name.
        figures: further pictures below the planes.
        rows: facts by name.
        warnings: what is wrong or unusual with this case.
        view: the planes with their overlays.
        bars: probabilities.
        badge: a word or two beside the title, e.g. the answer.
        tone: "good", "bad" or "" colours the badge.
        error: why there is no answer, if there is none.
    """

    title: str
    figures: Sequence[Figure] = ()
    rows: Mapping[str, Any] = field(default_factory=dict)
    warnings: Sequence[str] = ()
    view: PlaneView | None = None
    bars: Bars | None = None
    badge: str = ""
    tone: str = ""
    error: str = ""


@dataclass(frozen=True)
class Cases:
    """Cards of cases side by side where there is room."""

    items: Sequence[CaseCard]


Block = Heading | Text | Warnings | KeyValues | Tiles | Table | Figure | Figures | PlaneView | Bars | Cases


@dataclass
class Report:
    """A report: a title and blocks in reading order.

    Attributes:
        title: what this is about.
        subtitle: one line that says what was done with what.
        blocks: the content.
        facts: short facts in the header (bundle, version, date).
    """

    title: str
    subtitle: str = ""
    blocks: Sequence[Block] = ()
    facts: Mapping[str, Any] = field(default_factory=dict)
