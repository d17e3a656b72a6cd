"""Frechet distance and KID against torch-fidelity itself, where it is installed."""

import numpy as np
import pytest

from fields3d.metrics.frechet import frechet_of_sets
from fields3d.metrics.kid import kid


@pytest.mark.slow
def test_distances_of_features_are_torch_fidelity_s():
  torch = pytest.importorskip("torch", reason="torch is not installed: nothing to compare with")
  fid = pytest.importorskip("torch_fidelity.metric_fid", exc_type=ImportError, reason="torch-fidelity is not installed")
  from torch_fidelity.metric_kid import kid_features_to_metric
  rng = np.random.default_rng(0)
  a, b = rng.normal(size=(300, 64)) * rng.uniform(0.5, 2, 64), 0.2 + rng.normal(size=(300, 64))
  moments = [fid.fid_features_to_statistics(torch.tensor(x)) for x in (a, b)]
  expected = fid.fid_statistics_to_metric(*moments, False)["frechet_inception_distance"]
  assert frechet_of_sets(a, b) == pytest.approx(expected, rel=1e-9)
  found = kid_features_to_metric(torch.tensor(a), torch.tensor(b), kid_subsets=2, kid_subset_size=300, verbose=False)
  assert kid(a, b)[0] == pytest.approx(found["kernel_inception_distance_mean"], rel=1e-9)
