"""Where a classifier looked, in every bundle of the task: the heat lies on what decides, more than chance.

A bright lesion is painted into what the bundle's network sees of phantoms, at a random place, and the network learns in
a few steps to tell images with it from those without.
"""

from __future__ import annotations

import numpy as np
import pytest
import torch
from monai.data import MetaTensor
from numpy.typing import NDArray
from torch import Tensor, nn

from medresnet3d import Predictor
from medresnet3d.bundle.registry import list_bundles, read_metadata
from medresnet3d.data import inputs
from medresnet3d.networks.lesion_informed import LesionInformedClassifier
from medresnet3d.transforms.plane_packing import PLACES, SHAPE, are_planes, unpack_planes
from medresnet3d.workflows.explanation import explain
from medresnet3d.workflows.prediction import Prediction
from tests.bundles.conftest import BundleUnderTest

#: In the default tests: a volume, planes, a picture.
QUICK = ("lung_nodule_cnn3d", "lung_nodule_multiview_resnet", "melanoma_resnet_svm")
CLASSIFIERS = [
    pytest.param(each.name, marks=() if each.name in QUICK else pytest.mark.slow)
    for each in list_bundles()
    if read_metadata(each.path)["task"] == "classification"
]
TRAINED, HELD_OUT, OCCLUDED, STEPS, BATCH = 48, 24, 12, 50, 8

pytestmark = pytest.mark.parametrize("bundle", CLASSIFIERS, indirect=True)


class Lesions:
    """Phantoms as the network of a bundle sees them, every second one with a lesion, and where it lies."""

    def __init__(self, predictor: Predictor, manifest: str, count: int, seed: int) -> None:
        rng = np.random.default_rng(seed)
        cases = [predictor.parts.preprocessing(item)["image"] for item in inputs(manifest)[:4]]
        self.labels = torch.arange(count) % 2
        self.images: list[MetaTensor] = []
        self.places: list[NDArray[np.bool_]] = []
        for number in range(count):
            case = cases[number // 2 % len(cases)]
            mask, place = self._ball(case, rng)
            values = case.as_tensor() + 0.1 * case.std() * torch.from_numpy(rng.standard_normal(case.shape)).float()
            values = values + 8 * case.std() * mask * self.labels[number]
            self.images.append(MetaTensor(values.float(), meta=dict(case.meta)))
            self.places.append(place)

    def _ball(self, case: MetaTensor, rng: np.random.Generator) -> tuple[Tensor, NDArray[np.bool_]]:
        """Mask of the lesion on the network's input, and on the grid that the heat is given on."""
        planes = are_planes(case.meta)
        shape = np.asarray(case.meta[SHAPE] if planes else case.shape[1:])
        middle = rng.uniform(0.2, 0.8, len(shape)) * shape
        if planes:  # its middle lies on one of them
            axis, index = rng.permutation(np.asarray(case.meta[PLACES]))[0]
            middle[axis] = index
        reach = np.where(shape < 16, 0.4, 0.16)  # through most of a few slices, of which the majority decides
        radius = (reach * shape).reshape(-1, *[1] * len(shape))
        away = (np.indices(shape) - middle.reshape(radius.shape)) / radius
        ball = (away**2).sum(0) < 1
        if not planes:
            return torch.from_numpy(ball), ball
        cut = np.stack([ball.take(index, axis) for axis, index in np.asarray(case.meta[PLACES])])
        return torch.from_numpy(cut), unpack_planes(cut.astype(np.float32), case.meta) > 0


def train_briefly(network: nn.Module, data: Lesions) -> None:
    """Some steps on the images, then the norms get the statistics of all of them."""
    images = torch.stack([image.as_tensor() for image in data.images])
    if isinstance(network, LesionInformedClassifier):  # what lesions weigh was fitted for grades, and is no answer here
        network.weight.zero_()
        network.bias.zero_()
        images = network.shrink(images)
    generator = torch.Generator().manual_seed(0)
    optimizer = torch.optim.AdamW(network.requires_grad_().train().parameters(), lr=3e-3)
    for _ in range(STEPS):
        part = torch.randperm(len(images), generator=generator)[:BATCH]
        optimizer.zero_grad()
        outputs = network(images[part])  # a list where parts of the network have answers of their own
        every = outputs if isinstance(outputs, list) else [outputs]
        torch.stack([nn.functional.cross_entropy(each, data.labels[part]) for each in every]).sum().backward()
        optimizer.step()
    for module in network.modules():
        if isinstance(module, nn.modules.batchnorm._BatchNorm):
            module.momentum = None  # the mean of all
            module.reset_running_stats()
    with torch.no_grad():
        for part in images.split(BATCH):
            network(part)
    network.eval()


def answer(image: MetaTensor, names: tuple[str, ...]) -> Prediction:
    """What a predictor would hand over, of the class with the lesion."""
    probabilities = {name: float(name == names[1]) for name in names}
    prediction = Prediction("a", "classification", names, probabilities=probabilities, label=names[1])
    prediction.input_tensor = image
    return prediction


def surplus(heat: NDArray[np.float32], places: list[NDArray[np.bool_]], own: int) -> float:
    """Heat on the lesion beyond that on the places where others have theirs, as a share of the largest."""
    shares = [float(heat[place].mean()) for place in places]
    return shares[own] - float(np.mean(shares[:own] + shares[own + 1 :]))


def measure(bundle: BundleUnderTest, method: str, held_out: int) -> NDArray[np.float64]:
    torch.manual_seed(0)
    predictor = Predictor(bundle.root, device="cpu", trust=True)
    network, names = predictor.network, tuple(bundle.metadata["labels"].values())
    train_briefly(network, Lesions(predictor, str(bundle.manifest), TRAINED, 1))
    unseen = Lesions(predictor, str(bundle.manifest), 2 * held_out, 2)
    with torch.no_grad():
        output = network(torch.stack([image.as_tensor() for image in unseen.images]))
    right = (output[:, 1] > output[:, 0]) == (unseen.labels == 1)
    chosen = [index for index in range(2 * held_out) if unseen.labels[index] and right[index]]
    assert right.float().mean() > 0.6 and len(chosen) >= held_out / 2
    places = [unseen.places[index] for index in chosen]
    found = []
    for number, index in enumerate(chosen):
        heat = explain(predictor, answer(unseen.images[index], names), method)
        assert heat is not None and heat.shape == places[number].shape
        found.append(surplus(heat, places, number))
    return np.array(found)


def test_gradcam_lies_on_the_lesion_more_than_chance(bundle: BundleUnderTest) -> None:
    found = measure(bundle, "gradcam", HELD_OUT)
    print(f"{bundle.name}: {found.mean():.2f} more than chance, n = {len(found)}")
    assert found.mean() - 2.1 * found.std(ddof=1) / np.sqrt(len(found)) > 0


@pytest.mark.slow
def test_occlusion_lies_on_the_lesion_more_than_chance(bundle: BundleUnderTest) -> None:
    found = measure(bundle, "occlusion", OCCLUDED)
    print(f"{bundle.name}: {found.mean():.2f} more than chance, n = {len(found)}")
    assert found.mean() - 2.2 * found.std(ddof=1) / np.sqrt(len(found)) > 0
