"""The table of data sets, from their cards."""

from __future__ import annotations

from pathlib import Path

from medresnet3d.data.preparation.cards import Card, list_cards


def draw(folder: Path) -> None:
    """Write ``data_sets.md`` with a section for each area of medicine."""
    lines: list[str] = []
    area = ""
    for card in list_cards():
        if card.area != area:
            area = card.area
            lines += ["", f"## {'Importers' if area == 'any' else area.capitalize()}", ""]
            lines += ["| name | tasks | images | size | licence | where to ask |", "|---|---|---|---|---|---|"]
        lines.append(_row(card))
    (folder / "data_sets.md").write_text("\n".join(lines) + "\n", encoding="utf-8")


def _row(card: Card) -> str:
    tasks = ", ".join(f"{task.name} ({task.kind})" for task in card.tasks)
    source = f"<{card.source}> ({card.access})" if card.source.startswith("http") else card.source
    return f"| `{card.name}` {card.title} | {tasks} | {card.images} | {card.size} | {card.licence} | {source} |"
