"""What every verb of the command line shares: options, and errors as one sentence with an exit code."""

from __future__ import annotations

import errno
import sys
import traceback
from collections.abc import Callable, Iterator, Sequence
from functools import wraps
from typing import Annotated, ParamSpec

import typer

from medresnet3d.errors import ExitCode, MedResNetError, UntrustedBundleError

P = ParamSpec("P")

INTERRUPTED = 130

DeviceOption = Annotated[str, typer.Option(help="auto, cpu, cuda or cuda:N.")]
SetOption = Annotated[
    list[str] | None,
    typer.Option("--set", metavar="ID=VALUE", help="Override a value of the bundle's configuration; repeatable."),
]
TrustOption = Annotated[
    bool,
    typer.Option("--trust", help="Run a bundle from elsewhere although the inspection found something; remembered."),
]

_debug = False


def set_debug(on: bool) -> None:
    """Show tracebacks of errors from now on (``--debug``)."""
    global _debug
    _debug = on


def columns(rows: Sequence[Sequence[str]]) -> Iterator[str]:
    """Yield rows of text as lines with aligned columns."""
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    for row in rows:
        yield "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip()


def command(function: Callable[P, int | None]) -> Callable[P, None]:
    """Turn a verb into a command: its return value is the exit code, its errors become one sentence on stderr.

    Args:
        function: the verb; returns an exit code or ``None`` for 0.
    """

    @wraps(function)
    def run(*args: P.args, **kwargs: P.kwargs) -> None:
        try:
            code = function(*args, **kwargs)
        except (Exception, KeyboardInterrupt) as error:
            if isinstance(error, typer.Exit):
                raise
            raise typer.Exit(report_error(error)) from error
        raise typer.Exit(int(code or 0))

    return run


def report_error(error: BaseException) -> int:
    """Print one sentence about ``error`` to stderr (the traceback too with ``--debug``) and give the exit code."""
    if _debug:
        traceback.print_exception(error)
    if isinstance(error, KeyboardInterrupt):
        print(str(error) or "Interrupted.", file=sys.stderr)
        return INTERRUPTED
    error = _root_cause(error)
    print(f"Error: {_sentence(error)}", file=sys.stderr)
    for line in error.findings if isinstance(error, UntrustedBundleError) else []:
        print(f"  - {line}", file=sys.stderr)
    if isinstance(error, MedResNetError):
        return int(error.exit_code)
    return int(ExitCode.USAGE if isinstance(error, OSError) and error.errno in _OS_HINTS else ExitCode.NOTHING_DONE)


def _root_cause(error: BaseException) -> BaseException:
    """The error of this package that MONAI wrapped while it built a component, or ``error`` itself."""
    cause: BaseException | None = error
    while cause is not None:
        if isinstance(cause, MedResNetError):
            return cause
        cause = cause.__cause__ or cause.__context__
    return error


_OS_HINTS = {
    errno.ENOENT: "there is no such file or folder; check the path",
    errno.EACCES: "access is denied; check the permissions",
    errno.ENOSPC: "the disk is full; free some space or choose another output folder",
    errno.EDQUOT: "the disk quota is used up; free some space or choose another output folder",
    errno.ENOTDIR: "a part of this path is a file, not a folder; check the path",
    errno.EISDIR: "this is a folder where a file is wanted",
    errno.EROFS: "this place is read-only; choose another output folder",
}


def _sentence(error: BaseException) -> str:
    if isinstance(error, MedResNetError):
        return str(error)
    if isinstance(error, OSError) and error.errno in _OS_HINTS:
        return f"{error.filename or 'file system'}: {_OS_HINTS[error.errno]}."
    return f"unexpected {type(error).__name__}: {error} (run `medresnet3d --debug ...` to see where)"
