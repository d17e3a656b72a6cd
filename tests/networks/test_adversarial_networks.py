"""Modulated convolutions, plane networks and discriminators against oracles."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from fields3d.core.errors import UsageFault
from fields3d.losses.adversarial import critic_loss, generator_loss
from fields3d.networks import alexnet
from fields3d.networks.discriminator import discriminator, minibatch_deviation, spectral_scale
from fields3d.networks.equalised import dense, dense_columns, init_dense, init_mapping, leaky, mapping
from fields3d.networks.projected import projected
from fields3d.networks.style import modulated, plane_network


@pytest.fixture
def kernel():
  return jax.random.normal(jax.random.key(1), (3, 3, 6, 5))


def test_modulation_equals_a_convolution_with_each_pictures_own_kernel(kernel):
  """The oracle scales the kernel itself, picture by picture, as the paper's equations do."""
  x, style = jax.random.normal(jax.random.key(0), (3, 8, 8, 6)), jax.random.normal(jax.random.key(2), (3, 6))
  got = modulated(x, kernel, style)
  for i in range(3):
    own = kernel * style[i][None, None, :, None]
    own = own / jnp.sqrt(jnp.sum(own**2, axis=(0, 1, 2)) + 1e-8)[None, None, None]
    want = jax.lax.conv(x[i:i + 1].transpose(0, 3, 1, 2), own.transpose(3, 2, 0, 1), (1, 1), "SAME")
    np.testing.assert_allclose(got[i], want[0].transpose(1, 2, 0), rtol=1e-4, atol=1e-5)  # values of order 1


def test_demodulated_outputs_have_variance_one_whatever_the_style(kernel):
  x = jax.random.normal(jax.random.key(0), (4, 66, 66, 6))
  style = jnp.array([0.01, 1.0, 30.0, 3.0])[:, None] * jnp.exp(jax.random.normal(jax.random.key(2), (4, 6)))
  inner = modulated(x, kernel, style)[:, 1:-1, 1:-1]
  deviation = jnp.std(inner, axis=(1, 2))
  # 4096 places, of which neighbours share inputs: 5% is 3 standard deviations of the estimate and more
  np.testing.assert_allclose(deviation, 1.0, atol=0.05)
  plain = modulated(x, kernel, style, demodulate=False)[:, 1:-1, 1:-1]
  assert float(jnp.std(plain[2]) / jnp.std(plain[0])) > 100


def test_equalised_layers_keep_the_mean_square():
  x = jax.random.normal(jax.random.key(0), (512, 256))
  h = leaky(dense(init_dense(jax.random.key(1), 256, 2000), x))
  np.testing.assert_allclose(jnp.mean(h**2), 1.04, atol=0.02)  # 2 (1 + 0.2^2) / 2; a million entries, 2000 independent
  layer = init_dense(jax.random.key(9), 256, 7)
  np.testing.assert_allclose(dense_columns(layer, x.T), dense(layer, x).T, atol=1e-5)  # of order 1


def test_a_style_does_not_depend_on_the_length_of_its_code():
  params, z = init_mapping(jax.random.key(0), 8, 2), jax.random.normal(jax.random.key(1), (4, 8))
  np.testing.assert_allclose(mapping(params, 5 * z), mapping(params, z), rtol=1e-4, atol=1e-6)  # of order 1


def test_a_larger_plane_network_takes_a_smaller_ones_layers():
  small, large = (plane_network(6, size=size, width=4).init(jax.random.key(0), 5) for size in (8, 16))
  shapes = lambda tree: jax.tree.map(jnp.shape, tree)
  shared = {name for name in small if name in large}
  assert {"start", "at_4_0", "at_8_0"} == shared and all(shapes(small[n]) == shapes(large[n]) for n in shared)


def test_pictures_of_different_styles_differ_and_of_equal_ones_do_not():
  net = plane_network(6, size=8, width=4)
  out = net.apply(net.init(jax.random.key(0), 5), jnp.array([[1.0, 0, 0, 0, 0], [1.0, 0, 0, 0, 0], [0, 1.0, 0, 0, 0]]))
  np.testing.assert_array_equal(out[0], out[1])
  assert float(jnp.abs(out[0] - out[2]).max()) > 1e-3


def test_a_size_that_is_no_power_of_two_is_a_usage_fault():
  with pytest.raises(UsageFault, match="12 is not 4 times a power of two"):
    plane_network(6, size=12)
  with pytest.raises(UsageFault, match="24 x 24"):
    discriminator(width=4).init(jax.random.key(0), 24, 3)


@pytest.mark.parametrize("shape", [(3, 3, 8, 16), (4, 4, 16, 8), (40, 7), (1, 9)])
def test_the_spectral_scale_is_numpys_largest_singular_value(shape):
  w = np.random.default_rng(sum(shape)).normal(size=shape).astype(np.float32)
  want = np.linalg.svd(w.reshape(-1, shape[-1]), compute_uv=False)[0]
  np.testing.assert_allclose(spectral_scale(jnp.asarray(w), squarings=12), want, rtol=1e-4)
  assert 0.96 * want <= float(spectral_scale(jnp.asarray(w))) <= want * (1 + 1e-5)


def test_the_spectral_scales_gradient_is_the_outer_product_of_singular_vectors():
  w = np.random.default_rng(0).normal(size=(7, 5)).astype(np.float32)
  u, _, vt = np.linalg.svd(w)
  got = jax.grad(lambda w: spectral_scale(w, squarings=12))(jnp.asarray(w))
  np.testing.assert_allclose(got, np.outer(u[:, 0], vt[0]), atol=1e-3)  # entries of unit vectors' products


