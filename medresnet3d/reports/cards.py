"""Cards of single cases: the planes, the answer, the figures that belong to it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from medresnet3d.reports.blocks import Bars, CaseCard
from medresnet3d.reports.marks import MarkedScan
from medresnet3d.reports.planes import label_names, orient, three_plane_view
from medresnet3d.reports.structures import label_counts
from medresnet3d.reports.viewer import is_hounsfield, slice_viewer

VOLUME_PIXELS, PICTURE_PIXELS = 320, 900
"""Length of the longest edge of a volume's planes, and of a photograph, in a report."""


def segmentation_card(
    case: str,
    volume: Any,
    prediction: Any,
    *,
    affine: Any | None = None,
    spacing: Sequence[float] | None = None,
    labels: Mapping[int, str] | Sequence[str] | None = None,
    truth: Any | None = None,
    window: str | Sequence[float] | None = None,
    rows: Mapping[str, Any] | None = None,
    warnings: Sequence[str] = (),
    badge: str = "",
    tone: str = "",
    further: Mapping[str, Any] | None = None,
    modality: str | None = None,
    scroll: bool = False,
    measured: bool = True,
) -> CaseCard:
    """Show a segmented case with the volume of every structure in millilitres.

    Args:
        case: name of the case.
        volume: values (i, j, k), optionally with a leading channel of length 1.
        prediction: label map of the same shape.
        affine: 4 x 4 affine to RAS+ mm.
        spacing: voxel edge lengths in mm when there is no affine.
        labels: names of the labels, by number or in order (0 is background).
        truth: reference label map, shown as a second overlay.
        window: CT window by name, or (lowest, highest).
        rows: further facts, e.g. Dice.
        warnings: what is unusual with this case.
        badge: a word or two beside the name.
        tone: "good", "bad" or "".
        further: further label maps by name, each an overlay of its own.
        modality: "CT" offers windows in Hounsfield units.
        scroll: give a :class:`Viewer` with all slices, whose table has the volumes, instead of three pictures.
        measured: whether the size of a voxel is known; without, there are no volumes.
    """
    layers = {"prediction": prediction, **({} if truth is None else {"truth": truth}), **(further or {})}
    shown: dict[str, Any] = {"affine": affine, "spacing": spacing, "layers": layers, "labels": labels}
    shown |= {"window": window, "alt": f"segmentation of {case}"}
    if scroll:
        viewer = slice_viewer(volume, modality=modality, **shown)
        return CaseCard(
            case, rows=rows or {}, warnings=warnings, view=viewer.still, viewer=viewer, badge=badge, tone=tone
        )
    view = three_plane_view(volume, longest=VOLUME_PIXELS if measured else PICTURE_PIXELS, **shown)
    volumes = structure_volumes(prediction, affine=affine, spacing=spacing, labels=labels) if measured else {}
    facts = {**{f"{name}, ml": ml for name, ml in volumes.items()}, **(rows or {})}
    return CaseCard(case, rows=facts, warnings=warnings, view=view, badge=badge, tone=tone)


def structure_volumes(
    prediction: Any,
    *,
    affine: Any | None = None,
    spacing: Sequence[float] | None = None,
    labels: Mapping[int, str] | Sequence[str] | None = None,
) -> dict[str, float]:
    """Give the volume of every structure in a label map, in millilitres, by name.

    Args:
        prediction: label map (i, j, k).
        affine: 4 x 4 affine to RAS+ mm.
        spacing: voxel edge lengths in mm when there is no affine.
        labels: names of the labels.
    """
    oriented = orient({"labels": prediction}, affine, spacing)
    voxel_ml = float(np.prod(oriented.spacing)) / 1000.0
    names = label_names(labels)
    counts = label_counts(oriented.arrays["labels"])
    return {names.get(label, f"label {label}"): count * voxel_ml for label, count in counts.items()}


def classification_card(
    case: str,
    volume: Any | None,
    probabilities: Sequence[float],
    names: Sequence[str],
    *,
    affine: Any | None = None,
    spacing: Sequence[float] | None = None,
    truth: str | None = None,
    heat: Any | None = None,
    position: Sequence[float] | None = None,
    window: str | Sequence[float] | None = None,
    rows: Mapping[str, Any] | None = None,
    warnings: Sequence[str] = (),
    modality: str | None = None,
    scroll: bool = False,
) -> CaseCard:
    """Show a classified case: the planes, the probabilities as bars, and where the network looked.

    Args:
        case: name of the case.
        volume: values (i, j, k), or None when there is nothing to show.
        probabilities: one value a class.
        names: class names.
        affine: 4 x 4 affine to RAS+ mm.
        spacing: voxel edge lengths in mm when there is no affine.
        truth: name of the true class, if known.
        heat: importance of every voxel, on the grid of ``volume``.
        position: the point that was classified, RAS+ mm.
        window: CT window by name, or (lowest, highest).
        rows: further facts.
        warnings: what is unusual with this case.
        modality: "CT" offers windows in Hounsfield units.
        scroll: give a :class:`Viewer` with all slices instead of three pictures.
    """
    answer = names[int(np.argmax(probabilities))]
    shown = _shown(case, volume, affine, spacing, heat, position, window, modality, scroll)
    tone = "" if truth is None else ("good" if truth == answer else "bad")
    badge = answer if truth in (None, answer) else f"{answer}, truth: {truth}"
    bars = Bars(list(names), [float(value) for value in probabilities], truth)
    return CaseCard(case, rows=rows or {}, warnings=warnings, bars=bars, badge=badge, tone=tone, **shown)


