"""How long reading and writing a CT scan takes, side by side with MONAI's LoadImage and SaveImage.

    python benchmarks/io.py --output results
    python benchmarks/io.py --work dicom-rle --repeats 7 --output results
    python benchmarks/io.py --table --output results

The scan is made here: 512 x 512 x 300 voxels, int16, a body with lungs and spine and noise like that of CT. "Warm" is
the median of several runs in one process, all sides in turn; "cold" is the first run in a fresh process with imports.
``nifti-read-flat`` reads the same scan with air of one value, as a scan has that was masked or padded.
Every result is compared with the scan, voxels and affine, before a time is believed. Times are wall seconds, with the
seconds of processor time (all threads) in brackets, which a busy machine changes less.
"""

from __future__ import annotations

import argparse
import json
import logging
import os
import statistics
import subprocess
import sys
import tempfile
import time
import warnings
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from medresnet3d.io.atomic import atomic_write_text

SHAPE = (512, 512, 300)
AFFINE = np.array([[-0.7, 0, 0, 180.0], [0, -0.7, 0, 180.0], [0, 0, 1.0, -100.0], [0, 0, 0, 1.0]])
GOALS = {"nifti-read": 8, "nifti-read-flat": 8, "nifti-write": 8, "dicom-raw": 8, "dicom-rle": 15, "dicom-jpegls": 1.5}
READ = "from medresnet3d.io import load; result = load(path)"
PEER_READ = "from monai.transforms import LoadImage; result = LoadImage()(path)"
PEER_ITK = "from monai.transforms import LoadImage; result = LoadImage(reader='ITKReader')(path)"
READERS = {"medresnet3d": READ, "MONAI LoadImage": PEER_READ, "MONAI ITKReader": PEER_ITK}
SIDES = {
    "nifti-read": READERS,
    "nifti-read-flat": READERS,
    "nifti-write": {
        "medresnet3d": "from medresnet3d.io import save_nifti; save_nifti(array, affine, target / 'ours.nii.gz')",
        "MONAI SaveImage": (
            "from monai.transforms import SaveImage; "
            "SaveImage(target, output_postfix='float', separate_folder=False, print_log=False)(tensor)"
        ),
        "MONAI SaveImage, int16": (
            "from monai.transforms import SaveImage; import numpy as np; SaveImage(target, output_postfix='int', "
            "separate_folder=False, print_log=False, output_dtype=np.int16)(tensor)"
        ),
    },
    **{name: {"medresnet3d": READ, "MONAI ITKReader": PEER_ITK} for name in ("dicom-raw", "dicom-rle", "dicom-jpegls")},
}
"""What each side does, on ``path``, or on ``array``, ``affine``, ``tensor`` and ``target``."""
QUIET = "import logging, warnings; logging.disable(logging.CRITICAL); warnings.simplefilter('ignore'); "


def plane_of(shape: tuple[int, int]) -> tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.bool_]]:
    """Give both coordinates, -1 to 1, and the pixels of the body."""
    x, y = np.linspace(-1, 1, shape[0])[:, None], np.linspace(-1, 1, shape[1])[None, :]
    return x, y, (x / 0.8) ** 2 + (y / 0.6) ** 2 < 1


def make_scan(shape: tuple[int, int, int], seed: int = 0) -> NDArray[np.int16]:
    """Make a chest of int16 Hounsfield units (i, j, k), i fastest in memory; the noise is as smooth as that of CT."""
    from scipy.ndimage import gaussian_filter

    rng = np.random.default_rng(seed)
    x, y, body = plane_of(shape[:2])
    scan = np.empty(shape, np.int16, order="F")
    for k in range(shape[2]):
        plane = np.where(body, -100.0, -1000.0)
        plane[(x / 0.74) ** 2 + (y / 0.54) ** 2 < 1] = 50
        for side in (-0.38, 0.38):
            lung = ((x - side) / 0.28) ** 2 + ((y + 0.02) / 0.38) ** 2
            plane[lung < np.sin(np.pi * (0.1 + 0.8 * k / shape[2]))] = -850
        plane[(x / 0.1) ** 2 + ((y - 0.4) / 0.1) ** 2 < 1] = 400
        noise = gaussian_filter(rng.normal(size=shape[:2]), 0.7)
        scan[:, :, k] = np.clip(np.rint(plane + noise * np.where(body, 20, 8) / noise.std()), -1024, 3071)
    return scan


