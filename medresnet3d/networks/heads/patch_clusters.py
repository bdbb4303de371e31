"""Which cluster a patch belongs to: k-means on the principal components of its intensities, as tensors."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

from medresnet3d.errors import ConfigError, DataError
from medresnet3d.networks.heads.fitted import FittedModule, full_precision_linear


class PatchClusters(FittedModule):
    r"""The nearest of k centres among the principal components of patches.

    .. math:: c(x) = \arg\min_j \lVert P\,(d(x) - \mu) - m_j \rVert^2

    d(x) are the intensities of the patch, averaged to a coarser grid; :math:`\mu` and P are mean and components of a
    principal component analysis, :math:`m_j` the centres of k-means on what it leaves. All are buffers: once fitted,
    the assignment is frozen and part of the state dict. Unfitted, every patch is in cluster 0; the buffer ``ready``
    tells whether it is fitted.

    Args:
        pool: brings a patch (N, C, ...) to the coarser grid.
        values: C times the number of its places.
        clusters: k.
        components: of the analysis; where fewer can be had, the others are zero.

    Shapes: patches (N, C, ...) to numbers of clusters (N,), int64.

    Raises:
        ConfigError: for no cluster or no component.
    """

    if TYPE_CHECKING:  # TorchScript cannot read annotations that are strings
        mean: Tensor
        components: Tensor
        centres: Tensor
        ready: Tensor

    def __init__(self, pool: nn.Module, values: int, clusters: int = 3, components: int = 50) -> None:
        super().__init__()
        if clusters < 1 or components < 1:
            raise ConfigError(f"{clusters} clusters on {components} components; give 1 or more of each.")
        self.pool = pool
        self.clusters = clusters
        self.register_buffer("mean", torch.zeros(values))
        self.register_buffer("components", torch.zeros(components, values))
        self.register_buffer("centres", torch.zeros(clusters, components))
        self.register_buffer("ready", torch.zeros((), dtype=torch.bool))

    def describe(self, patches: Tensor) -> Tensor:
        """Intensities on the coarser grid, (N, C, ...) to (N, values), float32."""
        return self.pool(patches.to(self.mean.dtype)).flatten(1)

    def forward(self, patches: Tensor) -> Tensor:
        """Number of each patch's cluster, (N,); at equal distance the first."""
        reduced = full_precision_linear(self.describe(patches) - self.mean, self.components)
        distance = (reduced[:, None] - self.centres[None]).square().sum(2)
        return distance.argmin(1)

    @torch.jit.unused
    def fit(self, described: Tensor, seed: int = 0) -> None:
        """Fit components and centres with scikit-learn.

        Args:
            described: (N, values), what :meth:`describe` gives of the training patches.
            seed: of k-means' ten starts, of which the best is taken.

        Raises:
            DataError: if there are fewer patches than clusters.
        """
        from sklearn.cluster import KMeans
        from sklearn.decomposition import PCA

        values = described.double().cpu().numpy()
        if len(values) < self.clusters:
            raise DataError(
                f"{len(values)} training patches for {self.clusters} clusters; give more cases, or fewer clusters."
            )
        number = min(self.components.shape[0], *values.shape)
        analysis = PCA(number, svd_solver="full").fit(values)
        reduced = analysis.transform(values)
        centres = KMeans(self.clusters, n_init=10, random_state=seed).fit(reduced).cluster_centers_
        self.put("mean", analysis.mean_)
        self.put("components", _padded(analysis.components_, self.components))
        self.put("centres", _padded(centres.T, self.centres.T).T)
        self.put("ready", True)


def _padded(rows: object, like: Tensor) -> Tensor:
    """``rows`` followed by rows of zeros, in the shape of ``like``."""
    found = torch.as_tensor(rows, dtype=like.dtype)
    return torch.cat([found, found.new_zeros(like.shape[0] - found.shape[0], found.shape[1])])
