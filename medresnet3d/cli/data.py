"""``medresnet3d data``: which public data sets are known, what they hold, and whether a manifest can be used."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

import typer

from medresnet3d.cli import data_cache
from medresnet3d.cli.common import columns, command

JsonOption = Annotated[bool, typer.Option("--json", help="Print JSON.")]
NameArgument = Annotated[str, typer.Argument(metavar="NAME", help="A data set of `data list`.")]
SeedOption = Annotated[int, typer.Option(help="Of the folds, and of whatever is drawn.")]


def register(app: typer.Typer) -> None:
    """Add the group of verbs to the application."""
    group = typer.Typer(
        help="Data sets: list, show, prepare, mimic; check a manifest; the cache of prepared images.",
        no_args_is_help=True,
    )
    group.command("list")(command(list_))
    group.command("show")(command(show))
    group.command("prepare")(command(prepare))
    group.command("mimic")(command(mimic))
    group.command("check")(command(check))
    data_cache.register(group)
    app.add_typer(group, name="data")


def list_(as_json: JsonOption = False) -> None:
    """List the data sets that `data prepare` can read: tasks, size, licence, and how to get them."""
    from medresnet3d.data.preparation.cards import list_cards

    cards = list_cards()
    if as_json:
        print(json.dumps([card.as_dict() for card in cards], indent=1, ensure_ascii=False))
        return
    header = ("name", "area", "tasks", "images", "size", "licence", "access", "source")
    rows = [
        (c.name, c.area, " ".join(task.name for task in c.tasks), c.images, c.size, c.licence, c.access, c.source)
        for c in cards
    ]
    for line in columns([header, *rows]):
        print(line)
    print("\nLicences as they were when the cards were written: read them again when you download.")


def show(name: NameArgument, as_json: JsonOption = False) -> None:
    """Show what is known about a data set: tasks, classes, layout, split, licence, where to ask, what to cite."""
    from medresnet3d.data.preparation.cards import find_card

    card = find_card(name)
    if as_json:
        print(json.dumps(card.as_dict(), indent=1, ensure_ascii=False))
        return
    print(f"{card.name}: {card.title}")
    for key in ("modality", "images", "size", "licence", "access", "source", "paper", "split", "split_unit"):
        print(f"  {key.replace('_', ' ')}: {getattr(card, key)}")
    for task in card.tasks:
        classes = f": {', '.join(task.labels)}" if task.labels else ""
        print(f"  task {task.name} ({task.kind}): {task.about}{classes}")
    for option, meaning in card.options.items():
        print(f"  option --set {option}=...: {meaning}")
    print("  layout:", *card.layout, sep="\n    ")
    for note in card.notes:
        print(f"  note: {note}")


def prepare(
    name: NameArgument,
    root: Annotated[Path, typer.Argument(metavar="ROOT", help="The folder that the data set was unpacked to.")],
    output: Annotated[Path, typer.Option("-o", "--output", help="The manifest to write.")] = Path("manifest.json"),
    task: Annotated[str | None, typer.Option(help="One of the data set's tasks; the first by default.")] = None,
    folds: Annotated[int, typer.Option(help="Patient-wise folds where there is no official split; 0: none.")] = 5,
    seed: SeedOption = 0,
    format: Annotated[str | None, typer.Option(help="json or csv; by default as the output is called.")] = None,
    options: Annotated[
        list[str] | None,
        typer.Option("--set", metavar="NAME=VALUE", help="An option of this data set (`data show NAME`); repeatable."),
    ] = None,
) -> None:
    """Turn the untouched official folder of a data set into a manifest; print what is in it and what was left out."""
    from medresnet3d.workflows.prepare_data import prepare_data

    prepare_data(name, root, output, task=task, folds=folds, seed=seed, options=options or [], format=format)


def mimic(
    name: NameArgument,
    folder: Annotated[Path, typer.Argument(metavar="DIR", help="An empty or new folder.")],
    seed: SeedOption = 0,
) -> None:
    """Write a tiny synthetic copy of a data set's official layout, to try things out without the data."""
    from medresnet3d.data.preparation.prepare import mimic as write

    print(write(name, folder, seed))


def check(
    manifests: Annotated[
        list[Path], typer.Argument(metavar="MANIFEST...", help="Manifests (JSON or CSV), or their folders.")
    ],
    deep: Annotated[bool, typer.Option("--deep", help="Also read every image and label map.")] = False,
    output: Annotated[
        Path | None,
        typer.Option("-o", "--output", help="Folder for fingerprint, page and findings; with --deep NAME_check."),
    ] = None,
    phi: Annotated[str, typer.Option(help="What the page says of patients: none, pseudonym or keep.")] = "pseudonym",
    workers: Annotated[int | None, typer.Option(min=1, help="Number of threads; one a processor by default.")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print the findings as JSON.")] = False,
) -> int:
    """Check a manifest and its files: what would spoil a training is told (exit code 1)."""
    from medresnet3d.workflows import check_data as checks

    results = []
    for manifest in manifests:
        folder = output if len(manifests) == 1 else output and output / checks.default_output(manifest)
        folder = checks.default_output(manifest) if folder is None and deep else folder
        result = checks.check_data(manifest, deep=deep, output=folder, phi=phi, workers=workers)
        results.append(result)
        if not as_json:
            checks.print_check(result)
    if as_json:
        print(checks.as_json(results))
    return max(result.exit_code for result in results)
