"""Random streams that depend on what is drawn for, not on what was drawn before.

A sample, an iteration or a validation gets its own seed from a key such as ``(seed, epoch, index)``. So results do not
depend on the number of worker processes, on the order of work, or on where a run was broken off and resumed.
"""

from __future__ import annotations

import random
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch


def derive_seed(*key: int) -> int:
    """Return a 32-bit seed for a key of non-negative integers; different keys give independent streams.

    The mixing is numpy's ``SeedSequence`` (O'Neill, "Developing a seed_seq alternative", 2015).
    """
    return int(np.random.SeedSequence(key).generate_state(1)[0])


def seed_global(seed: int) -> None:
    """Seed the global generators of torch (CPU and all CUDA devices), numpy and python."""
    torch.manual_seed(seed)
    np.random.seed(seed % 2**32)  # noqa: NPY002 - transforms of other packages draw from this generator
    random.seed(seed)


def random_state(cuda: bool = True) -> dict[str, Any]:
    """Return the states of the global generators in a form that ``torch.load(weights_only=True)`` reads back.

    Args:
        cuda: include the state of every CUDA device, if there is one.
    """
    name, keys, position, has_gauss, cached = np.random.get_state()  # noqa: NPY002 - the global generator is meant
    version, words, gauss = random.getstate()
    state = {
        "torch": torch.get_rng_state(),
        "numpy": {
            "name": str(name),
            "keys": torch.from_numpy(np.asarray(keys).astype(np.int64)),
            "position": int(position),
            "has_gauss": int(has_gauss),
            "cached": float(cached),
        },
        "python": {"version": version, "words": torch.tensor(words, dtype=torch.int64), "gauss": gauss},
    }
    if cuda and torch.cuda.is_available():
        state["cuda"] = torch.cuda.get_rng_state_all()
    return state


def set_random_state(state: dict[str, Any]) -> None:
    """Set the global generators to what :func:`random_state` returned.

    States of CUDA devices are left out where this machine has another number of them.
    """
    torch.set_rng_state(state["torch"])
    numpy_state = state["numpy"]
    keys = numpy_state["keys"].numpy().astype(np.uint32)
    np.random.set_state(  # noqa: NPY002 - the global generator is meant
        (numpy_state["name"], keys, numpy_state["position"], numpy_state["has_gauss"], numpy_state["cached"])
    )
    python_state = state["python"]
    random.setstate((python_state["version"], tuple(python_state["words"].tolist()), python_state["gauss"]))
    if "cuda" in state and torch.cuda.is_available() and torch.cuda.device_count() == len(state["cuda"]):
        torch.cuda.set_rng_state_all(state["cuda"])


@contextmanager
def seeded(seed: int) -> Iterator[None]:
    """Seed the CPU's global generators inside the block and put their states back afterwards."""
    torch_state, numpy_state, python_state = torch.get_rng_state(), np.random.get_state(), random.getstate()  # noqa: NPY002
    torch.default_generator.manual_seed(seed)
    np.random.seed(seed % 2**32)  # noqa: NPY002
    random.seed(seed)
    try:
        yield
    finally:
        torch.set_rng_state(torch_state)
        np.random.set_state(numpy_state)  # noqa: NPY002
        random.setstate(python_state)
