"""Cards: what is known about each public data set, read from ``data_manifests/NAME.json``.

The folder of cards is the registry: a card with its adapter (``medresnet3d/data/collections/NAME.py``) is all it takes.
Nothing here imports torch, MONAI or numpy, so that ``medresnet3d data list`` answers at once.
"""

from __future__ import annotations

import difflib
import importlib.util
import json
import re
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any

from medresnet3d.errors import ConfigError, DataError
from medresnet3d.names import did_you_mean

AREAS = ("lung", "brain", "skin", "breast", "eye", "blood", "any")


@dataclass(frozen=True)
class Task:
    """One question that a data set answers.

    Args:
        name: as ``--task`` takes it.
        kind: task of the manifest: ``classification``, ``regression``, ``segmentation`` or ``detection``.
        labels: class names in index order (segmentation: the background first); empty for regression, and where they
            are found in the data.
        about: one sentence.
    """

    name: str
    kind: str
    labels: tuple[str, ...] = ()
    about: str = ""


@dataclass(frozen=True)
class Card:
    """What is known about one data set without having it.

    Args:
        name: as every command takes it; the file name of the card.
        title: its own name.
        area: of medicine, one of :data:`AREAS`.
        modality: imaging modality.
        tasks: what can be learnt from it; the first is the default.
        images: how many there are, as text.
        size: on disk, as text.
        licence: as known when the card was written.
        access: how to get it: ``open``, ``registration``, ``request``, ``agreement`` or ``own`` (the user's files).
        source: where to ask for it.
        paper: what to cite.
        split_unit: what is never torn apart: ``patient`` or the finest honest group.
        split: the official split in words.
        layout: lines that show the official unpacking.
        notes: what a user must know.
        options: name and meaning of each further option of the adapter (``--set NAME=VALUE``).
        adapter: module below ``medresnet3d.data.collections``.
    """

    name: str
    title: str
    area: str
    modality: str
    tasks: tuple[Task, ...]
    images: str
    size: str
    licence: str
    access: str
    source: str
    paper: str
    split_unit: str
    split: str
    layout: tuple[str, ...]
    notes: tuple[str, ...] = ()
    options: dict[str, str] = field(default_factory=dict)
    adapter: str = ""

    def task(self, name: str | None = None) -> Task:
        """The task called ``name``, or the default.

        Raises:
            ConfigError: if the data set does not offer it.
        """
        if name is None:
            return self.tasks[0]
        for task in self.tasks:
            if task.name == name:
                return task
        offered = [task.name for task in self.tasks]
        hint = did_you_mean(name, offered, f"choose one of {', '.join(offered)}.")
        raise ConfigError(f"{self.name}: the task {name!r} is not offered; {hint}")

    def as_dict(self) -> dict[str, Any]:
        """Give everything as plain values."""
        return {**vars(self), "tasks": [vars(task) for task in self.tasks]}


@cache
def cards_root() -> Path:
    """The folder of the cards (in the checkout, or installed as ``medresnet3d._data_manifests``).

    Raises:
        DataError: if the package was installed without them.
    """
    spec = importlib.util.find_spec("medresnet3d._data_manifests")
    if spec is None or not spec.submodule_search_locations:
        raise DataError("The data set cards are not installed with medresnet3d; reinstall the package with pip.")
    return Path(next(iter(spec.submodule_search_locations))).resolve()


def card_names() -> list[str]:
    """Names of all data sets, sorted."""
    return sorted(path.stem for path in cards_root().glob("*.json") if not path.stem.endswith(".schema"))


def read_card(path: Path) -> Card:
    """Read one card; its form is checked against ``card.schema.json`` by the tests.

    Raises:
        DataError: if the file is no card.
    """
    try:
        raw = json.loads(path.read_text(encoding="utf-8"))
        tasks = tuple(
            Task(name, task["kind"], tuple(task.get("labels", ())), task["about"])
            for name, task in raw.pop("tasks").items()
        )
        lists = {key: tuple(raw.pop(key, ())) for key in ("layout", "notes")}
        return Card(name=path.stem, tasks=tasks, **{"adapter": path.stem, **raw, **lists})
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise DataError(f"{path}: is not a data set card ({error}); compare it with card.schema.json.") from error


def list_cards() -> list[Card]:
    """All cards, by area and name."""
    cards = [read_card(cards_root() / f"{name}.json") for name in card_names()]
    return sorted(cards, key=lambda card: (AREAS.index(card.area), card.name))


def find_card(name: str) -> Card:
    """The card of a data set; case, ``-`` and spaces in the name do not matter.

    Raises:
        ConfigError: if there is no such data set; the message names the nearest.
    """
    names = card_names()
    plain = {_plain(known): known for known in names}
    if _plain(name) in plain:
        return read_card(cards_root() / f"{plain[_plain(name)]}.json")
    near = difflib.get_close_matches(_plain(name), plain, 1) or [key for key in plain if _plain(name) in key]
    hint = f"did you mean {plain[near[0]]!r}?" if near else f"known are {', '.join(names)}."
    raise ConfigError(f"No data set is called {name!r}; {hint}")


def _plain(name: str) -> str:
    return re.sub(r"[^a-z0-9]", "", name.casefold())
