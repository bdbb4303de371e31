"""The suite that every network passes; a network's own test is a subclass of about ten lines.

>>> class TestMyNet(NetworkSuite):
...     dims = (2, 3)
...     counts = (({"spatial_dims": 3}, 1234),)
...
...     def build(self, spatial_dims: int = 3, **options):
...         return MyNet(spatial_dims, in_channels=1, num_classes=2, **options)
"""

from __future__ import annotations

import io
from collections.abc import Sequence
from typing import Any, ClassVar

import pytest
import torch
from torch import Tensor, nn


class NetworkSuite:
    """What holds for every network: one image tensor in, one tensor of logits out in eval mode."""

    dims: ClassVar[Sequence[int]] = (2, 3)  # spatial dimensions to test
    in_channels: ClassVar[int] = 1
    size: ClassVar[int] = 32  # edge of the ordinary test image
    odd_size: ClassVar[tuple[int, ...]] = (37, 35, 33)  # an image whose edges no stride divides
    batch: ClassVar[int] = 3
    counts: ClassVar[Sequence[tuple[dict[str, Any], int]]] = ()  # (options of build, frozen number of parameters)
    scriptable: ClassVar[bool] = True  # False: torch.export is tested in place of TorchScript
    bf16_tolerance: ClassVar[float] = 0.1  # relative to the largest logit

    def pytest_generate_tests(self, metafunc: pytest.Metafunc) -> None:
        if "spatial_dims" in metafunc.fixturenames:
            metafunc.parametrize("spatial_dims", self.dims, ids=[f"{d}d" for d in self.dims])
        if "frozen" in metafunc.fixturenames:
            metafunc.parametrize("frozen", self.counts, ids=[str(count) for _, count in self.counts])

    def build(self, spatial_dims: int = 3, **options: Any) -> nn.Module:
        """The network under test, small enough for a unit test unless ``options`` say otherwise."""
        raise NotImplementedError

    def output_shape(self, image: Tensor) -> tuple[int, ...]:
        """The shape that eval mode must give for ``image``; the default is that of a two-class classifier."""
        return (image.shape[0], 2)

    def seeded(self, spatial_dims: int, seed: int = 0) -> nn.Module:
        torch.manual_seed(seed)
        return self.build(spatial_dims=spatial_dims)

    def image(self, spatial_dims: int, size: int | Sequence[int] | None = None, batch: int | None = None) -> Tensor:
        edges = [size or self.size] * spatial_dims if not isinstance(size, Sequence) else list(size)[:spatial_dims]
        generator = torch.Generator().manual_seed(1)
        return torch.rand(batch or self.batch, self.in_channels, *edges, generator=generator)

    def test_forward(self, spatial_dims: int) -> None:
        network, image = self.seeded(spatial_dims).eval(), self.image(spatial_dims)
        with torch.no_grad():
            output, again, alone = network(image), network(image), network(image[:1])
        assert isinstance(output, Tensor)
        assert tuple(output.shape) == self.output_shape(image)
        assert output.dtype == torch.float32
        assert torch.isfinite(output).all()
        assert torch.equal(output, again)
        torch.testing.assert_close(alone, output[:1], rtol=1e-4, atol=1e-4 * float(output.abs().max()))

    def test_odd_sizes(self, spatial_dims: int) -> None:
        network, image = self.seeded(spatial_dims).eval(), self.image(spatial_dims, self.odd_size, batch=1)
        with torch.no_grad():
            output = network(image)
        assert tuple(output.shape) == self.output_shape(image)
        assert torch.isfinite(output).all()

    def test_backward_reaches_every_parameter(self, spatial_dims: int) -> None:
        network = self.seeded(spatial_dims).train()
        output = network(self.image(spatial_dims))
        outputs = output if isinstance(output, tuple | list) else [output]
        generator = torch.Generator().manual_seed(2)
        sum((o * torch.randn(o.shape, generator=generator)).sum() for o in outputs).backward()
        for name, parameter in network.named_parameters():
            assert parameter.grad is not None, f"no gradient reaches {name}"
            assert torch.isfinite(parameter.grad).all(), f"the gradient of {name} is not finite"
            assert parameter.grad.abs().sum() > 0, f"the gradient of {name} is zero"

    def test_parameter_count_is_frozen(self, frozen: tuple[dict[str, Any], int]) -> None:
        options, count = frozen
        with torch.device("meta"):
            network = self.build(**options)
        assert sum(parameter.numel() for parameter in network.parameters()) == count

    def test_saved_and_loaded_is_bit_equal(self, spatial_dims: int) -> None:
        network, other, image = self.seeded(spatial_dims, 0), self.seeded(spatial_dims, 1), self.image(spatial_dims)
        with torch.no_grad():
            network.train()(image)  # moves running statistics off their start
            expected, before = network.eval()(image), other.eval()(image)
        assert not torch.equal(expected, before)
        file = io.BytesIO()
        torch.save(network.state_dict(), file)
        file.seek(0)
        other.load_state_dict(torch.load(file, weights_only=True))
        with torch.no_grad():
            assert torch.equal(other(image), expected)

    def test_export(self, spatial_dims: int) -> None:
        network, image = self.seeded(spatial_dims).eval(), self.image(spatial_dims)
        exported = (
            torch.jit.script(network)
            if self.scriptable
            else torch.export.export(network, (image,), strict=False).module()
        )
        with torch.no_grad():
            torch.testing.assert_close(exported(image), network(image), rtol=1e-4, atol=1e-5)

    def test_bf16(self, spatial_dims: int) -> None:
        network, image = self.seeded(spatial_dims), self.image(spatial_dims)
        with torch.no_grad():
            network.train()(image)  # running statistics that fit the image keep the activations in scale
            full = network.eval()(image)
            with torch.autocast("cpu", dtype=torch.bfloat16):
                half = network(image)
        assert torch.isfinite(half).all()
        assert (half.float() - full).abs().max() <= self.bf16_tolerance * full.abs().max()

    def test_channels_last(self, spatial_dims: int) -> None:
        network, image = self.seeded(spatial_dims).eval(), self.image(spatial_dims)
        memory_format = torch.channels_last if spatial_dims == 2 else torch.channels_last_3d
        with torch.no_grad():
            expected = network(image)
            output = network.to(memory_format=memory_format)(image.to(memory_format=memory_format))
        torch.testing.assert_close(output, expected, rtol=1e-3, atol=1e-4 * float(expected.abs().max()))


