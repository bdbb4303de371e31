"""``medresnet3d infer``: answers for scans."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from medresnet3d.cli.common import DeviceOption, SetOption, TrustOption, command, report_error
from medresnet3d.errors import ConfigError

if TYPE_CHECKING:
    from medresnet3d.workflows.infer import InferSummary

MAX_LINES = 40


def register(app: typer.Typer) -> None:
    """Add the verb to the application."""
    app.command("infer")(command(infer))


def infer(
    bundle: Annotated[
        str, typer.Argument(metavar="BUNDLE", help="A name from `bundle list`, a bundle folder or a RUN folder.")
    ],
    inputs: Annotated[
        list[str],
        typer.Argument(metavar="INPUT...", help="Images, folders, patterns, DICOM folders or a manifest."),
    ],
    output: Annotated[Path, typer.Option("--output", "-o", help="Folder for the answers.")],
    at: Annotated[
        str | None, typer.Option(metavar="X,Y,Z", help="The point to classify in a whole scan: mm, RAS+.")
    ] = None,
    modalities: Annotated[
        str | None,
        typer.Option(
            metavar="NAMES",
            help="What the files of a case end with, in the order of the bundle's modalities: T1,T1_IR,T2_FLAIR.",
        ),
    ] = None,
    format: Annotated[
        str | None,
        typer.Option(
            "--format",
            help="nifti, mha, nrrd, dicomseg, dicomseg-labelmap, dicomseg-fractional, dicomsr or sc, several with "
            "commas; by default the input's own.",
        ),
    ] = None,
    series: Annotated[
        str | None, typer.Option(help="Which DICOM series, or which volume of a 4-D file, is meant.")
    ] = None,
    strict: Annotated[
        bool, typer.Option("--strict", help="Refuse a DICOM series whose geometry would have to be repaired.")
    ] = False,
    exact: Annotated[
        bool, typer.Option("--exact", help="Compute as MONAI would, in fp32 with its own windows; slower.")
    ] = False,
    precision: Annotated[
        str | None, typer.Option(help="auto, fp32, bf16 or fp16 instead of the bundle's own number format.")
    ] = None,
    phi: Annotated[
        str, typer.Option(help="What the answers say of a DICOM patient: none, pseudonym or keep.")
    ] = "pseudonym",
    explain: Annotated[
        str | None,
        typer.Option(metavar="METHOD", help="gradcam or occlusion (cascades: evidence): write where it looked."),
    ] = None,
    device: DeviceOption = "auto",
    overrides: SetOption = None,
    trust: TrustOption = False,
) -> int:
    """Answer scans with a bundle: label maps, predictions.csv and a report."""
    point = parse_point(at)
    from medresnet3d.workflows.infer import infer as run

    summary = run(
        bundle,
        inputs,
        output,
        device=device,
        format=format,
        at=point,
        modalities=None if modalities is None else modalities.split(","),
        series=series,
        strict=strict,
        exact=exact,
        precision=precision,
        phi=phi,
        explain=explain,
        set=overrides or (),
        trust=trust,
    )
    _show(summary)
    return summary.exit_code


def parse_point(text: str | None) -> tuple[float, float, float] | None:
    """Read ``--at``.

    Raises:
        ConfigError: if it is not three numbers.
    """
    if text is None:
        return None
    try:
        x, y, z = (float(part) for part in text.replace(";", ",").split(","))
    except ValueError:
        raise ConfigError(f"--at {text!r}: give three numbers x,y,z in mm, for example --at -61.5,40,-12.") from None
    return x, y, z


def _show(summary: InferSummary) -> None:
    """Print one line for each answer to stdout, each error to stderr, and where everything is."""
    from medresnet3d.reports import DISCLAIMER

    for row in summary.rows[:MAX_LINES]:
        if row["error"] is None:
            print(f"{row['case']}: {_answer(row)}")
    if len(summary.rows) > MAX_LINES:
        print(f"... {len(summary.rows) - MAX_LINES} more cases in predictions.csv")
    for note in summary.notes:
        print(f"Note: {note}", file=sys.stderr)
    for error in summary.errors.values():
        report_error(error)
    failed = f", {len(summary.errors)} failed" if summary.errors else ""
    print(f"{summary.answered} of {len(summary.rows)} cases answered{failed}; report: {summary.report}")
    print(DISCLAIMER, file=sys.stderr)


def _detected(found: list[dict[str, float]]) -> str:
    if not found:
        return "nothing detected"
    first = max(found, key=lambda one: one["probability"])
    place = ", ".join(f"{first[axis]:.0f}" for axis in "xyz" if axis in first)
    number = f"{len(found)} detections" if len(found) > 1 else "1 detection"
    return f"{number}, the most probable ({first['probability']:.2f}) at {place}"


def _answer(row: dict[str, object]) -> str:
    probabilities, volumes = row["probabilities"], row["volumes_ml"]
    if isinstance(probabilities, dict) and probabilities:
        return ", ".join([f"{row['label']}", *(f"{name} {value:.3f}" for name, value in probabilities.items())])
    if isinstance(volumes, dict) and volumes:
        return ", ".join(f"{name} {value:.1f} ml" for name, value in volumes.items())
    if isinstance(row["value"], float):
        return f"{row['value']:.3f}"
    if isinstance(found := row.get("detections"), list):
        return _detected(found)
    details = row.get("details")
    return _detailed(details) if isinstance(details, dict) else "no structure found"


def _detailed(details: dict[str, object]) -> str:
    pixels = details.get("pixels")
    if isinstance(pixels, dict) and any(pixels.values()):
        return ", ".join(f"{name} {number:,} pixels" for name, number in pixels.items())
    said = [name for name in details if name not in ("inference", "pixels")]
    return f"{', '.join(said)} (see predictions.jsonl)" if said else "no structure found"
