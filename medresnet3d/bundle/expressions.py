"""The small grammar of ``$`` expressions that a bundle may use without being asked about.

An expression passes when every name in it is a reference (``@id``), a local name of a lambda or comprehension, a
harmless builtin or an exact name of the allow-list, and every other attribute is one of a short list that is harmless
on whatever object it is used. The text is first rewritten exactly as MONAI rewrites it before ``eval``.
"""

from __future__ import annotations

import ast
import builtins
import re
from collections.abc import Iterable, Iterator

from medresnet3d.bundle.names import argument_problem, is_allowed, is_config_only

MAX_LENGTH = 2000
MAX_EXPONENT = 64
_REFERENCES = "__local_refs"
_REFERENCE = re.compile(r"@(?:\w*)(?:::\w*)*")
RELATIVE = re.compile(r"(?:@|%)(?:::)+")
_CONSTANT_ATTRIBUTE = re.compile(r"[A-Z][A-Z0-9_]*")

DEFAULT_MODULES = {"monai": "monai", "torch": "torch", "np": "numpy", "numpy": "numpy"}
IMPORTS = {
    "import torch": ("torch", "torch"),
    "import monai": ("monai", "monai"),
    "import numpy": ("numpy", "numpy"),
    "import numpy as np": ("np", "numpy"),
    "import ignite": ("ignite", "ignite"),
    "import os": ("os", "os"),
    "import glob": ("glob", "glob"),
    "import math": ("math", "math"),
    "import pathlib": ("pathlib", "pathlib"),
}
_BUILTINS = (
    "len min max sum abs round int float bool str list tuple dict set sorted range zip enumerate all any reversed "
    "isinstance slice"
)
BUILTINS = frozenset(_BUILTINS.split())
_ATTRIBUTES = (
    "to cpu cuda eval train parameters named_parameters state_dict load_state_dict run forward shape dtype device ndim "
    "numel dim items keys values get sum mean max min argmax argmin abs float half double long int bool numpy item "
    "tolist detach clone contiguous unsqueeze squeeze permute transpose reshape flatten softmax sigmoid round clamp "
    "split join startswith endswith lower upper strip lstrip rstrip name stem suffix parent exists is_file is_dir "
    "state metrics output batch epoch iteration max_epochs network optimizer affine meta module size"
)
ATTRIBUTES = frozenset(_ATTRIBUTES.split())
# calls that are harmless with certain keywords only
CALL_RULES = {
    "torch.load": frozenset({"map_location", "weights_only"}),
    "torch.distributed.init_process_group": frozenset({"backend"}),
}
_PLAIN_NODES = (
    ast.BoolOp,
    ast.UnaryOp,
    ast.IfExp,
    ast.Compare,
    ast.Tuple,
    ast.List,
    ast.Set,
    ast.Dict,
    ast.Slice,
    ast.Starred,
)
_OPERATORS = (ast.Add, ast.Sub, ast.Mult, ast.Div, ast.FloorDiv, ast.Mod, ast.Pow, ast.BitAnd, ast.BitOr, ast.MatMult)
_COMPREHENSIONS = (ast.ListComp, ast.SetComp, ast.GeneratorExp, ast.DictComp)


def rewrite(text: str) -> str:
    """``text`` (after its ``$``) as MONAI hands it to ``eval``: every ``@id`` becomes a look-up of that id."""
    text = text.replace("#", "::")
    for found in sorted(set(_REFERENCE.findall(text)), key=len, reverse=True):
        text = text.replace(found, f"{_REFERENCES}['{found[1:]}']")
    return text


def import_binding(text: str) -> tuple[str, str] | None:
    """The name and the object that an import expression binds, if ``text`` is one that may be used.

    Args:
        text: expression after its ``$``.
    """
    if text.strip() in IMPORTS:
        return IMPORTS[text.strip()]
    try:
        body = ast.parse(text).body
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        return None
    if len(body) != 1 or not isinstance(body[0], ast.ImportFrom) or len(body[0].names) != 1:
        return None
    alias, node = body[0].names[0], body[0]
    dotted = f"{node.module}.{alias.name}"
    if alias.asname or node.level or hasattr(builtins, alias.name) or alias.name in DEFAULT_MODULES:
        return None
    return (alias.name, dotted) if is_allowed(dotted) and not is_config_only(dotted) else None


