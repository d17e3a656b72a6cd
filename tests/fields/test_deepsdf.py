"""DeepSDF's decoder: the paper's sizes, its formula, tanh, colours, encodings."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from fields3d.core.config import build
from fields3d.core.errors import UsageFault
from fields3d.fields import FIELDS
from fields3d.fields.deepsdf import deepsdf


def points(rows, num):
  return jax.random.uniform(jax.random.key(1), (rows, num, 3), jnp.float32, -1.0, 1.0)


def test_the_defaults_have_the_sizes_of_the_authors_decoder():
  params = jax.eval_shape(deepsdf().init, jax.random.key(0))["network"]
  weights = [params[f"layer_{i}"]["v" if i < 8 else "w"].shape for i in range(9)]
  assert weights == [(259, 512), (512, 512), (512, 512), (512, 253), *[(512, 512)] * 4, (512, 1)]
  assert "g" not in params["layer_8"]
  # As PyTorch counts its decoder: weights, biases and one length for each normed output.
  assert sum(leaf.size for leaf in jax.tree.leaves(params)) == 1_835_520 + 3_838 + 3_837


def decoder_in_float64(params, x, z):
  """One point, one code, as the authors' forward pass reads, in float64."""
  inputs = np.concatenate([z, x])
  h = inputs
  for i in range(9):
    layer = {name: np.asarray(value, np.float64) for name, value in params["network"][f"layer_{i}"].items()}
    h = np.concatenate([h, inputs]) if i == 4 else h
    w = layer["w"] if i == 8 else layer["g"] * layer["v"] / np.linalg.norm(layer["v"], axis=0)
    h = h @ w + layer["b"]
    h = np.maximum(h, 0) if i < 8 else np.tanh(h)
  return h


def test_the_whole_decoder_equals_its_formula_point_by_point():
  field = deepsdf()
  params = field.init(jax.random.key(0))
  # Lengths of a network that says something: at the default start all values are nearly the last bias.
  params = jax.tree_util.tree_map_with_path(lambda path, a: 2.2 * a if path[-1].key in ("g", "w") else a, params)
  x, z = points(2, 5), jax.random.normal(jax.random.key(2), (2, 256)) / 16
  exact = [[decoder_in_float64(params, np.asarray(x[r, i], np.float64), np.asarray(z[r], np.float64))
            for i in range(5)] for r in range(2)]
  assert np.std(exact) > 0.01
  np.testing.assert_allclose(field.apply(params, x, z), exact, rtol=1e-4, atol=1e-6)


def test_tanh_bounds_the_distance_and_leaves_the_colour_logits():
  bounded, free = (deepsdf(code_dim=0, width=16, dropout=0.0, channels=4, tanh=tanh) for tanh in (True, False))
  params = free.init(jax.random.key(0))
  params["network"]["layer_8"]["w"] *= 50
  x = points(1, 100)
  raw, out = free.apply(params, x, jnp.zeros((1, 0))), bounded.apply(params, x, jnp.zeros((1, 0)))
  np.testing.assert_allclose(out[..., 0], np.tanh(raw[..., 0]), rtol=1e-5)
  np.testing.assert_array_equal(out[..., 1:], raw[..., 1:])


def test_dropout_acts_in_training_only():
  field = deepsdf(code_dim=0, width=64)
  params = field.init(jax.random.key(0))
  x, z = points(1, 20), jnp.zeros((1, 0))
  sober = deepsdf(code_dim=0, width=64, dropout=0.0).apply(params, x, z)
  np.testing.assert_array_equal(field.apply(params, x, z), sober)
  assert not np.allclose(field.apply(params, x, z, jax.random.key(1)), sober)


def test_the_encoding_stands_between_points_and_network_and_hears_the_level():
  field = build(FIELDS, dict(name="deepsdf", code_dim=4, width=64, encoding=dict(name="fourier", levels=3)))
  params = field.init(jax.random.key(0))
  assert params["network"]["layer_0"]["v"].shape == (4 + 18, 64)
  x, z = points(1, 9), jnp.ones((1, 4))
  assert not np.allclose(field.apply(params, x, z, None, 1.0), field.apply(params, x, z))
  # At level 1 only the first octave is seen, which repeats with period 2.
  np.testing.assert_allclose(field.apply(params, x + 2.0, z, None, 1.0), field.apply(params, x, z, None, 1.0),
                             rtol=1e-3, atol=1e-5)


@pytest.mark.parametrize("section, says", [
    (dict(skip=8), "skip"), (dict(channels=3), "unknown value"), (dict(code_dim=-1), "out of range"),
    (dict(widht=3), "did you mean 'width'"), (dict(encoding=dict(name="furier")), "fourier")])
def test_impossible_decoders_are_refused(section, says):
  with pytest.raises(UsageFault, match=says):
    build(FIELDS, dict(name="deepsdf", **section), "task.field")
