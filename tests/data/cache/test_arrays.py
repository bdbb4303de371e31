from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from medresnet3d.data.cache import arrays
from medresnet3d.data.cache.arrays import ArraySpec, narrowest, raw_view, read_box, verify, write_array
from medresnet3d.data.cache.header import FRAME, DamagedEntryError


def stored(path: Path, array: Any, compress: bool, **options: Any) -> tuple[memoryview, ArraySpec]:
    with path.open("wb") as file:
        file.write(bytes(FRAME.size))
        spec = write_array(file, array, compress, **options)
    return memoryview(path.read_bytes()), spec


@settings(deadline=None, max_examples=60)
@given(data=st.data(), compress=st.booleans())
def test_any_box_of_any_array_comes_back_bit_for_bit(
    data: st.DataObject, compress: bool, tmp_path_factory: pytest.TempPathFactory
) -> None:
    dtype = data.draw(st.sampled_from(sorted(arrays.LOGICAL)))
    shape = data.draw(hnp.array_shapes(min_dims=1, max_dims=4, min_side=1, max_side=40))
    seed = data.draw(st.integers(0, 1000))
    raw = np.random.default_rng(seed).bytes(int(np.prod(shape)) * np.dtype(dtype).itemsize)
    array = np.frombuffer(raw, "uint8" if dtype == "bool" else dtype).reshape(shape)
    array = (array > 100) if dtype == "bool" else array
    box = []
    for size in shape:
        start = data.draw(st.integers(0, size))
        box.append((start, data.draw(st.integers(start, size))))
    old, arrays.MIN_BLOCKED = arrays.MIN_BLOCKED, 1
    try:
        memory, spec = stored(tmp_path_factory.mktemp("a") / "a", array, compress)
    finally:
        arrays.MIN_BLOCKED = old
    verify(memory, spec)
    for limits in (None, tuple(box)):
        expected = array if limits is None else array[tuple(slice(*limit) for limit in limits)]
        found = read_box(memory, spec, limits)
        assert found.dtype == array.dtype
        assert found.shape == expected.shape
        assert found.tobytes() == np.ascontiguousarray(expected).tobytes()


@pytest.mark.parametrize(
    ("values", "dtype", "expected"),
    [
        ([0, 255], "float32", "uint8"),
        ([-1, 100], "float32", "int8"),
        ([-1024, 3071], "float32", "int16"),
        ([0, 65535], "float32", "uint16"),
        ([0.5, -1.25], "float32", "float16"),
        ([0.1, 0.2], "float32", "float32"),
        ([-0.0, 1.0], "float32", "float16"),
        ([np.nan, 0.1], "float32", "float32"),
        ([0.1, 0.2], "float64", "float64"),
        ([0.5, 1e30], "float64", "float64"),
        ([np.float32(0.1), 2], "float64", "float32"),
        ([0, 3], "int64", "uint8"),
        ([-5, 70000], "int64", "int32"),
        ([0, 2**40], "int64", "int64"),
        ([True, False], "bool", "bool"),
        ([1e-8, 1.0], "float32", "float32"),
        ([np.inf, 1.0], "float32", "float16"),
    ],
)
def test_the_smallest_type_that_keeps_every_bit(values: Any, dtype: str, expected: str) -> None:
    assert narrowest(np.array(values, dtype)).dtype == expected


def test_one_odd_voxel_that_a_sample_misses_is_seen(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(arrays, "SAMPLE", 4)
    array = np.zeros(1001, np.float32)
    array[1] = 0.1
    assert narrowest(array).dtype == np.float32


def test_half_precision_is_a_choice_and_never_overflows() -> None:
    assert narrowest(np.array([0.1, 0.7], np.float32), half_precision=True).dtype == np.float16
    assert narrowest(np.array([0.1, 1e6], np.float32), half_precision=True).dtype == np.float32
    assert narrowest(np.array([1, 100000], np.int32), half_precision=True).dtype == np.int32


def test_a_crop_touches_only_its_blocks(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    array = np.random.default_rng(0).integers(0, 1000, (2, 128, 128, 96)).astype(np.int16)
    memory, spec = stored(tmp_path / "a", array, compress=True)
    calls = []
    decompress = arrays._decompress
    monkeypatch.setattr(arrays, "_decompress", lambda *a: (calls.append(1), decompress(*a)))
    box = ((0, 1), (32, 96), (30, 34), (5, 6))
    assert np.array_equal(read_box(memory, spec, box), array[0:1, 32:96, 30:34, 5:6])
    assert len(calls) == 2 * 2
    assert spec.nbytes < array.nbytes


@pytest.mark.parametrize(
    "change",
    [
        {"shape": [-1, 4]},
        {"shape": [10**9, 10**9, 10**9]},
        {"shape": [4.0, 2]},
        {"shape": None},
        {"stored": "object"},
        {"logical": "O"},
        {"codec": "pickle"},
        {"offset": 0},
        {"offset": 10**12},
        {"offset": 33},
        {"nbytes": 10**12},
        {"nbytes": 1},
        {"nbytes": True},
        {"extra": 1},
    ],
)
def test_a_description_that_lies_is_refused(tmp_path: Path, change: dict[str, Any]) -> None:
    memory, spec = stored(tmp_path / "a", np.arange(8, dtype=np.int64).reshape(2, 4) * 10**12, compress=False)
    raw = spec.as_json()
    assert ArraySpec.parse(raw, len(memory)) == spec
    with pytest.raises(DamagedEntryError):
        ArraySpec.parse({**raw, **change}, len(memory))


@settings(deadline=None, max_examples=100)
@given(position=st.integers(0, 10**6), value=st.integers(0, 255))
def test_changed_bytes_of_blocks_are_damage_and_nothing_worse(
    position: int, value: int, tmp_path_factory: pytest.TempPathFactory
) -> None:
    array = np.random.default_rng(0).integers(0, 9, (1, 64, 40, 40)).astype(np.int16)
    memory, spec = stored(tmp_path_factory.mktemp("a") / "a", array, compress=True)
    raw = bytearray(memory)
    at = spec.offset + position % spec.nbytes
    raw[at] = value
    changed = memoryview(raw)
    if raw[at] != memory[at]:
        with pytest.raises(DamagedEntryError):
            verify(changed, spec)
    try:
        assert read_box(changed, spec).shape == array.shape
    except DamagedEntryError as error:
        assert "block" in str(error)


def test_raw_arrays_are_mapped_not_copied(tmp_path: Path) -> None:
    array = np.arange(10, dtype=np.int64)
    memory, spec = stored(tmp_path / "a", array, compress=True)
    view = raw_view(memory, spec)
    assert spec.codec == "raw"
    assert view.dtype == np.uint8
    assert not view.flags.writeable
    assert not view.flags.owndata
