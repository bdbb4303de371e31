"""The report of a run of inference: cards of cases, one page each where there are several, and one page over all."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any
from urllib.parse import quote

import numpy as np
from numpy.typing import NDArray

from medresnet3d.errors import MedResNetError
from medresnet3d.reports import (
    CaseCard,
    Cases,
    Link,
    Report,
    classification_card,
    detection_card,
    failed_card,
    inference_report,
    regression_card,
    scan_card,
    segmentation_card,
    write_report,
)
from medresnet3d.reports.html import format_value
from medresnet3d.workflows.answer_log import flatten
from medresnet3d.workflows.answer_scene import answer_scene
from medresnet3d.workflows.detection_marks import answer_marks, detection_scene
from medresnet3d.workflows.explanation import explain
from medresnet3d.workflows.prediction import Prediction
from medresnet3d.workflows.predictor import Predictor

MAX_CARDS = 24
"""Cases shown with pictures in the report over all; further ones are in its table and have their own pages."""
MAX_ERROR = 90
MAX_DETAIL = 200
MAX_DIAMETERS = 8
"""Structures whose diameters are columns of the table over all; the cases' pages have those of every structure."""
_LAYER = "prediction"
_INFERENCE = "inference"
_FIRST = ("case", "patient", "error", "warnings")
_TECHNICAL = ("bundle", "version", "weights", "path", "files", "stage_seconds", "volumes_ml", "seconds")


def modality_of(metadata: Mapping[str, Any]) -> str | None:
    """Give the modality that a bundle is for: its ``modality`` or, as others write it, that of its first input."""
    named = metadata.get("modality")
    if named:
        return str(named)
    formats = metadata.get("network_data_format")
    inputs = formats.get("inputs") if isinstance(formats, Mapping) else None
    first = next(iter(inputs.values()), None) if isinstance(inputs, Mapping) else None
    named = first.get("modality") if isinstance(first, Mapping) else None
    return str(named) if named else None


