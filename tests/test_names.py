from __future__ import annotations

import pytest

from medresnet3d.errors import ConfigError
from medresnet3d.names import require_name


def test_a_known_name_passes_and_another_is_answered_with_the_list_and_the_nearest() -> None:
    assert require_name("Colour", "red", ["red", "green"]) == "red"
    with pytest.raises(ConfigError, match=r"Colour 'gren' is unknown; choose one of red, green\..*'green'"):
        require_name("Colour", "gren", ["red", "green"])
    with pytest.raises(ConfigError, match=r"choose one of red, green\.$"):
        require_name("Colour", "xyz", ["red", "green"])
