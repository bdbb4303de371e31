"""A bundle kept in memory, ready to answer one case after the other, or many with reading and writing beside it."""

from __future__ import annotations

import copy
import os
import threading
import time
from collections.abc import Callable, Generator, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from itertools import cycle
from types import TracebackType
from typing import Any, Self, TypeVar

import torch
from numpy.typing import NDArray

from medresnet3d.bundle.load import option_or_id, parse_overrides
from medresnet3d.bundle.registry import find_bundle, read_metadata
from medresnet3d.bundle.trust import require_trust
from medresnet3d.bundle.uses import metadata_of_use, task_of
from medresnet3d.data.cases import case_ids
from medresnet3d.engines import select_device
from medresnet3d.errors import ConfigError, DataError
from medresnet3d.inferers import InferenceReport
from medresnet3d.io import Volume, load
from medresnet3d.workflows.bundle_parts import BundleParts, bundle_parts, known_cause
from medresnet3d.workflows.inference_options import answer_labels_directly, use_precision, what_was_left_out
from medresnet3d.workflows.pipeline import IN_FLIGHT, Pipeline
from medresnet3d.workflows.prediction import Prediction
from medresnet3d.workflows.pseudonym import check_phi, shown_patient

PathLike = str | os.PathLike[str]
Case = PathLike | Sequence[PathLike] | Volume | Mapping[str, Any]
R = TypeVar("R")


@dataclass
class _Steps:
    """A bundle's steps before and behind the network, for one case at a time."""

    parts: BundleParts
    lock: threading.Lock = field(default_factory=threading.Lock)


@dataclass
class _Job:
    """A case on its way: what the stages so far made of it."""

    item: dict[str, Any]
    volumes: list[Volume]
    data: dict[str, Any]
    steps: _Steps
    output: Any = None
    report: InferenceReport | None = None
    seconds: dict[str, float] = field(default_factory=dict)

    @contextmanager
    def timed(self, stage: str) -> Iterator[None]:
        """Note how long the block took."""
        started = time.perf_counter()
        yield
        self.seconds[stage] = self.seconds.get(stage, 0.0) + time.perf_counter() - started


