"""Writes the two tables that the static inspection of bundles reads; run it after an upgrade of MONAI or torch.

``python -m medresnet3d.bundle.allow_list`` imports MONAI, torch and this package and writes, beside this file,

* ``allowed_targets.json``: the exact dotted names (module to names) that a configuration may call. A name is on the
  list when its kind is known (a network layer, loss, metric, transform, handler, engine, ...) and it was not sorted out
  below: whoever may call it with any argument must not be able to run code, delete files or reach the network with it.
* ``bare_names.json``: what MONAI's component locator makes of a name without dots (name to modules).

The inspection itself never imports any of this.
"""

from __future__ import annotations

import importlib
import inspect
import json
import pkgutil
import re
import sys
from collections import defaultdict
from collections.abc import Iterable, Iterator
from enum import Enum
from functools import cache
from pathlib import Path
from types import ModuleType
from typing import Any

from medresnet3d.bundle.names import RESTRICTED_ARGUMENTS
from medresnet3d.io.atomic import atomic_write_text

# rooms of MONAI that are looked through, with the classes (by dotted name) whose subclasses may be called
MONAI_KINDS = {
    "monai.transforms": ("monai.transforms.Transform", "monai.transforms.traits.LazyTrait"),
    "monai.networks": ("torch.nn.Module",),
    "monai.losses": ("torch.nn.Module",),
    "monai.metrics": ("monai.metrics.Metric", "monai.metrics.Cumulative"),
    "monai.optimizers": ("torch.optim.Optimizer", "torch.optim.lr_scheduler.LRScheduler"),
    "monai.inferers": ("monai.inferers.Inferer", "monai.inferers.Splitter", "monai.inferers.Merger"),
    "monai.engines": ("monai.engines.Workflow", "monai.engines.PrepareBatch"),
    "monai.handlers": ("ignite.metrics.Metric",),
    "monai.data": (
        "torch.utils.data.Dataset",
        "torch.utils.data.DataLoader",
        "torch.utils.data.Sampler",
        "monai.data.ImageReader",
        "monai.data.ImageWriter",
    ),
    "monai.visualize": ("torch.nn.Module", "monai.visualize.CAM", "monai.visualize.VanillaGrad"),
    "monai.apps.detection": ("torch.nn.Module", "monai.transforms.Transform"),
    "monai.apps.deepedit": ("monai.transforms.Transform", "monai.engines.PrepareBatch"),
    "monai.apps.pathology": ("torch.nn.Module", "monai.transforms.Transform"),
    "monai.apps.vista3d": ("torch.nn.Module", "monai.transforms.Transform"),
}

# names that are none of those kinds and harmless all the same
EXTRA = {
    "monai.data": (
        "decollate_batch list_data_collate pad_list_data_collate no_collation partition_dataset "
        "partition_dataset_classes select_cross_validation_folds load_decathlon_datalist "
        "load_decathlon_properties MetaTensor FolderLayout worker_init_fn ThreadDataLoader"
    ),
    "monai.engines": (
        "default_prepare_batch default_metric_cmp_fn default_make_latent PrepareBatchDefault "
        "PrepareBatchExtraInput IterationEvents"
    ),
    "monai.handlers": (
        "from_engine stopping_fn_from_metric stopping_fn_from_loss CheckpointLoader CheckpointSaver "
        "DecollateBatch EarlyStopHandler GarbageCollector LrScheduleHandler MetricLogger MetricsSaver "
        "ParamSchedulerHandler PostProcessing SmartCacheHandler StatsHandler TensorBoardHandler "
        "TensorBoardImageHandler TensorBoardStatsHandler ValidationHandler"
    ),
    "monai.inferers": "sliding_window_inference",
    "monai.losses": "DeepSupervisionLoss",
    "monai.networks": "one_hot normal_init copy_model_state eval_mode train_mode",
    "monai.networks.layers": "Act Conv Norm Pool",
    "monai.optimizers": "generate_param_groups",
    "monai.utils": (
        "set_determinism get_seed ensure_tuple ensure_tuple_rep ensure_tuple_size first convert_to_tensor "
        "convert_to_numpy"
    ),
    "torch": (
        "device tensor as_tensor zeros ones full arange linspace eye cat stack softmax sigmoid argmax sum "
        "mean abs exp log sqrt clamp unsqueeze squeeze flatten permute manual_seed Generator Size Tensor "
        "no_grad inference_mode set_num_threads float16 bfloat16 float32 float64 half float double uint8 int8 "
        "int16 int32 int64 int long bool channels_last channels_last_3d contiguous_format pi inf nan "
        "__version__"
    ),
    "torch.cuda": "is_available device_count current_device set_device",
    "torch.amp": "GradScaler",
    "torch.cuda.amp": "GradScaler",
    "torch.distributed": "is_initialized get_rank get_world_size is_available destroy_process_group",
    "torch.nn.parallel": "DistributedDataParallel",
    "torch.nn.SyncBatchNorm": "convert_sync_batchnorm",
    "torch.utils.data": (
        "DataLoader Dataset Subset TensorDataset ConcatDataset RandomSampler SequentialSampler "
        "WeightedRandomSampler DistributedSampler"
    ),
    "torch.utils.data.distributed": "DistributedSampler",
    "torch.utils.tensorboard": "SummaryWriter",
    "monai": "__version__",
    "ignite.engine": "Events",
    "ignite.handlers": "EarlyStopping TerminateOnNan LRScheduler",
    "numpy": (
        "array asarray zeros ones full arange linspace eye deg2rad rad2deg sqrt exp log abs sum mean prod min "
        "max argmax concatenate stack clip round floor ceil unique float16 float32 float64 uint8 uint16 "
        "uint32 int8 int16 int32 int64 bool_ pi inf nan"
    ),
    "os.path": "join basename dirname exists isfile isdir splitext abspath normpath sep",
    "os": "sep",
    "glob": "glob",
    "pathlib": "Path PurePath",
    "math": "sqrt ceil floor log log2 exp pi inf prod",
}

