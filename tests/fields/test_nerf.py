"""The original NeRF: its sizes, what sees what, and the density head."""

import jax
import jax.numpy as jnp
import numpy as np
from toys import compiled

from fields3d.encodings import ENCODINGS
from fields3d.fields.nerf import nerf


def make(**more):
  settings = {"width": 16, "depth": 4, "skip": 2, "color_width": 8, **more}
  field = compiled(nerf(ENCODINGS["fourier"](levels=3), ENCODINGS["fourier"](levels=2), **settings))
  return field, field.init(jax.random.key(0))


def points(*shape, seed=1):
  return jax.random.uniform(jax.random.key(seed), (*shape, 3), jnp.float32, -1.0, 1.0)


def test_the_paper_s_network_has_as_many_parameters_as_the_authors():
  field = nerf(ENCODINGS["fourier"](levels=10), ENCODINGS["fourier"](levels=4))
  params = jax.eval_shape(field.init, jax.random.key(0))
  # 63 inputs, eight layers of 256 with the input again at the sixth, heads of 1 and 256, 256 + 27 to 128, 128 to 3.
  expected = 64 * 256 + 4 * 257 * 256 + (256 + 63 + 1) * 256 + 2 * 257 * 256 + 257 + 257 * 256 + 284 * 128 + 129 * 3
  assert sum(leaf.size for leaf in jax.tree.leaves(params)) == expected == 595_844


def test_the_trunk_equals_a_loop_over_layers_with_the_input_again_at_the_skip():
  field, params = make(density_activation="softplus")
  x = points(5)
  tau, h, sdf, gradient = field.section(params, x, x, jnp.full(5, 0.5), jnp.zeros(5), None)
  inputs = jnp.concatenate([x, ENCODINGS["fourier"](levels=3).apply({}, x)], axis=-1)
  own = inputs
  for i in range(4):
    layer = params["trunk"][f"layer_{i}"]
    own = jax.nn.relu((jnp.concatenate([own, inputs], axis=-1) if i == 2 else own) @ layer["w"] + layer["b"][None])
  np.testing.assert_allclose(h, own, rtol=1e-4, atol=1e-5)  # of activations of size 0.1
  density = jax.nn.softplus(own @ params["density"]["w"] + params["density"]["b"][None])[:, 0]
  np.testing.assert_allclose(tau, 0.5 * density, rtol=1e-4)
  np.testing.assert_allclose(field.density(params, x, None), density, rtol=1e-4)
  assert sdf is None and gradient is None


def test_colour_depends_on_direction_and_appearance_and_density_on_neither():
  field, params = make(appearance_dim=4, density_activation="softplus")
  x, d, code = points(2, 7), points(2, 7, seed=2), jnp.ones((2, 7, 4))
  tau, h, _, _ = field.section(params, x, d, jnp.ones((2, 7)), jnp.zeros((2, 7)), None)
  np.testing.assert_array_equal(tau, field.section(params, x, -d, jnp.ones((2, 7)), jnp.zeros((2, 7)), None)[0])
  color = field.color(params, h, d, code)
  assert color.shape == (2, 7, 3) and float(color.min()) >= 0 and float(color.max()) <= 1
  assert not np.allclose(color, field.color(params, h, -d, code))
  assert not np.allclose(color, field.color(params, h, d, 2 * code))


def test_a_rectified_density_is_never_negative_and_all_parameters_learn():
  field, params = make()
  x = points(200)

  def out(params):
    tau, h, _, _ = field.section(params, x, x, jnp.ones(200), jnp.zeros(200), None)
    return jnp.sum(tau) + jnp.sum(field.color(params, h, x, None) ** 2)

  assert float(field.density(params, x, None).min()) >= 0
  params["density"]["b"] = jnp.ones(1)  # Some of it is alive.
  assert all(bool(jnp.any(g)) for g in jax.tree.leaves(jax.grad(out)(params)))
