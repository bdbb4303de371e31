import json
import math

from medresnet3d.metrics import Estimate


def test_is_printed_with_its_interval() -> None:
    assert str(Estimate(0.93, 0.91, 0.951)) == "0.930 [0.910, 0.951]"
    assert str(Estimate(0.93)) == "0.930"
    assert str(Estimate(math.nan)) == "\N{EN DASH}"


def test_is_plain_json_without_nan() -> None:
    plain = Estimate(0.5, n=2, note="no interval: 2 patients").as_dict()
    assert json.loads(json.dumps(plain, allow_nan=False)) == {
        "value": 0.5,
        "low": None,
        "high": None,
        "n": 2,
        "note": "no interval: 2 patients",
    }
    assert "note" not in Estimate(0.5, 0.4, 0.6, 10).as_dict()
