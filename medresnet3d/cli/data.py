"""``medresnet3d data``: what a data set holds and whether it can be used."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from medresnet3d.cli.common import command


def register(app: typer.Typer) -> None:
    """Add the group of verbs to the application."""
    group = typer.Typer(help="Data sets: check a manifest.", no_args_is_help=True)
    group.command("check")(command(check))
    app.add_typer(group, name="data")


def check(
    manifest: Annotated[Path, typer.Argument(metavar="MANIFEST", help="The manifest, or its folder.")],
    deep: Annotated[bool, typer.Option("--deep", help="Also read every image and label map.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print the findings as JSON.")] = False,
) -> int:
    """Check a manifest: what would spoil a training is an error (exit code 1)."""
    from medresnet3d.workflows.check_data import check_data, print_check

    result = check_data(manifest, deep=deep)
    print_check(result, as_json=as_json)
    return result.exit_code
