"""Put what the benchmarks have measured into the page of benchmarks, as Markdown tables.

    python benchmarks/table.py RESULTS
    python benchmarks/table.py RESULTS --write docs/benchmarks.md

``RESULTS`` is the folder that ``sliding_window.py``, ``resident_predictor.py``, ``adrenal.py``, ``lung_nodule.py``,
``nodule_segmentation.py`` or ``pictures.py`` was given for its results. The page has a place for each table, between
``<!-- NAME -->`` and ``<!-- end of NAME -->``; a place whose benchmarks have not run stays as it is.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

from medresnet3d.errors import ConfigError
from medresnet3d.io.atomic import atomic_write_text

Row = dict[str, Any]
OURS = "medresnet3d"
NAMES = {
    "mri-unet": "UNet, the same windows",
    "mri-voxresnet": "VoxResNet of width 64, the same windows",
    "mri-default-mri-unet": "UNet, settings of `infer`",
    "mri-default-mri-voxresnet": "VoxResNet of width 64, settings of `infer`",
    "ct": "CT, 14 classes, settings of `infer`",
}
"""What is said of each ``sliding_window_<key>.json``."""
SAME = {"mri-unet": 0.9995, "mri-voxresnet": 0.9995}
"""Our goal for the share of voxels with the same label, where the windows are the same."""
ADRENAL = {
    "ours": "`lung_nodule_cnn3d`, recipe for shapes",
    "plain": "ResNet-18, published recipe shortened",
    "forest": "forest on ten measures of the shape",
    "depth": "mean depth of the shape alone, logistic regression",
}
NODULES = {
    "network": "`lung_nodule_cnn3d`, slim ResNet-18",
    "plain": "plain ResNet-10, equal time",
    "reference": "support vector machine, sees the mask",
}
NODULE_MASKS = {
    "voxresnet": "VoxResNet of width 16",
    "unet": "MONAI's UNet, equal time",
    "threshold": "threshold, piece at the middle",
}
SPECIMENS = {
    "dsfcn": "`hep2_dsfcn`, slim",
    "transposed": "the same, transposed convolutions, no side outputs, equal time",
    "unet": "MONAI's UNet, equal time",
    "otsu": "Otsu, smoothing, background and classes tuned",
}
CLINICAL = "_clinical"
PICTURES = {
    "ours": "the bundle",
    "without": "the bundle, its networks alone",
    "plain": "plain ResNet-18",
    "forest": "forest on histograms of colours",
    f"ours{CLINICAL}": "the bundle, age, sex and place",
    f"plain{CLINICAL}": "plain ResNet-18, age, sex and place",
    f"forest{CLINICAL}": "forest, age, sex and place",
}
"""What is said of each arm; the first is ours."""
PICTURE_SETS = {
    "dermoscopy": ("skin lesions, 7 classes", "balanced_accuracy"),
    "blood_cells": ("blood cells, 8 classes", "accuracy"),
    "fundus": ("retinopathy, 5 grades", "kappa"),
}
"""What is said of each set of pictures, and the figure that is compared."""
PLACES = {
    "mri": ("mri-unet", "mri-voxresnet", "mri-default-mri-unet", "mri-default-mri-voxresnet"),
    "ct": ("ct",),
}
"""The rows of each table of times."""


def read(folder: Path, name: str) -> Row | None:
    """Give what a benchmark has written; ``None`` if it has not run."""
    path = folder / f"{name}.json"
    return dict(json.loads(path.read_text(encoding="utf-8"))) if path.is_file() else None


def times_table(rows: dict[str, Row]) -> str:
    """Several rows of times, each arm a line; missed goals are said to be missed."""
    lines = [
        "| work | arm | seconds | ours is faster | our goal | same label | Dice |",
        "|---|---|---|---|---|---|---|",
    ]
    for name, row in rows.items():
        for number, (arm, seconds) in enumerate(row["seconds"].items()):
            work = f"{NAMES[name]}, {_shape(row['shape'])}" if number == 0 else ""
            goal, faster = row["goals"].get(arm), row["times_faster"].get(arm)
            ratio = f"{faster:.2f}x" if faster else ""
            share = row["agreement_in_organs"][arm]
            same = f"{share:.4f}" + (", **missed**" if arm == OURS and share < SAME.get(name, 0) else "")
            took = f"{seconds:.2f}" if seconds > 0.5 else f"{seconds:.3f}"
            lines.append(
                f"| {work} | {arm} | {took} | {ratio} | {_goal(goal, faster, 'x')} | {same} | {row['dice'][arm]:.4f} |"
            )
    return "\n".join(["\n".join(lines), "", *(_circumstances(name, row) for name, row in rows.items())])


def _circumstances(name: str, row: Row) -> str:
    where = row["machine"].get("gpu", f"{row['machine']['threads']} threads")
    clock = "wall time" if row["clock"] == "wall" else "processor time"
    report = row["report"]
    how = f"ours: {report['strategy']}, {report['precision']}" if report else "ours: see the script"
    runs = "one run" if row["repeats"] == 1 else f"median of {row['repeats']} runs"
    return f"{NAMES[name]}: {row['date']}, {clock} on {where}, {runs}, {how}.  "


def memory_table(row: Row) -> str:
    """Memory by the number of slices, with and without the label map that the caller gets."""
    lines = [
        "| slices | MONAI fp32 | medresnet3d | less | our goal | without the label map: MONAI | medresnet3d | less |",
        "|---|---|---|---|---|---|---|---|",
    ]
    for slices, ours in row["memory"][OURS].items():
        peer = row["memory"]["MONAI fp32"].get(slices)
        less = peer["mib"] / ours["mib"] if peer else None
        own, theirs = (one["mib"] - one["answer_mib"] if one else None for one in (ours, peer))
        bare = f"{theirs} MiB | {own} MiB | {theirs / own:.1f}x" if theirs and own else f"not run | {own} MiB | "
        lines.append(
            f"| {slices} | {_mib(peer)} | {_mib(ours)} | {f'{less:.1f}x' if less else ''} "
            f"| {_goal(row['goals'].get(slices), less, 'x')} | {bare} |"
        )
    return "\n".join(
        [*lines, "", f"{row['plane'].replace('x', ' x ')} in plane; network: {row['network']}; {row['date']}."]
    )


def _mib(one: Row | None) -> str:
    return f"{one['mib']} MiB" if one else "not run"


def resident_table(row: Row) -> str:
    """The three ways through a folder of scans."""
    lines = ["| way | wall, s | processor, s | faster | our goal |", "|---|---|---|---|---|"]
    for way, seconds in row["wall_s"].items():
        goal = 3 if way == "resident" else None
        ratio = row["ratio"][way]
        lines.append(f"| {way} | {seconds:.1f} | {row['cpu_s'][way]:.1f} | {ratio:.2f}x | {_goal(goal, ratio, 'x')} |")
    equal = "equal" if row["equal_label_maps"] else "**different**"
    facts = f"`{row['bundle']}` on {row['scans']} scans of {_shape(row['shape'])}, {row['cores']} cores, {row['date']}"
    return "\n".join([*lines, "", f"{facts}; {equal} label maps."])


def adrenal_table(row: Row) -> str:
    """Means over seeds of AUC and accuracy, and what ours is ahead by."""
    lines = [
        "| arm | seeds | CPU s | AUC | accuracy | ours is ahead by (AUC) |",
        "| --- | --- | ---: | --- | --- | --- |",
    ]
    for arm, one in row.items():
        ahead = one.get("ours_is_ahead_by")
        figures = [_estimate(one["auc"]), _estimate(one["accuracy"]), _estimate(ahead) if ahead else ""]
        lines.append("| " + " | ".join([ADRENAL[arm], str(one["seeds"]), f"{one['cpu_seconds']:.0f}", *figures]) + " |")
    return "\n".join(lines)


def comparison_table(row: Row, names: dict[str, str], figure: str) -> str:
    """One figure of each arm, and what the first is ahead by."""
    ours = next(iter(names))
    lines = [f"| arm | {figure} | ours is ahead by |", "| --- | --- | --- |"]
    for arm in (arm for arm in names if arm in row):
        ahead = row.get(f"{ours} - {arm}")
        lines.append(f"| {names[arm]} | {_estimate(row[arm])} | {_estimate(ahead) if ahead else ''} |")
    return "\n".join(lines)


def pictures_table(row: Row) -> str:
    """Three figures of each arm on each set, and what the bundle is ahead by in the one that counts there."""
    lines = [
        "| set | arm | seconds a fold | accuracy | balanced accuracy | quadratic kappa | the bundle is ahead by |",
        "| --- | --- | ---: | --- | --- | --- | --- |",
    ]
    for name, one in row.items():
        said, counts = PICTURE_SETS[name]
        for arm, label in PICTURES.items():
            if arm not in one:
                continue
            values = one[arm]
            kappa = _estimate(values["kappa"]) if counts == "kappa" else ""
            ahead = values.get("ours_is_ahead_by")
            folds = f", on {values['folds']} of these folds" if values["folds"] < one["ours"]["folds"] else ""
            cells = [
                f"{said}, {values['cases']} pictures, {values['folds']} of 5 folds" if arm == "ours" else "",
                f"{label}{folds}",
                f"{values['seconds']:.0f} {values['device'].removeprefix('NVIDIA ')}",
                _estimate(values["accuracy"]),
                _estimate(values["balanced_accuracy"]),
                kappa,
                f"{_estimate(ahead[counts])} ({counts.replace('_', ' ')})" if ahead else "",
            ]
            lines.append("| " + " | ".join(cells) + " |")
    return "\n".join(lines)


def _estimate(value: Row) -> str:
    return "{:.3f} ({:.3f} to {:.3f})".format(value["mean"], *value["interval"])


def _goal(goal: float | None, reached: float | None, unit: str) -> str:
    if goal is None:
        return ""
    return f"{goal:g}{unit}" + (", **missed**" if reached is not None and reached < goal else "")


def _shape(shape: list[int]) -> str:
    return " x ".join(map(str, shape))


def tables(folder: Path) -> dict[str, str]:
    """Every table for which something has been measured, by its place on the page."""
    found: dict[str, str] = {}
    for place, names in PLACES.items():
        rows = {name: row for name in names if (row := read(folder, f"sliding_window_{name}")) is not None}
        on_gpu = {name: row for name, row in rows.items() if "gpu" in row["machine"]}
        rows = {name: row for name, row in rows.items() if name not in on_gpu}
        found |= {where: times_table(some) for where, some in ((place, rows), (f"{place}-gpu", on_gpu)) if some}
    one_row: dict[str, tuple[str, Callable[[Row], str]]] = {
        "memory": ("sliding_window_ct-memory", memory_table),
        "resident": ("resident", resident_table),
        "adrenal": ("adrenal", adrenal_table),
        "adrenal-holdout": ("holdout/adrenal", adrenal_table),
        "nodules": ("lung_nodule", lambda row: comparison_table(row["summary"], NODULES, "mean AUC of five folds")),
        "pictures": ("pictures", pictures_table),
        "nodule-masks": ("nodule_segmentation", lambda row: comparison_table(row, NODULE_MASKS, "mean Dice")),
        "specimens": ("hep2_specimen", lambda row: comparison_table(row, SPECIMENS, "mean Dice")),
    }
    for place, (name, make) in one_row.items():
        row = read(folder, name)
        if row is not None:
            found[place] = make(row)
    return found


def put(page: str, place: str, table: str) -> str:
    """Put a table into its place on the page.

    Raises:
        ConfigError: if the page has no such place.
    """
    begin, end = f"<!-- {place} -->", f"<!-- end of {place} -->"
    before, found, rest = page.partition(begin)
    _, closed, after = rest.partition(end)
    if not found or not closed:
        raise ConfigError(f'the page has no place "{begin} … {end}"; add it where the table belongs.')
    return f"{before}{begin}\n\n{table}\n\n{end}{after}"


def main() -> None:
    """Print the tables, or write them into a page."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("results", type=Path)
    parser.add_argument("--write", type=Path, help="the page to change")
    options = parser.parse_args()
    found = tables(options.results)
    for place, table in found.items():
        print(f"{place}\n\n{table}\n")
    if options.write:
        page = options.write.read_text(encoding="utf-8")
        for place, table in found.items():
            page = put(page, place, table)
        atomic_write_text(options.write, page)


if __name__ == "__main__":
    main()
