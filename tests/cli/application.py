"""A command line of some verbs alone, which starts faster than the whole one."""

from __future__ import annotations

from collections.abc import Callable

import typer


def application(*registers: Callable[[typer.Typer], None]) -> typer.Typer:
    """One with the verbs that ``register`` of their modules adds."""
    app = typer.Typer()
    app.callback()(lambda: None)
    for register in registers:
        register(app)
    return app
