from __future__ import annotations

import json

from medresnet3d.inferers import InferenceReport


def test_report_is_plain_values() -> None:
    report = InferenceReport("windows", "bf16", windows_total=9, windows_run=4, crop=((1, 2), (3, 4)))
    assert report.windows_skipped == 5
    values = json.loads(json.dumps(report.as_dict()))
    assert values["windows_skipped"] == 5
    assert values["crop"] == [[1, 2], [3, 4]]
