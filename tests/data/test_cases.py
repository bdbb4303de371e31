from __future__ import annotations

from pathlib import Path

from hypothesis import given
from hypothesis import strategies as st

from medresnet3d.data.cases import case_ids, natural_key, stem


def test_natural_order() -> None:
    assert sorted(["s10", "s2", "S1", "a", "s2b"], key=natural_key) == ["a", "S1", "s2", "s2b", "s10"]


def test_stem() -> None:
    assert [stem(name) for name in ("a/b.nii.gz", "b.MHA", "1.2.840.10008", "x.y.nrrd", "plain")] == [
        "b",
        "b",
        "1.2.840.10008",
        "x.y",
        "plain",
    ]


def test_the_folder_goes_in_front_only_where_it_is_needed() -> None:
    assert case_ids(["/d/p1/t1.nii", "/d/p2/t1.nii", "/d/p2/other.nii"]) == ["p1_t1", "p2_t1", "other"]
    assert case_ids(["/d/x/a/t.nii", "/d/y/a/t.nii"]) == ["x_a_t", "y_a_t"]


def test_one_path_twice_is_counted() -> None:
    assert case_ids(["/d/t.nii", "/d/t.nii", "/d/t_2.nii"]) == ["t", "t_3", "t_2"]
    assert case_ids(["/a.nii", "/a.mha"]) == ["a", "a_2"]


@given(st.lists(st.text(alphabet="aB1_/. ", min_size=1, max_size=8), max_size=12))
def test_names_are_always_unique_and_friendly(paths: list[str]) -> None:
    names = case_ids([f"/root/{path}" for path in paths])
    assert len({name.casefold() for name in names}) == len(paths)
    assert all(name and Path(name).name == name and " " not in name for name in names)
