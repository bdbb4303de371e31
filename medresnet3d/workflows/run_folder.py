"""The RUN folder of a training: what it records, and whether a resumed run is still the same one."""

from __future__ import annotations

import json
import os
import shlex
import subprocess
from collections.abc import Iterable, Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

import medresnet3d
from medresnet3d.bundle.inspect import inspect_bundle
from medresnet3d.bundle.load import parse_overrides
from medresnet3d.bundle.registry import find_bundle, read_metadata
from medresnet3d.errors import ConfigError
from medresnet3d.io.atomic import atomic_write_text

if TYPE_CHECKING:
    from medresnet3d.data.manifest import Manifest

CONFIG, ENVIRONMENT = "config.json", "environment.json"
#: Id, and folder in a run, of the same training with other values.
RIVALS = "rivals"
#: Ids that say where and how fast to compute, but not what.
RUNTIME_IDS = ("bundle_root", "cache_dir", "data", "dataset_dir", "device", "num_workers", "output_dir")
HANDLERS = "medresnet3d.engines.train_handlers"


def command_line(
    bundle: str | os.PathLike[str],
    data: str | os.PathLike[str],
    run: Path,
    overrides: Mapping[str, Any],
    device: str,
    resume: bool = False,
) -> str:
    """Return the shell command of a training."""
    words = ["medresnet3d", "train", os.fspath(bundle), "--data", os.fspath(data), "-o", str(run)]
    words += [] if device == "auto" else ["--device", device]
    for key, value in overrides.items():
        words += ["--set", f"{key}={value if isinstance(value, str) else json.dumps(value)}"]
    return shlex.join([*words, *(["--resume"] if resume else [])])


def git_state(folder: Path) -> dict[str, Any] | None:
    """Return commit and cleanness of the checkout that the source files in ``folder`` belong to, if there is one."""

    def git(*arguments: str) -> str | None:
        command = ["git", "-C", str(folder), *arguments]
        try:
            done = subprocess.run(command, capture_output=True, text=True, check=True, timeout=20)
        except (OSError, subprocess.SubprocessError):
            return None
        return done.stdout.strip()

    # a virtual environment may lie in the checkout of something else, which does not track its files
    if not git("ls-files", "__init__.py"):
        return None
    return {"commit": git("rev-parse", "HEAD"), "changed": bool(git("status", "--porcelain"))}


def withdraw(run: Path) -> None:
    """Take back the records of a run that never began, so that the corrected command finds an empty folder."""
    if {path.name for path in run.iterdir()} <= {CONFIG, ENVIRONMENT}:
        for name in (CONFIG, ENVIRONMENT):
            (run / name).unlink(missing_ok=True)


def describe_run(bundle: Path, manifest: Manifest, overrides: Mapping[str, Any], command: str) -> dict[str, Any]:
    """Return what ``environment.json`` records before anything is computed."""
    from medresnet3d.reports.builders import versions

    metadata = read_metadata(bundle)
    return {
        "started": datetime.now(UTC).isoformat(timespec="seconds"),
        "command": command,
        "bundle": {
            "name": str(metadata.get("name") or bundle.name),
            "version": str(metadata.get("version", "")),
            "path": str(bundle),
            "content_hash": inspect_bundle(bundle).content_hash,
        },
        "data": {"name": manifest.name, "path": str(manifest.path), "content_hash": manifest.content_hash()},
        "overrides": dict(overrides),
        "versions": versions(),
        "git": git_state(Path(medresnet3d.__file__).parent),
    }


def read_json(path: Path) -> dict[str, Any]:
    """Read a JSON object that a run wrote.

    Raises:
        ConfigError: if it is missing or damaged.
    """
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise ConfigError(f"{path} is missing: {path.parent} is no run that could be resumed.") from None
    except ValueError as error:
        raise ConfigError(f"{path} is damaged ({error}); start a new run in another folder.") from error
    if not isinstance(content, dict):
        raise ConfigError(f"{path} is no record of a run; start a new run in another folder.")
    return content


def write_json(content: Mapping[str, Any], path: Path) -> None:
    """Write a JSON object, whole or not at all."""
    atomic_write_text(path, json.dumps(content, indent=2, ensure_ascii=False, default=str) + "\n")


