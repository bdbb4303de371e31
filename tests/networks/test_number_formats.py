from __future__ import annotations

import pytest
import torch

from medresnet3d.errors import ConfigError
from medresnet3d.networks.number_formats import PRECISIONS, check_precision, cpu_has_bf16


def test_every_format_is_taken_where_the_device_has_it() -> None:
    for name in PRECISIONS:
        check_precision(name, torch.device("cuda"))
    with pytest.raises(ConfigError, match="needs a CUDA device"):
        check_precision("fp16", torch.device("cpu"))
    with pytest.raises(ConfigError, match="use one of auto, fp32, bf16, fp16"):
        check_precision("int8", torch.device("cpu"))


def test_no_bf16_without_avx512(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.backends.cpu, "get_cpu_capability", lambda: "AVX2")
    assert not cpu_has_bf16()


@pytest.mark.parametrize(
    ("found", "expected"), [({"avx512_bf16": True}, True), ({"amx_bf16": True}, True), ({}, False)]
)
def test_bf16_by_the_processors_own_word(
    found: dict[str, bool], expected: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torch.backends.cpu, "get_cpu_capability", lambda: "AVX512")
    monkeypatch.setattr(torch.backends.mkldnn, "is_available", lambda: True)
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: found, raising=False)
    assert cpu_has_bf16() is expected
