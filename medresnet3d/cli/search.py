"""``medresnet3d search``: hyper-parameters of a bundle for a data set."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from medresnet3d.cli.common import DeviceOption, SetOption, TrustOption, command

if TYPE_CHECKING:
    from medresnet3d.workflows.search_outcome import SearchResult


def register(app: typer.Typer) -> None:
    """Add the verb to the application."""
    app.command("search")(command(search))


def search(
    bundle: Annotated[
        str, typer.Argument(metavar="BUNDLE", help="A name from `bundle list`, a bundle folder or a RUN folder.")
    ],
    data: Annotated[Path, typer.Option("--data", metavar="MANIFEST", help="The manifest of the data set.")],
    space: Annotated[
        Path,
        typer.Option(
            help='JSON of ids with ranges: {"learning_rate": {"type": "float", "low": 1e-4, "high": 0.1, "log": true}, '
            '"arch": {"type": "categorical", "choices": ["resnet18", "vgg16"]}}.'
        ),
    ],
    output: Annotated[Path, typer.Option("--output", "-o", metavar="OUT", help="Folder of the search.")],
    method: Annotated[str, typer.Option(help="optuna, pso, whale, improved_whale or random.")] = "optuna",
    trials: Annotated[int, typer.Option(help="Number of trainings.")] = 30,
    workers: Annotated[int, typer.Option(help="Processes on this machine.")] = 1,
    population: Annotated[
        int | None, typer.Option(help="Trainings of one generation of a swarm; about the root of --trials if left out.")
    ] = None,
    objective: Annotated[str, typer.Option(help="The key metric of the last epoch, or of the best.")] = "last",
    budget: Annotated[str, typer.Option(help="Length of a training: 60s, 5min, 200steps or 3epochs.")] = "",
    prune: Annotated[
        bool | None,
        typer.Option("--prune/--no-prune", help="End trials that do worse than the median (not for swarms)."),
    ] = None,
    storage: Annotated[
        str, typer.Option(help="journal:FILE or a database, to share with other machines; else a file in OUT.")
    ] = "",
    seed: Annotated[int, typer.Option(help="Seed of the proposals.")] = 0,
    device: DeviceOption = "auto",
    overrides: SetOption = None,
    trust: TrustOption = False,
) -> int:
    """Search hyper-parameters of a bundle; the same command goes on with a search. Ctrl-C saves."""
    from medresnet3d.workflows.search import search as run

    result = run(
        bundle,
        data,
        space,
        output,
        method=method,
        trials=trials,
        workers=workers,
        population=population,
        objective=objective,
        budget=budget,
        prune=prune,
        storage=storage,
        seed=seed,
        device=device,
        set=overrides or (),
        trust=trust,
    )
    _show(result)
    return int(result.exit_code)


def _show(result: SearchResult) -> None:
    """Print the best trial, how to go on with it, and what failed."""
    failed = [one for one in result.trials if one.state == "failed"]
    for one in failed[:3]:
        print(f"Error: trial {one.slot}: {one.notes['error']}", file=sys.stderr)
    if len(failed) > 3:
        print(f"and {len(failed) - 3} more failed trials, see {result.report}", file=sys.stderr)
    if result.best is None:
        print("No trial has come to a value.", file=sys.stderr)
        return
    values = ", ".join(f"{name}={value}" for name, value in result.best.stored.items())
    print(f"best {result.metric} {result.best.value:.4g} (trial {result.best.slot} of {len(result.trials)}): {values}")
    print("It was chosen on the validation cases, so it flatters. Measure it on test cases:")
    print(f"  {result.evaluate_command}")
    print("Train with its values again:")
    print(f"  {result.train_command}")
    print(f"values: {result.folder / 'best.json'}")
    print(f"report: {result.report}")
