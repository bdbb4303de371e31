"""``medresnet3d convert``: scans into image files."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from medresnet3d.cli.common import command, report_error
from medresnet3d.errors import AmbiguousInputError, ConfigError, DataError, ExitCode

if TYPE_CHECKING:
    from medresnet3d.io import SeriesInfo, Volume
    from medresnet3d.workflows.convert import Conversion

LONGEST_DESCRIPTION = 48
LONGEST_NOTE = 90


def register(app: typer.Typer) -> None:
    """Add the verb to the application."""
    app.command("convert")(command(convert))


def convert(
    inputs: Annotated[
        list[Path], typer.Argument(metavar="IN...", help="A DICOM folder, ZIP archive, DICOM files or an image file.")
    ],
    output: Annotated[
        Path | None,
        typer.Option("--output", "-o", help="A file (.nii.gz, .nii, .mha, .nrrd), or a folder for all series."),
    ] = None,
    series: Annotated[
        str | None, typer.Option(metavar="ID", help="Convert this DICOM series only; --list shows the ids.")
    ] = None,
    show: Annotated[bool, typer.Option("--list", help="Only list what is there.")] = False,
    strict: Annotated[
        bool, typer.Option("--strict", help="Refuse tilt, missing slices and gaps instead of repairing them.")
    ] = False,
    phi: Annotated[str, typer.Option(help="What the JSON says of the patient: none, pseudonym or keep.")] = "pseudonym",
) -> int:
    """Write scans as NIfTI, MetaImage or NRRD, with a JSON file of what each is."""
    if show and output is not None:
        raise ConfigError("--list writes nothing, so -o has no use beside it; give one of them.")
    if not show and output is None:
        raise ConfigError("where to? Give -o FILE or -o FOLDER, or --list to see what is there.")
    from medresnet3d.workflows.convert import convert as run

    try:
        if output is None:
            return _list(inputs)
        done = run(inputs, output, series=series, strict=strict, phi=phi)
    except AmbiguousInputError:
        raise
    except DataError as error:
        report_error(error)
        return ExitCode.NOTHING_DONE
    _show(done)
    return done.exit_code


def _list(inputs: list[Path]) -> int:
    from medresnet3d.workflows.convert import list_scans

    try:
        _show_list(list_scans(inputs))
    except AmbiguousInputError as several:
        print(several)
    return ExitCode.OK


def _show(done: Conversion) -> None:
    """Print one line for each image to stdout, warnings and errors to stderr, and where everything is."""
    for row in done.rows:
        if row["file"] is not None:
            print(f"{row['file']}: {_size(row['shape'], row['spacing_mm'])}{_what(row['description'])}")
        elif row["id"] not in done.errors:
            print(f"not converted: {row['id']}{_what(row['description'])}, {row.get('note', 'no volume')}")
        for warning in row["warnings"]:
            print(f"Warning: {row['file'] or row['id']}: {warning}", file=sys.stderr)
    for error in done.errors.values():
        report_error(error)
    if done.index is not None:
        failed = f", {len(done.errors)} failed" if done.errors else ""
        print(f"{len(done.files)} of {len(done.files) + len(done.errors)} volumes written{failed}; list: {done.index}")


def _size(shape: list[int], spacing: list[float]) -> str:
    return f"{' x '.join(map(str, shape))} voxels of {' x '.join(f'{size:.4g}' for size in spacing)} mm"


def _what(description: str) -> str:
    return f", {description}" if description else ""


def _show_list(found: list[SeriesInfo] | Volume) -> None:
    """Print a table of the series; of an image that is none, one line."""
    if not isinstance(found, list):
        print(f"{found.source.format}: {_size(list(found.array.shape), list(found.spacing))}")
        return
    table: list[tuple[str, ...]] = [("ID", "TYPE", "SLICES", "PIXELS", "SPACING (mm)", "DESCRIPTION", "")]
    table += [_row(info) for info in found]
    widths = [max(len(row[column]) for row in table) for column in range(len(table[0]))]
    for row in table:
        print("  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip())
    volumes = sum(info.volumetric for info in found)
    choice = "; choose one with --series ID" if any(info.readable for info in found) else ""
    print(f"{volumes} of {len(found)} {'is a volume' if volumes == 1 else 'are volumes'}{choice}.")


def _row(info: SeriesInfo) -> tuple[str, ...]:
    columns, rows, slices = info.shape
    spacing = "?" if info.spacing is None else " x ".join(f"{size:.4g}" for size in info.spacing)
    note = _note(info)
    return (
        info.id,
        info.modality or "?",
        str(slices),
        f"{columns} x {rows}",
        spacing,
        _short(info.description, LONGEST_DESCRIPTION),
        f"({_short(note, LONGEST_NOTE)})" if note else "",
    )


def _note(info: SeriesInfo) -> str:
    """Say why a series is no volume, or else what is the matter with its geometry."""
    if info.note or not info.volumetric:
        return info.note
    problem = info.fault or next(iter(info.stack("").warnings), "")
    return problem.split(";")[0].rstrip(".")


def _short(text: str, longest: int) -> str:
    return text if len(text) <= longest else f"{text[: longest - 3]}..."
