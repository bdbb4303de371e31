"""HTML reports and figures.

A report is a :class:`Report` of plain blocks that :func:`write_report` writes as one self-contained HTML file;
:func:`training_report`, :func:`evaluation_report` and :func:`inference_report` put the usual ones together. Everything
but the blocks is loaded on first use, so that the command line can print :data:`DISCLAIMER` without loading matplotlib.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from medresnet3d._lazy import lazy_names
from medresnet3d.reports.blocks import (
    DISCLAIMER,
    Bars,
    CaseCard,
    Cases,
    Figure,
    Figures,
    Heading,
    KeyValues,
    LegendEntry,
    Link,
    Mark,
    Plane,
    PlaneView,
    Report,
    Table,
    Text,
    Tile,
    Tiles,
    Viewer,
    Warnings,
)

if TYPE_CHECKING:
    from medresnet3d.reports.attention import class_map
    from medresnet3d.reports.builders import evaluation_report, training_report
    from medresnet3d.reports.cards import (
        classification_card,
        detection_card,
        failed_card,
        regression_card,
        scan_card,
        segmentation_card,
    )
    from medresnet3d.reports.detection_figures import froc_plot
    from medresnet3d.reports.figures import (
        agreement_plot,
        bland_altman_plot,
        class_bars,
        confusion_plot,
        reliability_plot,
        roc_plot,
        three_plane_figure,
        training_curves,
    )
    from medresnet3d.reports.html import figure_bytes, render_report, write_report
    from medresnet3d.reports.inference import inference_report
    from medresnet3d.reports.marks import MarkedScan
    from medresnet3d.reports.planes import three_plane_view
    from medresnet3d.reports.viewer import slice_viewer

__all__ = [
    "DISCLAIMER",
    "Bars",
    "CaseCard",
    "Cases",
    "Figure",
    "Figures",
    "Heading",
    "KeyValues",
    "LegendEntry",
    "Link",
    "Mark",
    "MarkedScan",
    "Plane",
    "PlaneView",
    "Report",
    "Table",
    "Text",
    "Tile",
    "Tiles",
    "Viewer",
    "Warnings",
    "agreement_plot",
    "bland_altman_plot",
    "class_bars",
    "class_map",
    "classification_card",
    "confusion_plot",
    "detection_card",
    "evaluation_report",
    "failed_card",
    "figure_bytes",
    "froc_plot",
    "inference_report",
    "probability_bars",
    "regression_card",
    "reliability_plot",
    "render_report",
    "roc_plot",
    "scan_card",
    "segmentation_card",
    "slice_viewer",
    "three_plane_figure",
    "three_plane_view",
    "training_curves",
    "training_report",
    "write_report",
]

#: Probabilities are drawn by the page itself, so that they fit every width and can be read aloud.
probability_bars = Bars

_HOMES = {
    "attention": ("class_map",),
    "builders": ("evaluation_report", "training_report"),
    "cards": (
        "classification_card",
        "detection_card",
        "failed_card",
        "regression_card",
        "scan_card",
        "segmentation_card",
    ),
    "detection_figures": ("froc_plot",),
    "figures": (
        "agreement_plot",
        "bland_altman_plot",
        "class_bars",
        "confusion_plot",
        "reliability_plot",
        "roc_plot",
        "three_plane_figure",
        "training_curves",
    ),
    "html": ("figure_bytes", "render_report", "write_report"),
    "inference": ("inference_report",),
    "marks": ("MarkedScan",),
    "planes": ("three_plane_view",),
    "viewer": ("slice_viewer",),
}


__getattr__, __dir__ = lazy_names(__name__, {name: home for home, names in _HOMES.items() for name in names})
