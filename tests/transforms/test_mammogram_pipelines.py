from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from medresnet3d.data import SeededDataset
from medresnet3d.data.phantoms.mammography import breast_film, write_cbis_ddsm
from medresnet3d.data.preparation.radiographs import write_mammogram
from medresnet3d.errors import ConfigError
from medresnet3d.transforms.mammogram_pipelines import FRAMES, mammogram_inference, mammogram_training

FILM = breast_film(2, (96, 72), malignant=True, difficulty=0.0)


def write(folder: Path, kind: str) -> str:
    """The same film in one of the ways that films come in."""
    pixels = FILM.pixels
    if kind == "png of 8 bits":
        Image.fromarray((pixels >> 4).astype(np.uint8)).save(folder / "film.png")
    elif kind == "colour png":
        Image.fromarray(np.repeat((pixels >> 4).astype(np.uint8)[..., None], 3, 2)).save(folder / "film.png")
    elif kind == "png of 16 bits":
        Image.fromarray(16 * pixels).save(folder / "film.png")
    else:
        options = {
            "dicom of 12 bits": {},
            "monochrome1": {"inverted": True},
            "window": {"window": (2048.0, 4096.0)},
            "monochrome1 with window": {"inverted": True, "window": (2048.0, 4096.0)},
        }[kind]
        write_mammogram(folder / "film.dcm", pixels, bits=12, **options)  # type: ignore[arg-type]
        return str(folder / "film.dcm")
    return str(folder / "film.png")


@pytest.mark.parametrize("frame", FRAMES)
@pytest.mark.parametrize(
    "kind", ["png of 8 bits", "colour png", "png of 16 bits", "monochrome1", "window", "monochrome1 with window"]
)
def test_a_film_looks_the_same_however_it_is_stored(tmp_path: Path, kind: str, frame: str) -> None:
    for name in ("one", "other"):
        (tmp_path / name).mkdir()
    chain = mammogram_inference(48, frame=frame)
    seen = [
        chain({"image": write(tmp_path / name, how), "roi": [10, 20, 40, 50]})["image"].as_tensor()
        for name, how in (("one", "dicom of 12 bits"), ("other", kind))
    ]
    assert seen[0].shape == (1, 48, 48)
    assert (seen[0] - seen[1]).abs().mean() < 0.02  # a pixel of the breast's edge may fall to either side
    assert abs(float(seen[0].mean())) < 1e-4 and abs(float(seen[0].std()) - 1) < 1e-2


def test_a_narrow_window_is_applied(tmp_path: Path) -> None:
    write_mammogram(tmp_path / "a.dcm", FILM.pixels, bits=12)
    write_mammogram(tmp_path / "b.dcm", FILM.pixels, bits=12, window=(1600.0, 400.0))
    chain = mammogram_inference(48, frame="whole")
    plain, narrow = (chain({"image": str(tmp_path / name)})["image"] for name in ("a.dcm", "b.dcm"))
    assert (narrow == narrow.max()).float().mean() > 5 * (plain == plain.max()).float().mean()


def test_training_differs_by_seed_only_and_has_the_scale_of_inference(tmp_path: Path) -> None:
    items = [{"image": write(tmp_path, "dicom of 12 bits"), "label": 1, "case": "a"}]
    chain = mammogram_training(48, 3, augmentation="strong", crop=0.8)

    def epoch(number: int) -> torch.Tensor:
        data = SeededDataset(items, chain, seed=1)
        data.set_epoch(number)
        return torch.as_tensor(data[0]["image"])

    assert epoch(1).shape == (3, 48, 48) and torch.equal(epoch(1), epoch(1)) and not torch.equal(epoch(1), epoch(2))
    assert torch.equal(epoch(1)[0], epoch(1)[2])
    still = mammogram_training(48, 1, augmentation="none", crop=0.8)(items[0])["image"]
    assert torch.equal(torch.as_tensor(still), mammogram_inference(48)(items[0])["image"].as_tensor())


def test_a_finding_fills_the_frame_and_its_item_keeps_its_label(tmp_path: Path) -> None:
    from medresnet3d.data import items

    item = items(write_cbis_ddsm(tmp_path, 6, 2, size=(64, 48)), "test")[0]
    out = mammogram_inference(32, 3, frame="finding")(item)
    assert out["image"].shape == (3, 32, 32) and out["label"] == item["label"] and "roi" not in out
    middle = out["image"][0, 12:20, 12:20].mean()
    assert middle > out["image"][0].mean()


def test_unknown_values_are_named() -> None:
    with pytest.raises(ConfigError, match="breast, finding, whole"):
        mammogram_inference(frame="nipple")
    with pytest.raises(ConfigError, match="a share of 0"):
        mammogram_training(crop=0)
    with pytest.raises(ConfigError, match="no augmentation"):
        mammogram_training(augmentation="wild")
