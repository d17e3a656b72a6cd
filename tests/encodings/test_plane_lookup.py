"""Looking points up on planes of their own row's: against an encoding with the same planes, and row by row."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from fields3d.core.errors import UsageFault
from fields3d.encodings.plane_lookup import lookup_planes
from fields3d.encodings.planes import triplane


def test_a_row_is_the_triplane_encoding_with_its_planes():
  grid = triplane(features=3, coarsest=6, finest=6)
  planes = jax.random.normal(jax.random.key(0), (2, 7, 7, 3, 3))
  x = jax.random.uniform(jax.random.key(1), (2, 40, 3), minval=-1.1, maxval=1.1)
  found = lookup_planes(planes, x)
  for row in range(2):
    expected = grid.apply({"planes_0": planes[row].transpose(2, 3, 0, 1).reshape(3, 3, 49)}, x[row])
    np.testing.assert_allclose(found[row], expected, rtol=1e-5, atol=1e-6)  # sums of three normals, float32


def test_the_gradient_of_a_row_is_nothing_on_the_planes_of_another():
  planes, x = jnp.ones((2, 4, 4, 3, 2)), jax.random.uniform(jax.random.key(1), (2, 9, 3), minval=-1.0)
  slope = jax.grad(lambda planes: jnp.sum(lookup_planes(planes, x)[1]))(planes)
  assert not slope[0].any() and slope[1].any()
  np.testing.assert_allclose(jnp.sum(slope), 2 * 3 * 9, rtol=1e-5)  # weights of a point are 1 on each plane


def test_planes_of_one_node_are_refused():
  with pytest.raises(UsageFault, match="one node a side"):
    lookup_planes(jnp.ones((2, 1, 1, 3, 2)), jnp.zeros((2, 4, 3)))
