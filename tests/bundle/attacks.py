"""Bundles that try to run code. Each would create the file ``sentinel`` if anything of it ran."""

from __future__ import annotations

import json
import os
import pickle
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

from tests.bundle.small_bundle import LOGGING, METADATA, write_bundle, write_json

Attack = Callable[[Path, Path], None]
ATTACKS: dict[str, Attack] = {}


def attack(function: Attack) -> Attack:
    """Put ``function`` into the table: it writes a bundle into its first argument."""
    ATTACKS[function.__name__] = function
    return function


def _config(name: str, content: Callable[[Path], Any]) -> None:
    """An attack by one id of ``configs/inference.json``."""

    def write(folder: Path, sentinel: Path) -> None:
        write_bundle(folder, {"attack": content(sentinel)})

    ATTACKS[name] = write


class Payload:
    """Unpickled, it runs a command."""

    def __init__(self, command: str) -> None:
        self.command = command

    def __reduce__(self) -> tuple[Any, ...]:
        return os.system, (self.command,)


def touch(sentinel: Path) -> str:
    return f"touch {sentinel}"


def call(sentinel: Path) -> str:
    return f"__import__('os').system('touch {sentinel}')"


TARGETS = (
    "os.system posix.system subprocess.getoutput subprocess.Popen torch.os.system "
    "monai.bundle.scripts.os.system torch.utils.collect_env.run medresnet3d.os.system "
    "medresnet3d.bundle.registry.os.system numpy.f2py.os.system monai.utils.misc.run_cmd monai.bundle.run "
    "monai.bundle.scripts.run monai.bundle.load monai.bundle.ConfigWorkflow monai.bundle.ConfigParser "
    "monai.utils.module.instantiate monai.utils.optional_import monai.data.PersistentDataset "
    "monai.data.LMDBDataset torch.load torch.hub.load torch.jit.load torch.compile builtins.exec builtins.eval "
    "builtins.open builtins.getattr builtins.__import__ functools.partial operator.methodcaller "
    "operator.attrgetter monai.apps.download_and_extract monai.apps.utils.download_url "
    "monai.losses.PerceptualLoss pdb.run code.interact medresnet3d.load_network medresnet3d.train "
    "medresnet3d.bundle.load.load_network pydoc.locate importlib.import_module monai.handlers.MLFlowHandler "
    "monai.transforms.TorchIO monai.transforms.WriteFileMapping torch..os.system os..system"
)
BARE_NAMES = "run exec eval os open load run_cmd ConfigWorkflow download_url breakpoint"


def _target(name: str) -> Callable[[Path], Any]:
    return lambda sentinel: {"_target_": name, "command": touch(sentinel)}


def _expression(text: str) -> Callable[[Path], Any]:
    return lambda sentinel: text.format(s=sentinel)


for _name in TARGETS.split():
    _config(f"target {_name}", _target(_name))
for _name in BARE_NAMES.split():
    _config(f"bare name {_name}", _target(_name))

