from __future__ import annotations

import copy
from pathlib import Path

import numpy as np
import pytest
import torch
from monai.inferers import SimpleInferer, SlidingWindowInferer, SlidingWindowInfererAdapt

from medresnet3d import inferers
from medresnet3d.workflows.foreign_parts import Workspace, faster, to_float_outputs


def test_monai_s_sliding_window_is_replaced_with_the_same_windows() -> None:
    theirs = SlidingWindowInferer((8, 8, 8), 3, 0.5, "gaussian", 0.2, padding_mode="reflect", cval=-1.0, device="cpu")
    ours = faster(theirs)
    assert isinstance(ours, inferers.SlidingWindowInferer)
    for name in ("roi_size", "sw_batch_size", "overlap", "mode", "sigma_scale", "padding_mode", "cval", "device"):
        assert getattr(ours, name) == getattr(theirs, name)
    assert (ours.strategy, ours.output, ours.skip_empty) == ("windows", "logits", False)
    assert faster(theirs, skip_empty=True).empty_answer is None


@pytest.mark.parametrize(
    "inferer",
    [SimpleInferer(), SlidingWindowInfererAdapt(roi_size=8), SlidingWindowInferer(8, with_coord=True)],
)
def test_any_other_inferer_is_kept(inferer: object) -> None:
    assert faster(inferer) is inferer


def test_outputs_become_fp32_in_their_structure() -> None:
    half = torch.ones(1, dtype=torch.bfloat16)
    outputs = to_float_outputs({"a": half, "b": (half, torch.ones(1, dtype=torch.int64)), "c": "text"})
    assert outputs["a"].dtype == torch.float32
    assert [value.dtype for value in outputs["b"]] == [torch.float32, torch.int64]
    assert outputs["c"] == "text"


def test_copies_share_the_workspace() -> None:
    workspace = Workspace()
    assert copy.deepcopy({"here": workspace})["here"] is workspace
    folder = Path(workspace.name)
    np.save(folder / "a.npy", np.zeros(1))
    workspace.cleanup()
    assert not folder.exists()
