"""Denoisers: 0 at the start, equivariant, conditioned by label, tokens and level, the same with and without remat."""

import functools
import inspect

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from fields3d.core.config import build
from fields3d.core.errors import UsageFault
from fields3d.networks import DENOISERS
from fields3d.networks.denoiser import DenoiserNetwork, waves
from fields3d.networks.plane_transformer import from_plane_patches, places_of_patches, plane_patches
from fields3d.networks.point_voxels import from_voxels, to_voxels
from fields3d.networks.voxel_transformer import cube_of_places, from_patches, patches, waves_of_places

SHAPES = {"plane_transformer": (12, 2), "pointwise": (6, 3), "pvcnn": (12, 4), "residual_mlp": (6,), "set_transformer": (5, 3),
          "voxel_transformer": (4, 4, 4, 2), "voxel_unet": (4, 4, 4, 2)}  # a row per entry of the table
BLOCKS = dict(width=16, depth=2, heads=2)
SIZES = {"pointwise": dict(widths=(16, 24)),
         "pvcnn": dict(width=16, down=(16,), up=(16,), down_blocks=(1,), up_blocks=(0,), resolutions=(3,), centres=(4,),
                       radii=(1.0,), neighbours=3, attend=(), heads=2, dropout=0.0),
         "residual_mlp": BLOCKS, "set_transformer": BLOCKS, "plane_transformer": BLOCKS | dict(patch=1),
         "voxel_transformer": BLOCKS | dict(patch=2),
         "voxel_unet": dict(width=16, multiples=(1, 2), heads=2)}
SETS = ["pointwise", "pvcnn", "set_transformer"]  # that know no order
CLASSES, TOKEN_DIM, ROWS = 3, 4, 2


@functools.cache
def network(name, **settings):
  net = build(DENOISERS, dict(name=name) | SIZES[name] | settings)
  return DenoiserNetwork(jax.jit(net.init, static_argnums=(1, 2, 3, 4)), jax.jit(net.apply))


def having(setting):
  return [name for name in SHAPES if setting in inspect.signature(DENOISERS[name]).parameters]


def shaken(params):
  """Parameters of these shapes as after training: none of them 0."""
  draw = np.random.default_rng(9)
  return jax.tree.map(lambda x: jnp.asarray(0.4 * draw.standard_normal(x.shape), jnp.float32), params)


def inputs(name):
  draw = np.random.default_rng(1)
  return (jnp.asarray(draw.standard_normal((ROWS, *SHAPES[name])), jnp.float32), jnp.asarray([0.2, 0.7]),
          jnp.asarray([0, 2]), jnp.asarray(draw.standard_normal((ROWS, 7, TOKEN_DIM)), jnp.float32))


def made(name, **settings):
  net = network(name, **settings)
  return net, shaken(jax.eval_shape(lambda key: net.init(key, SHAPES[name], CLASSES, TOKEN_DIM), jax.random.key(0)))


def test_the_table_and_these_tests_name_the_same_networks():
  assert set(SHAPES) == set(DENOISERS)


@pytest.mark.parametrize("name", SHAPES)
def test_a_new_network_says_zero_and_its_last_layer_has_a_gradient(name):
  net = network(name)
  params = net.init(jax.random.key(0), SHAPES[name], CLASSES, TOKEN_DIM)
  x, c, label, tokens = inputs(name)
  np.testing.assert_array_equal(net.apply(params, x, c, label, tokens), np.zeros(x.shape))
  grads = jax.jit(jax.grad(lambda p: jnp.sum(net.apply(p, x, c, label, tokens) * x)))(params)
  assert float(jnp.max(jnp.abs(grads["out"]["w"]))) > 0.1


@pytest.mark.parametrize("name", SHAPES)
def test_every_condition_is_heard_and_no_row_hears_another(name):
  net, params = made(name)
  x, c, label, tokens = inputs(name)
  base = net.apply(params, x, c, label, tokens)
  assert base.shape == x.shape
  changed = dict(x=(x.at[0].add(1), c, label, tokens), c=(x, c.at[0].add(0.01), label, tokens),
                 label=(x, c, label.at[0].set(1), tokens), tokens=(x, c, label, tokens.at[0, 3].add(1)))
  for what, given in changed.items():
    difference = np.abs(net.apply(params, *given) - base)
    assert difference[0].max() > 1e-3, what
    assert difference[1].max() < 1e-5, what  # rounding of values near 1