def write_series(folder: Path, scan: NDArray[np.int16], syntax: str) -> None:
    """Write a DICOM series with as many tags as scanners write, under names that say nothing about the order."""
    from pydicom.uid import JPEGLSLossless, RLELossless

    folder.mkdir(parents=True)
    for k in range(scan.shape[2]):
        dataset = header(k)
        dataset.PixelData = np.ascontiguousarray(scan[:, :, k].T + np.int16(1024)).tobytes()
        dataset["PixelData"].VR = "OW"
        dataset.Columns, dataset.Rows = scan.shape[:2]
        if syntax != "raw":
            dataset.compress({"rle": RLELossless, "jpegls": JPEGLSLossless}[syntax], generate_instance_uid=False)
        dataset.save_as(folder / f"IM{k * 7 % scan.shape[2]:04d}.dcm", enforce_file_format=True)


def header(k: int) -> Any:
    from pydicom import Dataset
    from pydicom.dataset import FileMetaDataset
    from pydicom.uid import UID, CTImageStorage, ExplicitVRLittleEndian

    root, clock = "1.2.826.0.1.3680043.8.498", f"12{k // 600:02d}{k / 10 % 60:05.2f}"
    dataset = Dataset()
    dataset.file_meta = FileMetaDataset()
    dataset.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    dataset.SOPClassUID = dataset.file_meta.MediaStorageSOPClassUID = CTImageStorage
    dataset.SOPInstanceUID = dataset.file_meta.MediaStorageSOPInstanceUID = UID(f"{root}.1.{k + 1}")
    dataset.StudyInstanceUID, dataset.SeriesInstanceUID = f"{root}.2", f"{root}.3"
    dataset.FrameOfReferenceUID, dataset.SpecificCharacterSet = f"{root}.4", "ISO_IR 100"
    dataset.ImageType, dataset.Modality, dataset.SeriesDescription = ["ORIGINAL", "PRIMARY", "AXIAL"], "CT", "chest"
    for what in ("Study", "Series", "Acquisition", "Content"):
        setattr(dataset, f"{what}Date", "20200101")
        setattr(dataset, f"{what}Time", "120000" if what in ("Study", "Series") else clock)
    for name in ("AccessionNumber", "Manufacturer", "InstitutionName", "ReferringPhysicianName", "StationName"):
        setattr(dataset, name, "none")
    for name in ("StudyDescription", "ManufacturerModelName", "BodyPartExamined", "ProtocolName", "PatientName"):
        setattr(dataset, name, "phantom")
    for name in ("KVP", "DataCollectionDiameter", "ReconstructionDiameter", "DistanceSourceToDetector", "TableHeight"):
        setattr(dataset, name, "120")
    for name in ("ExposureTime", "XRayTubeCurrent", "Exposure", "GeneratorPower", "SeriesNumber", "AcquisitionNumber"):
        setattr(dataset, name, 2)
    dataset.PatientID, dataset.PatientBirthDate, dataset.PatientSex, dataset.PatientPosition = "P1", "", "O", "HFS"
    dataset.InstanceNumber, dataset.SliceLocation, dataset.SliceThickness = k + 1, -100.0 + k, 1.0
    dataset.ImageOrientationPatient, dataset.ImagePositionPatient = [1, 0, 0, 0, 1, 0], [-180, -180, -100.0 + k]
    dataset.PixelSpacing, dataset.GantryDetectorTilt, dataset.ConvolutionKernel = [0.7, 0.7], 0, "B30f"
    dataset.SamplesPerPixel, dataset.PhotometricInterpretation, dataset.PixelRepresentation = 1, "MONOCHROME2", 1
    dataset.BitsAllocated, dataset.BitsStored, dataset.HighBit = 16, 16, 15
    dataset.RescaleIntercept, dataset.RescaleSlope, dataset.RescaleType = -1024, 1, "HU"
    dataset.WindowCenter, dataset.WindowWidth = [40, -600], [400, 1500]
    dataset.private_block(0x0029, "MAKER", create=True).add_new(0x10, "OB", bytes(2000))
    return dataset