class AnswerReport:
    """Collects the cards of a run and writes its report.

    Args:
        predictor: what answers.
        output: folder for ``report.html`` and ``cases/``.
        several: whether to give every case a page of its own in ``cases/``; its slices can be scrolled there, or in
            ``report.html`` where there is one case only.
    """

    def __init__(self, predictor: Predictor, output: Path, several: bool) -> None:
        self.predictor = predictor
        self.output = output
        self.several = several
        self.cards: list[CaseCard] = []
        self.diameters: dict[str, dict[str, float]] = {}
        self.wants_input = predictor.task not in ("segmentation", "detection")

    def add(self, prediction: Prediction) -> None:
        """Add an answered case."""
        try:
            card = self._card(prediction)
        except MedResNetError as error:
            notes = [*prediction.warnings, f"No pictures can be shown: {error}"]
            card = CaseCard(prediction.case, rows=_facts(prediction), warnings=notes, badge=prediction.label or "")
        if card.viewer is not None:
            self.diameters[prediction.case] = {
                one.name: one.diameters_mm[_LAYER] for one in card.viewer.structures if one.volumes_ml.get(_LAYER)
            }
        self._add(prediction.case, card)

    def add_failed(self, case: str, error: str) -> None:
        """Add a case without an answer."""
        self._add(case, failed_card(case, error))

    def write(self, rows: Sequence[Mapping[str, Any]], seconds: float) -> Path:
        """Write ``report.html`` over all cases.

        Args:
            rows: those of ``predictions.jsonl``.
            seconds: time of the run.
        """
        hidden = len(rows) - len(self.cards)
        notes = list(self.predictor.parts.notes)
        notes += [f"Pictures of the first {MAX_CARDS} cases are below; all have a page in cases/."] if hidden else []
        stages = [stage for row in rows for stage in row.get("stage_seconds") or {}]
        return inference_report(
            self.output,
            what={
                "bundle": self.predictor.bundle_name,
                "version": self.predictor.metadata.get("version", ""),
                "weights": self.predictor.weights_hash,
                "device": str(self.predictor.device),
                "time": f"{seconds:.1f} s",
            },
            cards=self.cards,
            results=_aligned([self._short(row) for row in rows]),
            inputs=[{"case": row["case"], "path": row["path"]} for row in rows],
            warnings=[*self.predictor.parts.notes, *notes],
            case_warnings={row["case"]: row.get("warnings") or [] for row in rows},
            stages={
                name: [row["stage_seconds"][name] for row in rows if name in (row.get("stage_seconds") or {})]
                for name in dict.fromkeys(stages)
            },
            pages={row["case"]: _page(row["case"]) for row in rows} if self.several else {},
            subtitle=str(self.predictor.metadata.get("description", "")),
        )

    def _add(self, case: str, card: CaseCard) -> None:
        if self.several:
            subtitle = f"{self.predictor.bundle_name} {self.predictor.metadata.get('version', '')}".strip()
            page = Report(case, subtitle, [Cases([card])], back=Link("all cases", "../report.html"))
            write_report(page, self.output / "cases" / f"{case}.html")
            card = replace(card, viewer=None, rows={**_volumes(card), **card.rows}, href=_page(case))
        if len(self.cards) < MAX_CARDS:
            self.cards.append(card)

    def _card(self, prediction: Prediction) -> CaseCard:
        layers, labels = _layers(prediction)
        volume = prediction.volume
        common: dict[str, Any] = {"rows": _facts(prediction), "warnings": prediction.warnings}
        is_picture = volume is not None and volume.source.format == "image"
        common["scroll"] = volume is None or (volume.channels == 1 and not volume.is_flat)
        if layers and volume is not None:
            affine, array = prediction.affine, volume.array
            if is_picture:  # a photograph has no place in a patient; its rows go from bottom to top then
                affine, array = None, array[:, ::-1]
                layers = {name: layer[:, ::-1] for name, layer in layers.items()}
            found, further = next(iter(layers.values())), dict(list(layers.items())[1:])
            return segmentation_card(
                prediction.case,
                array,
                found,
                affine=affine,
                measured=not volume.is_flat,
                labels=labels,
                further=further,
                modality=self._modality(prediction),
                **common,
            )
        if prediction.detections is not None:
            return self._detection_card(prediction, common)
        if prediction.value is None and not prediction.probabilities:
            return self._other_card(prediction, common)
        scene = answer_scene(prediction, self._heat(prediction), self._modality(prediction))
        if scene is not None:
            common |= {"affine": scene.affine, "heat": scene.heat, "modality": scene.modality}
        pixels = scene.pixels if scene else None
        if prediction.value is not None:
            return regression_card(prediction.case, pixels, prediction.value, **common)
        names, values = list(prediction.probabilities), list(prediction.probabilities.values())
        position = prediction.position
        return classification_card(prediction.case, pixels, values, names, position=position, **common)

    def _detection_card(self, prediction: Prediction, common: dict[str, Any]) -> CaseCard:
        """Show the scan with a ring around each detection."""
        assert prediction.detections is not None
        marks, count = answer_marks(prediction.detections), len(prediction.detections)
        scene = detection_scene(prediction, marks)
        badge = f"{count} detection{'s' if count != 1 else ''}"
        return detection_card(prediction.case, scene, modality=self._modality(prediction), badge=badge, **common)

    def _other_card(self, prediction: Prediction, common: dict[str, Any]) -> CaseCard:
        """Show the image that a bundle made of the scan, or the scan itself."""
        if prediction.volume is None:
            return CaseCard(prediction.case, rows=common["rows"], warnings=common["warnings"])
        shape, affine = prediction.volume.shape, prediction.affine
        made = next(((name, image) for name, image in prediction.images.items() if image.shape == shape), None)
        if made is None:
            modality = self._modality(prediction)
            return scan_card(prediction.case, prediction.volume.array, affine=affine, modality=modality, **common)
        common["rows"] = {**common["rows"], "shown": f"{made[0]}, the image that the bundle made"}
        return scan_card(prediction.case, made[1], affine=affine, **{**common, "scroll": True})

    def _modality(self, prediction: Prediction) -> str | None:
        """Give the modality of the scan or, where the file does not say, the one that the bundle is for."""
        own = prediction.volume.modality if prediction.volume is not None else None
        return own or modality_of(self.predictor.metadata)

    def _heat(self, prediction: Prediction) -> NDArray[Any] | None:
        """Where the network looked for the class it chose."""
        return explain(self.predictor, prediction) if prediction.heat is None else prediction.heat

    def _short(self, row: Mapping[str, Any]) -> dict[str, Any]:
        """Give a row for the report's table, without what the page says elsewhere."""
        flat = {key: value for key, value in flatten(row).items() if key not in _TECHNICAL}
        flat = {key: value for key, value in flat.items() if not key.startswith(("volume_ml_", "seconds_", "details_"))}
        error, texts = str(flat.pop("error", "")), row.get("warnings") or []
        flat.pop("warnings", None)
        flat |= {f"{name}, ml": ml for name, ml in (row.get("volumes_ml") or {}).items()}
        diameters = self.diameters.get(row["case"], {})
        if len(diameters) <= MAX_DIAMETERS:
            flat |= {f"{name}, axial mm": mm for name, mm in diameters.items()}
        left_out = ((row.get("details") or {}).get(_INFERENCE) or {}).get("left_out")
        flat |= {"left out, %": 100 * left_out} if left_out is not None else {}
        flat |= {f"{stage}, s": seconds for stage, seconds in (row.get("stage_seconds") or {}).items()}
        flat |= {"total, s": row.get("seconds"), "warnings": len(texts) if not error else None}
        return {**flat, "error": error if len(error) <= MAX_ERROR else f"{error[:MAX_ERROR]} …"}