@pytest.mark.parametrize("name", SHAPES)
def test_no_label_is_minus_one_and_no_tokens_are_tokens_of_zero(name):
  net, params = made(name)
  x, c, label, tokens = inputs(name)
  none = net.apply(params, x, c, None, None)
  np.testing.assert_array_equal(net.apply(params, x, c, jnp.asarray([-1, -1]), None), none)
  np.testing.assert_allclose(net.apply(params, x, c, None, 0 * tokens), none, rtol=1e-4, atol=1e-5)  # values near 1
  for given in ([0, -1], [1, -1], [2, -1]):
    out = net.apply(params, x, c, jnp.asarray(given), None)
    assert np.abs(out[0] - none[0]).max() > 1e-3
    np.testing.assert_allclose(out[1], none[1], rtol=1e-5, atol=1e-6)  # values near 1


@pytest.mark.slow
@pytest.mark.parametrize("name", having("remat"))
def test_remat_changes_neither_values_nor_gradients(name):
  x, c, label, tokens = inputs(name)
  _, params = made(name)

  def loss(params, net):
    return jnp.sum(net.apply(params, x, c, label, tokens) ** 2)

  out = []
  for remat in (False, True):
    net = network(name, remat=remat)
    out.append(jax.jit(jax.value_and_grad(loss), static_argnums=1)(params, net))
    text = str(jax.make_jaxpr(loss, static_argnums=1)(params, net))
    assert ("checkpoint" in text or "remat" in text) == remat  # the primitive's names over jax's versions
  # rtol is against the largest gradient; sums in another order.
  jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-4 * np.abs(a).max() + 1e-6), *out)


@pytest.mark.parametrize("name", SHAPES)
def test_bfloat16_rounds_factors_and_returns_float32(name):
  x, c, label, tokens = inputs(name)
  exact, rounded = (made(name, compute=compute)[0].apply(made(name)[1], x, c, label, tokens)
                    for compute in ("float32", "bfloat16"))
  assert rounded.dtype == jnp.float32
  difference = np.abs(exact - rounded).max() / np.abs(exact).max()
  assert 1e-5 < difference < 0.1  # 2^-8 a factor, over two blocks


@pytest.mark.parametrize("name", having("dropout"))
def test_dropout_needs_a_key_and_keeps_its_layers_apart(name):
  net, params = made(name, dropout=0.5)
  x, c, label, tokens = inputs(name)
  plain = made(name)[0].apply(params, x, c, label, tokens)
  np.testing.assert_array_equal(net.apply(params, x, c, label, tokens), plain)
  one, other = (net.apply(params, x, c, label, tokens, jax.random.key(k)) for k in (0, 1))
  assert np.abs(one - plain).max() > 1e-3 and np.abs(one - other).max() > 1e-3


@pytest.mark.parametrize("name", SHAPES)
def test_self_conditioning_adds_parameters_only_where_it_is_set(name):
  x, c, label, _ = inputs(name)
  net = network(name)
  off, on = (jax.eval_shape(lambda key, on=on: net.init(key, SHAPES[name], CLASSES, 0, on), jax.random.key(0))
             for on in (False, True))
  off, on = shaken(off), shaken(on)
  assert set(on["inputs"]) - set(off["inputs"]) == {"previous"}
  zero, some = (net.apply(on, x, c, label, None, None, previous) for previous in (0 * x, x))
  assert np.abs(zero - some).max() > 1e-3
  for params, previous in ((off, x), (on, None)):
    with pytest.raises(UsageFault, match="set in one"):
      net.apply(params, x, c, label, None, None, previous)
  with pytest.raises(UsageFault, match="token_dim"):
    net.apply(off, x, c, label, jnp.zeros((ROWS, 1, 2)))


@pytest.mark.parametrize("name", SETS)
def test_a_permutation_of_the_set_permutes_the_answer_and_one_of_the_tokens_changes_nothing(name):
  net, params = made(name)
  x, c, label, tokens = inputs(name)
  order = np.random.default_rng(3).permutation(x.shape[1])
  base = net.apply(params, x, c, label, tokens)
  np.testing.assert_allclose(net.apply(params, x[:, order], c, label, tokens), base[:, order], rtol=1e-4, atol=1e-4)
  np.testing.assert_allclose(net.apply(params, x, c, label, tokens[:, ::-1]), base, rtol=1e-4, atol=1e-4)
  assert np.abs(base - base[:, order]).max() > 1e-2  # values of 1 to 10


def test_pointwise_points_hear_the_code_and_not_each_other():
  net, params = made("pointwise")
  x, c, label, tokens = inputs("pointwise")
  difference = np.abs(net.apply(params, x.at[:, 2].add(1), c, label, tokens) - net.apply(params, x, c, label, tokens))
  assert difference[:, 2].max() > 1e-2
  np.testing.assert_array_equal(np.delete(difference, 2, axis=1), 0)