def prepare(folder: Path, work: str, scan: NDArray[np.int16]) -> Path:
    """Write what a piece of work reads, unless it is there, and give its path."""
    import nibabel as nib

    if work.startswith("dicom"):
        path = folder / work
        if not path.is_dir():
            write_series(path, scan, work.removeprefix("dicom-"))
        return path
    path = folder / ("flat.nii.gz" if work.endswith("-flat") else "scan.nii.gz")
    if not path.is_file():
        nib.save(nib.Nifti1Image(scan, AFFINE), path)
    return path


def names_for(work: str, path: Path, target: Path) -> dict[str, Any]:
    """Give the names that the code of :data:`SIDES` uses."""
    names: dict[str, Any] = {"path": str(path), "target": target}
    if work == "nifti-write":
        from monai.transforms import LoadImage

        from medresnet3d.io import load

        volume = load(path)
        names |= {"array": volume.array, "affine": volume.affine}
        names["tensor"] = LoadImage(ensure_channel_first=True)(path)
    return names


def timed(code: str, names: dict[str, Any]) -> tuple[float, float, Any]:
    """Run code; give wall seconds, seconds of processor time, and what it called ``result``."""
    local = dict(names)
    compiled = compile(code, "<side>", "exec")
    wall, busy = time.perf_counter(), time.process_time()
    exec(compiled, local)
    return time.perf_counter() - wall, time.process_time() - busy, local.get("result")


def require_equal(side: str, result: Any, scan: NDArray[np.int16], target: Path) -> None:
    """Refuse the times of a side whose voxels or affine are wrong."""
    from medresnet3d.io import load

    if result is None:
        ending = {"medresnet3d": "ours", "MONAI SaveImage": "scan_float"}.get(side, "scan_int")
        result = load(target / f"{ending}.nii.gz")
    array = result.array if hasattr(result, "source") else np.asarray(result)
    if not np.array_equal(array, scan) or not np.allclose(result.affine, AFFINE, atol=1e-4):
        raise SystemExit(f"{side}: the voxels or the affine differ from those of the scan.")


def cold(code: str, names: dict[str, Any], work: str) -> float:
    """Time the first run in a fresh process, imports included; a writer gets its arrays before the clock starts."""
    before = f"from pathlib import Path; path, target = {names['path']!r}, Path({str(names['target'])!r})"
    if work == "nifti-write":
        before += "; import sys; sys.path.insert(0, sys.argv[1]); import nibabel as nib, numpy as np"
        before += "; image = nib.load(path); array, affine = np.asanyarray(image.dataobj), image.affine"
        if "tensor" in code:
            before += "; from monai.transforms import LoadImage; tensor = LoadImage(ensure_channel_first=True)(path)"
    script = f"{QUIET}{before}; import time; start = time.perf_counter(); {code}; print(time.perf_counter() - start)"
    command = [sys.executable, "-c", script, str(Path(__file__).parent)]
    answer = subprocess.run(command, capture_output=True, text=True, check=True, cwd=tempfile.gettempdir())
    return float(answer.stdout.split()[-1])


