"""Cards: what is known about each published weights file, read from ``medresnet3d/weights/cards/FAMILY.json``.

The folder of cards is the registry. Nothing here imports torch, so that ``medresnet3d weights list`` answers at once.
"""

from __future__ import annotations

import json
import re
from dataclasses import asdict, dataclass
from functools import cache
from pathlib import Path
from typing import Any
from urllib.parse import urlparse

from medresnet3d.errors import ConfigError
from medresnet3d.names import did_you_mean

CARDS = Path(__file__).parent / "cards"


@dataclass(frozen=True)
class WeightsCard:
    """One published weights file.

    Args:
        name: as every command and the id ``pretrained`` take it.
        arch: the network it belongs to, a key of :data:`medresnet3d.networks.classifier.ARCHITECTURES`.
        spatial_dims: 2 or 3; 2D weights are inflated for a 3D network.
        in_channels: channels of the images it was trained on.
        num_classes: logits of its last layer; 0 where it has none.
        url: where it is published.
        sha256: the file's SHA-256 where its publisher states it, else ``None``.
        sha256_prefix: the first digits of the SHA-256 where the file's name states them, else ``None``.
        licence: of the file, and what binds besides.
        source: who published it.
        paper: what to cite.
        trained_on: data.
        mean: what to subtract from each channel of an image from 0 to 1; ``None`` where ``normaliser`` says more.
        std: what to divide by afterwards.
        input_size: edge of the training images; ``None`` if they had no common one.
        normaliser: how intensities must be prepared, in words.
        first_class: row of the last layer that is the first class; 1 where a background class comes before it.
        notes: what a user must know.
    """

    name: str
    arch: str
    spatial_dims: int
    in_channels: int
    num_classes: int
    url: str
    licence: str
    source: str
    paper: str
    trained_on: str
    normaliser: str
    sha256: str | None = None
    sha256_prefix: str | None = None
    mean: tuple[float, ...] | None = None
    std: tuple[float, ...] | None = None
    input_size: int | None = None
    first_class: int = 0
    notes: tuple[str, ...] = ()

    @property
    def file_name(self) -> str:
        """Name of the file as published."""
        return Path(urlparse(self.url).path).name

    @property
    def licence_name(self) -> str:
        """Name of the file's own licence, without what is said about it."""
        return re.split(r" \(|;", self.licence, maxsplit=1)[0]

    @property
    def known_digest(self) -> str:
        """What is known of the SHA-256, in words."""
        if self.sha256:
            return "SHA-256"
        return f"first {len(self.sha256_prefix)} digits" if self.sha256_prefix else "none published"

    def as_dict(self) -> dict[str, Any]:
        """Give everything as plain values."""
        return {**asdict(self), "file_name": self.file_name}


@cache
def list_cards() -> tuple[WeightsCard, ...]:
    """All cards, by name."""
    cards: list[WeightsCard] = []
    for path in sorted(CARDS.glob("*.json")):
        content = json.loads(path.read_text(encoding="utf-8"))
        for name, own in content["weights"].items():
            values = {**content["common"], **own}
            lists = {key: tuple(values[key]) for key in ("mean", "std", "notes") if values.get(key) is not None}
            cards.append(WeightsCard(**{"name": name, **values, **lists}))
    return tuple(sorted(cards, key=lambda card: card.name))


def is_card(name: str) -> bool:
    """Whether there is a card of this name."""
    return any(card.name == name for card in list_cards())


def find_card(name: str) -> WeightsCard:
    """The card of a weights file.

    Raises:
        ConfigError: if there is no such card; the message names the nearest.
    """
    cards = {card.name: card for card in list_cards()}
    if name in cards:
        return cards[name]
    hint = did_you_mean(name.casefold(), cards, "`medresnet3d weights list` shows them.", 0.5)
    raise ConfigError(f"No published weights are called {name!r}; {hint}")
