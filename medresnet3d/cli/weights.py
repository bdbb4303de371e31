"""``medresnet3d weights``: which published weights are known, what they need, and how they come to this computer."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from medresnet3d.cli.common import columns, command

if TYPE_CHECKING:
    from medresnet3d.weights.cards import WeightsCard

JsonOption = Annotated[bool, typer.Option("--json", help="Print JSON.")]
NameArgument = Annotated[str, typer.Argument(metavar="NAME", help="A name of `weights list`.")]


def register(app: typer.Typer) -> None:
    """Add the group of verbs to the application."""
    group = typer.Typer(help="Published weights: list, show, fetch.", no_args_is_help=True)
    group.command("list")(command(list_))
    group.command("show")(command(show))
    group.command("fetch")(command(fetch))
    app.add_typer(group, name="weights")


def list_(
    as_json: JsonOption = False,
    long: Annotated[
        bool, typer.Option("--long", help="Show source, data, licence, address and hash of each as well.")
    ] = False,
) -> None:
    """List the published weights that `pretrained=NAME` takes, their licences, and which of them are here."""
    from medresnet3d.weights.cards import list_cards
    from medresnet3d.weights.store import stored_digest

    cards = [(card, stored_digest(card) is not None) for card in list_cards()]
    if as_json:
        print(json.dumps([{**card.as_dict(), "fetched": here} for card, here in cards], indent=1))
        return
    rows = [
        (card.name, card.arch, f"{card.spatial_dims}D", card.licence_name, card.known_digest, "yes" if here else "no")
        for card, here in cards
    ]
    lines = list(columns([("name", "arch", "dims", "licence", "hash known", "here"), *rows]))
    print(lines[0])
    for line, (card, _) in zip(lines[1:], cards, strict=True):
        print("\n".join([line, *_origin(card)] if long else [line]))
    print(
        "\nThe terms of ImageNet ask for non-commercial research and teaching, whatever a file's licence is.\n"
        "Licences as they were when the list was written: read them again when you download."
    )


def _origin(card: WeightsCard) -> Iterator[str]:
    """Where weights come from, under which licence, and what is known of their hash, in indented lines."""
    for key in ("source", "trained_on", "licence", "url"):
        yield f"  {key.replace('_', ' ')}: {getattr(card, key)}"
    yield f"  known of its SHA-256: {card.sha256 or card.sha256_prefix or 'nothing'} ({card.known_digest})"


def show(name: NameArgument, as_json: JsonOption = False) -> None:
    """Show what is known about published weights: address, hash, licence, input, paper, and whether they are here."""
    from medresnet3d.weights.cards import find_card
    from medresnet3d.weights.store import stored_digest, stored_file

    card, digest = find_card(name), stored_digest(find_card(name))
    here = str(stored_file(card)) if digest else None
    if as_json:
        print(json.dumps({**card.as_dict(), "file": here, "file_sha256": digest.sha256 if digest else None}, indent=1))
        return
    print(card.name)
    print("\n".join([f"  arch: {card.arch}", *_origin(card), f"  paper: {card.paper}"]))
    print(f"  input: {card.spatial_dims}D, {card.in_channels} channels, edge {card.input_size or 'not fixed'}")
    print(f"  intensities: {card.normaliser}")
    print(f"  classes: {card.num_classes or 'no last layer'}")
    for note in card.notes:
        print(f"  note: {note}")
    print(f"  here: {here or f'no; medresnet3d weights fetch {card.name}'}")


def fetch(
    name: NameArgument,
    source: Annotated[
        Path | None, typer.Option("--from", metavar="FILE", help="A copy that came another way, instead of a download.")
    ] = None,
    sha256: Annotated[str | None, typer.Option(help="SHA-256 that the file must have.")] = None,
    again: Annotated[bool, typer.Option("--again", help="Fetch it although it is there.")] = False,
) -> None:
    """Download published weights into the user's folder, or take a copy; a wrong hash is refused."""
    from medresnet3d.weights.cards import find_card
    from medresnet3d.workflows.fetch_weights import fetch_weights

    print("\n".join([name, *_origin(find_card(name))]), flush=True)
    file, digest = fetch_weights(name, source, sha256, again)
    print(f"  file: {file}\n  its SHA-256: {digest.sha256}")
    if digest.checked:
        print(f"It agrees with {digest.checked}.")
    else:
        print(
            "Nothing was checked: no hash of this file is published; --sha256 checks one that you know.",
            file=sys.stderr,
        )