def _aligned(records: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """Give all records the same keys in the order of the fullest, with what went wrong before the answers."""
    found = dict.fromkeys(key for record in sorted(records, key=len, reverse=True) for key in record)
    keys = [*_FIRST, *(key for key in found if key not in _FIRST)]
    return [{key: record.get(key) for key in keys} for record in records]


def _page(case: str) -> str:
    return f"cases/{quote(case)}.html"


def _facts(prediction: Prediction) -> dict[str, Any]:
    """Give what a card says beside the answer."""
    stages = ", ".join(f"{stage} {seconds:.2f}" for stage, seconds in prediction.stage_seconds.items())
    return {
        **({"patient": prediction.patient} if prediction.patient else {}),
        "time": f"{prediction.seconds:.1f} s",
        **({"time by stage, s": stages} if stages else {}),
        **{name: _plain(value) for name, value in prediction.details.items() if name != _INFERENCE},
        **({"computed": _computed(prediction.details[_INFERENCE])} if prediction.details.get(_INFERENCE) else {}),
    }


def _computed(report: Mapping[str, Any]) -> str:
    """Say how the network went over the scan, and how much of it was left out.

    Args:
        report: as :meth:`medresnet3d.inferers.report.InferenceReport.as_dict` gives it.
    """
    parts = [str(report.get("strategy", ""))]
    if report.get("windows_total", 0) > 1:
        parts.append(f"{report.get('windows_run')} of {report['windows_total']} windows")
    if report.get("left_out"):
        parts.append(f"{100 * report['left_out']:.1f}% of the scan left out as background")
    if report.get("views", 1) > 1:
        parts.append(f"{report['views']} mirrored or turned views")
    parts += [str(report.get("precision", "")), str(report.get("backend", "")), *map(str, report.get("notes") or ())]
    return ", ".join(part for part in parts if part)


def _plain(value: Any) -> Any:
    """Give a detail as one short text; what is empty or nested further is left out."""
    if isinstance(value, Mapping):
        kept = {name: one for name, one in value.items() if isinstance(one, (str, int, float)) and one != ""}
        return ", ".join(f"{str(name).replace('_', ' ')} {format_value(one)}" for name, one in kept.items())
    text = format_value(value)
    return text if len(text) <= MAX_DETAIL else f"{text[:MAX_DETAIL]} …"


def _volumes(card: CaseCard) -> dict[str, float]:
    structures = card.viewer.structures if card.viewer is not None else ()
    return {f"{one.name}, ml": one.volumes_ml[_LAYER] for one in structures if one.volumes_ml.get(_LAYER)}


def _layers(prediction: Prediction) -> tuple[dict[str, NDArray[Any]], dict[int, str]]:
    """Give the label maps to show, with the names of their numbers.

    A further image that is a mask gets a number of its own, so that masks that overlap can be told apart; one that
    holds other values than whole numbers from 0 to 255 is not a label map and left out.
    """
    labels = dict(enumerate(prediction.labels))
    layers = {} if prediction.pred is None else {_LAYER: prediction.pred}
    shape = None if prediction.volume is None else prediction.volume.shape
    for name, image in prediction.images.items():
        if image.shape != shape or not _is_label_map(image):
            continue
        whole = image.astype(np.uint8)
        if whole.max(initial=0) <= 1:
            number = max([0, *labels]) + 1
            labels[number] = name
            whole = whole * np.asarray(number, dtype=np.uint8 if number < 256 else np.uint16)
        layers[name] = whole
    return layers, labels


def _is_label_map(image: NDArray[Any]) -> bool:
    if image.dtype.kind in "bu" or np.issubdtype(image.dtype, np.integer):
        return bool(image.min(initial=0) >= 0 and image.max(initial=0) <= 255)
    return bool(np.isin(image, (0, 1)).all())
