"""Inspection of a bundle's JSON and YAML files, as texts: nothing in them is imported, evaluated or resolved."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from medresnet3d.bundle.expressions import RELATIVE, check_expression, import_binding
from medresnet3d.bundle.findings import Finding
from medresnet3d.bundle.names import argument_problem, is_allowed, is_config_only, locate_bare

SUFFIXES = (".json", ".yaml", ".yml")
MAX_JSON_BYTES = 32 * 2**20
MAX_YAML_BYTES = 2 * 2**20
MAX_NODES = 500_000
MAX_DEPTH = 60
_MODES = ("default", "callable")
_FILE_MACRO = re.compile(r"(.*\.(?:json|yaml|yml))(?=(?:::.*)|$)", re.IGNORECASE | re.DOTALL)


class Pairs(list):
    """The names and values of an object in a file, all of them, also where a name stands twice."""


@dataclass(frozen=True)
class Text:
    """A text value of a configuration.

    Args:
        file: path in the bundle.
        path: names and indices that lead to it.
        value: the text.
    """

    file: str
    path: tuple[str, ...]
    value: str

    @property
    def where(self) -> str:
        """File and id, for a message."""
        return f"{self.file} at {'::'.join(self.path) or 'the top'}"


@dataclass
class ConfigScan:
    """Goes through the configuration files of one bundle; call :meth:`add` for each file, then :meth:`finish`.

    Args:
        root: bundle folder.
    """

    root: Path
    findings: list[Finding] = field(default_factory=list)
    _expressions: list[Text] = field(default_factory=list)
    _bound: dict[str, str] = field(default_factory=dict)
    _callables: list[str] = field(default_factory=list)
    _has_macro: bool = False
    _set_apart: bool = False
    _has_config_only: bool = False
    _nodes: int = 0

    def add(self, name: str, content: bytes) -> None:
        """Inspect one file.

        Args:
            name: its path in the bundle.
            content: its bytes.
        """
        try:
            tree = _parse(name, content)
        except (ValueError, RecursionError, MemoryError) as error:
            reason = str(error).splitlines()[0] if str(error) else type(error).__name__
            self._report(name, "", f"the file cannot be read, so it cannot be inspected ({reason})")
            return
        try:
            self._walk(name, tree, ())
        except _TooLargeError as error:
            self._report(name, "", str(error))

    def finish(self) -> list[Finding]:
        """Check the expressions, which may use names that any of the files imports, and give all findings."""
        for text in self._expressions:
            if RELATIVE.search(text.value.replace("#", "::")) and not self._relative_is_plain(text):
                self._report(text.where, text.value, "names of the configuration become part of this expression")
            for problem in check_expression(text.value[1:], self._bound):
                self._report(text.where, text.value, problem)
        if self._set_apart and self._has_config_only:
            for where in self._callables:
                self._report(where, "callable", "another place of the configuration may change what this applies to")
        return self.findings

    def _relative_is_plain(self, text: Text) -> bool:
        parts = [part for key in text.path for part in re.split("::|#", key)]
        return not self._has_macro and all(re.fullmatch(r"\w+", part) for part in parts)

    def _report(self, where: str, what: str, why: str) -> None:
        self.findings.append(Finding(where, what, why))

    def _walk(self, file: str, node: Any, path: tuple[str, ...]) -> None:
        self._nodes += 1
        if self._nodes > MAX_NODES:
            raise _TooLargeError(f"the configuration has more than {MAX_NODES} values; it was not inspected to the end")
        if len(path) > MAX_DEPTH:
            raise _TooLargeError(f"the configuration is nested more than {MAX_DEPTH} levels deep")
        if isinstance(node, str):
            self._text(Text(file, path, node))
        for key, value in _members(node):
            if isinstance(node, Pairs):
                self._key(file, path, node, key, value)
            self._walk(file, value, (*path, str(key)))

    def _key(self, file: str, path: tuple[str, ...], members: Pairs, key: Any, value: Any) -> None:
        where = Text(file, (*path, str(key)), "").where
        self._set_apart |= key == "<<"
        last = re.split("::|#", str(key))[-1].strip().lstrip("+").strip()
        if last in ("_target_", "_mode_"):
            self._set_apart |= key != last or any(part.strip().startswith("+") for part in path)
        if last == "_target_":
            self._target(where, value)
        elif last == "_mode_":
            self._mode(where, value, members)
        if not (isinstance(value, Pairs) and last in ("reader", "writer")):  # a component, inspected itself
            problem = argument_problem(last, _plain(value))
            if problem:
                self._report(where, repr(_plain(value)), problem)

    def _mode(self, where: str, value: Any, members: Pairs) -> None:
        """A class whose arguments must be seen may not be handed on without being called."""
        if value not in _MODES:
            self._report(where, repr(_plain(value)), "this mode runs the debugger or is unknown")
        elif value == "callable":
            self._callables.append(where)
            self._set_apart |= all(key != "_target_" for key, _ in members)
            for target in (item for key, item in members if key == "_target_" and isinstance(item, str)):
                if is_config_only(_full_name(target)):
                    self._report(where, target, "its arguments cannot be inspected when it is handed on uncalled")

    def _target(self, where: str, target: Any) -> None:
        if not isinstance(target, str):
            self._report(where, repr(_plain(target)), "the target of a component must be a plain name")
        elif target[:1] in ("$", "@", "%"):
            self._report(where, target, "the target of a component is computed; it could be anything")
        elif "." in target:
            self._has_config_only |= is_config_only(target)
            if not is_allowed(target):
                self._report(where, target, "this is not on the list of names known to be harmless")
        else:
            self._bare_target(where, target)

    def _bare_target(self, where: str, target: str) -> None:
        found = locate_bare(target)
        if not found:
            self._report(where, target, "MONAI has no component of this name, Python may find another")
        for dotted in found:
            self._has_config_only |= is_config_only(dotted)
            if not is_allowed(dotted):
                self._report(where, f"{target} ({dotted})", "this is not on the list of names known to be harmless")

    def _text(self, text: Text) -> None:
        if text.value.startswith("$"):
            self._expressions.append(text)
            binding = import_binding(text.value[1:])
            if binding:
                self._bound[binding[0]] = binding[1]
        elif text.value.startswith("%"):
            self._has_macro = True
            self._macro(text)

    def _macro(self, text: Text) -> None:
        found = _FILE_MACRO.match(text.value[1:].replace("#", "::"))
        if not found:
            return
        target = Path(found.group(1))
        inside = not target.is_absolute() and ".." not in target.parts and (self.root / target).is_file()
        if not inside:
            self._report(text.where, text.value, "this takes configuration from outside the bundle")


class _TooLargeError(Exception):
    """The configuration is too large to be inspected."""


def _members(node: Any) -> Iterator[tuple[Any, Any]]:
    if isinstance(node, Pairs):
        yield from node
    elif isinstance(node, Mapping):
        yield from node.items()
    elif isinstance(node, list | tuple | set | frozenset):
        yield from enumerate(node)


def _plain(value: Any) -> Any:
    """``value`` with objects as dictionaries, for showing and comparing."""
    if isinstance(value, Pairs):
        return {str(key): "..." for key, _ in value}
    return list(value) if isinstance(value, tuple) else value


def _full_name(target: str) -> str:
    found = locate_bare(target) if "." not in target else [target]
    return found[0] if found else target


def _parse(name: str, content: bytes) -> Any:
    is_json = name.lower().endswith(".json")
    limit = MAX_JSON_BYTES if is_json else MAX_YAML_BYTES
    if len(content) > limit:
        raise ValueError(f"it is larger than {limit // 2**20} MiB")
    text = content.decode("utf-8")
    return json.loads(text, object_pairs_hook=Pairs) if is_json else _parse_yaml(text)


def _parse_yaml(text: str) -> Any:
    import yaml

    class PairLoader(yaml.SafeLoader):
        """Plain values only, and every name of an object even if it stands twice."""

        def construct_pairs(self, node: yaml.MappingNode) -> Pairs:
            if not isinstance(node, yaml.MappingNode):
                raise yaml.YAMLError("an object is wanted")
            return Pairs(
                (_yaml_key(self.construct_object(key, deep=True)), self.construct_object(value, deep=True))
                for key, value in node.value
            )

    PairLoader.add_constructor("tag:yaml.org,2002:map", PairLoader.construct_pairs)
    try:
        return yaml.load(text, PairLoader)
    except (yaml.YAMLError, TypeError, AttributeError, OverflowError) as error:
        raise ValueError(f"not plain YAML: {str(error).splitlines()[0] if str(error) else error!r}") from error


def _yaml_key(key: Any) -> Any:
    if isinstance(key, list | dict | set):
        raise ValueError("a name of an object is itself an object")
    return key
