"""Bundles whose evaluator does more than one call of the network: their own engine runs, fed with one case."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, fields
from typing import Any

import torch
from monai.data import MetaTensor, list_data_collate
from monai.engines import Workflow

from medresnet3d.errors import BundleError
from medresnet3d.io import Volume
from medresnet3d.workflows.bundle_parts import Item
from medresnet3d.workflows.foreign_config import ForeignConfig
from medresnet3d.workflows.foreign_errors import quiet_engine, told_in_words
from medresnet3d.workflows.foreign_parts import ForeignParts


class OneCase:
    """A data loader of one batch: the case at hand."""

    def __init__(self) -> None:
        self.batch: Any = None

    def __len__(self) -> int:
        """Give 1."""
        return 1

    def __iter__(self) -> Iterator[Any]:
        """Yield the batch."""
        yield self.batch


@dataclass
class EngineParts(ForeignParts):
    """A bundle from elsewhere with an evaluator of a special kind; :meth:`run` includes its postprocessing.

    Args:
        engine: the evaluator.
        loader: what it reads its only batch from.
        extra: what its items hold besides images (a prompt, say).
        collate: makes a batch of a list of items.
        postprocesses: whether the engine itself applies the postprocessing.
    """

    engine: Workflow | None = None
    loader: OneCase | None = None
    extra: Mapping[str, Any] | None = None
    collate: Callable[[list[Any]], Any] = list_data_collate
    postprocesses: bool = True

    def __deepcopy__(self, memo: dict[int, Any]) -> EngineParts:
        """Refuse: an engine cannot be copied."""
        raise TypeError("an evaluator cannot be copied")

    def prepare(self, item: Item) -> Item:
        """Prepare one case, with what the bundle's own items hold besides images."""
        return super().prepare({**(self.extra or {}), **item})

    def run(self, data: Item) -> Any:
        """Let the evaluator process the case, and give its output for it."""
        assert self.engine is not None and self.loader is not None
        tensors = {key: value for key, value in data.items() if not isinstance(value, Volume)}
        with self._computing(), quiet_engine(), torch.inference_mode():
            self.loader.batch = self.collate([tensors])
            self.engine.state.epoch = 0
            self.engine.state.max_epochs = 1
            self.engine.run()
        output = self.engine.state.output
        return output[0] if isinstance(output, list) and output else output

    def _postprocessed(self, data: Item, output: Any) -> Mapping[str, Any]:
        if not isinstance(output, Mapping):
            raise BundleError(f"{self.bundle}: its evaluator gives {type(output).__name__} and no item with results.")
        item: dict[str, Any] = {name: _on_cpu(value) for name, value in output.items()}
        if self.postprocesses:
            return item
        parts: dict[str, Any] = dict(item["pred"]) if isinstance(item.get("pred"), Mapping) else {}
        done = self.answer({**item, **parts})
        return {**done, "pred": {name: done[name] for name in parts if name in done}} if parts else done


def attach_engine(config: ForeignConfig, loader: OneCase, plain: ForeignParts) -> EngineParts:
    """Build the evaluator of a bundle around parts that are already there.

    Args:
        config: its evaluator has ``loader`` (:meth:`ForeignConfig.feed_evaluator`).
        loader: what cases are handed over with.
        plain: the other parts.

    Raises:
        BundleError: if it cannot be built here.
    """
    assert config.evaluator is not None
    with told_in_words(config.path, plain.metadata, "its evaluator"):
        engine = config.build(config.evaluator)
        if not isinstance(engine, Workflow):
            raise BundleError(f"{config.path}: `{config.evaluator}` in its configuration is not an engine of MONAI.")
    known = {each.name: getattr(plain, each.name) for each in fields(plain)}
    extra = template_item(config, plain.image_keys)
    plain.notes.extend(
        f"Each case got {name}={value!r} from the bundle's own example; --set changes it."
        for name, value in extra.items()
    )
    loads = config.role("loader")
    own_collate = f"{loads}::collate_fn" if loads else ""
    return EngineParts(
        **known,
        engine=engine,
        loader=loader,
        extra=extra,
        collate=config.build(own_collate) if own_collate in config.parser else list_data_collate,
        postprocesses=config.parser[config.evaluator].get("postprocessing") is not None,
    )


def template_item(config: ForeignConfig, image_keys: tuple[str, ...]) -> dict[str, Any]:
    """Give what the items of a bundle's own data set hold besides images, if its configuration lists one."""
    key = config.role("dataset")
    node = config.parser.get(key) if key else None
    if not isinstance(node, dict) or "data" not in node:
        return {}
    try:
        items = config.build(f"{key}::data")
    except Exception:
        # The list names files that are not here; nothing but images is known to be in its items.
        return {}
    first = next(iter(items), None) if isinstance(items, list | tuple) else None
    if not isinstance(first, Mapping):
        return {}
    return {str(name): value for name, value in first.items() if name not in image_keys and not _is_image(value)}


def _is_image(value: Any) -> bool:
    return isinstance(value, MetaTensor) or (isinstance(value, str) and "." in value)


def _on_cpu(value: Any) -> Any:
    return value.cpu() if isinstance(value, torch.Tensor) else value
