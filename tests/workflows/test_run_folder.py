from __future__ import annotations

import json
import shlex
import subprocess
from pathlib import Path
from typing import Any

import pytest

from medresnet3d.errors import ConfigError
from medresnet3d.workflows.run_folder import (
    check_same_run,
    command_line,
    count_handlers,
    git_state,
    set_handler_options,
)


def test_the_command_can_be_pasted_into_a_shell(tmp_path: Path) -> None:
    overrides = {"size": "paper", "rate": 0.5, "names": ["a b", "c"], "on": True}
    command = command_line("my bundle", "data/m.json", tmp_path / "a run", overrides, "cuda:1", resume=True)
    words = shlex.split(command)
    assert words[:5] == ["medresnet3d", "train", "my bundle", "--data", "data/m.json"]
    assert words[5:9] == ["-o", str(tmp_path / "a run"), "--device", "cuda:1"]
    values = dict(word.split("=", 1) for word in words[10:-1:2])
    assert values == {"size": "paper", "rate": "0.5", "names": '["a b", "c"]', "on": "true"}
    assert words[-1] == "--resume"


def test_git_state_is_of_the_checkout_that_has_the_files(tmp_path: Path) -> None:
    assert git_state(tmp_path) is None
    identity = ["-c", "user.name=n", "-c", "user.email=e@example.org"]

    def git(*words: str) -> None:
        subprocess.run(["git", "-C", str(tmp_path), *identity, *words], check=True, capture_output=True)

    (tmp_path / "__init__.py").write_text("")
    git("init")
    git("commit", "--allow-empty", "-m", "first")
    assert git_state(tmp_path) is None  # the file is not part of that checkout
    git("add", "__init__.py")
    git("commit", "-m", "second")
    state = git_state(tmp_path)
    assert state is not None and len(state["commit"]) == 40 and state["changed"] is False
    (tmp_path / "__init__.py").write_text("changed")
    assert git_state(tmp_path) == {**state, "changed": True}


def config(**values: Any) -> dict[str, Any]:
    handlers = [{"_target_": "medresnet3d.engines.train_handlers", "output_dir": "@output_dir"}]
    return {"seed": 0, "train": {"handlers": handlers, "loader": {"num_workers": 0}}, "output_dir": "a", **values}


def test_handlers_are_found_and_told_to_resume() -> None:
    found = config(second={"handlers": [{"_target_": "medresnet3d.engines.train_handlers"}]})
    assert count_handlers(found) == 2
    set_handler_options(found, resume=True)
    assert found["train"]["handlers"][0]["resume"] is True
    assert found["second"]["handlers"][0]["resume"] is True
    assert count_handlers({"train": {"handlers": [{"_target_": "monai.handlers.StatsHandler"}]}}) == 0


def environment(data: str = "d1", bundle: str = "b1") -> dict[str, Any]:
    return {"bundle": {"name": "b", "content_hash": bundle}, "data": {"name": "d", "content_hash": data}}


def test_where_a_run_computes_may_change_but_not_what(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text(json.dumps(config()))
    (tmp_path / "environment.json").write_text(json.dumps(environment()))
    moved = config(output_dir="b", device={"name": "cuda"})
    moved["train"]["loader"]["num_workers"] = 8
    set_handler_options(moved, resume=True)
    check_same_run(tmp_path, moved, environment())
    with pytest.raises(ConfigError, match=r"seed was 0 and is 1; width was None and is 64\. Give the same"):
        check_same_run(tmp_path, config(seed=1, width=64), environment())
    with pytest.raises(ConfigError, match=r"the bundle was b \(b1\) and is b \(b2\); the data was d \(d1\) and is d"):
        check_same_run(tmp_path, config(), environment("d2", "b2"))


@pytest.mark.parametrize(("content", "sentence"), [(None, "is missing"), ("{", "is damaged"), ("[]", "no record")])
def test_damaged_records(tmp_path: Path, content: str | None, sentence: str) -> None:
    if content is not None:
        (tmp_path / "environment.json").write_text(content)
    with pytest.raises(ConfigError, match=sentence):
        check_same_run(tmp_path, config(), environment())