class ClassifierSuite(NetworkSuite):
    """What holds besides for every classifier: features, a last layer ``classifier``, and that it can learn."""

    learning_rate: ClassVar[float] = 1e-3
    steps: ClassVar[int] = 40

    def test_classifier_is_the_last_layer(self, spatial_dims: int) -> None:
        network, image = self.seeded(spatial_dims).eval(), self.image(spatial_dims)
        with torch.no_grad():
            features, output = network.forward_features(image), network(image)
            assert isinstance(network.classifier, nn.Linear)
            assert tuple(features.shape) == (image.shape[0], network.classifier.in_features)
            assert torch.equal(network.classifier(features), output)

    def training_logits(self, output: Any) -> torch.Tensor:
        """The logits (B, K) in what the network gives in training mode."""
        logits: torch.Tensor = output
        return logits

    def fit_eight(self) -> tuple[list[float], float]:
        """Train on eight samples that differ by the place of a bright square; losses and the final accuracy."""
        network = self.seeded(2).train()
        label = torch.arange(8) % 2
        image = 0.3 * self.image(2, batch=8)
        for sample, target in zip(image, label, strict=True):
            half = slice(4, 14) if target else slice(18, 28)
            sample[:, half, half] += 0.7
        optimizer = torch.optim.Adam(network.parameters(), lr=self.learning_rate)
        losses, accuracy = [], 0.0
        for _ in range(self.steps):
            logits = self.training_logits(network(image))
            loss = nn.functional.cross_entropy(logits, label)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            losses.append(loss.item())
            accuracy = (logits.argmax(1) == label).float().mean().item()
        return losses, accuracy

    def test_overfits_eight_samples_and_repeats_by_seed(self) -> None:
        losses, accuracy = self.fit_eight()
        assert accuracy == 1.0
        assert losses[-1] < 0.3 * losses[0]
        again, _ = self.fit_eight()
        assert again == losses
