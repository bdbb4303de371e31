from __future__ import annotations

import errno
import os
import signal
import subprocess
import sys
import textwrap
from pathlib import Path

import numpy as np
import pytest

from medresnet3d.errors import DataError
from medresnet3d.io import atomic_path, atomic_write_text, save_nifti


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def test_text_appears_whole(tmp_path: Path) -> None:
    atomic_write_text(tmp_path / "new" / "a.txt", "grüße\n")
    assert (tmp_path / "new" / "a.txt").read_text(encoding="utf-8") == "grüße\n"
    assert names(tmp_path / "new") == ["a.txt"]


def test_temporary_name_keeps_the_suffixes(tmp_path: Path) -> None:
    with atomic_path(tmp_path / "a.nii.gz") as temporary:
        temporary.write_bytes(b"x")
        assert temporary.parent == tmp_path
        assert temporary.name.startswith(".")
        assert temporary.name.endswith(".nii.gz")
        assert not (tmp_path / "a.nii.gz").exists()
    assert names(tmp_path) == ["a.nii.gz"]


def test_an_error_leaves_the_old_file(tmp_path: Path) -> None:
    atomic_write_text(tmp_path / "a.txt", "old")
    with pytest.raises(ValueError, match="stop"), atomic_path(tmp_path / "a.txt") as temporary:
        temporary.write_text("half")
        raise ValueError("stop")
    assert (tmp_path / "a.txt").read_text() == "old"
    assert names(tmp_path) == ["a.txt"]


@pytest.mark.parametrize("code", [errno.ENOSPC, errno.EDQUOT])
def test_full_disk_when_the_file_reaches_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, code: int) -> None:
    def full(descriptor: int) -> None:
        raise OSError(code, os.strerror(code))

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(DataError, match=r"a\.nii\.gz: the disk is full; free some space"):
        save_nifti(np.arange(8).reshape(2, 2, 2), np.eye(4), tmp_path / "a.nii.gz")
    assert names(tmp_path) == []


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs /dev/full, a device without space")
def test_full_disk_while_writing(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="the disk is full"), atomic_path(tmp_path / "a.bin") as temporary:
        temporary.symlink_to("/dev/full")
        temporary.write_bytes(bytes(1 << 20))
    assert names(tmp_path) == []


def test_folder_that_cannot_be_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(self: Path, target: Path) -> Path:
        raise PermissionError(errno.EACCES, os.strerror(errno.EACCES))

    monkeypatch.setattr(Path, "replace", refuse)
    with pytest.raises(DataError, match=r"cannot be written \(Permission denied\); choose another output folder"):
        atomic_write_text(tmp_path / "a.txt", "x")
    assert names(tmp_path) == []


def test_other_errors_stay_what_they_are(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(OSError, match="file"):
        atomic_write_text(tmp_path / "file" / "a.txt", "x")


def test_killed_while_writing_leaves_the_old_file(tmp_path: Path) -> None:
    target = tmp_path / "a.txt"
    atomic_write_text(target, "old")
    script = f"""
        import os, sys, time
        sys.path.insert(0, {str(Path(__file__).parents[2])!r})
        from medresnet3d.io.atomic import atomic_path
        with atomic_path({str(target)!r}) as temporary:
            temporary.write_text("half")
            print("writing", flush=True)
            time.sleep(60)
    """
    with subprocess.Popen([sys.executable, "-c", textwrap.dedent(script)], stdout=subprocess.PIPE, text=True) as child:
        assert child.stdout is not None
        assert child.stdout.readline() == "writing\n"
        child.send_signal(signal.SIGKILL)
    assert target.read_text() == "old"
    assert [name for name in names(tmp_path) if not name.startswith(".")] == ["a.txt"]


def test_the_temporary_file_may_lie_elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    synced: list[int] = []
    monkeypatch.setattr(os, "fsync", synced.append)
    scratch = tmp_path / "scratch"
    with atomic_path(tmp_path / "deep" / "a.bin", scratch=scratch, durable=False) as temporary:
        assert temporary.parent == scratch
        temporary.write_bytes(b"x")
    assert names(tmp_path / "deep") == ["a.bin"]
    assert names(scratch) == []
    assert synced == []
