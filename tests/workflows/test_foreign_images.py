from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from monai.transforms import (
    Compose,
    EnsureChannelFirstd,
    EnsureTyped,
    Invertd,
    LoadImaged,
    NormalizeIntensityd,
    Orientationd,
    SaveImaged,
)

from medresnet3d.errors import DataError, GeometryError
from medresnet3d.io import Volume
from medresnet3d.workflows.foreign_images import (
    Saved,
    as_compose,
    assign,
    feed,
    flat_affine,
    share_inversion,
    steps,
    without_savers,
)
from tests.workflows.conftest import OBLIQUE, orthogonal


def volume(shape: tuple[int, ...] = (4, 5, 6), seed: int = 0) -> Volume:
    return Volume(np.random.default_rng(seed).random(shape).astype(np.float32), orthogonal(OBLIQUE))


def test_a_scan_goes_in_as_loadimaged_would_give_it(tmp_path: Any) -> None:
    from medresnet3d.io import load, save_nifti

    scan = volume()
    file = save_nifti(scan.array, scan.affine, tmp_path / "scan.nii.gz")
    theirs = Compose([LoadImaged("image"), EnsureChannelFirstd("image"), Orientationd("image", "RAS", labels=None)])
    expected = theirs({"image": str(file)})["image"]
    assert feed(theirs, False) == ("image",)
    ours = theirs({"image": load(file)})["image"]
    np.testing.assert_array_equal(ours, expected)
    np.testing.assert_allclose(ours.affine, expected.affine, atol=1e-5)
    assert ours.meta["filename_or_obj"] == str(file)


def test_several_modalities_are_channels() -> None:
    chain = Compose([LoadImaged("image", image_only=False), EnsureChannelFirstd("image")])
    feed(chain, False)
    result = chain({"image": [volume(seed=1), volume(seed=2)]})
    assert result["image"].shape == (2, 4, 5, 6)
    assert result["image_meta_dict"]["original_channel_dim"] == 0
    with pytest.raises(RuntimeError) as caught:
        chain({"image": [volume(), volume((4, 5, 7))]})
    assert isinstance(caught.value.__cause__, GeometryError)


@pytest.mark.parametrize(
    ("shape", "channels", "expected"), [((4, 5, 1), 1, 1), ((4, 5, 1), 3, 3), ((4, 5, 1, 3), 3, 3)]
)
def test_slices_are_two_dimensional(shape: tuple[int, ...], channels: int, expected: int) -> None:
    chain = Compose([LoadImaged("image", ensure_channel_first=True)])
    feed(chain, True, channels)
    assert chain({"image": volume(shape)})["image"].shape == (expected, 4, 5)


def test_the_truth_is_passed_over() -> None:
    both = ["image", "label"]
    chain = Compose([LoadImaged(both), Compose([EnsureChannelFirstd(both), EnsureTyped(both)])])
    assert feed(chain, False) == ("image",)
    assert chain({"image": volume()})["image"].shape == (1, 4, 5, 6)


def test_only_a_transform_that_loads_images_is_fed() -> None:
    assert feed(Compose([EnsureTyped("image")]), False) == ()
    assert as_compose(None).transforms == ()
    assert len(list(steps(as_compose([Compose([EnsureTyped("a")]), EnsureTyped("b")])))) == 2


def test_savers_are_taken_out(tmp_path: Any) -> None:
    inner = Compose([SaveImaged("label", output_dir=tmp_path)])
    chain = Compose([EnsureTyped("pred"), inner, Saved(["pred", "edges"])])
    assert without_savers(chain) == ("label", "pred", "edges")
    assert [type(one) for one in steps(chain)] == [EnsureTyped]


def test_an_inversion_of_a_copy_inverts_the_original() -> None:
    original, copied = (Compose([Orientationd("image", "RAS", labels=None)]) for _ in range(2))
    post = Compose(
        [Invertd("pred", copied, "image"), Invertd("pred", Compose([NormalizeIntensityd("image")]), "image")]
    )
    share_inversion(original, post)
    first, second = (one.transform for one in post.transforms)
    assert first is original and second is not original


def test_every_key_gets_its_scan() -> None:
    scans = [volume(), volume()]
    assert assign(("image",), scans[:1], "b") == {"image": scans[0]}
    assert assign(("image",), scans, "b") == {"image": scans}
    assert assign(("fixed", "moving"), scans, "b") == {"fixed": scans[0], "moving": scans[1]}
    with pytest.raises(DataError, match=r"b takes 3 images a case \(a, b, c\), but 2 are given"):
        assign(("a", "b", "c"), scans, "b")


def test_the_affine_of_a_slice() -> None:
    axial = Volume(np.zeros((4, 5, 1)), np.diag([2.0, 3.0, 4.0, 1.0]))
    np.testing.assert_array_equal(flat_affine(axial), axial.affine)
    sagittal = Volume(np.zeros((4, 5, 1)), np.array([[0, 0, 4, 0], [2, 0, 0, 0], [0, 3, 0, 0], [0, 0, 0, 1.0]]))
    np.testing.assert_array_equal(flat_affine(sagittal), np.diag([2.0, 3.0, 4.0, 1.0]))
