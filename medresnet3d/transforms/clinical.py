"""What is known of a case beside its image, noted before the network and weighed behind it."""

from __future__ import annotations

import json
from collections.abc import Hashable, Mapping
from typing import Any

import torch
from monai.config import KeysCollection
from monai.transforms import MapTransform, Transform

from medresnet3d.transforms.clinical_evidence import Evidence, evidence_for, known_values

CLINICAL = "clinical"


class NoteClinical(Transform):
    """Note under ``clinical``, as one text, what of a case counts as evidence.

    Args:
        evidence: from :func:`medresnet3d.transforms.clinical_evidence.fit_evidence`.
    """

    def __init__(self, evidence: Evidence) -> None:
        self.evidence = evidence

    def __call__(self, data: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
        """Give a copy of ``data`` with the note: JSON, by field the value, empty where it says nothing."""
        named = {str(key): value for key, value in data.items()}
        return {**data, CLINICAL: json.dumps(known_values(named, self.evidence))}


class WeighClinicald(MapTransform):
    """Let what is known of a case beside its image count for its probabilities.

    They are multiplied by the likelihood ratios of what :class:`NoteClinical` noted, and sum to one again; without a
    note, or without evidence, they stay as they are. ``details`` then has ``clinical``, the values that counted, and
    ``image_alone``, the class that the image alone would give and its probability.

    Args:
        keys: probabilities (K,), after the softmax.
        evidence: from :func:`medresnet3d.transforms.clinical_evidence.fit_evidence`; ``None``: there is none.
        labels: class names in index order, as metadata.json has them (``{"0": "nevus", ...}``).
    """

    def __init__(
        self, keys: KeysCollection, evidence: Evidence | None, labels: Mapping[str, str] | None = None
    ) -> None:
        super().__init__(keys)
        self.evidence = evidence or {}
        self.labels = labels or {}

    def __call__(self, data: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
        """Give a copy of ``data`` with the weighed probabilities."""
        item = dict(data)
        if not self.evidence or not item.get(CLINICAL):
            return item
        values = json.loads(item[CLINICAL])
        for key in self.key_iterator(item):
            alone = torch.as_tensor(item[key])
            added = torch.from_numpy(evidence_for(values, self.evidence, alone.numel())).reshape(alone.shape)
            item[key] = (alone.double().clamp_min(1e-30).log() + added.to(alone.device)).softmax(0).to(alone.dtype)
            first = int(alone.argmax())
            said = {"label": self.labels.get(str(first), str(first)), "probability": round(float(alone.max()), 6)}
            item["details"] = {**item.get("details", {}), CLINICAL: values, "image_alone": said}
        return item