# what is of a harmless kind and yet can run code, load pickles, delete, spy or reach the network, with the reason
EXCLUDED = {
    "monai.data.PersistentDataset": "deletes its cache folder, reads pickles",
    "monai.data.CacheNTransDataset": "deletes its cache folder, reads pickles",
    "monai.data.LMDBDataset": "deletes its cache folder, reads pickles",
    "monai.data.GDSDataset": "deletes its cache folder, reads pickles",
    "monai.data.video_dataset.VideoDataset": "opens any video source",
    "monai.data.VideoFileDataset": "opens any video source",
    "monai.data.CameraDataset": "opens the camera",
    "monai.data.CSVDataset": "reads from any address",
    "monai.data.CSVIterableDataset": "reads from any address",
    "monai.transforms.TorchVision": "calls any name of a package",
    "monai.transforms.TorchVisiond": "calls any name of a package",
    "monai.transforms.RandTorchVisiond": "calls any name of a package",
    "monai.transforms.TorchIO": "calls any name of a package",
    "monai.transforms.TorchIOd": "calls any name of a package",
    "monai.transforms.RandTorchIO": "calls any name of a package",
    "monai.transforms.RandTorchIOd": "calls any name of a package",
    "monai.transforms.CuCIM": "calls any name of a package",
    "monai.transforms.CuCIMd": "calls any name of a package",
    "monai.transforms.RandCuCIM": "calls any name of a package",
    "monai.transforms.RandCuCIMd": "calls any name of a package",
    "monai.transforms.SaveClassificationd": "writes text to any file",
    "monai.transforms.WriteFileMapping": "writes text to any file",
    "monai.transforms.WriteFileMappingd": "writes text to any file",
    "monai.losses.PerceptualLoss": "downloads and runs code (torch.hub)",
    "monai.losses.perceptual.MedicalNetPerceptualSimilarity": "downloads and runs code (torch.hub)",
    "monai.losses.perceptual.RadImageNetPerceptualSimilarity": "downloads and runs code (torch.hub)",
    "monai.losses.perceptual.TorchvisionModelPerceptualSimilarity": "downloads and runs code (torch.hub)",
    "monai.networks.nets.TorchVisionFCModel": "calls any name of a package",
    "monai.networks.nets.Transchex": "downloads and unpacks an archive",
    "monai.networks.nets.transchex.BertPreTrainedModel": "downloads and unpacks an archive",
    "monai.networks.nets.transchex.MultiModal": "downloads and unpacks an archive",
    "monai.networks.layers.gmm.GaussianMixtureModel": "compiles and loads a C++ extension",
    "monai.networks.trt_compiler.TrtCompiler": "loads engine files",
    "monai.inferers.ZarrAvgMerger": "writes to any store",
    "ignite.metrics.FID": "downloads a network",
    "ignite.metrics.InceptionScore": "downloads a network",
    "ignite.metrics.GpuInfo": "asks the driver",
}
EXCLUDED_MODULES = (
    "monai.data.video_dataset",  # opens any video source
    "monai.networks.blocks.text_embedding",  # downloads
    "monai.networks.layers.gmm",  # compiles and loads a C++ extension
    "monai.networks.nets.cell_sam_wrapper",  # loads checkpoints of another package
    "monai.networks.nets.torchvision_fc",  # calls any name of a package
    "monai.networks.nets.transchex",  # downloads and unpacks an archive
    "monai.networks.trt_compiler",  # loads engine files
    "monai.transforms.utils_create_transform_ims",  # a script, its names are aliases
)

