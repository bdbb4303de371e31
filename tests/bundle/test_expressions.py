from __future__ import annotations

import importlib
import types

import pytest

from medresnet3d.bundle.expressions import (
    ATTRIBUTES,
    IMPORTS,
    check_expression,
    import_binding,
    rewrite,
)

BOUND = {"glob": "glob", "os": "os"}
HARMLESS = """
torch.device('cuda:0' if torch.cuda.is_available() else 'cpu')
@bundle_root + '/models/model.pt'
list(sorted(glob.glob(@dataset_dir + '/*.jpeg')))
[{'image': i, 'label': s} for i, s in zip(@images, @labels)]
@network_def.to(@device)
@train#trainer.run()
@validate::evaluator.state.metrics
monai.utils.set_determinism(123)
monai.handlers.from_engine(['pred', 'label'])
lambda x: x['loss'][0]
torch.load(@ckpt, map_location=@device, weights_only=True)
@network.load_state_dict(torch.load(@ckpt, weights_only=True))
np.float32
monai.utils.CommonKeys.IMAGE
len(@items) // 2 ** 3 % 2
torch.nn.parallel.DistributedDataParallel(@network_def.to(@device), device_ids=[@device])
torch.distributed.init_process_group(backend='nccl')
@a[0]['x'][1:3]
{'a': 1, **@b}
os.path.join(@a, 'b')
@interval > 0 and not False
(@x if @y else None, -1)
import glob
import numpy as np
from monai.data import decollate_batch
""".strip().splitlines()


@pytest.mark.parametrize("text", HARMLESS)
def test_usual_expressions_pass(text: str) -> None:
    assert check_expression(text, BOUND) == []


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("os.system('x')", "os.system"),
        ("torch", "harmless members only"),
        ("monai.bundle", "monai.bundle"),
        ("@a.system('x')", "'system'"),
        ("@a.__class__", "'__class__'"),
        ("@a('x')", "something computed"),
        ("open('x')", "'open'"),
        ("[f('x') for f in @a]", "could be anything"),
        ("[torch for torch in [1]]", "hides another"),
        ("[a.b for a.b in @x]", "plain names"),
        ("lambda *a: a", "starred"),
        ("max(*@a)", "starred"),
        ("dict(**@a)", "starred"),
        ("9 ** 9 ** 9", "exponent"),
        ("1 << 99", "LShift"),
        ("'%s' % @a", "numbers only"),
        ("f'{1}'", "JoinedStr"),
        ("(y := 1)", "NamedExpr"),
        ("torch.load(@a)", "weights_only=True"),
        ("torch.load(@a, weights_only=False)", "weights_only=True"),
        ("torch.load(@a, None, @b, weights_only=True)", "weights_only=True"),
        ("torch.load(@a, weights_only=True, pickle_module=@b)", "no keywords but"),
        ("torch.distributed.init_process_group('nccl', 'tcp://example.org:1')", "positional"),
        ("torch.distributed.init_process_group(init_method='tcp://example.org:1')", "no keywords but"),
        ("monai.transforms.LoadImage('os.system')", "LoadImage"),
        ("monai.data.ITKReader(reader='os.system')", "'reader'"),
        ("__local_refs", "'__local_refs'"),
        ("lambda __local_refs: __local_refs", "hides another"),
        ("import subprocess", "import"),
        ("import os as torch", "import"),
        ("from os import system", "import"),
        ("from os import path", "import"),
        ("from . import torch", "import"),
        ("from monai.transforms import LoadImage", "import"),
        ("import os; os.system('x')", "import"),
        ("1 +", "cannot be parsed"),
        ("x\0", "cannot be parsed"),
        ("-" * 3000 + "1", "longer than"),
    ],
)
def test_everything_else_is_named(text: str, reason: str) -> None:
    assert any(reason in problem for problem in check_expression(text, BOUND))


def test_rewriting_is_what_monai_evaluates() -> None:
    from monai.bundle import ReferenceResolver

    text = "$@a + @a#b::0.to(@ab) + '@c' + @"
    refs = ["a", "a::b::0", "ab", "c", ""]
    ours = "$" + rewrite(text[1:])
    assert ours == ReferenceResolver.update_refs_pattern(text, dict.fromkeys(refs))


def test_imports_bind_exact_names_only() -> None:
    assert import_binding("from monai.data import decollate_batch") == (
        "decollate_batch",
        "monai.data.decollate_batch",
    )
    assert import_binding("from monai.data import decollate_batch as len") is None
    assert import_binding("from monai.bundle import run") is None


def test_no_harmless_attribute_reaches_anything_harmful_from_an_importable_module() -> None:
    """An id may hold an imported module: what the harmless attributes reach from there must be harmless too."""
    todo = [(name, importlib.import_module(name)) for name in {target for _, target in IMPORTS.values()}]
    reached = set()
    while todo:
        name, module = todo.pop()
        for attribute in ATTRIBUTES:
            value = getattr(module, attribute, None)
            dotted = f"{name}.{attribute}"
            if isinstance(value, types.ModuleType):
                assert dotted in ("torch.cpu", "torch.cuda", "monai.metrics", "ignite.metrics")
                todo.append((dotted, value))
            elif callable(value):
                reached.add(dotted.rpartition(".")[0])
    assert reached <= {"torch", "numpy", "torch.cuda"}