EXPRESSIONS = {
    "call": "$__import__('os').system('touch {s}')",
    "spaces": "$  __import__('os').system('touch {s}')",
    "module": "$torch.os.system('touch {s}')",
    "numpy": "$np.f2py.os.system('touch {s}')",
    "monai": "$monai.bundle.scripts.os.system('touch {s}')",
    "alias": "$import os as torch",
    "import": "$import subprocess",
    "import twice": "$import os; os.system('touch {s}')",
    "import from": "$from os import system",
    "import submodule": "$import monai.bundle.scripts as glob",
    "import relative": "$from . import evil",
    "eval": '$eval(\'__import__("os").system("touch {s}")\')',
    "builtins": "$__builtins__['exec']('1')",
    "subclasses": "$().__class__.__base__.__subclasses__()",
    "getattr": "$getattr(torch, 'o' + 's').system('touch {s}')",
    "f-string": "$f\"{{__import__('os').system('touch {s}')}}\"",
    "format": "$'{{0.__class__}}'.format(@bundle_root)",
    "percent": "$'%s' % @bundle_root",
    "lambda": "$(lambda: __import__('os').system('touch {s}'))()",
    "lambda default": "$lambda x=__import__('os').system('touch {s}'): x",
    "comprehension": "$[f('touch {s}') for f in [torch.os.system]]",
    "walrus": "$[(f := torch.os.system), f('touch {s}')]",
    "conditional": "$1 if __import__('os').system('touch {s}') else 2",
    "subscript": "$@datalist[__import__('os').system('touch {s}')]",
    "keyword": "$dict(a=__import__('os').system('touch {s}'))",
    "starred": "$max(*[torch.os.system('touch {s}')])",
    "attribute of a reference": "$@network.__class__.__init__.__globals__['os'].system('touch {s}')",
    "import id as module": "$@imports[1].system('touch {s}')",
    "unsafe load": "$torch.load('{s}', weights_only=False)",
    "default load": "$torch.load('{s}')",
    "reader": "$monai.transforms.LoadImage('os.system', command='touch {s}')",
    "unicode": "$\uff4f\uff53.system('touch {s}')",
    "type": "$type('X', (), {{}})",
    "class of reader": "$monai.transforms.LoadImage",
    "long": "$" + "1 + " * 2000 + "1",
    "huge power": "$9 ** 9 ** 9",
    "not python": "$1 +",
    "medresnet3d": "$medresnet3d.bundle.load.os.system('touch {s}')",
}
for _name, _text in EXPRESSIONS.items():
    _config(f"expression {_name}", _expression(_text))

_config("nested lists", lambda s: [[[[{"a": [f"${call(s)}"]}]]]])
_config("requires", lambda s: {"_target_": "Identity", "_requires_": [f"${call(s)}"]})
_config("requires a component", lambda s: {"_target_": "Identity", "_requires_": {"_target_": "os.system"}})
_config("disabled", lambda s: {"_target_": "os.system", "_disabled_": True, "command": touch(s)})
_config("disabled expression", lambda s: {"_target_": "Identity", "_disabled_": f"${call(s)}"})
_config("debug mode", lambda s: {"_target_": "Identity", "_mode_": "debug"})
_config("mode with spaces", lambda s: {"_target_": "Identity", "_mode_": " debug "})
_config("debug argument", lambda s: {"_target_": "Identity", "_debug_": True})
_config("target reference", lambda s: {"_target_": "@bundle_root"})
_config("target macro", lambda s: {"_target_": "%bundle_root"})
_config("target expression", lambda s: {"_target_": "$torch.device"})
_config("target list", lambda s: {"_target_": ["os.system"]})
_config("macro to another file", lambda s: "%/tmp/evil.json::a")
_config("macro to the parent", lambda s: "%../evil.json")
_config("macro to an address", lambda s: "%https://example.org/evil.yaml::a")
_config("macro to a missing file", lambda s: "%configs/later.JSON#a")
_config("description", lambda s: {"_target_": "Identity", "_desc_": f"${call(s)}"})
_config(
    "key injection", lambda s: {"x": {"y": 1}, f"x and torch.os.system('{touch(s)}') or @attack::x": {"a": "$@::y"}}
)
_config("reader", lambda s: {"_target_": "LoadImage", "reader": "os.system", "command": touch(s)})
_config("reader list", lambda s: {"_target_": "LoadImaged", "keys": "a", "reader": ["ITKReader", "os.system"]})
_config("reader reference", lambda s: {"_target_": "LoadImage", "reader": "@bundle_root"})
_config("writer", lambda s: {"_target_": "SaveImage", "writer": "os.system"})
_config("merger", lambda s: {"_target_": "PatchInferer", "merger_cls": "os.system"})
_config("callable", lambda s: {"_target_": "os.system", "_mode_": "callable"})
_config(
    "callable reader",
    lambda s: {
        "_target_": "Lambda",
        "func": {"_target_": "LoadImage", "_mode_": "callable", "command": touch(s)},
    },
)
_config("pickled arrays", lambda s: {"_target_": "NumpyReader", "allow_pickle": True})
_config("compiler", lambda s: {"_target_": "SupervisedEvaluator", "compile_kwargs": {"options": {"cpp.cxx": ["x"]}}})