def test_a_cloud_is_denoised_by_way_of_its_voxels_without_order():
  net = network("voxel_transformer", resolution=4)
  shape = jax.eval_shape(lambda key: net.init(key, (6, 3), CLASSES), jax.random.key(0))
  params, (x, c, label, _) = shaken(shape), inputs("pointwise")
  order = np.asarray([3, 0, 4, 1, 2, 5])
  base = net.apply(params, x, c, label, None)
  np.testing.assert_allclose(net.apply(params, x[:, order], c, label, None), base[:, order], rtol=1e-4, atol=1e-4)
  assert np.abs(base - base[:, order]).max() > 1e-2  # values of 1 to 10
  voxels, where = to_voxels(x, x, 4)
  np.testing.assert_allclose(from_voxels(net.apply(params, voxels, c, label, None), where), base, rtol=1e-4, atol=1e-4)


def test_patches_hold_cubes_of_voxels_and_are_told_apart_by_their_places():
  voxels = np.random.default_rng(0).standard_normal((2, 6, 6, 6, 2)).astype(np.float32)
  found = patches(jnp.asarray(voxels), 3)
  np.testing.assert_array_equal(found[1, 5], voxels[1, 3:, :3, 3:].ravel())  # 5 is (1, 0, 1) of 2^3
  np.testing.assert_array_equal(from_patches(found, 3), voxels)
  places = waves_of_places(cube_of_places(4), 24)
  distance = np.linalg.norm(places[:, None] - places, axis=-1)
  assert distance[~np.eye(64, dtype=bool)].min() > 0.5


def test_patches_of_planes_hold_squares_and_are_told_apart_by_their_places():
  planes = np.random.default_rng(0).standard_normal((2, 3, 6, 6, 4)).astype(np.float32)  # rows count the second coordinate
  cells = jnp.asarray(planes.reshape(2, 108, 4))
  found = plane_patches(cells, 3)
  np.testing.assert_array_equal(found[1, 4 + 1], planes[1, 1, :3, 3:].ravel())  # of the plane (x, z): x second half, z first
  np.testing.assert_array_equal(from_plane_patches(found, 3), cells)
  places = places_of_patches(2)
  assert places[4 + 1].tolist() == [1, 2, 0] and len(np.unique(places, axis=0)) == 12


@pytest.mark.parametrize("shape, match", [((27, 4), "do not divide"), ((12, 12, 3), "three planes"), ((13, 4), "three planes")])
def test_what_a_plane_transformer_cannot_cut_into_patches_is_a_fault(shape, match):
  with pytest.raises(UsageFault, match=match):
    build(DENOISERS, dict(name="plane_transformer")).init(jax.random.key(0), shape, 0)


@pytest.mark.parametrize("shape, match", [((6, 6, 6, 1), "do not divide"), ((4, 4, 8, 1), "cubes"), ((8,), "cubes")])
def test_what_a_voxel_transformer_cannot_cut_into_patches_is_a_fault(shape, match):
  with pytest.raises(UsageFault, match=match):
    build(DENOISERS, dict(name="voxel_transformer")).init(jax.random.key(0), shape, 0)


@pytest.mark.parametrize("shape", [(6, 6, 6, 1), (4, 4, 8, 1), (8, 3)])
def test_what_a_voxel_unet_cannot_halve_twice_is_a_fault(shape):
  with pytest.raises(UsageFault, match="halved 2 times"):
    build(DENOISERS, dict(name="voxel_unet", multiples=(1, 1, 1))).init(jax.random.key(0), shape, 0)


@pytest.mark.parametrize("name, shape, match", [("residual_mlp", (8, 3), "vectors"), ("residual_mlp", (8, 8, 8, 1), "vectors"),
                                                ("set_transformer", (8,), "sets"), ("set_transformer", (8, 8, 8, 1), "sets")])
def test_data_of_another_kind_are_a_fault(name, shape, match):
  with pytest.raises(UsageFault, match=match):
    build(DENOISERS, dict(name=name)).init(jax.random.key(0), shape, 0)


def test_levels_a_thousandth_apart_look_different_and_a_unit_apart_unrelated():
  near, far = waves(jnp.asarray([0.4, 0.401]), 64), waves(jnp.asarray([0.4, 1.4]), 64)
  assert 0.1 < float(jnp.linalg.norm(near[0] - near[1])) < float(jnp.linalg.norm(far[0] - far[1]))
  np.testing.assert_allclose(jnp.sum(near**2, axis=1), 32, rtol=1e-5)


@pytest.mark.parametrize("name", having("heads"))
def test_heads_that_do_not_divide_the_width_are_a_fault(name):
  with pytest.raises(UsageFault, match="divisor"):
    network(name, heads=3)
