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
        rows: cells in the order of the columns: text, numbers, None, :class:`~medresnet3d.metrics.Estimate`,
            :class:`Link`.
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
class Mark:
    """Something at a place of a volume, shown as a ring around it.

    Attributes:
        name: a word or a number.
        position: in RAS+ mm (in voxels where the volume has no affine).
        radius_mm: of what is marked; the ring lies outside of it.
        color: as ``#rrggbb``.
        kind: what it is, such as "detection"; marks of one kind have one colour.
        facts: values by name, for the table of marks.
    """

    name: str
    position: tuple[float, float, float]
    radius_mm: float
    color: str
    kind: str = "detection"
    facts: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Ring:
    """A mark on one plane: its centre as fractions from left and top, its diameter as a fraction of the width."""

    place: tuple[float, float]
    diameter: float
    color: str
    name: str


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
        rings: marks that this plane cuts.
        detail: which slice this is.
    """

    name: str
    image: bytes
    size: tuple[int, int]
    layers: Mapping[str, bytes] = field(default_factory=dict)
    letters: tuple[str, str, str, str] = ("", "", "", "")
    marker: tuple[float, float] | None = None
    detail: str = ""
    rings: Sequence[Ring] = ()


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
class ViewerLayer:
    """An overlay of a :class:`Viewer`.

    Attributes:
        name: what the button says.
        kind: "labels" (codes of the viewer's structures) or "heat" (0 to 255).
        data: the codes, packed as :func:`medresnet3d.reports.packing.pack` does, i fastest.
        colors: for "heat", 256 colours as ``#rrggbb``.
    """

    name: str
    kind: str
    data: bytes
    colors: Sequence[str] = ()


@dataclass(frozen=True)
class ViewerPane:
    """One plane of a :class:`Viewer`.

    Attributes:
        number: 0 axial, 1 coronal, 2 sagittal (of the array's axes where the orientation is unknown).
        name: what it is called.
        size: width and height in a unit common to all panes.
        letters: orientation letters (left, right, top, bottom); empty strings where unknown.
        count: number of slices.
    """

    number: int
    name: str
    size: tuple[float, float]
    letters: tuple[str, str, str, str]
    count: int


@dataclass(frozen=True)
class Structure:
    """A labelled structure of a :class:`Viewer`.

    Attributes:
        code: its number in the packed overlays, 1 to 255.
        name: what it is.
        color: as ``#rrggbb``.
        volumes_ml: its volume by overlay name, measured on the scan's own grid.
        diameters_mm: its longest diameter in an axial slice by overlay name.
    """

    code: int
    name: str
    color: str
    volumes_ml: Mapping[str, float] = field(default_factory=dict)
    diameters_mm: Mapping[str, float] = field(default_factory=dict)


@dataclass(frozen=True)
class ViewerMark:
    """A mark of a :class:`Viewer`.

    Attributes:
        mark: what it is; its position is in RAS+ mm where the orientation is known.
        voxel: its place on the viewer's grid, (i, j, k).
        reach: radius of its ring, mm.
    """

    mark: Mark
    voxel: tuple[float, float, float]
    reach: float


@dataclass(frozen=True)
class Viewer:
    """A scan to scroll through in three planes; made by :func:`medresnet3d.reports.slice_viewer`.

    Attributes:
        still: the same scan as fixed pictures, shown where the page's script does not run.
        panes: the planes, in the order of ``still``.
        image: grey codes, packed, i fastest.
        shape: number of voxels (i, j, k), in RAS+ order where the orientation is known.
        spacing: voxel edge lengths, mm.
        affine: 4 x 4 from voxel indices to RAS+ mm; None where the orientation is unknown.
        values: the value of each of the 256 codes.
        window: lowest and highest value shown at first.
        presets: windows to choose from, by name.
        unit: of the values, e.g. "HU".
        centre: voxel that the planes cut at first.
        marked: whether to mark that voxel.
        layers: the overlays, the first of which is shown at first.
        structures: what the label overlays show.
        marks: places with a ring around them and a row in a table.
        notes: what the reader must know, one sentence each.
    """

    still: PlaneView
    panes: Sequence[ViewerPane]
    image: bytes
    shape: tuple[int, int, int]
    spacing: tuple[float, float, float]
    affine: Sequence[Sequence[float]] | None
    values: Sequence[float]
    window: tuple[float, float]
    presets: Mapping[str, tuple[float, float]] = field(default_factory=dict)
    unit: str = ""
    centre: tuple[int, int, int] = (0, 0, 0)
    marked: bool = False
    layers: Sequence[ViewerLayer] = ()
    structures: Sequence[Structure] = ()
    marks: Sequence[ViewerMark] = ()
    notes: Sequence[str] = ()


@dataclass(frozen=True)
class Link:
    """A table cell that leads to a page beside the report; ``href`` is relative and already quoted."""

    text: str
    href: str


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
        viewer: the scan to scroll through; shown instead of ``view``.
        href: the case's own page, relative to the report.
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
    viewer: Viewer | None = None
    href: str = ""


@dataclass(frozen=True)
class Cases:
    """Cards of cases side by side where there is room."""

    items: Sequence[CaseCard]


Block = Heading | Text | Warnings | KeyValues | Tiles | Table | Figure | Figures | PlaneView | Viewer | Bars | Cases


@dataclass
class Report:
    """A report: a title and blocks in reading order.

    Attributes:
        title: what this is about.
        subtitle: one line that says what was done with what.
        blocks: the content.
        facts: short facts in the header (bundle, version, date).
        back: a link above the title, e.g. to the report over all cases.
    """

    title: str
    subtitle: str = ""
    blocks: Sequence[Block] = ()
    facts: Mapping[str, Any] = field(default_factory=dict)
    back: Link | None = None