def regression_card(
    case: str,
    volume: Any | None,
    value: float,
    *,
    unit: str = "",
    affine: Any | None = None,
    spacing: Sequence[float] | None = None,
    truth: float | None = None,
    heat: Any | None = None,
    window: str | Sequence[float] | None = None,
    rows: Mapping[str, Any] | None = None,
    warnings: Sequence[str] = (),
    modality: str | None = None,
    scroll: bool = False,
) -> CaseCard:
    """Show a case with one estimated number; the arguments are those of :func:`classification_card`."""
    shown = _shown(case, volume, affine, spacing, heat, None, window, modality, scroll)
    facts: dict[str, Any] = {"estimate": f"{value:.1f} {unit}".strip()}
    if truth is not None:
        facts |= {"truth": f"{truth:.1f} {unit}".strip(), "difference": f"{value - truth:+.1f} {unit}".strip()}
    badge = f"{value:.1f} {unit}".strip()
    return CaseCard(case, rows={**facts, **(rows or {})}, warnings=warnings, badge=badge, **shown)


def scan_card(
    case: str,
    volume: Any | None,
    *,
    affine: Any | None = None,
    spacing: Sequence[float] | None = None,
    window: str | Sequence[float] | None = None,
    rows: Mapping[str, Any] | None = None,
    warnings: Sequence[str] = (),
    modality: str | None = None,
    scroll: bool = False,
) -> CaseCard:
    """Show a scan and facts, for answers of other kinds; the arguments are those of :func:`classification_card`."""
    shown = _shown(case, volume, affine, spacing, None, None, window, modality, scroll)
    return CaseCard(case, rows=rows or {}, warnings=warnings, **shown)


def _shown(
    case: str,
    volume: Any | None,
    affine: Any | None,
    spacing: Sequence[float] | None,
    heat: Any | None,
    position: Sequence[float] | None,
    window: str | Sequence[float] | None,
    modality: str | None,
    scroll: bool,
) -> dict[str, Any]:
    """Give the card's pictures: fixed ones, or a viewer of all slices."""
    if volume is None:
        return {}
    common: dict[str, Any] = {"affine": affine, "spacing": spacing, "heat": heat, "position": position}
    common |= {"window": window, "alt": f"image of {case}"}
    if not scroll:
        return {"view": three_plane_view(volume, **common)}
    viewer = slice_viewer(volume, modality=modality, **common)
    return {"view": viewer.still, "viewer": viewer}


def failed_card(case: str, error: str) -> CaseCard:
    """Show a case without an answer and why there is none."""
    return CaseCard(case, badge="no answer", tone="bad", error=error)


def detection_card(
    case: str,
    scan: MarkedScan | None,
    *,
    rows: Mapping[str, Any] | None = None,
    warnings: Sequence[str] = (),
    modality: str | None = None,
    badge: str = "",
    tone: str = "",
    scroll: bool = False,
) -> CaseCard:
    """Show a scan with rings around what was found (and missed), the planes going through the first of them.

    Args:
        case: name of the case.
        scan: pixels and marks, or None when there is nothing to show.
        rows: further facts.
        warnings: what is unusual with this case.
        modality: "CT" offers windows in Hounsfield units.
        badge: a word or two beside the name.
        tone: "good", "bad" or "".
        scroll: give a :class:`Viewer` with all slices, whose table leads to each mark, instead of three pictures.
    """
    shown: dict[str, Any] = {}
    alt = f"detections in {case}"
    if scan is not None and scroll:
        viewer = slice_viewer(scan.pixels, affine=scan.affine, marks=scan.marks, modality=modality, alt=alt)
        shown = {"view": viewer.still, "viewer": viewer}
    elif scan is not None:
        window = _ct_window(scan, modality)
        shown = {"view": three_plane_view(scan.pixels, affine=scan.affine, marks=scan.marks, window=window, alt=alt)}
    return CaseCard(case, rows=rows or {}, warnings=warnings, badge=badge, tone=tone, **shown)


def _ct_window(scan: MarkedScan, modality: str | None) -> str | None:
    """The lung window for a CT with air; else what suits the values."""
    return "lung" if scan.pixels.ndim == 3 and is_hounsfield(scan.pixels, modality) else None