# rooms of this package whose public names a configuration may call, and modules and names there that it may not
OWN_ROOMS = ("networks", "losses", "optimizers", "metrics", "transforms", "inferers", "engines", "data")
OWN_EXCLUDED = (
    "medresnet3d.data.checking",  # reads whole data sets and writes files
    *(f"medresnet3d.data.cache.{name}" for name in ("arrays", "entry", "folder", "header", "index", "locks", "store")),
    *(f"medresnet3d.data.cache.{name}" for name in ("crops", "files", "fingerprint", "values")),  # of no use there
    "medresnet3d.data.prefix_caches",
    "medresnet3d.data.collections",  # read and write whole data sets
    "medresnet3d.data.manifest_table",  # writes any file
    "medresnet3d.data.preparation",  # reads and writes whole data sets
    "medresnet3d.data.seeding",
    "medresnet3d.engines.checkpoint",  # writes any file
    "medresnet3d.engines.epochs",
    "medresnet3d.engines.interrupt",
    "medresnet3d.engines.logs",
    "medresnet3d.engines.session",
    "medresnet3d.networks.pretrained",  # downloads
    "medresnet3d.transforms.template_maps",  # writes any file
)


def locate(name: str) -> Any:
    """The object with the dotted ``name``; ``None`` if there is none."""
    parts = name.split(".")
    for cut in range(len(parts) - 1, 0, -1):
        try:
            found: Any = importlib.import_module(".".join(parts[:cut]))
        except ModuleNotFoundError:
            continue
        for part in parts[cut:]:
            found = getattr(found, part, None)
        return found
    return None


def _modules(room: str) -> Iterator[ModuleType]:
    for name in sorted(sys.modules):
        if (name == room or name.startswith(f"{room}.")) and inspect.ismodule(sys.modules[name]):
            yield sys.modules[name]


def _import_all(package: str) -> None:
    root = importlib.import_module(package)
    for info in pkgutil.walk_packages(root.__path__, f"{package}."):
        importlib.import_module(info.name)


def _names_of(room: str, wanted: Iterable[Any]) -> Iterator[tuple[str, str]]:
    """Every module attribute below ``room`` that is one of the objects ``wanted``."""
    ids = {id(item) for item in wanted}
    for module in _modules(room):
        if not module.__name__.startswith(EXCLUDED_MODULES):
            for name, value in vars(module).items():
                if id(value) in ids and not name.startswith("_"):
                    yield module.__name__, name


def _members(room: str) -> Iterator[Any]:
    """Classes and functions that are defined in ``room``."""
    for module in _modules(room):
        for value in vars(module).values():
            if (inspect.isclass(value) or inspect.isfunction(value)) and value.__module__.startswith(room):
                yield value


def _classes(room: str, bases: tuple[type, ...]) -> list[type]:
    return [item for item in _members(room) if inspect.isclass(item) and issubclass(item, bases)]


def _sorted_out(value: Any) -> bool:
    return value.__module__.startswith(EXCLUDED_MODULES) or id(value) in _excluded_ids()


@cache
def _excluded_ids() -> frozenset[int]:
    return frozenset(id(value) for value in map(locate, EXCLUDED) if value is not None)


def monai_names() -> Iterator[tuple[str, str]]:
    """Names of MONAI, by kind."""
    for room, kinds in MONAI_KINDS.items():
        bases = tuple(map(locate, kinds))
        yield from _names_of(
            room,
            [
                item
                for item in _members(room)
                if inspect.isclass(item) and issubclass(item, bases) and not _sorted_out(item)
            ],
        )
    yield from _names_of("monai.networks.nets", [item for item in _members("monai.networks.nets") if _is_factory(item)])
    yield from _names_of("monai.utils", _classes("monai.utils.enums", (Enum,)))


