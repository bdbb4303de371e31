"""``medresnet3d doctor``: what is installed and what this machine can do."""

from __future__ import annotations

import json
from typing import Annotated

import typer

from medresnet3d.cli.common import command
from medresnet3d.errors import ExitCode


def register(app: typer.Typer) -> None:
    """Add the verb to the application."""
    app.command("doctor")(command(doctor))


def doctor(as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False) -> int:
    """Show versions, devices and optional parts. Exit code 1 if something that is needed is missing or broken."""
    from medresnet3d.workflows.doctor import doctor as examine

    findings = examine()
    if as_json:
        print(json.dumps([finding._asdict() for finding in findings], indent=2))
    else:
        width = max(len(finding.name) for finding in findings)
        for finding in findings:
            print(f"{finding.state:8} {finding.name.ljust(width)}  {finding.detail}")
    return ExitCode.SOME_FAILED if any(finding.state in ("missing", "broken") for finding in findings) else ExitCode.OK
