"""``medresnet3d demo``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from medresnet3d.cli.common import command


def demo(
    output: Annotated[
        Path, typer.Option("-o", "--output", help="Folder for everything the demonstration writes.")
    ] = Path("medresnet3d-demo"),
) -> None:
    """Train on phantom CT nodules and segment a real brain MRI, in a few minutes on two cores."""
    from medresnet3d.workflows.demo import demo as run

    summary = run(output)
    typer.echo(summary.text())


def register(app: typer.Typer) -> None:
    """Add the verb to the command line."""
    app.command("demo")(command(demo))
