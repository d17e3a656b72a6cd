"""The network behind the rendering: its resizing against loops, what it makes at first, and what its gradient reaches."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from fields3d.core.config import build
from fields3d.networks import UPSAMPLERS
from fields3d.networks.discriminator import folded
from fields3d.networks.equalised import enlarged, reduced


def test_enlarged_is_the_bilinear_value_at_the_middles_of_the_new_pixels():
  x = np.random.default_rng(0).normal(size=(1, 3, 4, 2)).astype(np.float32)
  got = np.asarray(enlarged(jnp.asarray(x), 2))
  assert got.shape == (1, 6, 8, 2)
  for i in range(6):
    for j in range(8):
      row, column = np.clip((i + 0.5) / 2 - 0.5, 0, 2), np.clip((j + 0.5) / 2 - 0.5, 0, 3)
      want = sum(max(0, 1 - abs(row - a)) * max(0, 1 - abs(column - b)) * x[0, a, b].astype(np.float64)
                 for a in range(3) for b in range(4))
      np.testing.assert_allclose(got[0, i, j], want, atol=1e-6)  # of order 1


def test_reduced_is_the_mean_of_squares_and_undoes_repetition():
  x = np.random.default_rng(0).normal(size=(2, 3, 5, 2)).astype(np.float32)
  np.testing.assert_allclose(reduced(jnp.asarray(x.repeat(2, 1).repeat(2, 2)), 2), x, rtol=1e-6)
  large = np.random.default_rng(1).normal(size=(1, 4, 4, 1)).astype(np.float32)
  np.testing.assert_allclose(reduced(jnp.asarray(large), 2)[0, 1, 0, 0], large[0, 2:, :2].mean(), rtol=1e-5)


def test_folding_moves_pixels_and_loses_none():
  x = np.random.default_rng(0).normal(size=(2, 4, 6, 3)).astype(np.float32)
  got = np.asarray(folded(jnp.asarray(x)))
  assert got.shape == (2, 2, 3, 12)
  for i in range(4):
    for j in range(6):
      at = 3 * (2 * (i % 2) + j % 2)
      np.testing.assert_array_equal(got[:, i // 2, j // 2, at:at + 3], x[:, i, j])


@pytest.mark.parametrize(("name", "doublings"), [(name, n) for name in UPSAMPLERS for n in (1, 2)])
def test_at_first_the_picture_is_the_small_one_enlarged_and_what_is_added_then_depends_on_all_inputs(name, doublings):
  net = build(UPSAMPLERS, dict(name=name, doublings=doublings, width=4, fine=4), "upsample")
  params = jax.jit(lambda key: net.init(key, 5, 2, 3))(jax.random.key(0))
  shapes = (2, 4, 4, 2), (2, 4, 4, 3), (2, 5)
  seen, shown, style = (np.random.default_rng(i).normal(size=s).astype(np.float32) for i, s in enumerate(shapes))
  opacity = np.ones((2, 4, 4, 1), np.float32)
  opacity[:, :, 2:] = 0
  apply = jax.jit(lambda params, *inputs: (net.apply(params, *inputs), enlarged(inputs[1], net.factor)))
  out, plain = apply(params, seen, shown, opacity, style)
  assert net.factor == 2**doublings and out.shape == (2, 4 * net.factor, 4 * net.factor, 3)
  np.testing.assert_array_equal(out, plain)
  moved = jax.tree.map(lambda a: a + 0.1 * np.random.default_rng(a.size).normal(size=a.shape).astype(np.float32), params)
  added = np.abs(np.subtract(*apply(moved, seen, shown, opacity, style))).max(axis=(0, 1, 3))
  assert added[0] > 1e-3 and added[-1] == 0  # nothing where nothing was seen
  loss = lambda params, seen, shown, opacity, style: jnp.sum(net.apply(params, seen, shown, opacity, style) ** 2)
  own, *others = jax.jit(jax.grad(loss, argnums=(0, 1, 2, 4)))(moved, seen, shown, opacity, style)
  for gradient in others:
    assert float(np.abs(gradient).reshape(2, -1).max(axis=1).min()) > 1e-3
  assert all(float(np.abs(layer["conv"]["w"]).max()) > 1e-4 for layer in own.values())
