"""Answers for scans: run a bundle over inputs and leave segmentations, tables and a report."""

from __future__ import annotations

import os
import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from medresnet3d.bundle.load import parse_overrides
from medresnet3d.data.cases import case_ids
from medresnet3d.data.sources import inputs as list_inputs
from medresnet3d.errors import AmbiguousInputError, ConfigError, DataError, ExitCode, MedResNetError
from medresnet3d.progress import Progress
from medresnet3d.workflows.answer_files import check_format, write_label_map
from medresnet3d.workflows.answer_log import AnswerLog
from medresnet3d.workflows.answer_report import AnswerReport
from medresnet3d.workflows.prediction import Prediction
from medresnet3d.workflows.predictor import Predictor

__all__ = ["InferSummary", "Prediction", "Predictor", "infer"]

PathLike = str | os.PathLike[str]


@dataclass
class InferSummary:
    """What a run of :func:`infer` did.

    Args:
        output: the folder with the answers.
        rows: one for each case, as in ``predictions.jsonl``.
        errors: what went wrong, by case.
        report: the HTML report.
    """

    output: Path
    rows: list[dict[str, Any]]
    errors: dict[str, MedResNetError] = field(default_factory=dict)
    report: Path | None = None

    @property
    def answered(self) -> int:
        """Number of cases with an answer."""
        return len(self.rows) - len(self.errors)

    @property
    def exit_code(self) -> ExitCode:
        """0 if every case has an answer, 1 if some have, 3 if none has, 2 if a person must first choose something."""
        if not self.errors:
            return ExitCode.OK
        if self.answered:
            return ExitCode.SOME_FAILED
        asked = all(isinstance(error, AmbiguousInputError) for error in self.errors.values())
        return ExitCode.USAGE if asked else ExitCode.NOTHING_DONE


def infer(
    bundle: PathLike,
    inputs: PathLike | Sequence[PathLike],
    output: PathLike,
    *,
    device: str = "auto",
    format: str | None = None,
    at: Sequence[float] | None = None,
    series: str | None = None,
    set: Mapping[str, Any] | Iterable[str] = (),
    trust: bool = False,
) -> InferSummary:
    """Run a bundle over inputs.

    The output folder gets, for segmentation, ``<case>_seg.nii.gz`` (or the input's own format; DICOM SEG and NIfTI for
    DICOM), in the input's own geometry; always ``predictions.csv``, ``predictions.jsonl`` and ``report.html``, and
    ``cases/<case>.html`` where there are several. A case that fails becomes a row with an error and stops nothing.

    Args:
        bundle: a name from ``bundle list``, a bundle folder or a RUN folder.
        inputs: files, folders, patterns, DICOM folders or a manifest; one or several.
        output: folder for the answers.
        device: ``"auto"``, ``"cpu"``, ``"cuda"`` or ``"cuda:1"``.
        format: of label maps: ``"nifti"``, ``"dicomseg"``, ``"mha"`` or ``"nrrd"``; by default that of the input.
        at: the point to classify, (3,), mm, RAS+, for inputs that bring none of their own.
        series: which DICOM series to take where there are several.
        set: values of the bundle's configuration ids, as a mapping or ``id=value`` texts.
        trust: accept a bundle from elsewhere although the inspection found something.

    Raises:
        BundleError, WeightsError, UntrustedBundleError, ConfigError: before anything is written.
        DataError: if a manifest is broken or the answers cannot be written.
        KeyboardInterrupt: on Ctrl-C, after table and report of the finished cases have been written.
    """
    check_format(format)
    items, bad = _list_cases(inputs, at)
    predictor = Predictor(bundle, device, trust, series=series, **parse_overrides(set))
    if at is not None and predictor.metadata.get("input_kind") != "crop":
        raise ConfigError(f"--at: {predictor.bundle_name} takes the whole scan and no point; leave --at out.")
    run = _Run(predictor, Path(output), format, several=len(items) + len(bad) > 1)
    try:
        with Progress("inference", len(items) + len(bad)) as progress:
            for case, source, error in bad:
                run.fail(case, source, error)
                progress.advance()
            for item in items:
                run.answer(item)
                progress.advance(status=item["case"])
    except KeyboardInterrupt:
        summary = run.finish()
        raise KeyboardInterrupt(
            f"Interrupted: {len(summary.rows)} of {len(items) + len(bad)} cases are done and in {summary.output}."
        ) from None
    return run.finish()


class _Run:
    """One run over many cases: keeps nothing of a case but its row and its card."""

    def __init__(self, predictor: Predictor, output: Path, format_name: str | None, several: bool) -> None:
        self.predictor = predictor
        self.format = format_name
        self.started = time.perf_counter()
        self.summary = InferSummary(output, [])
        self.log = AnswerLog(
            output,
            {
                "bundle": predictor.bundle_name,
                "version": str(predictor.metadata.get("version", "")),
                "weights": predictor.weights_hash,
            },
        )
        self.report = AnswerReport(predictor, output, several)

    def answer(self, item: dict[str, Any]) -> None:
        """Answer one case and write what there is to write; whatever it provokes, the others get their answers."""
        try:
            prediction = self.predictor(item, keep_input=self.report.wants_input)
            files = write_label_map(prediction, self.predictor, self.summary.output, self.format)
        except Exception as error:
            self.fail(item["case"], item["path"], error)
            return
        self.log.add(prediction.answer(), [file.name for file in files])
        self.report.add(prediction)

    def fail(self, case: str, path: str | list[str], error: Exception) -> None:
        """Record a case without an answer."""
        problem = error if isinstance(error, MedResNetError) else _unforeseen(error)
        first = path[0] if isinstance(path, list) else path
        empty = Prediction(case, self.predictor.task, self.predictor.labels, path=first)
        self.log.add({**empty.answer(), "seconds": None}, [], str(problem))
        self.summary.errors[case] = problem
        self.report.add_failed(case, str(problem))

    def finish(self) -> InferSummary:
        """Write the table and the report."""
        self.summary.rows = self.log.rows
        self.log.finish()
        self.summary.report = self.report.write(self.log.rows, time.perf_counter() - self.started)
        return self.summary


def _list_cases(
    inputs: PathLike | Sequence[PathLike], at: Sequence[float] | None
) -> tuple[list[dict[str, Any]], list[tuple[str, str, DataError]]]:
    """List the cases, and apart from them the sources in which there is nothing to answer.

    Raises:
        DataError: for a manifest that is broken, and where no input is named at all.
    """
    sources = [inputs] if isinstance(inputs, str | os.PathLike) else list(inputs)
    good: list[PathLike] = []
    failed: list[tuple[str, DataError]] = []
    for source in sources:
        try:
            list_inputs(source)
            good.append(source)
        except DataError as error:
            if Path(source).suffix.lower() == ".json" and Path(source).is_file():
                raise
            failed.append((os.fspath(source), error))
    items = list_inputs(good, at) if good or not sources else []
    names = case_ids([*(item["case"] for item in items), *(source for source, _ in failed)])[len(items) :]
    return items, [(name, source, error) for name, (source, error) in zip(names, failed, strict=True)]


def _unforeseen(error: Exception) -> DataError:
    """Name an error that nobody foresaw in one sentence."""
    lines = str(error).strip().splitlines()
    wrapped = DataError(f"{type(error).__name__}: {lines[0] if lines else 'no message'} (unexpected; see --debug).")
    wrapped.__cause__ = error
    return wrapped