class Predictor:
    """A bundle in memory: call it with a scan and get a :class:`~medresnet3d.workflows.prediction.Prediction`.

    It may be used in a ``with`` block, at the end of which the network's memory is given back.

    Args:
        bundle: a name from ``bundle list``, a bundle folder or a RUN folder of ``train``.
        device: ``"auto"``, ``"cpu"``, ``"cuda"`` or ``"cuda:1"``.
        trust: accept a bundle from elsewhere although the inspection found something.
        series: which DICOM series to take where there are several.
        strict: refuse a DICOM series whose geometry would have to be repaired.
        exact: compute as MONAI would, in fp32 and with its own windows, instead of the fastest way.
        precision: ``"auto"``, ``"fp32"``, ``"bf16"`` or ``"fp16"`` instead of the bundle's own number format.
        phi: what answers say of a DICOM file's patient: ``"none"``, a ``"pseudonym"`` or the identifier (``"keep"``).
        set: values of ids of ``inference.json``, as a mapping or ``id=value`` texts; the only way for an id that is an
            argument here as well.
        **overrides: further ones by keyword, e.g. ``width=64``.

    Attributes:
        bundle_path: folder of the bundle.
        bundle_name: its name.
        metadata: content of its ``metadata.json``.
        device: where it computes.
        network_lock: held while the network computes; whoever else runs :attr:`network` takes it too.

    Raises:
        BundleError: if the bundle is not found or incomplete.
        UntrustedBundleError: if it comes from elsewhere and is not trusted.
        WeightsError: if it has no trained weights or they do not fit.
        ConfigError: for an unknown device or override, and for a value that is given twice and differs.

    Example:
        >>> predictor = Predictor("brain_tissue_voxresnet")  # doctest: +SKIP
        >>> predictor("t1.nii.gz").volumes_ml  # doctest: +SKIP
        {'CSF': 312.4, 'grey matter': 640.2, 'white matter': 512.9}
    """

    def __init__(
        self,
        bundle: PathLike,
        device: str = "auto",
        trust: bool = False,
        *,
        series: str | None = None,
        strict: bool = False,
        exact: bool = False,
        precision: str | None = None,
        phi: str = "pseudonym",
        set: Mapping[str, Any] | Iterable[str] = (),
        **overrides: Any,
    ) -> None:
        check_phi(phi)
        overrides = _together(parse_overrides(set), overrides)
        option_or_id("precision", precision, None, overrides)
        self.device = select_device(option_or_id("device", device, "auto", overrides))
        overrides.pop("device", None)
        self.bundle_path = find_bundle(bundle)
        require_trust(self.bundle_path, trust)
        self.series, self.strict, self.phi = series, strict, phi
        metadata = read_metadata(self.bundle_path)
        self.metadata = metadata_of_use(metadata, task_of(metadata, overrides))
        self.bundle_name = str(self.metadata.get("name") or self.bundle_path.name)
        self._parts: BundleParts | None = bundle_parts(self.bundle_path, self.metadata, overrides, self.device, exact)
        if precision is not None:
            use_precision(self._parts, precision)
        answer_labels_directly(self._parts)
        self._own = _Steps(self._parts)
        self.network_lock = threading.Lock()

    @property
    def parts(self) -> BundleParts:
        """The bundle's network and the steps around it.

        Raises:
            ConfigError: after :meth:`close`.
        """
        if self._parts is None:
            raise ConfigError(f"{self.bundle_name}: this predictor is closed; make a new one.")
        return self._parts

    @property
    def task(self) -> str:
        """``"segmentation"``, ``"classification"``, ``"regression"``, ``"detection"`` or ``"conversion"``."""
        return self.parts.task

    @property
    def labels(self) -> tuple[str, ...]:
        """Class names in index order."""
        return self.parts.labels

    @property
    def network(self) -> torch.nn.Module:
        """The network, in eval mode, on :attr:`device`."""
        return self.parts.network

    @property
    def weights_hash(self) -> str:
        """SHA-256 of the weights file."""
        return self.parts.weights_hash

    def close(self) -> None:
        """Give the memory of the network back; the predictor cannot be used any more."""
        self._parts = None
        self._own = None  # type: ignore[assignment]
        if self.device.type == "cuda":
            torch.cuda.empty_cache()

    def __enter__(self) -> Self:
        """Give the predictor itself."""
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Close it."""
        self.close()

    def __call__(
        self, case: Case, position: Sequence[float] | NDArray[Any] | None = None, *, keep_input: bool = False
    ) -> Prediction:
        """Answer one case.

        Args:
            case: a path (file or DICOM folder), a list of paths (modalities), a :class:`~medresnet3d.io.Volume`, or an
                item of :func:`medresnet3d.data.inputs` or :func:`medresnet3d.data.items`.
            position: the point of a whole scan to classify, (3,), mm, RAS+; wins over the item's own.
            keep_input: keep what the network saw as ``input_tensor``.

        Raises:
            DataError: if the input cannot be used.
            AmbiguousInputError: if only a person can say which series or which point is meant.
        """
        item = _as_item(case)
        if position is not None:
            item["position"] = [float(value) for value in position]
        self.parts  # noqa: B018 (says so if the predictor is closed)
        return self._conclude(self._run(self._read(item, self._own)), keep_input)

    def predict_many(
        self,
        cases: Iterable[Case],
        *,
        keep_input: bool = False,
        finish: Callable[[Any, Prediction | Exception], R] = lambda case, outcome: outcome,  # type: ignore[assignment,return-value]
    ) -> Generator[R, None, None]:
        """Answer many cases; reading the next ones and finishing the last one go on while the network computes.

        The answers are those that calling the predictor case by case gives, in the order of the cases. One case that
        fails does not stop the others.

        Args:
            cases: what :meth:`__call__` takes; they are asked for as they are needed.
            keep_input: keep what the network saw as ``input_tensor``.
            finish: called in a thread of its own, case by case in their order, with the case and its answer (or the
                error that it raised), for example to write files. What it raises ends the run.

        Yields:
            what ``finish`` returns; without it, each answer, or the error in its place.
        """
        steps = cycle(self._copies())
        threads = torch.get_num_threads()
        torch.set_num_threads(threads)  # fixes the number for this thread; those that start later follow the last call
        pipeline: Pipeline[Case, _Job, _Job, R] = Pipeline(
            lambda case: self._read(_as_item(case), next(steps)),
            self._run,
            lambda case, job: finish(case, self._outcome(job, keep_input)),
            start_thread=lambda: torch.set_num_threads(self._share(threads)),
        )
        try:
            yield from pipeline.run(cases)
        finally:
            torch.set_num_threads(threads)

    def _outcome(self, job: _Job | Exception, keep_input: bool) -> Prediction | Exception:
        try:
            return job if isinstance(job, Exception) else self._conclude(job, keep_input)
        except Exception as error:
            return error

    def _share(self, threads: int) -> int:
        """How many threads a stage beside the network may compute with: most are left to a network on the CPU."""
        return max(1, threads // (2 if self.device.type == "cuda" else 4))

    def _copies(self) -> list[_Steps]:
        """Give copies of the steps, one for each case in memory.

        MONAI's transforms note in themselves that they are just being inverted, so that one object cannot prepare a
        case and invert another at the same time. Steps that cannot be copied are used in turn.
        """
        shared = {id(one): one for one in (self.network, self.parts.inferer)}
        try:
            return [_Steps(copy.deepcopy(self.parts, dict(shared))) for _ in range(IN_FLIGHT)]
        except (TypeError, ValueError, RuntimeError, AttributeError, NotImplementedError):
            return [self._own]

    def _read(self, item: dict[str, Any], steps: _Steps) -> _Job:
        """First stage: read and prepare."""
        job = _Job(item, [], {}, steps, seconds={"reading": item.pop("reading_seconds", 0.0)})
        with job.timed("reading"):
            job.volumes = [self._load(source) for source in _sources(item["image"])]
        item["image"] = job.volumes[0] if len(job.volumes) == 1 else job.volumes
        with job.timed("preprocessing"), steps.lock, _clear_errors(self.device):
            job.data = steps.parts.prepare(item)
        return job

    def _run(self, job: _Job) -> _Job:
        """Second stage: the network."""
        with job.timed("network"), self.network_lock, _clear_errors(self.device):
            job.output = job.steps.parts.run(job.data)
            job.report = job.steps.parts.report()
        return job

    def _conclude(self, job: _Job, keep_input: bool) -> Prediction:
        """Third stage: from the network's output to the answer."""
        parts, data, first = job.steps.parts, job.data, job.volumes[0]
        with job.timed("answer"), job.steps.lock, _clear_errors(self.device):
            answer = parts.finish(data, job.output, job.volumes)
        notes = [*answer.notes, *what_was_left_out(job.report, *parts.labels[:1])]
        return Prediction(
            case=str(job.item["case"]),
            task=parts.task,
            labels=parts.labels,
            path=_path_text(job.item),
            patient=_patient(job.item, first, self.phi),
            pred=answer.label_map,
            probabilities=answer.probabilities,
            label=answer.label,
            value=answer.value,
            volumes_ml=answer.volumes_ml,
            detections=answer.detections,
            images=answer.images,
            details={**answer.details, **({"inference": job.report.as_dict()} if job.report else {})},
            position=_point(data.get("position")),
            affine=first.affine,
            volume=first,
            seconds=sum(job.seconds.values()),
            stage_seconds=job.seconds,
            warnings=_warnings(job.volumes, data, notes),
            input_tensor=parts.input_tensor(data) if keep_input else None,
        )

    def _load(self, source: Any) -> Volume:
        return source if isinstance(source, Volume) else load(source, self.series, strict=self.strict)