def check_folder(run: Path, resume: bool) -> None:
    """Refuse to overwrite a run, and to resume what is none.

    Raises:
        ConfigError: if the folder holds files and ``resume`` is not given, or it holds no run and ``resume`` is given.
    """
    if run.exists() and not run.is_dir():
        raise ConfigError(f"{run} is a file; give a folder for the run with -o.")
    # a process killed at its very start may leave a hidden temporary file
    filled = run.is_dir() and any(not path.name.startswith(".") for path in run.iterdir())
    is_run = (run / ENVIRONMENT).is_file()
    if filled and not resume:
        advice = "continue it with --resume, or " if is_run else ""
        raise ConfigError(f"{run} exists already and is not empty: {advice}choose another folder with -o.")
    if resume and not is_run:
        raise ConfigError(f"{run} holds no run to resume; leave out --resume to start one.")


def run_overrides(run: Path, resume: bool, overrides: Mapping[str, Any] | Iterable[str]) -> dict[str, Any]:
    """Return the overrides of a run: those given, or those of the run that is resumed where none are given."""
    given = parse_overrides(overrides)
    if given or not resume:
        return given
    return dict(read_json(run / ENVIRONMENT).get("overrides", {}))


def check_same_run(run: Path, config: Mapping[str, Any], environment: Mapping[str, Any]) -> None:
    """Compare a run that is to be resumed with its records.

    Raises:
        ConfigError: listing what differs.
    """
    old = read_json(run / ENVIRONMENT)
    different = [
        f"the {what} was {old[what]['name']} ({old[what]['content_hash'][:12]}) and is {new['name']} "
        f"({new['content_hash'][:12]})"
        for what, new in (("bundle", environment["bundle"]), ("data", environment["data"]))
        if old.get(what, {}).get("content_hash") != new["content_hash"]
    ]
    before, now = _flat(read_json(run / CONFIG)), _flat(json.loads(json.dumps(config, default=str)))
    different += [
        f"{key} was {before.get(key)!r} and is {now.get(key)!r}"
        for key in sorted(before.keys() | now.keys())
        if before.get(key) != now.get(key) and not _is_runtime(key)
    ]
    if different:
        more = f"; and {len(different) - 6} more" if len(different) > 6 else ""
        raise ConfigError(
            f"{run} cannot be resumed, since it was started differently: {'; '.join(different[:6])}{more}. "
            "Give the same bundle, data and --set values, or start a new run in another folder."
        )


def _is_runtime(key: str) -> bool:
    names = key.split("::")
    return names[0] in RUNTIME_IDS or names[-1] in ("num_workers", "resume", "checkpoint_seconds")


def _flat(config: Any, prefix: str = "") -> dict[str, Any]:
    if isinstance(config, dict):
        pairs: Iterable[tuple[Any, Any]] = config.items()
    elif isinstance(config, list):
        pairs = enumerate(config)
    else:
        return {prefix: config}
    flat: dict[str, Any] = {}
    for key, value in pairs:
        flat |= _flat(value, f"{prefix}::{key}" if prefix else str(key))
    return flat


def _handlers(config: Any) -> list[dict[str, Any]]:
    """List the definitions of this package's training handlers in a raw configuration."""
    if isinstance(config, list):
        return [found for each in config for found in _handlers(each)]
    if not isinstance(config, dict):
        return []
    own = [config] if config.get("_target_") == HANDLERS else []
    return own + [found for value in config.values() for found in _handlers(value)]


def count_handlers(config: Any) -> int:
    """Return how many trainers of a raw configuration use this package's handlers."""
    return len(_handlers(config))


def set_handler_options(config: Any, **options: Any) -> None:
    """Set options of this package's training handlers in a raw configuration; it is changed in place."""
    for handlers in _handlers(config):
        handlers.update(options)


def find_source(bundle: str | os.PathLike[str], run: Path) -> Path:
    """Return the folder of the bundle to train.

    Raises:
        ConfigError: if the run's own ready bundle is to be trained into the same folder.
    """
    folder = find_bundle(bundle)
    if run.resolve() in folder.parents:
        raise ConfigError(f"{folder} lies in the run's own folder {run}; choose another folder with -o.")
    return folder


def own_name(config: Mapping[str, Any]) -> str | None:
    """Return the name of the rival that a training configuration is itself; ``None`` if it is none of them.

    Args:
        config: content of a ``train.json`` or of a run's ``config.json``.
    """
    for name, changes in (config.get(RIVALS) or {}).items():
        if all(config.get(key) == value for key, value in changes.items()):
            return str(name)
    return None
