"""``medresnet3d evaluate``: how good a bundle is on data with known truth."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from medresnet3d.cli.common import DeviceOption, SetOption, TrustOption, command

if TYPE_CHECKING:
    from medresnet3d.workflows.evaluate import Evaluation


def register(app: typer.Typer) -> None:
    """Add the verb to the application."""
    app.command("evaluate")(command(evaluate))


def evaluate(
    bundle: Annotated[
        str, typer.Argument(metavar="BUNDLE|RUN", help="A name from `bundle list`, a bundle folder or a RUN folder.")
    ],
    data: Annotated[Path, typer.Option("--data", help="Manifest of the data, with their truth.")],
    output: Annotated[Path, typer.Option("--output", "-o", help="Folder for the figures and the report.")],
    section: Annotated[
        str, typer.Option(help="test, validation, training, all, or auto: test, else validation, else all.")
    ] = "auto",
    device: DeviceOption = "auto",
    overrides: SetOption = None,
    trust: TrustOption = False,
    against: Annotated[
        list[Path] | None,
        typer.Option(metavar="BUNDLE|RUN", help="Another run or bundle to compare with on the same cases; repeatable."),
    ] = None,
) -> int:
    """Compare a bundle's answers with the truth: figures with intervals over patients, tables and a report."""
    from medresnet3d.workflows.evaluate import evaluate as run

    result = run(
        bundle, data, output, section=section, device=device, set=overrides or (), trust=trust, against=against or ()
    )
    _show(result)
    return int(result.exit_code)


def _show(result: Evaluation) -> None:
    """Print the figures to stdout, warnings and errors to stderr, and where everything is."""
    for name, value in result.items():
        if isinstance(value, dict):
            print(f"{name}: " + ", ".join(f"{metric} {estimate}" for metric, estimate in value.items()))
        else:
            print(f"{name}: {value}" + (f" ({value.note})" if value.note else ""))
    if result.side_by_side is not None:
        print("", *result.side_by_side.lines(), result.side_by_side.about, "", sep="\n")
    for warning in result.warnings:
        print(f"Warning: {warning}", file=sys.stderr)
    for case, error in result.errors.items():
        print(f"Error: {case}: {error}", file=sys.stderr)
    failed = f", {len(result.errors)} failed" if result.errors else ""
    print(f"{result.size} ({result.section}){failed}; report: {result.report}")
    print("Research use only. Not for clinical use.", file=sys.stderr)