def _together(values: dict[str, Any], more: dict[str, Any]) -> dict[str, Any]:
    """Join values of ids that came in two ways.

    Raises:
        ConfigError: if one came in both and differs.
    """
    for key in values.keys() & more.keys():
        if values[key] != more[key]:
            raise ConfigError(f"{key} is given twice: {more[key]!r} and, in `set`, {values[key]!r}; leave one out.")
    return values | more


def _as_item(case: Case) -> dict[str, Any]:
    item = dict(case) if isinstance(case, Mapping) else {"image": case}
    first = _sources(item["image"])[0]
    path = first.source.path if isinstance(first, Volume) else first
    if "case" not in item:
        item["case"] = case_ids([path])[0] if path is not None else "case"
    if path is not None:
        item.setdefault("path", str(path))
    return item


def _sources(image: Any) -> list[Any]:
    return list(image) if isinstance(image, list | tuple) else [image]


def _point(position: Any) -> tuple[float, float, float] | None:
    if position is None:
        return None
    x, y, z = (float(value) for value in position)
    return x, y, z


def _path_text(item: Mapping[str, Any]) -> str | None:
    path = item.get("path")
    return str(path[0] if isinstance(path, list) else path) if path else None


def _patient(item: Mapping[str, Any], volume: Volume, phi: str) -> str | None:
    """The manifest's name of the patient; a DICOM PatientID is told as ``phi`` says."""
    if item.get("patient") and phi != "none":
        return str(item["patient"])
    identifier = str(volume.source.datasets[0].get("PatientID", "")) if volume.source.datasets else ""
    return shown_patient(identifier, phi)


def _warnings(volumes: Sequence[Volume], data: Mapping[str, Any], notes: Sequence[str]) -> list[str]:
    """Gather what the reader, the preprocessing and the answer noticed, each sentence once."""
    texts = [text for volume in volumes for text in volume.warnings]
    for key, value in data.items():
        if str(key).endswith("warnings"):
            texts.extend(value.splitlines() if isinstance(value, str) else value)
    return list(dict.fromkeys([*texts, *notes]))


@contextmanager
def _clear_errors(device: torch.device) -> Iterator[None]:
    """Say in our own words what went wrong while a case was processed."""
    try:
        yield
    except torch.OutOfMemoryError as error:
        raise DataError(f"The memory of {device} is not enough for this case; try --device cpu.") from error
    except RuntimeError as error:
        known = known_cause(error)
        if known is not None:
            raise known from error
        raise
