"""Comparisons with a name, one factor at a time, as data (``comparison_presets.json``): the survey's and a few more."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path
from typing import Any

from medresnet3d.bundle.load import load_config
from medresnet3d.bundle.registry import find_bundle
from medresnet3d.bundle.trust import require_trust
from medresnet3d.data.manifest import Manifest
from medresnet3d.errors import ConfigError, ExitCode
from medresnet3d.names import require_name
from medresnet3d.reports.blocks import Block, Heading, Link, Report, Table, Text
from medresnet3d.weights.cards import find_card, is_card
from medresnet3d.weights.store import stored_digest
from medresnet3d.workflows.compare import Comparison, Options, check_folder, compare_factors
from medresnet3d.workflows.compare_grid import Factor, make_arms
from medresnet3d.workflows.compare_summary import BASELINE

ALL = "survey-all"
SURVEY = "survey-"
_PRESETS = Path(__file__).with_name("comparison_presets.json")


@dataclass(frozen=True)
class Survey:
    """Several comparisons in one folder.

    Attributes:
        folder: holds one folder a comparison, and ``report.html``, which leads to them.
        parts: the comparisons by preset.
    """

    folder: Path
    parts: Mapping[str, Comparison]

    @property
    def report(self) -> Path:
        """The HTML report over all comparisons."""
        return self.folder / "report.html"

    @property
    def conclusion(self) -> str:
        """What the evidence says, a line a comparison."""
        return "\n".join(f"{name}: {part.conclusion}" for name, part in self.parts.items())

    @property
    def exit_code(self) -> ExitCode:
        """Whether all, some or none of the cells came to a result."""
        codes = {part.exit_code for part in self.parts.values()}
        return codes.pop() if len(codes) == 1 else ExitCode.SOME_FAILED


@cache
def presets() -> dict[str, dict[str, Any]]:
    """Give the presets by name: title, factor, levels (ids by level, the baseline first), set (ids of all), notes."""
    return dict(json.loads(_PRESETS.read_text(encoding="utf-8")))


def survey_presets() -> list[str]:
    """Names of the presets that ``survey-all`` runs."""
    return [name for name in presets() if name.startswith(SURVEY)]


def compare_preset(
    bundle: str | os.PathLike[str],
    data: str | os.PathLike[str] | Manifest,
    output: str | os.PathLike[str],
    name: str,
    options: Options,
    trust: bool = False,
) -> Comparison | Survey:
    """Run a preset, or all of them into folders of their own.

    Args:
        bundle: as for :func:`medresnet3d.workflows.compare.compare`.
        data: the manifest.
        output: folder of the comparison.
        name: name of the preset, or ``survey-all``.
        options: how it is made; its overrides win over the preset's.
        trust: accept a bundle from elsewhere although the inspection found something.

    Raises:
        ConfigError: if there is no such preset.
    """
    if name == ALL:
        folder = Path(output).resolve()
        check_folder(folder)
        parts = {}
        for each in survey_presets():
            parts[each] = _compare_one(bundle, data, folder / each, each, options, trust)
            _write_overview(Survey(folder, parts))
        return Survey(folder, parts)
    return _compare_one(bundle, data, output, name, options, trust)


def preset_factor(name: str) -> Factor:
    """Give what a preset varies.

    Raises:
        ConfigError: if there is no such preset.
    """
    require_name("--preset", name, [*presets(), ALL])
    levels = presets()[name]["levels"]
    return Factor(presets()[name]["factor"], levels, next(iter(levels)))


def _compare_one(
    bundle: str | os.PathLike[str],
    data: str | os.PathLike[str] | Manifest,
    output: str | os.PathLike[str],
    name: str,
    options: Options,
    trust: bool,
) -> Comparison:
    varied = preset_factor(name)
    preset = presets()[name]
    common = {**preset.get("set", {}), **options.overrides}
    factor, notes = _known_levels(varied, bundle, common, trust)
    notes = [*preset.get("notes", ()), *notes]
    own = replace(options, overrides=common, title=preset["title"], notes=tuple(notes))
    return compare_factors(bundle, data, output, [factor], make_arms([factor]), own, trust)


def _known_levels(
    factor: Factor, bundle: str | os.PathLike[str], common: Mapping[str, Any], trust: bool
) -> tuple[Factor, list[str]]:
    """Leave out levels with ids that the bundle does not have or weights that are not here, and say so."""
    source = find_bundle(bundle)
    require_trust(source, trust)
    known, notes = {}, []
    for level, overrides in factor.levels.items():
        weights = str(overrides.get("pretrained"))
        if is_card(weights) and stored_digest(find_card(weights)) is None:
            notes.append(f"{level} was left out: run `medresnet3d weights fetch {weights}` first.")
            continue
        try:
            load_config(source, ("train.json",), {**common, **overrides})
            known[level] = overrides
        except ConfigError as error:
            if level == factor.baseline:
                raise
            notes.append(f"{level} was left out, since this bundle does not have it: {error}")
    if len(known) < 2:
        raise ConfigError(f"{source.name} has nothing of this preset to compare. {' '.join(notes)}")
    return Factor(factor.name, known, factor.baseline), notes


def _write_overview(survey: Survey) -> None:
    """Write the page that leads to the reports of the comparisons that are done."""
    from medresnet3d.reports.html import write_report

    blocks: list[Block] = []
    for name, part in survey.parts.items():
        rows = [
            [arm.name, arm.mean, None if arm.test is None else arm.p_holm, arm.verdict] for arm in part.summary.ranked
        ]
        rows += [[arm.name, None, None, "failed"] for arm in part.summary.arms if arm.mean.n == 0]
        baseline = next(arm.name for arm in part.summary.arms if arm.verdict == BASELINE)
        blocks += [
            Heading(presets()[name]["title"], f"Baseline: {baseline}"),
            Text(part.conclusion),
            Table(["part", f"mean {part.summary.metric}", "p (Holm)", "verdict"], rows),
            Table(["full report"], [[Link(f"{name}/report.html", f"{name}/report.html")]]),
        ]
    write_report(Report("The survey's comparisons", "One factor at a time, at equal budget", blocks), survey.report)
