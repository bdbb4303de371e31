"""Which layer of a network to fine-tune from: the one whose features an SVM classifies best.

After Chu (2018): the same SVM scores the features of each layer; the layer of the highest F1 is the node up to which
the network is frozen.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from medresnet3d.engines.features import extract
from medresnet3d.engines.logs import write_metrics
from medresnet3d.engines.out_of_fold import out_of_fold
from medresnet3d.networks.taps import captured, pooled


@dataclass(frozen=True)
class LayerProbe:
    """What the probing of layers found.

    Args:
        layers: names, in the order given.
        scores: macro F1 of each layer, out of fold.
        widths: number of features of each layer.
    """

    layers: tuple[str, ...]
    scores: tuple[float, ...]
    widths: tuple[int, ...]

    @property
    def best(self) -> str:
        """The layer of the highest F1; of equal ones the first."""
        return self.layers[int(np.argmax(self.scores))]

    def as_markdown(self) -> str:
        """A table, the best layer marked."""
        rows = [
            f"| {'**' + layer + '**' if layer == self.best else layer} | {width} | {score:.3f} |"
            for layer, width, score in zip(self.layers, self.widths, self.scores, strict=True)
        ]
        return "\n".join(["| layer | features | F1 out of fold |", "| --- | ---: | ---: |", *rows]) + "\n"

    def write(self, path: str | Path) -> None:
        """Write the table as CSV, whole or not at all."""
        rows: list[dict[str, Any]] = [
            {"layer": layer, "features": width, "f1": round(score, 6)}
            for layer, width, score in zip(self.layers, self.widths, self.scores, strict=True)
        ]
        write_metrics(rows, Path(path))


def probe_layers(
    network: nn.Module,
    dataset: Any,
    layers: Sequence[str],
    *,
    cost: float = 1.0,
    folds: int = 5,
    seed: int = 0,
    batch_size: int = 16,
) -> LayerProbe:
    """Score layers by the F1 of a linear SVM on their pooled features, patients held out.

    Args:
        network: any network.
        dataset: cases without random transforms, with class and patient.
        layers: names as in ``network.named_modules()``.
        cost: C, the same for every layer.
        folds: of the cross-validation.
        seed: of the folds.
        batch_size: images at a time.

    Raises:
        ConfigError: for a layer that the network does not have.
        DataError: if a case names no class or patient.
    """
    widths: list[int] = []

    def all_layers(images: Tensor) -> Tensor:
        with captured(network, layers) as outputs:
            network(images)
        features = [pooled(outputs[layer]) for layer in layers]
        widths[:] = [each.shape[1] for each in features]
        return torch.cat(features, dim=1)

    cases = extract(network, dataset, all_layers, batch_size)
    parts = torch.split(cases.features, widths, dim=1)
    labels = np.asarray(cases.labels)

    def model(learned_from: list[int], held_out: list[int], fold: int) -> Tensor:
        predicted = [_predict(part, labels, learned_from, held_out, cost) for part in parts]
        return torch.from_numpy(np.stack(predicted, axis=1))

    predicted = out_of_fold(model, cases.patients, classes=cases.labels, folds=folds, seed=seed).numpy()
    return LayerProbe(tuple(layers), tuple(_f1(labels, predicted[:, n]) for n in range(len(parts))), tuple(widths))


def _predict(
    features: Tensor, labels: np.ndarray, learned_from: list[int], held_out: list[int], cost: float
) -> np.ndarray:
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler
    from sklearn.svm import SVC

    machine = make_pipeline(StandardScaler(), SVC(C=cost, kernel="linear", class_weight="balanced"))
    machine.fit(features[learned_from].numpy(), labels[learned_from])
    return np.asarray(machine.predict(features[held_out].numpy()))


def _f1(labels: np.ndarray, predicted: np.ndarray) -> float:
    from sklearn.metrics import f1_score

    return float(f1_score(labels, predicted, average="macro"))


def trainable_after(network: nn.Module, layer: str, image: Tensor) -> list[str]:
    """Patterns of the parameters of what runs after a layer, for ``trainable`` of a stage: the rest is frozen.

    Args:
        network: any network.
        layer: the freeze point; it and all that has begun to run before its output is there stay as they are.
        image: an image (B, C, ...) to see the order with.

    Raises:
        ConfigError: for a layer that the network does not have.
    """
    order: list[str] = []
    hooks = [
        module.register_forward_hook(lambda module, inputs, output, name=name: order.append(name))
        for name, module in network.named_modules()
        if name == layer or any(True for _ in module.parameters(recurse=False))
    ]
    mode = network.training
    try:
        with captured(network, [layer]), torch.no_grad():
            network.eval()(image)
    finally:
        network.train(mode)
        for hook in hooks:
            hook.remove()
    return [re.escape(name) + r"\." for name in dict.fromkeys(order[order.index(layer) + 1 :])]
