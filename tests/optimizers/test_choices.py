from __future__ import annotations

import pytest

from medresnet3d.errors import ConfigError
from medresnet3d.optimizers.choices import require_name, require_options


def test_known_names_and_options_pass() -> None:
    require_name("fruit", "apple", {"pear", "apple"})
    require_options("fruit", "apple", {"size": 1}, {"size", "colour"})


def test_messages_list_what_there_is() -> None:
    with pytest.raises(ConfigError, match=r"^There is no fruit 'aple' \(did you mean 'apple'\?\); the names are"):
        require_name("fruit", "aple", {"pear", "apple"})
    with pytest.raises(ConfigError, match=r"^There is no fruit 'zzz'; the names are apple, pear\.$"):
        require_name("fruit", "zzz", {"pear", "apple"})
    with pytest.raises(ConfigError, match=r"^The fruit 'apple' has no option 'a', 'b'; it takes size\.$"):
        require_options("fruit", "apple", {"b": 1, "a": 2}, {"size"})
    with pytest.raises(ConfigError, match="it takes none"):
        require_options("fruit", "apple", {"b": 1}, ())
