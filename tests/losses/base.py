"""The suites that every loss passes; a loss's own test is a subclass of a few lines and the reference values.

>>> class TestMyLoss(LossSuite):
...     def build(self, **options):
...         return MyLoss(**options)
"""

from __future__ import annotations

import copy
import io
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from medresnet3d.errors import ConfigError
from medresnet3d.losses.margin import MarginLoss
from medresnet3d.networks.heads.linear import LinearHead

CLASSES, BATCH, FEATURES = 3, 8, 5


class LossSuite:
    """What holds for every loss of logits: (output, class numbers) to a scalar."""

    def build(self, **options: Any) -> nn.Module:
        """The loss under test."""
        raise NotImplementedError

    def fresh(self, **options: Any) -> Any:
        """The loss ready for use."""
        return self.build(**options)

    def inputs(self, dtype: torch.dtype = torch.float32, seed: int = 0, batch: int = BATCH) -> tuple[Tensor, ...]:
        """Tensors that gradients are taken of: logits."""
        return (torch.randn(batch, CLASSES, generator=torch.Generator().manual_seed(seed)).to(dtype),)

    def degenerate(self) -> list[tuple[Tensor, ...]]:
        """Inputs at which a careless formula gives NaN."""
        output = self.inputs()[0]
        return [(torch.zeros_like(output),), (1e4 * output,), (torch.full_like(output, 100.0),)]

    def classes(self, batch: int = BATCH) -> Tensor:
        return torch.arange(batch) % CLASSES

    def call(self, loss: Any, inputs: tuple[Tensor, ...], classes: Tensor | None = None) -> Tensor:
        return loss(*inputs, self.classes(len(inputs[0])) if classes is None else classes)

    def test_bf16_inputs_give_nearly_the_same(self) -> None:
        low = self.inputs(torch.bfloat16)
        value = self.call(self.fresh(), low)
        exact = self.call(self.fresh(), tuple(tensor.float() for tensor in low))
        assert value.dtype == torch.float32 and value.ndim == 0
        torch.testing.assert_close(value, exact)

    def test_backward_reaches_every_input(self) -> None:
        inputs = tuple(tensor.requires_grad_() for tensor in self.inputs())
        self.call(self.fresh(), inputs).backward()
        for tensor in inputs:
            assert tensor.grad is not None and torch.isfinite(tensor.grad).all()
            assert tensor.grad.abs().sum() > 0

    def test_gradient_is_that_of_the_values(self) -> None:
        loss = self.fresh()
        inputs = tuple(tensor.requires_grad_() for tensor in self.inputs(torch.float64))
        assert torch.autograd.gradcheck(lambda *tensors: self.call(copy.deepcopy(loss), tensors), inputs)

    def test_nothing_becomes_nan(self) -> None:
        for number, tensors in enumerate(self.degenerate()):
            inputs = tuple(tensor.clone().requires_grad_() for tensor in tensors)
            value = self.call(self.fresh(), inputs)
            value.backward()
            assert torch.isfinite(value), f"the value of degenerate input {number}"
            for tensor in inputs:
                assert torch.isfinite(tensor.grad).all(), f"the gradient of degenerate input {number}"

    def test_equal_class_weights_change_nothing(self) -> None:
        weighted = self.call(self.fresh(class_weights=[2.0] * CLASSES), self.inputs())
        torch.testing.assert_close(weighted, self.call(self.fresh(), self.inputs()))

    def test_a_class_of_double_weight_counts_as_if_its_samples_were_there_twice(self) -> None:
        per_sample = self.call(self.fresh(reduction="none"), self.inputs())
        twice = torch.cat([per_sample, per_sample[self.classes() == 1]])
        weighted = self.call(self.fresh(class_weights=[1, 2, 1]), self.inputs())
        torch.testing.assert_close(weighted, twice.mean())
        total = self.call(self.fresh(class_weights=[1, 2, 1], reduction="sum"), self.inputs())
        torch.testing.assert_close(total, twice.sum())

    def test_class_weights_that_do_not_fit_are_named(self) -> None:
        with pytest.raises(ConfigError, match="class_weights has 2 entries, but there are 3 classes"):
            self.call(self.fresh(class_weights=[1, 2]), self.inputs())
        with pytest.raises(ConfigError, match="every weight must be positive"):
            self.build(class_weights=[1, -2, 1])

    def test_reductions(self) -> None:
        with pytest.raises(ConfigError, match="reduction 'median' is unknown; choose one of mean, sum, none"):
            self.build(reduction="median")
        values = self.call(self.fresh(reduction="none"), self.inputs())
        assert values.shape == (BATCH,)
        torch.testing.assert_close(self.call(self.fresh(), self.inputs()), values.mean())
        torch.testing.assert_close(self.call(self.fresh(reduction="sum"), self.inputs()), values.sum())

    def test_labels_may_have_a_channel_axis(self) -> None:
        expected = self.call(self.fresh(), self.inputs())
        assert torch.equal(self.call(self.fresh(), self.inputs(), self.classes()[:, None].float()), expected)

    def test_saved_state_goes_on_where_it_stopped(self) -> None:
        first, second, file = self.fresh(), self.build(), io.BytesIO()
        for seed in range(3):
            self.call(first, self.inputs(seed=seed))
        torch.save(first.state_dict(), file)
        file.seek(0)
        second.load_state_dict(torch.load(file, weights_only=True))
        for seed in (3, 4):
            inputs = self.inputs(seed=seed)
            assert torch.equal(self.call(first, inputs), self.call(second, inputs))

    def test_the_loss_owns_no_weights(self) -> None:
        assert not list(self.fresh().parameters())


