"""``medresnet3d bundle``: which bundles there are, what one holds, whether it is safe and whether it is complete."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Annotated, Any

import typer

from medresnet3d.bundle.registry import BundleInfo, find_bundle, list_bundles, read_file, read_metadata, weights_file
from medresnet3d.cli.common import TrustOption, columns, command
from medresnet3d.errors import ExitCode

BundleArgument = Annotated[str, typer.Argument(help="A name from `bundle list`, or a bundle folder.")]
JsonOption = Annotated[bool, typer.Option("--json", help="Print JSON.")]
PathOption = Annotated[bool, typer.Option("--path", help="Print nothing but the bundle's folder, for scripts.")]

_CONFIGS = ("train.json", "inference.json")


def register(app: typer.Typer) -> None:
    """Add the group of verbs to the application."""
    group = typer.Typer(help="Bundles: list, show, inspect for safety, verify.", no_args_is_help=True)
    group.command("list")(command(list_))
    group.command("show")(command(show))
    group.command("inspect")(command(inspect))
    group.command("verify")(command(verify))
    app.add_typer(group, name="bundle")


def list_(as_json: JsonOption = False) -> None:
    """List the bundles of the package."""
    bundles = list_bundles()
    if as_json:
        print(json.dumps([_as_dict(bundle) for bundle in bundles], indent=2))
        return
    header = ("name", "system", "task", "modality", "version", "weights")
    rows = [(b.name, b.system, b.task, b.modality, b.version, "yes" if b.has_weights else "no") for b in bundles]
    for line in columns([header, *rows]):
        print(line)


def _as_dict(bundle: BundleInfo) -> dict[str, Any]:
    return {**vars(bundle), "path": str(bundle.path)}


def show(bundle: BundleArgument, as_json: JsonOption = False, only_path: PathOption = False) -> None:
    """Show what a bundle is: metadata, ids that can be set, inferred values with their reasons, labels, weights."""
    folder = find_bundle(bundle)
    if only_path:
        print(folder)
        return
    metadata = read_metadata(folder)
    ids = {name: _top_level(folder / "configs" / name) for name in _CONFIGS}
    weights = _weights(folder)
    if as_json:
        content = {"path": str(folder), "metadata": metadata, "ids": ids, "weights": weights}
        print(json.dumps(content, indent=2))
        return
    print(f"{folder.name} {metadata.get('version', '')}\n{folder}")
    for line in (*_metadata_lines(metadata), *_section("labels", metadata.get("labels"))):
        print(line)
    for line in _section("values that the paper does not give, and why ours", metadata.get("inferred")):
        print(line)
    for name, values in ids.items():
        for line in _section(f"ids in configs/{name} (set one with --set id=value)", values):
            print(line)
    print(f"\nweights\n  {weights}")


def _metadata_lines(metadata: Mapping[str, Any]) -> Iterator[str]:
    hidden = {"version", "labels", "inferred", "changelog", "schema", "required_packages_version"}
    for key, value in metadata.items():
        if key not in hidden:
            yield f"  {key}: {value if isinstance(value, str) else json.dumps(value)}"


def _section(title: str, values: Any) -> Iterator[str]:
    if isinstance(values, Mapping) and values:
        yield f"\n{title}"
        for key, value in values.items():
            yield f"  {key}: {value if isinstance(value, str) else json.dumps(value)}"


def _top_level(file: Path) -> dict[str, Any]:
    """The plain values among the top-level ids of a configuration: what a person would set."""
    if not file.is_file():
        return {}
    content = read_file(file)
    return {key: value for key, value in content.items() if not isinstance(value, dict | list) and key[:1] != "_"}


def _weights(folder: Path) -> str:
    file = weights_file(folder)
    if file is None:
        return f"none: train it with `medresnet3d train {folder.name} --data MANIFEST -o RUN`"
    from medresnet3d.bundle.load import weights_hash

    return f"{file.relative_to(folder)}, {file.stat().st_size / 1e6:.1f} MB, sha256 {weights_hash(folder)}"


def inspect(bundle: BundleArgument, as_json: JsonOption = False) -> int:
    """List everything in a bundle that could run code; nothing of it is run. Exit code 2 if there is something."""
    from medresnet3d.bundle.inspect import inspect_bundle

    folder = find_bundle(bundle)
    result = inspect_bundle(folder)
    if as_json:
        findings = [vars(finding) for finding in result.findings]
        print(json.dumps({"path": str(folder), "content_hash": result.content_hash, "findings": findings}, indent=2))
    elif result.ok:
        print(f"{folder}: nothing found that could run code of its own.")
    else:
        for finding in result.findings:
            print(f"- {finding}")
        print(f"{folder}: {len(result.findings)} findings; it runs only after --trust.")
    return ExitCode.OK if result.ok else ExitCode.USAGE


def verify(bundle: BundleArgument, trust: TrustOption = False) -> int:
    """Verify that a bundle is complete: metadata, ids, network input and output, weights. Exit code 1 if it is not."""
    from medresnet3d.bundle.verify import verify_bundle

    checks = verify_bundle(bundle, trust)
    for check in checks:
        print(f"{'ok   ' if check.ok else 'WRONG'}  {check.check}: {check.detail}")
    return ExitCode.OK if all(check.ok for check in checks) else ExitCode.SOME_FAILED
