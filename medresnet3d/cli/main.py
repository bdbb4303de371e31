"""The ``medresnet3d`` command. The verbs' own modules do their imports when they run, so that ``--help`` is instant."""

from __future__ import annotations

from typing import Annotated

import typer

from medresnet3d._version import __version__
from medresnet3d.cli import (
    bundle,
    compare,
    convert,
    data,
    demo,
    doctor,
    evaluate,
    infer,
    learning_curve,
    search,
    train,
    weights,
)
from medresnet3d.cli.common import set_debug

app = typer.Typer(
    name="medresnet3d",
    help="Residual-network systems for medical imaging as MONAI bundles. Research use only. Not for clinical use.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,  # importing rich would double the time of --help
    context_settings={"help_option_names": ["-h", "--help"]},
)


def _show_version(wanted: bool) -> None:
    if wanted:
        print(f"medresnet3d {__version__}")
        raise typer.Exit()


@app.callback()
def options(
    debug: Annotated[bool, typer.Option("--debug", help="Show the traceback of an error.")] = False,
    version: Annotated[
        bool, typer.Option("--version", callback=_show_version, is_eager=True, help="Print the version.")
    ] = False,
) -> None:
    """Options that go before the verb."""
    set_debug(debug)


for _verb in (demo, infer, convert, train, evaluate, compare, learning_curve, search, bundle, data, weights, doctor):
    _verb.register(app)


def main() -> None:
    """Entry point of the console script."""
    app()