@attack
def scripts_folder(folder: Path, sentinel: Path) -> None:
    write_bundle(folder)
    (folder / "scripts").mkdir()
    (folder / "scripts/__init__.py").write_text(f"{call(sentinel)}\n")


@attack
def module_that_hides_torch(folder: Path, sentinel: Path) -> None:
    write_bundle(folder)
    (folder / "torch.py").write_text(f"{call(sentinel)}\n")


@attack
def compiled_module(folder: Path, sentinel: Path) -> None:
    write_bundle(folder)
    (folder / "docs/evil.cpython-311-x86_64-linux-gnu.so").write_bytes(b"\x7fELF")


@attack
def script_without_suffix(folder: Path, sentinel: Path) -> None:
    write_bundle(folder)
    (folder / "start").write_text(f"#!/usr/bin/env python3\n{call(sentinel)}\n")


@attack
def macro_to_own_file(folder: Path, sentinel: Path) -> None:
    write_bundle(folder, {"attack": "%configs/part.json::a"})
    write_json(folder / "configs/part.json", {"a": {"_target_": "os.system", "command": touch(sentinel)}})


@attack
def macro_to_same_file(folder: Path, sentinel: Path) -> None:
    write_bundle(folder, {"part": f"${call(sentinel)}", "attack": "%part"})


@attack
def overlay(folder: Path, sentinel: Path) -> None:
    write_bundle(folder)
    write_json(folder / "configs/evaluate.json", {"evaluator::_target_": "os.system"})


@attack
def overlay_old_separator(folder: Path, sentinel: Path) -> None:
    write_bundle(folder)
    write_json(folder / "configs/multi_gpu_train.json", {"network_def#_target_": "os.system"})


@attack
def overlay_merge(folder: Path, sentinel: Path) -> None:
    write_bundle(folder)
    write_json(folder / "configs/evaluate.json", {"+initialize": [f"${call(sentinel)}"]})


@attack
def overlay_reader(folder: Path, sentinel: Path) -> None:
    write_bundle(folder)
    overlay_ids = {"preprocessing::transforms::0::reader": "os.system"}
    write_json(folder / "configs/evaluate.json", overlay_ids)


@attack
def overlay_callable(folder: Path, sentinel: Path) -> None:
    harmless = {"_target_": "Identity", "_mode_": "callable"}
    write_bundle(folder, {"attack": {"_target_": "Lambda", "func": harmless}})
    write_json(folder / "configs/evaluate.json", {"attack::func::_target_": "LoadImage"})


@attack
def yaml_merge_makes_a_reader_callable(folder: Path, sentinel: Path) -> None:
    write_bundle(folder)
    text = "a: &a {_target_: Identity, _mode_: callable}\nb: {_target_: Lambda, func: {<<: *a, _target_: LoadImage}}\n"
    (folder / "configs/train.yaml").write_text(text)


@attack
def yaml_merge_of_the_mode(folder: Path, sentinel: Path) -> None:
    write_bundle(folder)
    text = "a: &a {_target_: LoadImage}\nb: {_target_: Lambda, func: {<<: *a, _mode_: callable}}\n"
    (folder / "configs/train.yaml").write_text(text)


@attack
def top_level_list(folder: Path, sentinel: Path) -> None:
    write_bundle(folder)
    write_json(folder / "configs/train.json", [{"_target_": "os.system", "command": touch(sentinel)}])


