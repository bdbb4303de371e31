from __future__ import annotations

import json
import re

import pytest

from medresnet3d.errors import ConfigError
from medresnet3d.networks.classifier import ARCHITECTURES
from medresnet3d.weights.cards import CARDS, find_card, list_cards

CARD_NAMES = [card.name for card in list_cards()]


@pytest.mark.parametrize("name", CARD_NAMES)
def test_card_is_complete(name: str) -> None:
    card = find_card(name)
    assert card.arch in ARCHITECTURES
    assert card.url.startswith("https://")
    assert card.spatial_dims in (2, 3)
    assert all((card.licence, card.source, card.paper, card.trained_on, card.normaliser))
    assert (card.mean is None) == (card.std is None)
    assert card.mean is None or len(card.mean) == len(card.std or ()) == card.in_channels
    assert card.first_class < max(card.num_classes, 1)


@pytest.mark.parametrize("name", CARD_NAMES)
def test_a_hash_is_stated_only_where_the_publisher_states_it(name: str) -> None:
    """The prefix of torchvision's and Cadene's files is the one in the file name, digit by digit."""
    card = find_card(name)
    assert card.sha256 is None or re.fullmatch(r"[0-9a-f]{64}", card.sha256)
    in_name = re.search(r"-([0-9a-f]{8,})\.pth$", card.file_name)
    assert card.sha256_prefix == (in_name.group(1) if in_name else None)


def test_names_are_used_once() -> None:
    names = [name for path in CARDS.glob("*.json") for name in json.loads(path.read_text())["weights"]]
    assert len(names) == len(set(names)) == len(CARD_NAMES)


@pytest.mark.parametrize("depth", [10, 18, 34, 50, 101, 152, 200])
def test_medicalnet_has_every_depth_and_says_how_to_normalise(depth: int) -> None:
    card = find_card(f"medicalnet_resnet{depth}")
    assert "above zero" in card.normaliser
    assert card.arch.endswith("_shortcut_a") == (depth in (18, 34))
    assert card.num_classes == 0


@pytest.mark.parametrize(
    ("wrong", "hint"), [("resnet18_imagnet", "resnet18_imagenet"), ("xception", "xception_imagenet"), ("qqq", "list")]
)
def test_unknown_name(wrong: str, hint: str) -> None:
    with pytest.raises(ConfigError, match=hint):
        find_card(wrong)


def test_what_is_known_of_the_hash_in_words() -> None:
    assert find_card("resnet18_imagenet").known_digest == "first 8 digits"
    assert find_card("medicalnet_resnet10").known_digest == "none published"
