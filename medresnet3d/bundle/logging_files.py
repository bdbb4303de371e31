"""Inspection of a bundle's logging configuration: ``logging.config.fileConfig`` evaluates parts of it as Python."""

from __future__ import annotations

import ast
import configparser
from collections.abc import Iterator
from pathlib import PurePosixPath, PureWindowsPath

from medresnet3d.bundle.findings import Finding

SUFFIXES = (".conf", ".ini", ".cfg")
_HANDLERS = ("StreamHandler", "NullHandler", "FileHandler")
_FORMATTERS = ("Formatter",)
_EVALUATED = ("args", "kwargs", "defaults")
_STREAMS = ("sys.stdout", "sys.stderr")
_NODES = (ast.Constant, ast.Tuple, ast.List, ast.Dict, ast.Load, ast.Expression)


def inspect_logging(name: str, content: bytes) -> list[Finding]:
    """Findings about one INI file.

    Args:
        name: its path in the bundle.
        content: its bytes.
    """
    parser = configparser.RawConfigParser(strict=False)
    try:
        parser.read_string(content.decode("utf-8"))
    except (configparser.Error, ValueError) as error:
        return [Finding(name, "", f"the file cannot be read, so it cannot be inspected ({str(error).splitlines()[0]})")]
    findings: list[Finding] = []
    for section in (parser.default_section, *parser.sections()):
        for option, value in parser.items(section):
            where = f"{name} at [{section}] {option}"
            findings += [Finding(where, value, why) for why in _problems(section, option, value)]
    return findings


def _problems(section: str, option: str, value: str) -> Iterator[str]:
    if option == "class":
        allowed = _FORMATTERS if section.startswith("formatter_") else _HANDLERS
        if value.strip().removeprefix("logging.") not in ("", *allowed):
            yield f"only {', '.join(allowed)} are known to be harmless"
    elif option in _EVALUATED and value.strip():
        yield from _literal_problems(value)
    elif "%(" in value and option not in ("format", "datefmt"):
        yield "it is put together from other values"


def _literal_problems(value: str) -> Iterator[str]:
    try:
        tree = ast.parse(value.strip(), mode="eval")
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        yield "this is evaluated as Python and cannot be parsed"
        return
    for node in _outside_streams(tree):
        if not isinstance(node, _NODES):
            yield "this is evaluated as Python and is not a plain value"
            return
        if isinstance(node, ast.Constant) and isinstance(node.value, str) and not _is_local(node.value):
            yield "a log file may lie below the current folder only"
            return


def _outside_streams(node: ast.AST) -> Iterator[ast.AST]:
    if isinstance(node, ast.Attribute) and ast.unparse(node) in _STREAMS:
        return
    yield node
    for child in ast.iter_child_nodes(node):
        yield from _outside_streams(child)


def _is_local(path: str) -> bool:
    windows = PureWindowsPath(path)
    absolute = PurePosixPath(path).is_absolute() or windows.drive or windows.root
    return not absolute and ".." not in windows.parts and not path.startswith("~")
