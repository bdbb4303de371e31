"""What is installed, what this machine can do, and what an absent optional part would be for."""

from __future__ import annotations

import platform
from collections.abc import Callable
from importlib import metadata
from typing import NamedTuple

from medresnet3d._version import __version__
from medresnet3d.bundle.registry import bundles_root, list_bundles

NEEDED = (
    "torch monai numpy nibabel SimpleITK pydicom highdicom itk scikit-image scikit-learn pytorch-ignite tensorboard "
    "typer rich jinja2 matplotlib jsonschema fire pyyaml"
)

OPTIONAL = {
    "nilearn": ("the real brain MRI (MNI152) of the demonstration", "demo"),
    "safetensors": ("weights in safetensors files", "safetensors"),
}


class Examined(NamedTuple):
    """One line of the examination.

    Args:
        name: what was examined.
        state: ``"ok"``, ``"missing"`` or ``"broken"`` (needed), ``"absent"`` (optional).
        detail: version or ability, or what to do.
    """

    name: str
    state: str
    detail: str


def doctor() -> list[Examined]:
    """Examine the installation. Whatever is missing becomes a line, never an error.

    Returns:
        One entry for each package, device and ability, in reading order.
    """
    return [
        Examined("medresnet3d", "ok", __version__),
        Examined("python", "ok", f"{platform.python_version()} on {platform.platform()}"),
        *map(_needed, NEEDED.split()),
        *(_optional(name, use, extra) for name, (use, extra) in OPTIONAL.items()),
        _attempt("bundles", _bundles),
        _attempt("cpu", _cpu),
        _attempt("cuda", _cuda),
        _attempt("bf16 self-test", _self_test),
    ]


def _version(package: str) -> str | None:
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return None


def _needed(package: str) -> Examined:
    version = _version(package)
    if version is None:
        return Examined(package, "missing", f"pip install {package}")
    return Examined(package, "ok", version)


def _optional(package: str, use: str, extra: str) -> Examined:
    version = _version(package)
    if version is None:
        return Examined(package, "absent", f"optional, for {use}: pip install 'medresnet3d[{extra}]'")
    return Examined(package, "ok", f"{version}, for {use}")


def _attempt(name: str, examine: Callable[[], Examined]) -> Examined:
    """What cannot be examined is reported as it is: the examination must not end where it is needed most."""
    try:
        return examine()
    except Exception as error:
        return Examined(name, "broken", f"{type(error).__name__}: {error}")


def _bundles() -> Examined:
    bundles = list_bundles()
    trained = sum(bundle.has_weights for bundle in bundles)
    return Examined("bundles", "ok", f"{len(bundles)}, {trained} with weights, in {bundles_root()}")


def _cpu() -> Examined:
    import torch

    from medresnet3d.engines.precision import cpu_has_bf16

    ability = "fast bf16" if cpu_has_bf16() else "no fast bf16, float32 is used"
    return Examined("cpu", "ok", f"{platform.machine()}, {torch.get_num_threads()} threads, {ability}")


def _cuda() -> Examined:
    import torch

    if not torch.cuda.is_available():
        return Examined("cuda", "absent", "no CUDA device; everything runs on the CPU")
    names = [torch.cuda.get_device_name(index) for index in range(torch.cuda.device_count())]
    ability = "bf16" if torch.cuda.is_bf16_supported() else "no bf16"
    return Examined("cuda", "ok", f"{', '.join(names)}; CUDA {torch.version.cuda}, {ability}")


def _self_test() -> Examined:
    from medresnet3d.engines.precision import self_test

    result = self_test()
    plain = "wrong" if result.affected else "right"
    guarded = "right" if result.guarded else "wrong"
    detail = f"3D convolution gradients of shallow inputs: {plain} in plain torch, {guarded} with the guard"
    return Examined("bf16 self-test", "ok" if result.guarded else "broken", detail)
