"""``medresnet3d data cache``: what prepared images lie on the disk, and removing them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

import typer

from medresnet3d.cli.common import columns, command

FolderArgument = Annotated[
    Path | None, typer.Argument(metavar="[FOLDER]", help="The `cache_dir` of a training; by default the user's own.")
]


def register(group: typer.Typer) -> None:
    """Add the verbs to the group `data`."""
    cache = typer.Typer(help="Prepared images on the disk: info, clear.", no_args_is_help=True)
    cache.command("info")(command(info))
    cache.command("clear")(command(clear))
    group.add_typer(cache, name="cache")


def info(
    folder: FolderArgument = None, as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False
) -> None:
    """Show how much a cache holds, by data set, and since when it has not been used."""
    from medresnet3d.workflows.data_cache import age_text, cache_info, size_text

    path, found = cache_info(folder)
    if as_json:
        print(json.dumps({"folder": str(path), "data_sets": [each.as_dict() for each in found]}, indent=1))
        return
    entries, size = sum(each.entries for each in found), sum(each.bytes for each in found)
    print(f"{path}: {entries} entries, {size_text(size)}")
    if found:
        rows = [
            (each.name, str(each.entries), size_text(each.bytes), age_text(each.last_used), age_text(each.first_used))
            for each in found
        ]
        for line in columns([("data set", "entries", "size", "unused since", "oldest unused since"), *rows]):
            print(line)


def clear(
    folder: FolderArgument = None,
    name: Annotated[str | None, typer.Option(help="Only the entries of this data set.")] = None,
    unused_days: Annotated[
        float | None, typer.Option(metavar="DAYS", help="Only entries that have not been used for so long.")
    ] = None,
) -> None:
    """Remove entries from a cache; whatever else lies in the folder stays."""
    from medresnet3d.workflows.data_cache import clear_cache, size_text

    entries, size = clear_cache(folder, name, unused_days)
    print(f"Removed {entries} entries, {size_text(size)}.")
