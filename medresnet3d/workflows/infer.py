"""Answers for scans: run a bundle over inputs and leave segmentations, tables and a report."""

from __future__ import annotations

import os
import time
import traceback
from collections.abc import Iterable, Mapping, Sequence
from contextlib import closing, nullcontext
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from medresnet3d.bundle.load import parse_overrides
from medresnet3d.bundle.registry import find_bundle, read_metadata
from medresnet3d.bundle.trust import require_trust
from medresnet3d.data.cases import case_ids
from medresnet3d.data.sources import find_cases
from medresnet3d.data.sources import inputs as list_inputs
from medresnet3d.errors import AmbiguousInputError, ConfigError, DataError, ExitCode, MedResNetError
from medresnet3d.progress import Progress
from medresnet3d.workflows.answer_files import check_format, check_input, write_answer
from medresnet3d.workflows.answer_log import AnswerLog
from medresnet3d.workflows.detection_log import DetectionLog
from medresnet3d.workflows.early_reading import EarlyReading
from medresnet3d.workflows.explanation import add_explanation, check_method, check_task
from medresnet3d.workflows.prediction import Prediction
from medresnet3d.workflows.pseudonym import check_phi, unnamed

if TYPE_CHECKING:
    from medresnet3d.workflows.predictor import Predictor

PathLike = str | os.PathLike[str]


Failed = tuple[str, str | list[str], MedResNetError]
"""A case, its input and why there is no answer."""


@dataclass
class InferSummary:
    """What a run of :func:`infer` did.

    Args:
        output: the folder with the answers.
        rows: one for each case, as in ``predictions.jsonl``.
        errors: what went wrong, by case.
        report: the HTML report.
        notes: what to know of how the bundle was run, one sentence each.
    """

    output: Path
    rows: list[dict[str, Any]]
    errors: dict[str, MedResNetError] = field(default_factory=dict)
    report: Path | None = None
    notes: list[str] = field(default_factory=list)

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
    modalities: Sequence[str] | None = None,
    series: str | None = None,
    strict: bool = False,
    exact: bool = False,
    precision: str | None = None,
    phi: str = "pseudonym",
    explain: str | None = None,
    set: Mapping[str, Any] | Iterable[str] = (),
    trust: bool = False,
) -> InferSummary:
    """Run a bundle over inputs.

    The output folder gets, for segmentation, ``<case>_seg.nii.gz`` (or the input's own format; DICOM SEG and NIfTI for
    DICOM), in the input's own geometry; always ``predictions.csv``, ``predictions.jsonl`` and ``report.html``, and
    ``cases/<case>.html`` where there are several. A case that fails becomes a row with an error and stops nothing.
    Detections are in ``<case>_detections.csv`` and, all together, in ``detections.csv`` (LUNA16's submission format)
    and ``detections_manifest.json`` (an input for bundles that classify points); of DICOM also in a structured report.
    While the network computes one case, the next is read and the one before is written; rows are in the order of the
    inputs all the same.

    Args:
        bundle: a name from ``bundle list``, a bundle folder or a RUN folder.
        inputs: files, folders, patterns, DICOM folders or a manifest; one or several.
        output: folder for the answers.
        device: ``"auto"``, ``"cpu"``, ``"cuda"`` or ``"cuda:1"``.
        format: of the files, several with commas between them (``"nifti"``, ``"mha"``, ``"nrrd"``, ``"dicomseg"``,
            ``"dicomsr"``, ``"sc"`` and others: :data:`medresnet3d.workflows.answer_files.ANSWER_FORMATS`); by default
            that of the input.
        at: the point to classify, (3,), mm, RAS+, for inputs that bring none of their own.
        modalities: what the names of a case's files end with, in the order of the bundle's channels; see
            :func:`medresnet3d.data.inputs`.
        series: which DICOM series to take where there are several.
        strict: refuse a DICOM series whose geometry would have to be repaired.
        exact: compute as MONAI would, in fp32 and with its own windows, instead of the fastest way.
        precision: ``"auto"``, ``"fp32"``, ``"bf16"`` or ``"fp16"`` instead of the bundle's own number format.
        phi: what answers say of a DICOM file's patient: ``"none"``, a ``"pseudonym"`` or the identifier (``"keep"``).
            With ``"none"`` no name and path of an input is written either: the cases are ``case-1``, ``case-2``, ... in
            the order of the inputs.
        explain: ``"gradcam"``, ``"occlusion"`` or ``"evidence"`` (of a cascade): also write where a classifier looked,
            ``<case>_explanation`` in the input's own geometry, and show it in the report (which shows Grad-CAM or
            evidence by itself otherwise).
        set: values of the bundle's configuration ids, as a mapping or ``id=value`` texts; ``device`` and ``precision``
            may be given here or as arguments.
        trust: accept a bundle from elsewhere although the inspection found something.

    Raises:
        BundleError, WeightsError, UntrustedBundleError, ConfigError: before anything is written.
        DataError: if a manifest is broken or the answers cannot be written.
        KeyboardInterrupt: on Ctrl-C, after table and report of the finished cases have been written.
    """
    check_format(format)
    check_phi(phi)
    check_method(explain)
    overrides = parse_overrides(set)
    items, bad = _list_cases(inputs, at, modalities)
    if phi == "none":
        bad = _without_names(items, bad)
    _check_bundle(bundle, trust, at)
    items, unfit = _fitting(items, format)
    bad += unfit
    early = EarlyReading(items, series, strict)
    from medresnet3d.workflows.predictor import Predictor  # seconds of imports, while the first scan is being read

    predictor = Predictor(
        bundle, device, trust, series=series, strict=strict, exact=exact, precision=precision, phi=phi, set=overrides
    )
    check_task(explain, predictor)
    several = len(items) + len(bad) > 1
    run = _Run(predictor, Path(output), format, several, named=phi != "none", explain=explain)
    try:
        with Progress("inference", len(items) + len(bad)) as progress:
            for case, source, error in bad:
                run.fail(case, source, error)
                progress.advance()
            with closing(predictor.predict_many(early.items(), keep_input=run.wants_input, finish=run.answer)) as done:
                for case in done:
                    progress.advance(status=case)
    except KeyboardInterrupt:
        summary = run.finish()
        raise KeyboardInterrupt(
            f"Interrupted: {len(summary.rows)} of {len(items) + len(bad)} cases are done and in {summary.output}."
        ) from None
    return run.finish()


