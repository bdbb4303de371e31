from __future__ import annotations

import pytest

from medresnet3d.errors import ConfigError
from medresnet3d.workflows.compare_grid import make_arms, named_variants, parse_factors


def test_all_combinations_with_the_baseline_first() -> None:
    factors = parse_factors(["activation=relu,elu,prelu", "schedule=cosine,polynomial"], ["activation=elu"])
    arms = make_arms(factors)
    assert len(arms) == 6
    assert arms[0].name == "elu, cosine"
    assert arms[0].overrides == {"activation": "elu", "lr_scheduler": "cosine"}
    assert arms[0].levels == {"activation": "elu", "schedule": "cosine"}
    assert len({arm.name for arm in arms}) == 6


def test_one_at_a_time_is_the_baseline_and_each_other_level() -> None:
    factors = parse_factors(["activation=relu,elu,prelu", "schedule=cosine,polynomial"])
    names = [arm.name for arm in make_arms(factors, one_at_a_time=True)]
    assert names == ["relu, cosine", "relu, polynomial", "elu, cosine", "prelu, cosine"]


def test_values_by_name_and_by_json() -> None:
    text = 'loss=cross_entropy,{"name": "cosface", "margin": 0.2}'
    (factor,) = parse_factors([text])
    assert factor.levels["cosface margin=0.2"] == {"loss": {"name": "cosface", "margin": 0.2}}
    (factor,) = parse_factors(['norm=batch,["group", {"num_groups": 8}]'])
    assert list(factor.levels.values())[1] == {"normalisation": ["group", {"num_groups": 8}]}
    (factor,) = parse_factors(["network_def::width=16,32.5,null,true"])
    assert [one["network_def::width"] for one in factor.levels.values()] == [16, 32.5, None, True]
    assert [arm.name for arm in make_arms(parse_factors(["lr=0.1,0.2"]))] == ["lr=0.1", "lr=0.2"]


def test_named_levels_set_several_ids() -> None:
    (factor,) = parse_factors({"head": {"narrow": {"width": 8}, "wide": {"width": 64, "dropout": 0.5}}})
    assert factor.levels["wide"] == {"width": 64, "dropout": 0.5}
    (factor,) = parse_factors(["regularisation=none,l1"])
    assert factor.levels["l1"] == named_variants()["regularisation"]["l1"]
    assert factor.levels["l1"]["l1"] > 0 == factor.levels["none"]["l1"]


@pytest.mark.parametrize("level", [name for name in named_variants()["regularisation"] if name != "none"])
def test_each_regulariser_sets_all_ids_that_another_may_have_set(level: str) -> None:
    table = named_variants()["regularisation"]
    assert table[level].keys() >= table["none"].keys()
    assert table[level] != table["none"]


@pytest.mark.parametrize(
    ("vary", "baseline", "sentence"),
    [
        ([], [], "Nothing is varied"),
        (["activation"], [], "write it as factor=value"),
        (["activation=relu"], [], "one value alone cannot be compared"),
        (["activation=relu,relu"], [], "a value is given twice"),
        (["activation=relu,elu", "activation=tanh,elu"], [], "A factor is given twice"),
        (["schedule=cosine,constant", "lr_scheduler=cosine,exponential"], [], "A factor is given twice"),
        (["activation=relu,elu"], ["activation=tanh"], "no such level; choose one of relu, elu"),
        (["activation=relu,elu"], ["loss=focal"], "this is not varied; the factors are activation"),
        (["regularisation=none,l3"], [], "'l3' is unknown"),
    ],
)
def test_what_cannot_be_varied(vary: list[str], baseline: list[str], sentence: str) -> None:
    with pytest.raises(ConfigError, match=sentence):
        parse_factors(vary, baseline)


def test_two_factors_may_not_set_the_same_id() -> None:
    factors = parse_factors(["regularisation=none,l1", "dropout=0,0.5"])
    with pytest.raises(ConfigError, match="Two factors set 'dropout'"):
        make_arms(factors)
