"""One picture of an answer: the planes of the scan with what was found, the figures beside their colours."""

from __future__ import annotations

import io
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont

from medresnet3d.reports.planes import three_plane_view
from medresnet3d.workflows.detection_marks import answer_marks

if TYPE_CHECKING:
    from medresnet3d.reports.blocks import Plane, PlaneView
    from medresnet3d.workflows.prediction import Prediction

EDGE = 360
"""Length of the scan's longest edge on the picture, pixels."""
GAP = 12
LINE = 22
MOST_LINES = 24
_INK, _FAINT = (235, 238, 242), (150, 160, 170)


def overview(prediction: Prediction, title: str) -> NDArray[np.uint8]:
    """Draw an answer.

    Nothing on the picture says who the patient is.

    Args:
        prediction: the answer, with its volume.
        title: what answered, such as the bundle's name and version.

    Returns:
        (rows, columns, 3), RGB.
    """
    assert prediction.volume is not None
    layers = {} if prediction.pred is None else {"found": prediction.pred}
    view = three_plane_view(
        prediction.volume.array,
        affine=prediction.volume.affine,
        layers=layers,
        labels=prediction.labels,
        position=prediction.position,
        marks=[] if prediction.detections is None else answer_marks(prediction.detections),
        longest=EDGE,
    )
    lines = _lines(prediction, view)
    pictures = [_picture(plane) for plane in view.planes]
    width = max(sum(one.width + GAP for one in pictures) + GAP, 2 * EDGE)
    top = GAP + 2 * LINE
    height = max(one.height for one in pictures)
    canvas = Image.new("RGB", (width, top + height + GAP + LINE * len(lines) + GAP))
    draw, font = ImageDraw.Draw(canvas), ImageFont.load_default(15)
    draw.text((GAP, GAP), title, fill=_INK, font=font)
    left = GAP
    for plane, one in zip(view.planes, pictures, strict=True):
        draw.text((left, GAP + LINE), ", ".join(filter(None, (plane.name, plane.detail))), fill=_FAINT, font=font)
        canvas.paste(one, (left, top))
        left += one.width + GAP
    for row, (color, text) in enumerate(lines):
        y = top + height + GAP + LINE * row
        if color:
            draw.rectangle((GAP, y + 3, GAP + 13, y + 16), fill=color)
        draw.text((GAP + 22, y), text, fill=_INK, font=font)
    return np.asarray(canvas)


def _picture(plane: Plane) -> Image.Image:
    """Lay the overlays and the letters over a plane."""
    picture = Image.open(io.BytesIO(plane.image)).convert("RGBA")
    for layer in plane.layers.values():
        picture = Image.alpha_composite(picture, Image.open(io.BytesIO(layer)).convert("RGBA"))
    draw, font = ImageDraw.Draw(picture), ImageFont.load_default(15)
    width, height = picture.size
    places = ((4, height / 2, "lm"), (width - 4, height / 2, "rm"), (width / 2, 4, "mt"), (width / 2, height - 4, "mb"))
    for letter, (x, y, anchor) in zip(plane.letters, places, strict=True):
        draw.text((x, y), letter, fill=_INK, font=font, anchor=anchor, stroke_width=2, stroke_fill=0)
    for ring in plane.rings:
        x, y, radius = ring.place[0] * width, ring.place[1] * height, max(5.0, ring.diameter * width / 2)
        draw.ellipse((x - radius, y - radius, x + radius, y + radius), outline=ring.color, width=2)
        draw.text((x + radius, y - radius), ring.name, fill=ring.color, font=font, anchor="lb")
    if plane.marker is not None:
        x, y = plane.marker[0] * width, plane.marker[1] * height
        draw.ellipse((x - 8, y - 8, x + 8, y + 8), outline=(255, 214, 0), width=2)
    return picture.convert("RGB")


def _lines(prediction: Prediction, view: PlaneView) -> list[tuple[str, str]]:
    """Give the figures as a colour (or an empty text) and a sentence each."""
    colors = {entry.name: entry.color for entry in view.legend}
    lines = [(colors.get(name, ""), f"{name}: {value:.1f} ml") for name, value in prediction.volumes_ml.items()]
    for name, value in sorted(prediction.probabilities.items(), key=lambda one: -one[1]):
        lines.append(("", f"{name}: probability {value:.3f}"))
    for number, one in enumerate(prediction.listed_detections(), 1):
        place = ", ".join(f"{one[axis]:.0f}" for axis in "xyz")
        size = f"{one['diameter_mm']:.1f} mm at {place}"
        lines.append(("", f"detection {number}: probability {one['probability']:.3f}, {size}"))
    if prediction.value is not None:
        lines.append(("", f"estimate: {prediction.value:.2f}"))
    if len(lines) > MOST_LINES:
        lines = [*lines[: MOST_LINES - 1], ("", f"and {len(lines) - MOST_LINES + 1} more")]
    return lines