def test_under_spectral_norm_no_kernel_stretches_any_input():
  w = 30 * jax.random.normal(jax.random.key(0), (16, 16))
  scaled = np.asarray(w / spectral_scale(w))
  assert np.linalg.svd(scaled, compute_uv=False)[0] < 1.05
  net = discriminator(width=4, spectral_norm=True)
  params = net.init(jax.random.key(0), 8, 3)
  larger = jax.tree_util.tree_map_with_path(lambda path, a: 5 * a if path[-1].key == "w" else a, params)
  x = jax.random.uniform(jax.random.key(1), (4, 8, 8, 3))
  apply = jax.jit(net.apply)
  np.testing.assert_allclose(apply(larger, x), apply(params, x), rtol=1e-3, atol=1e-4)  # scores of order 1


def test_the_deviation_is_zero_for_equal_pictures_and_numpys_otherwise():
  x = np.random.default_rng(0).normal(size=(6, 2, 2, 3)).astype(np.float32)
  got = np.asarray(minibatch_deviation(jnp.asarray(x), 3))
  for i in range(2):  # pictures i, i + 2, i + 4 are a group
    np.testing.assert_allclose(got[i::2], x[i::2].std(axis=0).mean(), rtol=1e-4)
  assert float(minibatch_deviation(jnp.ones((4, 2, 2, 3)), 2).max()) < 2e-4  # the root of 1e-8


def test_a_condition_changes_scores_and_a_batch_of_equal_pictures_is_seen():
  net = discriminator(width=4, group=2)
  params = net.init(jax.random.key(0), 8, 3, 15)
  x = jax.random.uniform(jax.random.key(1), (4, 8, 8, 3))
  poses = jax.random.normal(jax.random.key(2), (4, 15))
  assert float(jnp.abs(net.apply(params, x, poses) - net.apply(params, x, poses[::-1])).max()) > 1e-3
  same = jnp.broadcast_to(x[:1], x.shape)
  alone = net.apply(params, jnp.stack([x[0], x[1], x[2], x[3]]))
  assert float(jnp.abs(net.apply(params, same)[0] - alone[0])) > 1e-4


@pytest.fixture
def untrained_alexnet(monkeypatch):
  rng, before, weights = np.random.default_rng(0), 3, {}
  for i, (size, width) in enumerate(zip((11, 5, 3, 3, 3), alexnet.WIDTHS, strict=True)):
    scale = np.float32(np.sqrt(2 / (size * size * before)))
    weights[f"conv{i}_kernel_hwio"] = scale * rng.standard_normal((size, size, before, width), np.float32)
    weights[f"conv{i}_bias"], before = np.zeros(width, np.float32), width
  monkeypatch.setattr(alexnet, "find_weights", lambda path: weights)


def test_pictures_of_which_alexnet_leaves_nothing_are_refused():
  with pytest.raises(UsageFault, match="enlarge: AlexNet sees 16 pixels a side, less than its 31; set it to 4"):
    projected(enlarge=2).init(jax.random.key(0), 8, 3)


@pytest.mark.slow
def test_a_projected_discriminator_trains_its_heads_and_leaves_alexnet_alone(untrained_alexnet):
  net = projected(width=4, widest=8, head=8)
  params = net.init(jax.random.key(0), 32, 8, 15)
  x, poses = jax.random.uniform(jax.random.key(1), (3, 32, 32, 8)), jax.random.normal(jax.random.key(2), (3, 15))
  scores = net.apply(params, x, poses)
  assert scores.shape == (3, 5)
  np.testing.assert_array_equal(scores[:, 0], net.penalised(params, x, poses))  # penalties see pixels alone
  assert (np.abs(scores - net.apply(params, x, poses[::-1])).max(axis=0) > 1e-4).all()  # every head knows the pose
  far = x.at[..., 3:].set(0)  # what AlexNet does not see: coverage, and the small picture
  np.testing.assert_array_equal(scores[:, 1:], net.apply(params, far, poses)[:, 1:])
  gradient = jax.grad(lambda p: critic_loss(net.apply(p, x, poses), net.apply(p, 1 - x, poses)))(params)
  frozen = {"alexnet": gradient["alexnet"], "mixing": [head.pop("mixing") for head in gradient["heads"].values()]}
  assert all(not np.any(leaf) for leaf in jax.tree.leaves(frozen))
  assert all(np.any(leaf) for leaf in jax.tree.leaves(gradient["heads"]))


@pytest.mark.parametrize("group, seen", [(8, True), (0, False)])
def test_a_head_sees_that_all_pictures_of_a_batch_are_alike_where_it_has_groups(untrained_alexnet, group, seen):
  net = projected(width=4, widest=8, head=8, group=group)
  params = net.init(jax.random.key(0), 32, 3)
  x = jax.random.uniform(jax.random.key(1), (4, 32, 32, 3))
  apply = jax.jit(net.apply)
  among, alike = apply(params, x)[0, 1:], apply(params, jnp.broadcast_to(x[:1], x.shape))[0, 1:]
  assert (jnp.abs(among - alike) > 1e-4).tolist() == [seen] * 4


def test_losses_of_several_critics_are_the_sum_of_each_ones():
  real, fake = jax.random.normal(jax.random.key(0), (2, 5, 3))
  for game in ("non_saturating", "wgan", "hinge"):
    alone = sum(critic_loss(real[:, i], fake[:, i], game) for i in range(3))
    np.testing.assert_allclose(critic_loss(real, fake, game), alone, rtol=1e-5)
    np.testing.assert_allclose(generator_loss(fake, game), sum(generator_loss(fake[:, i], game) for i in range(3)), rtol=1e-5)