@attack
def top_level_target(folder: Path, sentinel: Path) -> None:
    write_bundle(folder, {"_target_": "os.system"})


@attack
def name_twice(folder: Path, sentinel: Path) -> None:
    write_bundle(folder)
    text = '{"a": {"_target_": "os.system", "_target_": "Identity"}}'
    (folder / "configs/train.json").write_text(text)


@attack
def metadata(folder: Path, sentinel: Path) -> None:
    write_bundle(folder)
    write_json(folder / "configs/metadata.json", {**METADATA, "authors": [f"${call(sentinel)}"]})


@attack
def yaml_config(folder: Path, sentinel: Path) -> None:
    write_bundle(folder)
    text = f'attack:\n  _target_: os.system\n  command: {touch(sentinel)}\nrun: ["$@attack"]\n'
    (folder / "configs/train.YAML").write_text(text)


@attack
def yaml_tag(folder: Path, sentinel: Path) -> None:
    write_bundle(folder)
    (folder / "configs/train.yml").write_text(f"a: !!python/object/apply:os.system ['{touch(sentinel)}']\n")


@attack
def yaml_merge(folder: Path, sentinel: Path) -> None:
    write_bundle(folder)
    (folder / "configs/train.yaml").write_text("a: &x {_target_: os.system}\nb: {<<: *x}\n")


@attack
def yaml_bomb(folder: Path, sentinel: Path) -> None:
    write_bundle(folder)
    lines = ["a0: &a0 [x, x, x, x, x, x, x, x, x, x]"]
    lines += [f"a{i}: &a{i} [{', '.join([f'*a{i - 1}'] * 10)}]" for i in range(1, 12)]
    (folder / "configs/train.yaml").write_text("\n".join(lines))


@attack
def yaml_loop(folder: Path, sentinel: Path) -> None:
    write_bundle(folder)
    (folder / "configs/train.yaml").write_text("a: &a [*a]\n")


@attack
def deep_nesting(folder: Path, sentinel: Path) -> None:
    write_bundle(folder)
    (folder / "configs/train.json").write_text("[" * 100_000 + "]" * 100_000)


@attack
def not_too_deep_nesting(folder: Path, sentinel: Path) -> None:
    write_bundle(folder)
    (folder / "configs/train.json").write_text("[" * 200 + json.dumps(f"${call(sentinel)}") + "]" * 200)


@attack
def deep_expression(folder: Path, sentinel: Path) -> None:
    write_bundle(folder, {"attack": "$" + "(" * 500 + call(sentinel) + ")" * 500})


@attack
def unreadable_json(folder: Path, sentinel: Path) -> None:
    write_bundle(folder)
    (folder / "configs/train.json").write_bytes(b'{"a": "\xff\xfe"}')


def _logging(name: str, old: str, new: Callable[[Path], str]) -> None:
    def write(folder: Path, sentinel: Path) -> None:
        write_bundle(folder)
        text = LOGGING.replace(old, new(sentinel))
        assert text != LOGGING
        (folder / "configs/logging.conf").write_text(text)

    ATTACKS[f"logging {name}"] = write


_logging("args", "args=(sys.stdout,)", lambda s: f"args=({call(s)},)")
_logging("kwargs", "args=(sys.stdout,)", lambda s: f"args=()\nkwargs={{'a': {call(s)}}}")
_logging("class", "class=StreamHandler", lambda s: f"class={call(s)}")
_logging("class from elsewhere", "class=StreamHandler", lambda s: "class=subprocess.Popen")
_logging("socket", "class=StreamHandler", lambda s: "class=handlers.SocketHandler")
_logging("interpolation", "class=StreamHandler", lambda s: f"class=%(x)s\nx={call(s)}")
_logging("formatter", "format=%", lambda s: "class=os.system\nformat=%")
_logging("defaults", "format=%", lambda s: f"defaults={call(s)}\nformat=%")
_logging("file elsewhere", "args=(sys.stdout,)", lambda s: f"args=('{s}', 'w')")
_logging("default section", "[loggers]", lambda s: f"[DEFAULT]\nargs=({call(s)},)\n[loggers]")