class DenseLossSuite(LossSuite):
    """What holds besides for losses of which a place of a dense output is a sample."""

    def test_a_dense_output_is_many_samples(self) -> None:
        output = torch.randn(2, CLASSES, 3, 4, generator=torch.Generator().manual_seed(0))
        label = torch.randint(CLASSES, (2, 1, 3, 4), generator=torch.Generator().manual_seed(1))
        flat = output.movedim(1, -1).reshape(-1, CLASSES)
        loss = self.fresh(class_weights=[1, 2, 3])
        torch.testing.assert_close(loss(output, label.float()), loss(flat, label.flatten()))


class MarginSuite(LossSuite):
    """What holds for every loss of features and the last layer's weights."""

    def head(self, loss: MarginLoss, seed: int = 0) -> LinearHead:
        torch.manual_seed(seed)
        head = LinearHead(FEATURES, CLASSES)
        loss.prepare(head)
        return head

    def fresh(self, **options: Any) -> Any:
        loss = self.build(**options)
        self.head(loss)
        return loss

    def inputs(self, dtype: torch.dtype = torch.float32, seed: int = 0, batch: int = BATCH) -> tuple[Tensor, ...]:
        generator = torch.Generator().manual_seed(seed)
        shapes: list[tuple[int, ...]] = [(batch, FEATURES), (CLASSES, FEATURES)]
        if self.build().uses_bias:
            shapes.append((CLASSES,))
        return tuple(torch.randn(shape, generator=generator).to(dtype) for shape in shapes)

    def call(self, loss: Any, inputs: tuple[Tensor, ...], classes: Tensor | None = None) -> Tensor:
        features, weight, *bias = inputs
        return loss(features, weight, self.classes(len(features)) if classes is None else classes, *bias)

    def degenerate(self) -> list[tuple[Tensor, ...]]:
        features, weight, *bias = self.inputs()
        aligned = weight[self.classes()]
        return [
            (torch.zeros_like(features), weight, *bias),
            (features, torch.zeros_like(weight), *bias),
            (3 * aligned, weight, *bias),  # cos = 1
            (-3 * aligned, weight, *bias),  # cos = -1
            (1e-20 * features, weight, *bias),
            (1e4 * features, weight, *bias),
            (features[:1].expand_as(features), weight, *bias),
        ]

    def test_without_margin_it_is_the_cross_entropy_of_the_prepared_network(self) -> None:
        """What the network answers at inference, with the mode in its state dict, is what was trained."""
        loss = self.plain()
        head = self.head(loss)
        features = self.inputs()[0]
        expected = F.cross_entropy(head(features), self.classes())
        torch.testing.assert_close(loss.on_head(features, head, self.classes()), expected)

    def plain(self) -> MarginLoss:
        """The loss without margin, and without what it adds to the softmax loss."""
        return self.build().eval()

    def test_a_bias_that_the_loss_does_not_know_is_switched_off(self) -> None:
        torch.manual_seed(0)
        head, loss = LinearHead(FEATURES, CLASSES), self.build()
        loss.prepare(head)
        assert bool(head.bias.any()) == loss.uses_bias
        loss.on_head(self.inputs()[0], head, self.classes()).backward()
        assert (head.bias.grad is not None) == loss.uses_bias