def is_import(text: str) -> bool:
    """Whether MONAI takes ``text`` (after its ``$``) for an import."""
    try:
        body = ast.parse(text).body
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        return False
    return bool(body) and isinstance(body[0], ast.Import | ast.ImportFrom)


def check_expression(text: str, bound: dict[str, str]) -> list[str]:
    """What in an expression is outside the grammar, one phrase each; empty if it is harmless.

    Args:
        text: expression after its ``$``.
        bound: names that imports of the bundle bind, with the objects' dotted names.
    """
    if len(text) > MAX_LENGTH:
        return [f"the expression is longer than {MAX_LENGTH} characters"]
    if is_import(text):
        return [] if import_binding(text) else ["this import is not on the list of harmless ones"]
    try:
        tree = ast.parse(rewrite(text).lstrip(" \t"), mode="eval")
        return list(dict.fromkeys(_Checker(DEFAULT_MODULES | bound).check(tree.body, frozenset())))
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        return ["the expression cannot be parsed"]


class _Checker:
    """Walks one expression. Every method yields phrases about what is not allowed."""

    def __init__(self, bound: dict[str, str]) -> None:
        self.bound = bound

    def check(self, node: ast.AST, local: frozenset[str]) -> Iterator[str]:
        if isinstance(node, ast.Constant):
            return
        if isinstance(node, ast.Name):
            yield from self._name(node, local)
        elif isinstance(node, ast.Attribute):
            yield from self._attribute(node, local)
        elif isinstance(node, ast.Call):
            yield from self._call(node, local)
        elif isinstance(node, ast.BinOp):
            yield from self._operation(node, local)
        elif isinstance(node, ast.Subscript):
            yield from self._subscript(node, local)
        elif isinstance(node, ast.Lambda):
            yield from self._lambda(node, local)
        elif isinstance(node, _COMPREHENSIONS):
            yield from self._comprehension(node, local)
        elif isinstance(node, _PLAIN_NODES):
            yield from self._children(ast.iter_child_nodes(node), local)
        else:
            yield f"{type(node).__name__} is not part of the expressions that are allowed"

    def _children(self, nodes: Iterable[ast.AST], local: frozenset[str]) -> Iterator[str]:
        for child in nodes:
            if not isinstance(child, ast.expr_context | ast.boolop | ast.unaryop | ast.cmpop):
                yield from self.check(child, local)

    def _name(self, node: ast.Name, local: frozenset[str]) -> Iterator[str]:
        if node.id in local:
            return
        dotted = self.bound.get(node.id)
        if dotted is not None:
            if not is_allowed(dotted) or is_config_only(dotted):
                yield f"{node.id!r} may be used for its harmless members only"
        elif node.id not in BUILTINS:
            yield f"the name {node.id!r} is not on the list of harmless ones"

    def _dotted(self, node: ast.AST, local: frozenset[str]) -> str | None:
        """The dotted name that a chain of attributes below an imported name stands for."""
        if isinstance(node, ast.Name):
            return None if node.id in local else self.bound.get(node.id)
        if isinstance(node, ast.Attribute):
            base = self._dotted(node.value, local)
            return None if base is None else f"{base}.{node.attr}"
        return None

    def _attribute(self, node: ast.Attribute, local: frozenset[str]) -> Iterator[str]:
        dotted = self._dotted(node, local)
        if dotted is None:
            if node.attr not in ATTRIBUTES:
                yield f"the attribute {node.attr!r} is not on the list of harmless ones"
            yield from self.check(node.value, local)
            return
        base = dotted.rpartition(".")[0]
        member = _CONSTANT_ATTRIBUTE.fullmatch(node.attr) and is_allowed(base) and not is_config_only(base)
        if not member and (not is_allowed(dotted) or is_config_only(dotted)):
            yield f"{dotted} is not on the list of names that are harmless in an expression"

    def _call(self, node: ast.Call, local: frozenset[str]) -> Iterator[str]:
        dotted = self._dotted(node.func, local)
        if dotted in CALL_RULES:
            yield from self._ruled_call(node, dotted)
        elif isinstance(node.func, ast.Name) and node.func.id in local:
            yield f"the call of {node.func.id!r} is not allowed: it could be anything"
        elif isinstance(node.func, ast.Name | ast.Attribute):
            yield from self.check(node.func, local)
        else:
            yield "the call of something computed is not allowed"
        for argument in node.args:
            if isinstance(argument, ast.Starred):
                yield "starred arguments are not allowed"
            yield from self.check(argument, local)
        for keyword in node.keywords:
            yield from self._keyword(keyword, local)

    def _keyword(self, keyword: ast.keyword, local: frozenset[str]) -> Iterator[str]:
        if keyword.arg is None:
            yield "starred arguments are not allowed"
        else:
            value = keyword.value.value if isinstance(keyword.value, ast.Constant) else object()
            problem = argument_problem(keyword.arg, value)
            if problem:
                yield f"the argument {keyword.arg!r}: {problem}"
        yield from self.check(keyword.value, local)

    @staticmethod
    def _ruled_call(node: ast.Call, dotted: str) -> Iterator[str]:
        values = {keyword.arg: keyword.value for keyword in node.keywords}
        if not values.keys() <= CALL_RULES[dotted]:
            yield f"{dotted} may have no keywords but {', '.join(sorted(CALL_RULES[dotted]))}"
        if dotted == "torch.load":
            safe = values.get("weights_only")
            if len(node.args) != 1 or not (isinstance(safe, ast.Constant) and safe.value is True):
                yield "torch.load is allowed with weights_only=True only"
        elif node.args:
            yield f"{dotted} may have no positional arguments"

    def _operation(self, node: ast.BinOp, local: frozenset[str]) -> Iterator[str]:
        if not isinstance(node.op, _OPERATORS):
            yield f"the operation {type(node.op).__name__} is not allowed"
        if isinstance(node.op, ast.Pow) and not _is_small(node.right):
            yield f"an exponent must be a number up to {MAX_EXPONENT}"
        if isinstance(node.op, ast.Mod) and not _is_number(node.right):
            yield "% may be used with numbers only"
        yield from self._children((node.left, node.right), local)

    def _subscript(self, node: ast.Subscript, local: frozenset[str]) -> Iterator[str]:
        is_reference = isinstance(node.value, ast.Name) and node.value.id == _REFERENCES and _REFERENCES not in local
        if not is_reference:
            yield from self.check(node.value, local)
        yield from self.check(node.slice, local)

    def _lambda(self, node: ast.Lambda, local: frozenset[str]) -> Iterator[str]:
        arguments = node.args
        if arguments.vararg or arguments.kwarg:
            yield "starred arguments are not allowed"
        names = [item.arg for item in (*arguments.posonlyargs, *arguments.args, *arguments.kwonlyargs)]
        yield from _bad_locals(names)
        yield from self._children([item for item in (*arguments.defaults, *arguments.kw_defaults) if item], local)
        yield from self.check(node.body, local | frozenset(names))

    def _comprehension(
        self, node: ast.ListComp | ast.SetComp | ast.GeneratorExp | ast.DictComp, local: frozenset[str]
    ) -> Iterator[str]:
        for part in node.generators:
            yield from self.check(part.iter, local)
            names = [item.id for item in ast.walk(part.target) if isinstance(item, ast.Name)]
            if not all(isinstance(item, ast.Name | ast.Tuple | ast.Store) for item in ast.walk(part.target)):
                yield "a comprehension may bind plain names only"
            yield from _bad_locals(names)
            local = local | frozenset(names)
            yield from self._children(part.ifs, local)
        parts = (node.key, node.value) if isinstance(node, ast.DictComp) else (node.elt,)
        yield from self._children(parts, local)


def _bad_locals(names: Iterable[str]) -> Iterator[str]:
    for name in names:
        if name.startswith("__") or hasattr(builtins, name) or name in DEFAULT_MODULES:
            yield f"the local name {name!r} hides another"


def _is_small(node: ast.AST) -> bool:
    if isinstance(node, ast.UnaryOp) and isinstance(node.op, ast.USub):
        node = node.operand
    return isinstance(node, ast.Constant) and isinstance(node.value, int | float) and abs(node.value) <= MAX_EXPONENT


def _is_number(node: ast.AST) -> bool:
    return isinstance(node, ast.Constant) and isinstance(node.value, int | float)