@attack
def pickled_model(folder: Path, sentinel: Path) -> None:
    write_bundle(folder)
    (folder / "models").mkdir()
    (folder / "models/model.pt").write_bytes(pickle.dumps({"model": Payload(touch(sentinel))}, protocol=2))


@attack
def pickled_model_newer_protocol(folder: Path, sentinel: Path) -> None:
    write_bundle(folder)
    (folder / "models").mkdir()
    (folder / "models/model.pt").write_bytes(pickle.dumps(Payload(touch(sentinel)), protocol=4))


@attack
def pickled_model_text_protocol(folder: Path, sentinel: Path) -> None:
    write_bundle(folder)
    (folder / "models").mkdir()
    (folder / "models/model.pt").write_bytes(pickle.dumps(Payload(touch(sentinel)), protocol=0))


@attack
def pickled_model_zip(folder: Path, sentinel: Path) -> None:
    write_bundle(folder)
    (folder / "models").mkdir()
    with zipfile.ZipFile(folder / "models/model.pt", "w") as archive:
        archive.writestr("model/data.pkl", pickle.dumps(Payload(touch(sentinel)), protocol=2))
        archive.writestr("model/version", "3\n")


@attack
def pickle_under_another_name(folder: Path, sentinel: Path) -> None:
    write_bundle(folder)
    (folder / "docs/picture.png").write_bytes(pickle.dumps(Payload(touch(sentinel)), protocol=3))


@attack
def torchscript_model(folder: Path, sentinel: Path) -> None:
    write_bundle(folder)
    (folder / "models").mkdir()
    with zipfile.ZipFile(folder / "models/model.ts", "w") as archive:
        archive.writestr("model/code/__torch__.py", "def forward(self): pass\n")


@attack
def pickled_array(folder: Path, sentinel: Path) -> None:
    write_bundle(folder)
    header = b"{'descr': '|O', 'fortran_order': False, 'shape': (1,), }".ljust(117) + b"\n"
    body = b"\x93NUMPY\x01\x00" + len(header).to_bytes(2, "little") + header
    (folder / "atlas.npy").write_bytes(body + pickle.dumps([Payload(touch(sentinel))]))


@attack
def pickled_arrays_in_a_zip(folder: Path, sentinel: Path) -> None:
    write_bundle(folder)
    header = b"{'descr': [('a', '|O')], 'fortran_order': False, 'shape': (1,), }".ljust(117) + b"\n"
    with zipfile.ZipFile(folder / "atlas.npz", "w") as archive:
        archive.writestr("a.npy", b"\x93NUMPY\x01\x00" + len(header).to_bytes(2, "little") + header)


@attack
def broken_zip(folder: Path, sentinel: Path) -> None:
    write_bundle(folder)
    (folder / "models").mkdir()
    (folder / "models/model.pt").write_bytes(b"PK\x03\x04 and nothing more")


@attack
def link_out_of_the_folder(folder: Path, sentinel: Path) -> None:
    write_bundle(folder)
    outside = folder.parent / "outside.json"
    write_json(outside, {"attack": f"${call(sentinel)}"})
    (folder / "configs/train.json").symlink_to(outside)


@attack
def linked_folder(folder: Path, sentinel: Path) -> None:
    write_bundle(folder)
    (folder.parent / "elsewhere").mkdir()
    (folder / "scripts").symlink_to(folder.parent / "elsewhere")


@attack
def link_in_a_circle(folder: Path, sentinel: Path) -> None:
    write_bundle(folder)
    (folder / "configs/train.json").symlink_to(folder / "configs/train.json")


@attack
def named_pipe(folder: Path, sentinel: Path) -> None:
    write_bundle(folder)
    os.mkfifo(folder / "configs/train.json")
