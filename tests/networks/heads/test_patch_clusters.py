from __future__ import annotations

import io

import numpy as np
import pytest
import torch
from sklearn.cluster import KMeans
from sklearn.decomposition import PCA
from torch import Tensor, nn

from medresnet3d.errors import ConfigError, DataError
from medresnet3d.networks.heads.patch_clusters import PatchClusters


def patches(count: int, seed: int = 0, size: int = 8) -> Tensor:
    """Noise on one of three ramps."""
    generator = torch.Generator().manual_seed(seed)
    ramp = torch.linspace(-1, 1, size)[:, None].expand(size, size)
    kinds = torch.stack([ramp, ramp.T, -ramp])
    return kinds[torch.arange(count) % 3][:, None] + 0.3 * torch.randn(count, 1, size, size, generator=generator)


def fitted(clusters: int = 3, components: int = 5) -> PatchClusters:
    made = PatchClusters(nn.AdaptiveAvgPool2d(4), 16, clusters, components)
    made.fit(made.describe(patches(90)))
    return made


def test_the_assignment_is_that_of_scikit_learn() -> None:
    clusters, seen, unseen = fitted(), patches(90), patches(60, seed=1)
    values = [clusters.describe(part).double().numpy() for part in (seen, unseen)]
    analysis = PCA(5, svd_solver="full").fit(values[0])
    machine = KMeans(3, n_init=10, random_state=0).fit(analysis.transform(values[0]))
    assert np.array_equal(clusters(unseen).numpy(), machine.predict(analysis.transform(values[1])))


def test_each_kind_of_patch_has_a_cluster_of_its_own() -> None:
    found = fitted()(patches(60, seed=1)).reshape(-1, 3)
    assert (found == found[0]).all()
    assert sorted(found[0].tolist()) == [0, 1, 2]


def test_what_was_fitted_is_frozen_saved_and_the_same_after_loading() -> None:
    clusters = fitted()
    assert not list(clusters.parameters()), "nothing that an optimizer could change"
    file = io.BytesIO()
    torch.save(clusters.state_dict(), file)
    file.seek(0)
    other = PatchClusters(nn.AdaptiveAvgPool2d(4), 16, 3, 5)
    assert not other.ready and not other(patches(9)).any()
    other.load_state_dict(torch.load(file, weights_only=True))
    assert bool(other.ready)
    assert torch.equal(other(patches(200, seed=2)), clusters(patches(200, seed=2)))


def test_fewer_components_than_asked_for_are_filled_up_with_zeros() -> None:
    clusters = fitted(components=40)
    assert clusters.components.shape == (40, 16)
    assert clusters.components[:16].any(1).all() and not clusters.components[16:].any()
    assert torch.equal(clusters(patches(30)).reshape(-1, 3)[0], clusters(patches(30)).reshape(-1, 3)[1])


def test_the_seed_decides_and_mixed_precision_changes_nothing() -> None:
    assert torch.equal(fitted().centres, fitted().centres)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        found = fitted()(patches(60, seed=1))
    assert torch.equal(found, fitted()(patches(60, seed=1)))


def test_what_cannot_be_fitted_is_refused() -> None:
    with pytest.raises(ConfigError, match="give 1 or more"):
        PatchClusters(nn.Identity(), 4, 0)
    with pytest.raises(DataError, match="2 training patches for 3 clusters"):
        PatchClusters(nn.Identity(), 4, 3).fit(torch.rand(2, 4))
