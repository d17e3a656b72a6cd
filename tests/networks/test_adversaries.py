"""Generators and critics of voxels, clouds and codes, and the convolutions under them, against oracles."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from fields3d.core.config import build
from fields3d.core.errors import UsageFault
from fields3d.networks import CRITICS, GENERATORS
from fields3d.networks.volumes import doubled, halved, normalised

MADE = {"voxel_generator": (dict(size=8, width=4), (8, 8, 8, 1)), "point_generator": (dict(points=6, widths=(8, 4)), (6, 3)),
        "code_generator": (dict(dim=5, widths=(4,)), (5,))}  # a row per entry of the table
JUDGED = {"voxel_critic": (dict(width=4, norm="none"), (8, 8, 8, 1)), "point_critic": (dict(widths=(8, 4), dense=(4,)), (6, 3)),
          "code_critic": (dict(widths=(4,)), (5,))}
PAPER = {"voxel_generator": ({}, (64, 64, 64, 1), {"start": (200, 32768), "to_8": (512, 256), "to_64": (64, 1)}),
         "voxel_critic": ({}, (64, 64, 64, 1), {"to_32": (1, 64), "to_4": (256, 512), "score": (32768, 1)}),
         "point_generator": ({}, (2048, 3), {"layer_0": (200, 64), "layer_4": (1024, 6144)}),
         "point_critic": ({}, (2048, 3), {"points/layer_4": (256, 512), "dense/layer_0": (512, 128), "dense/layer_2": (64, 1)})}


def normal(*shape, seed=0):
  return jnp.asarray(np.random.default_rng(seed).normal(size=shape), jnp.float32)


@pytest.fixture(scope="module")
def volume():
  return normal(2, 8, 8, 8, 3), normal(4, 4, 4, 3, 5, seed=1)


def test_halving_equals_xlas_convolution_of_stride_2(volume):
  x, kernel = volume
  want = jax.lax.conv_general_dilated(x, kernel, (2, 2, 2), [(1, 1)] * 3, dimension_numbers=("NDHWC", "DHWIO", "NDHWC"))
  np.testing.assert_allclose(halved(x, kernel), want, rtol=1e-4, atol=1e-4)  # sums of 192 products of order 1


def test_doubling_is_the_transpose_of_halving(volume):
  x, kernel = volume
  y = normal(2, 4, 4, 4, 5, seed=2)
  back = doubled(y, jnp.swapaxes(kernel, -1, -2))
  assert back.shape == x.shape
  want = jax.linear_transpose(lambda x: halved(x, kernel), x)(y)[0]
  np.testing.assert_allclose(back, want, rtol=1e-4, atol=1e-4)  # sums of 40 products of order 1


def test_a_batch_norm_is_over_batch_and_places_and_a_layer_norm_over_a_row():
  x = jnp.array([3.0, 0, -1]).reshape(1, 1, 1, 1, 3) + 2 * normal(4, 2, 2, 2, 3)
  params = {"scale": jnp.array([1.0, 2, 3]), "shift": jnp.array([0.0, 1, 0])}
  for norm, axes in (("batch", (0, 1, 2, 3)), ("layer", (1, 2, 3, 4))):
    wide = np.asarray(x, np.float64)
    want = (wide - wide.mean(axes, keepdims=True)) / wide.std(axes, keepdims=True) * [1, 2, 3] + [0, 1, 0]
    np.testing.assert_allclose(normalised(params, x, norm), want, rtol=1e-4, atol=1e-4)  # of order 1; 1e-5 on the variance
  np.testing.assert_array_equal(normalised(params, x, "none"), x)


def test_the_tables_and_these_tests_name_the_same_networks():
  assert set(MADE) == set(GENERATORS) and set(JUDGED) == set(CRITICS)


@pytest.mark.parametrize("name", MADE)
def test_a_generator_makes_data_of_its_shape_that_depends_on_the_code_alone(name):
  settings, shape = MADE[name]
  net = build(GENERATORS, dict(name=name, **settings))
  params = net.init(jax.random.key(0), 7)
  z = normal(3, 7)
  made = jax.jit(net.apply)(params, z)
  assert net.shape == shape and made.shape == (3, *shape)
  assert float(jnp.abs(made[0] - made[1]).max()) > 1e-3
  slopes = jax.jit(jax.grad(lambda p: jnp.sum(net.apply(p, z) ** 2)))(params)
  assert all(np.abs(slope).max() > 0 for slope in jax.tree.leaves(slopes))
  if name != "voxel_generator":
    np.testing.assert_allclose(net.apply(params, z[:1])[0], made[0], rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("name", JUDGED)
def test_a_critic_scores_each_row_alone_and_its_gradient_penalty_has_a_gradient(name):
  settings, shape = JUDGED[name]
  net = build(CRITICS, dict(name=name, **settings))
  params = net.init(jax.random.key(0), shape)
  x = normal(3, *shape)
  scores = jax.jit(net.apply)(params, x)
  assert scores.shape == (3,)
  np.testing.assert_allclose(net.apply(params, x[1:2])[0], scores[1], rtol=1e-4, atol=1e-6)

  def penalty(scale):
    moved = jax.tree.map(lambda w: w * scale, params)
    slopes = jax.grad(lambda x: jnp.sum(net.apply(moved, x)))(x)
    return jnp.mean((jnp.sqrt(jnp.sum(slopes.reshape(3, -1) ** 2, axis=1)) - 1) ** 2)

  differentiated = jax.jit(jax.value_and_grad(penalty))
  (value, slope), (low, _), (high, _) = (differentiated(scale) for scale in (1.0, 0.99, 1.01))
  assert value > 0
  np.testing.assert_allclose(slope, (high - low) / 0.02, rtol=2e-2)  # smooth in the scale where no rectifier switches


@pytest.mark.parametrize("name", PAPER)
def test_the_defaults_are_the_papers_layers(name):
  settings, shape, kernels = PAPER[name]
  net = build(GENERATORS if name in GENERATORS else CRITICS, dict(name=name, **settings))
  of = 200 if name in GENERATORS else shape
  params = jax.eval_shape(lambda key: net.init(key, of), jax.random.key(0))
  for path, ends in kernels.items():
    layer = params
    for part in path.split("/"):
      layer = layer[part]
    assert layer["w"].shape[-2:] == ends, path


def test_an_order_of_points_is_nothing_to_their_critic():
  net = build(CRITICS, dict(name="point_critic", widths=(8, 4), dense=(4,)))
  params, x = net.init(jax.random.key(0), (6, 3)), normal(2, 6, 3)
  np.testing.assert_array_equal(net.apply(params, x[:, ::-1]), net.apply(params, x))


def test_a_critic_of_points_without_layers_for_each_judges_their_maximum():
  net = build(CRITICS, dict(name="point_critic", widths=(), dense=(4,)))
  params, x = net.init(jax.random.key(0), (6, 3)), normal(2, 6, 3)
  np.testing.assert_allclose(net.apply(params, x), net.apply(params, x.max(1, keepdims=True)), rtol=1e-6)


def test_under_spectral_norm_scores_do_not_grow_with_the_kernels():
  net = build(CRITICS, dict(name="voxel_critic", width=4, norm="spectral"))
  params, x = net.init(jax.random.key(0), (8, 8, 8, 1)), normal(2, 8, 8, 8, 1)
  larger = jax.tree_util.tree_map_with_path(lambda path, a: 5 * a if path[-1].key == "w" else a, params)
  np.testing.assert_allclose(net.apply(larger, x), net.apply(params, x), rtol=1e-4, atol=1e-5)  # scores of order 1


def test_a_critic_told_of_deviations_tells_one_grid_again_and_again_from_the_same_among_others():
  net = build(CRITICS, dict(name="voxel_critic", width=4, norm="none", group=16))
  params = net.init(jax.random.key(0), (8, 8, 8, 1))
  grids = normal(4, 8, 8, 8, 1)
  same = net.apply(params, jnp.repeat(grids[:1], 4, axis=0))
  assert abs(float(same[0] - net.apply(params, grids)[0])) > 1e-3
  deaf = params["score"]["w"].reshape(64, 8, 1).at[:, 4:].set(0).reshape(512, 1)  # to the deviations, behind each place's features
  alone = params | {"score": params["score"] | {"w": deaf}}
  np.testing.assert_allclose(net.apply(alone, grids)[0], net.apply(alone, jnp.repeat(grids[:1], 4, axis=0))[0], rtol=1e-4, atol=1e-5)


def test_voxels_are_shares_of_full_and_empty():
  net = build(GENERATORS, dict(name="voxel_generator", size=8, width=4))
  made = net.apply(net.init(jax.random.key(0), 3), 50 * normal(2, 3))
  assert 0 <= float(made.min()) < 0.5 < float(made.max()) <= 1


@pytest.mark.parametrize("name, shape", [("voxel_critic", (8, 3)), ("voxel_critic", (8,)), ("point_critic", (8, 8, 8, 1)),
                                         ("point_critic", (8,)), ("code_critic", (8, 3)), ("code_critic", (8, 8, 8, 1))])
def test_data_of_another_kind_are_a_usage_fault(name, shape):
  with pytest.raises(UsageFault, match=name):
    build(CRITICS, dict(name=name)).init(jax.random.key(0), shape)


def test_a_grid_that_is_no_power_of_two_is_a_usage_fault():
  with pytest.raises(UsageFault, match="12"):
    build(GENERATORS, dict(name="voxel_generator", size=12))
  with pytest.raises(UsageFault, match="24"):
    build(CRITICS, dict(name="voxel_critic")).init(jax.random.key(0), (24, 24, 24, 1))