class _Run:
    """One run over many cases: keeps nothing of a case but its row and its card."""

    def __init__(
        self,
        predictor: Predictor,
        output: Path,
        format_name: str | None,
        several: bool,
        named: bool = True,
        explain: str | None = None,
    ) -> None:
        from medresnet3d.workflows.answer_report import AnswerReport

        self.predictor = predictor
        self.named, self.explain = named, explain
        self.format = format_name
        self.started = time.perf_counter()
        self.summary = InferSummary(output, [], notes=list(predictor.parts.notes))
        self.log = AnswerLog(
            output,
            {
                "bundle": predictor.bundle_name,
                "version": str(predictor.metadata.get("version", "")),
                "weights": predictor.weights_hash,
            },
        )
        self.detections = DetectionLog(output, predictor.bundle_name, predictor.phi)
        self.report = AnswerReport(predictor, output, several)
        self.wants_input = self.report.wants_input

    def answer(self, item: dict[str, Any], outcome: Prediction | Exception) -> str:
        """Write what there is to write of one case and give its name."""
        case = str(item["case"])
        if isinstance(outcome, Exception):
            self.fail(case, item["path"], outcome)
            return case
        if not self.named:
            outcome.path = None
            outcome.warnings = [unnamed(text, item["path"], case) for text in outcome.warnings]
        if self.explain is not None:
            with self.predictor.network_lock:
                add_explanation(self.predictor, outcome, self.explain)
        started = time.perf_counter()
        try:
            files = write_answer(outcome, self.predictor, self.summary.output, self.format)
        except Exception as error:
            self.fail(case, item["path"], error)
            return case
        outcome.stage_seconds["writing"] = time.perf_counter() - started
        self.log.add(outcome.answer(), [file.name for file in files])
        self.detections.add(outcome, item["path"])
        # Where it shows what a classifier looked at, the report runs the network itself.
        with self.predictor.network_lock if self.wants_input else nullcontext():
            self.report.add(outcome)
        return case

    def fail(self, case: str, path: str | list[str], error: Exception) -> None:
        """Record a case without an answer."""
        problem = error if isinstance(error, MedResNetError) else _unforeseen(error)
        _forget_variables(problem)
        if not self.named:
            problem.args = (unnamed(str(problem), path, case),)
        first = path[0] if isinstance(path, list) else path
        empty = Prediction(case, self.predictor.task, self.predictor.labels, path=first if self.named else None)
        self.log.add({**empty.answer(), "seconds": None}, [], str(problem))
        self.summary.errors[case] = problem
        self.report.add_failed(case, str(problem))

    def finish(self) -> InferSummary:
        """Write the table and the report."""
        self.summary.rows = self.log.rows
        self.log.finish()
        self.summary.notes += self.detections.finish()
        self.summary.report = self.report.write(self.log.rows, time.perf_counter() - self.started)
        return self.summary


