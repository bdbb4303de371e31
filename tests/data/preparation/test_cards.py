from __future__ import annotations

from pathlib import Path

import pytest

from medresnet3d.data.preparation.cards import AREAS, find_card, list_cards, read_card
from medresnet3d.errors import ConfigError, DataError


def test_cards_are_listed_by_area_and_each_has_an_adapter() -> None:
    cards = list_cards()
    assert [AREAS.index(card.area) for card in cards] == sorted(AREAS.index(card.area) for card in cards)
    collections = Path(__file__).parents[3] / "medresnet3d" / "data" / "collections"
    assert all((collections / f"{card.adapter}.py").is_file() for card in cards)


def test_the_first_task_is_the_default_and_an_unknown_one_names_the_nearest() -> None:
    card = find_card("isic2017")
    assert card.task().name == "diagnosis" and card.task("melanoma").labels == ("other", "melanoma")
    with pytest.raises(ConfigError, match="the task 'melanomas' is not offered; did you mean 'melanoma'"):
        card.task("melanomas")
    with pytest.raises(ConfigError, match="choose one of diagnosis, melanoma, lesion"):
        card.task("xyz")


@pytest.mark.parametrize("text", ["{", "[]", '{"title": "x"}', '{"tasks": {"a": {}}}'])
def test_what_is_no_card(tmp_path: Path, text: str) -> None:
    (tmp_path / "x.json").write_text(text)
    with pytest.raises(DataError, match="is not a data set card"):
        read_card(tmp_path / "x.json")