def _is_factory(function: Any) -> bool:
    """Whether this builds one of the residual networks (``resnet18`` and so on)."""
    return inspect.isfunction(function) and re.fullmatch(r"resnet\d+", function.__name__) is not None


def torch_names() -> Iterator[tuple[str, str]]:
    """Names of torch and ignite, by kind."""
    for room, kind in (
        ("torch.nn", "torch.nn.Module"),
        ("torch.optim", "torch.optim.Optimizer"),
        ("torch.optim.lr_scheduler", "torch.optim.lr_scheduler.LRScheduler"),
        ("ignite.metrics", "ignite.metrics.Metric"),
    ):
        for name, value in vars(importlib.import_module(room)).items():
            known = inspect.isclass(value) and issubclass(value, locate(kind)) and not name.startswith("_")
            if known and not _sorted_out(value):
                yield room, name


def own_names() -> Iterator[tuple[str, str]]:
    """Public classes and functions that are defined in this package's own rooms."""
    for room in OWN_ROOMS:
        package = f"medresnet3d.{room}"
        _import_all(package)
        exported = getattr(sys.modules[package], "__all__", ())
        exports = {id(getattr(sys.modules[package], name)): name for name in exported}
        for module in _modules(package):
            for name, value in vars(module).items():
                if not _is_own(value, module) or name.startswith("_"):
                    continue
                yield module.__name__, name
                if id(value) in exports:
                    yield package, exports[id(value)]


def extra_names() -> Iterator[tuple[str, str]]:
    """The harmless names of no kind, also where they are defined."""
    for module, names in EXTRA.items():
        for name in names.split():
            yield module, name
            value = locate(f"{module}.{name}")
            if module.startswith("monai.") and (inspect.isclass(value) or inspect.isfunction(value)):
                yield value.__module__, value.__name__


def _is_own(value: Any, module: ModuleType) -> bool:
    if module.__name__.startswith(OWN_EXCLUDED) or not (inspect.isclass(value) or inspect.isfunction(value)):
        return False
    return value.__module__ == module.__name__


def allowed_targets() -> dict[str, dict[str, list[str]]]:
    """The allow-list: kind (``anywhere`` or ``config_only``) to module to names, sorted."""
    tables: dict[str, dict[str, set[str]]] = {"anywhere": defaultdict(set), "config_only": defaultdict(set)}
    for module, name in (*monai_names(), *torch_names(), *own_names(), *extra_names()):
        value = locate(f"{module}.{name}")
        if value is not None:
            tables["config_only" if _takes_restricted(value) else "anywhere"][module].add(name)
    return {kind: {key: sorted(table[key]) for key in sorted(table)} for kind, table in tables.items()}


def _takes_restricted(value: Any) -> bool:
    """Whether one of the arguments must be seen by the inspection, so that no expression may pass it."""
    try:
        return not RESTRICTED_ARGUMENTS.keys().isdisjoint(inspect.signature(value).parameters)
    except (TypeError, ValueError):
        return False


def bare_names() -> dict[str, list[str]]:
    """What MONAI's component locator finds: name to modules."""
    from monai.bundle import ComponentLocator

    locator = ComponentLocator()
    locator.get_component_module_name("")
    table = locator._components_table or {}
    return {name: sorted(modules) for name, modules in sorted(table.items()) if not name.startswith("_")}


def _table(content: dict[str, list[str]], indent: str = " ") -> str:
    lines = ",\n".join(f"{indent}{json.dumps(key)}: {json.dumps(value)}" for key, value in content.items())
    return "{\n" + lines + f"\n{indent[1:]}}}"


def render() -> dict[str, str]:
    """Both files: name to text."""
    kinds = ",\n".join(f' "{kind}": {_table(table, "  ")}' for kind, table in allowed_targets().items())
    return {"allowed_targets.json": "{\n" + kinds + "\n}\n", "bare_names.json": _table(bare_names()) + "\n"}


def main() -> None:
    """Write both tables beside this file."""
    for file, text in render().items():
        atomic_write_text(Path(__file__).parent / file, text)


if __name__ == "__main__":
    main()