def _check_bundle(bundle: PathLike, trust: bool, at: Sequence[float] | None) -> None:
    """Find out in a moment what does not need the bundle to be built."""
    path = find_bundle(bundle)
    require_trust(path, trust)
    metadata = read_metadata(path)
    if at is not None and metadata.get("input_kind") != "crop":
        raise ConfigError(
            f"--at: {metadata.get('name') or path.name} takes the whole scan and no point; leave --at out."
        )


def _fitting(items: list[dict[str, Any]], format_name: str | None) -> tuple[list[dict[str, Any]], list[Failed]]:
    """Set the cases apart of which the formats that are asked for cannot be made.

    Raises:
        ConfigError: if they cannot be made of any.
    """
    good: list[dict[str, Any]] = []
    failed: list[Failed] = []
    for item in items:
        try:
            check_input(format_name, item["path"])
            good.append(item)
        except ConfigError as error:
            failed.append((str(item["case"]), item["path"], error))
    if failed and not good:
        raise failed[0][2]
    return good, failed


def _without_names(items: list[dict[str, Any]], bad: list[Failed]) -> list[Failed]:
    """Give cases numbers in the order of the inputs in the place of names that come from file names."""
    width = len(str(len(items) + len(bad)))
    for number, item in enumerate(items, 1):
        item["case"] = f"case-{number:0{width}d}"
    return [
        (f"case-{number:0{width}d}", source, error) for number, (_, source, error) in enumerate(bad, len(items) + 1)
    ]


def _forget_variables(error: BaseException) -> None:
    """Keep the traceback of an error, which ``--debug`` shows, but not the images that its frames hold."""
    seen: dict[int, BaseException] = {}  # an error that is raised again from one that it caused is its own cause
    current: BaseException | None = error
    while current is not None and id(current) not in seen:
        seen[id(current)] = current
        traceback.clear_frames(current.__traceback__)
        current = current.__cause__ or current.__context__


def _list_cases(
    inputs: PathLike | Sequence[PathLike], at: Sequence[float] | None, modalities: Sequence[str] | None = None
) -> tuple[list[dict[str, Any]], list[Failed]]:
    """List the cases, and apart from them the sources in which there is nothing to answer.

    Raises:
        DataError: for a manifest that is broken, and where no input is named at all.
    """
    sources = [inputs] if isinstance(inputs, str | os.PathLike) else list(inputs)
    good: list[PathLike] = []
    failed: list[tuple[str, str | list[str], DataError]] = []
    for source in sources:
        try:
            list_inputs(source)
            good.append(source)
        except DataError as error:
            if Path(source).suffix.lower() == ".json" and Path(source).is_file():
                raise
            failed.append((os.fspath(source), os.fspath(source), error))
    items, incomplete = find_cases(good, at, modalities) if good or not sources else ([], [])
    failed += incomplete
    names = case_ids([*(item["case"] for item in items), *(case for case, _, _ in failed)])[len(items) :]
    return items, [(name, source, error) for name, (_, source, error) in zip(names, failed, strict=True)]


def _unforeseen(error: Exception) -> DataError:
    """Name an error that nobody foresaw in one sentence."""
    lines = str(error).strip().splitlines()
    wrapped = DataError(f"{type(error).__name__}: {lines[0] if lines else 'no message'} (unexpected; see --debug).")
    wrapped.__cause__ = error
    return wrapped
