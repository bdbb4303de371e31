"""``medresnet3d train``: a bundle from a data set."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Annotated

import typer

from medresnet3d.cli.common import DeviceOption, SetOption, TrustOption, command


def register(app: typer.Typer) -> None:
    """Add the verb to the application."""
    app.command("train")(command(train))


def train(
    bundle: Annotated[str, typer.Argument(help="A name from `bundle list`, a bundle folder or a RUN folder.")],
    data: Annotated[Path, typer.Option("--data", metavar="MANIFEST", help="The manifest of the data set.")],
    output: Annotated[Path, typer.Option("--output", "-o", metavar="RUN", help="Folder of the run.")],
    resume: Annotated[bool, typer.Option("--resume", help="Go on with RUN from its last checkpoint.")] = False,
    device: DeviceOption = "auto",
    overrides: SetOption = None,
    trust: TrustOption = False,
    rivals: Annotated[
        bool, typer.Option("--rivals/--no-rivals", help="Train the variants that the bundle is compared with, too.")
    ] = True,
) -> None:
    """Train a bundle; RUN gets checkpoints, metrics.csv, a report and a ready bundle. Ctrl-C saves."""
    from medresnet3d.workflows.train import train as run

    folder = run(bundle, data, output, resume=resume, device=device, set=overrides or (), trust=trust, rivals=rivals)
    if os.environ.get("RANK", "0") == "0":  # under torchrun the first process alone writes and tells
        _show(folder)


def _show(folder: Path) -> None:
    """Print what the run came to and where things are."""
    import json

    training = json.loads((folder / "bundle" / "configs" / "metadata.json").read_text(encoding="utf-8"))["training"]
    figures = ", ".join(f"{name} {value:.4g}" for name, value in training["metrics"].items()) or "no validation"
    print(f"{training['epochs']} epochs in {training['minutes']} min; best epoch {training['best epoch']}: {figures}")
    print(f"bundle: {folder / 'bundle'}")
    print(f"report: {folder / 'report.html'}")
