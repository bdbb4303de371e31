"""``medresnet3d compare``: which of several parts is better on one's own data, at equal budget."""

from __future__ import annotations

import shlex
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated

import typer

from medresnet3d.cli.common import DeviceOption, SetOption, TrustOption, command
from medresnet3d.errors import ConfigError


def register(app: typer.Typer) -> None:
    """Add the verb to the application."""
    app.command("compare")(command(compare))


def compare(
    bundle: Annotated[
        str | None, typer.Argument(metavar="BUNDLE", help="A name from `bundle list`, a bundle folder or a RUN folder.")
    ] = None,
    data: Annotated[
        Path | None, typer.Option("--data", metavar="MANIFEST", help="The manifest of the data set.")
    ] = None,
    output: Annotated[
        Path | None,
        typer.Option("--output", "-o", metavar="OUT", help="Folder of the comparison; goes on with an old one."),
    ] = None,
    vary: Annotated[
        list[str] | None,
        typer.Option(metavar="FACTOR=A,B", help="What is varied, by name or JSON, the baseline first; repeatable."),
    ] = None,
    preset: Annotated[
        str | None,
        typer.Option(
            help="survey-activations, -losses, -optimisers, -schedules, -normalisation, -regularisation, -all; "
            "lung-networks, -paper; depth, transfer, freeze-depth, curriculum, alignment."
        ),
    ] = None,
    baseline: Annotated[
        list[str] | None,
        typer.Option(metavar="FACTOR=LEVEL", help="Another baseline than the first value; repeatable."),
    ] = None,
    one_at_a_time: Annotated[
        bool, typer.Option("--one-at-a-time", help="Change one factor of the baseline at a time, not all combinations.")
    ] = False,
    seeds: Annotated[int | None, typer.Option(help="Runs of each arm (5; presets 3).")] = None,
    budget: Annotated[str | None, typer.Option(help="Of each cell: 120s, 2m or 300steps (120s; presets 20s).")] = None,
    learning_rates: Annotated[
        str | None, typer.Option(metavar="A,B,C", help="Each cell takes the one that does best on an inner split.")
    ] = None,
    folds: Annotated[int | None, typer.Option(help="Each seed holds out another of so many folds, by patient.")] = None,
    workers: Annotated[str, typer.Option(help="auto (one a GPU or CPU core) or a number of processes.")] = "auto",
    threads: Annotated[int, typer.Option(help="Threads of each worker.")] = 1,
    retry_failed: Annotated[bool, typer.Option("--retry-failed", help="Run cells again that failed before.")] = False,
    curves: Annotated[
        Path | None, typer.Option(metavar="OUT", help="Only draw the survey's schedules and the activations.")
    ] = None,
    optimiser_axes: Annotated[
        Path | None,
        typer.Option(metavar="OUT", help="Only measure the survey's four axes of optimisers on toy functions."),
    ] = None,
    device: DeviceOption = "auto",
    overrides: SetOption = None,
    trust: TrustOption = False,
) -> int:
    """Train every combination of what is varied, at equal budget on the same splits, and report what differs.

    Finished cells are kept: the same command goes on after Ctrl-C.
    """
    if _draw(curves, optimiser_axes):
        return 0
    if bundle is None or data is None or output is None:
        raise ConfigError("Give a BUNDLE, --data MANIFEST and -o OUT (or --curves OUT, or --optimiser-axes OUT).")
    from medresnet3d.workflows.compare import compare as run

    with with_command():
        result = run(
            bundle,
            data,
            output,
            vary=vary,
            preset=preset,
            baseline=baseline or (),
            one_at_a_time=one_at_a_time,
            seeds=seeds,
            budget=budget,
            learning_rates=numbers(learning_rates or "", "--learning-rates"),
            folds=folds,
            set=overrides or (),
            device=device,
            workers=workers,
            threads=threads,
            retry_failed=retry_failed,
            trust=trust,
        )
    print(result.conclusion)
    print(f"tables: {result.folder}")
    print(f"report: {result.report}")
    return int(result.exit_code)


def _draw(curves: Path | None, optimiser_axes: Path | None) -> bool:
    """Make the pages that need neither bundle nor data, if they are wanted."""
    if curves is not None:
        from medresnet3d.workflows.curves import draw_curves

        print(f"page: {draw_curves(curves)}")
    if optimiser_axes is not None:
        from medresnet3d.workflows.optimiser_axes import measure_axes

        print(f"page: {measure_axes(optimiser_axes)}")
    return curves is not None or optimiser_axes is not None


@contextmanager
def with_command() -> Iterator[None]:
    """Say with which command an interrupted comparison goes on."""
    from medresnet3d.workflows.compare import ComparisonInterrupted

    try:
        yield
    except ComparisonInterrupted as stop:
        raise ComparisonInterrupted(f"{stop} Go on with: {shlex.join(['medresnet3d', *sys.argv[1:]])}") from None


def numbers(text: str, option: str) -> list[float]:
    """Read numbers separated by commas.

    Args:
        text: what was given; may be empty.
        option: the option's name, for the message.

    Raises:
        ConfigError: if a part is no number.
    """
    try:
        return [float(one) for one in text.split(",")] if text else []
    except ValueError:
        raise ConfigError(f"{option} {text}: give numbers separated by commas, such as 0.001,0.01.") from None
