from __future__ import annotations

import pytest

from medresnet3d.errors import ConfigError
from medresnet3d.optimizers.choices import require_options


def test_known_options_pass() -> None:
    require_options("fruit", "apple", {"size": 1}, {"size", "colour"})


def test_messages_list_what_there_is() -> None:
    with pytest.raises(ConfigError, match=r"^The fruit 'apple' has no option 'a', 'b'; it takes size\.$"):
        require_options("fruit", "apple", {"b": 1, "a": 2}, {"size"})
    with pytest.raises(ConfigError, match="it takes none"):
        require_options("fruit", "apple", {"b": 1}, ())