def measure(options: argparse.Namespace, work: str, folder: Path, scan: NDArray[np.int16]) -> dict[str, Any]:
    """Time all sides of a piece of work in turn."""
    if work.endswith("-flat"):
        scan = np.where(plane_of(scan.shape[:2])[2][..., None], scan, np.int16(-1024))
    target = folder / "written"
    target.mkdir(exist_ok=True)
    names = names_for(work, prepare(folder, work, scan), target)
    walls: dict[str, list[float]] = {side: [] for side in SIDES[work]}
    busy: dict[str, list[float]] = {side: [] for side in SIDES[work]}
    first: dict[str, list[float]] = {side: [] for side in SIDES[work]}
    for repeat in range(options.repeats + 1):
        for side, code in SIDES[work].items():
            wall, processor, result = timed(code, names)
            if repeat == 0:  # the first run only checks, and warms what is kept between runs
                require_equal(side, result, scan, target)
                continue
            walls[side].append(wall)
            busy[side].append(processor)
    for _ in range(options.cold):
        for side, code in SIDES[work].items():
            first[side].append(cold(code, names, work))
    return {
        "work": work,
        "shape": list(scan.shape),
        "repeats": options.repeats,
        "cpus": len(os.sched_getaffinity(0)),
        "date": time.strftime("%Y-%m-%d"),
        "sides": {
            side: {
                "wall": statistics.median(walls[side]),
                "cpu": statistics.median(busy[side]),
                "cold": statistics.median(first[side]) if first[side] else None,
            }
            for side in SIDES[work]
        },
    }


def table(results: list[dict[str, Any]]) -> str:
    """Give the results as a Markdown table; ratios are against the side of the same row."""
    lines = [
        "| work | side | warm, s (CPU s) | times ours | cold, s | times ours | goal |",
        "|---|---|---|---|---|---|---|",
    ]
    for result in results:
        ours = result["sides"]["medresnet3d"]
        for side, one in result["sides"].items():
            ratio = (
                f"{one['wall'] / ours['wall']:.1f} ({one['cpu'] / ours['cpu']:.1f})" if side != "medresnet3d" else ""
            )
            first = "" if one["cold"] is None else f"{one['cold']:.2f}"
            again = f"{one['cold'] / ours['cold']:.1f}" if one["cold"] and side != "medresnet3d" else ""
            goal = f">= {GOALS[result['work']]}" if side != "medresnet3d" else ""
            warm = f"{one['wall']:.3f} ({one['cpu']:.3f})"
            lines.append(f"| {result['work']} | {side} | {warm} | {ratio} | {first} | {again} | {goal} |")
    return "\n".join(lines) + "\n"


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--work", choices=list(SIDES), nargs="+", default=list(SIDES), help="what to time")
    parser.add_argument("--repeats", type=int, default=5, help="warm runs a side")
    parser.add_argument("--cold", type=int, default=1, help="fresh processes a side; 0 for none")
    parser.add_argument("--slices", type=int, default=SHAPE[2], help="slices of the scan")
    parser.add_argument("--folder", type=Path, help="where the scan is kept between runs; by default a temporary one")
    parser.add_argument(
        "--output", type=Path, default=Path("results"), help="where io.<work>.json and io.md are written"
    )
    parser.add_argument("--table", action="store_true", help="only print the table of what was measured")
    return parser.parse_args()


def main() -> None:
    """Measure, write one JSON file a piece of work and a table of all."""
    options = parse()
    logging.disable(logging.CRITICAL)
    warnings.simplefilter("ignore")
    if not options.table:
        with tempfile.TemporaryDirectory(prefix="medresnet3d-io-") as temporary:
            folder = options.folder or Path(temporary)
            folder.mkdir(parents=True, exist_ok=True)
            scan = make_scan((*SHAPE[:2], options.slices))
            for work in options.work:
                result = measure(options, work, folder, scan)
                atomic_write_text(options.output / f"io.{work}.json", json.dumps(result, indent=2) + "\n")
                print(table([result]), flush=True)
    files = [options.output / f"io.{work}.json" for work in SIDES]
    everything = table([json.loads(file.read_text(encoding="utf-8")) for file in files if file.is_file()])
    atomic_write_text(options.output / "io.md", everything)
    print(everything)


if __name__ == "__main__":
    main()
