"""``medresnet3d learning-curve``: what more patients would bring."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from medresnet3d.cli.common import DeviceOption, SetOption, TrustOption, command
from medresnet3d.cli.compare import numbers, with_command


def register(app: typer.Typer) -> None:
    """Add the verb to the application."""
    app.command("learning-curve")(command(learning_curve))


def learning_curve(
    bundle: Annotated[str, typer.Argument(help="A name from `bundle list`, a bundle folder or a RUN folder.")],
    data: Annotated[Path, typer.Option("--data", metavar="MANIFEST", help="The manifest of the data set.")],
    output: Annotated[Path, typer.Option("--output", "-o", metavar="OUT", help="Folder; goes on with an old one.")],
    fractions: Annotated[
        str, typer.Option(metavar="A,B,...", help="Shares of the training patients.")
    ] = "0.1,0.25,0.5,1",
    seeds: Annotated[int, typer.Option(help="Runs of each share.")] = 3,
    budget: Annotated[str, typer.Option(help="Of each cell: 120s, 2m or 300steps.")] = "120s",
    folds: Annotated[int | None, typer.Option(help="Each seed holds out another of so many folds, by patient.")] = None,
    workers: Annotated[str, typer.Option(help="auto (one a GPU or CPU core) or a number of processes.")] = "auto",
    threads: Annotated[int, typer.Option(help="Threads of each worker.")] = 1,
    retry_failed: Annotated[bool, typer.Option("--retry-failed", help="Run cells again that failed before.")] = False,
    device: DeviceOption = "auto",
    overrides: SetOption = None,
    trust: TrustOption = False,
) -> int:
    """Train on growing shares of the patients and measure on the same held-out ones; the same command goes on."""
    from medresnet3d.workflows.learning_curve import learning_curve as run

    with with_command():
        result = run(
            bundle,
            data,
            output,
            fractions=numbers(fractions, "--fractions"),
            seeds=seeds,
            budget=budget,
            folds=folds,
            set=overrides or (),
            device=device,
            workers=workers,
            threads=threads,
            retry_failed=retry_failed,
            trust=trust,
        )
    for arm in sorted(result.summary.arms, key=lambda arm: arm.costs["training_patients"]):
        print(f"{arm.costs['training_patients']:.0f} patients: {result.summary.metric} {arm.mean}")
    print(f"report: {result.report}")
    return int(result.exit_code)
