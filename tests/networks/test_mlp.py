"""The perceptron against slow float64 loops, its initial weights, and what conditioning costs."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from fields3d.core.config import build
from fields3d.core.errors import UsageFault
from fields3d.networks import NETWORKS
from fields3d.networks.mlp import ACTIVATIONS, init_linear, mlp, weight


def effective(layer):
  """A layer's weight in float64, one column at a time."""
  layer = {name: np.asarray(value, np.float64) for name, value in layer.items()}
  if "w" in layer:
    return layer["w"]
  columns = [g * v / np.sqrt(sum(entry**2 for entry in v)) for g, v in zip(layer["g"], layer["v"].T, strict=True)]
  return np.stack(columns, axis=1)


def oracle(params, x, z, depth, skip, activation=lambda h: np.maximum(h, 0)):
  """Point by point in float64, with the code concatenated to every point: the textbook's form."""
  x, z = np.asarray(x, np.float64), np.asarray(z, np.float64)
  out = np.zeros((*x.shape[:2], np.asarray(params[f"layer_{depth}"]["b"]).size))
  for row in range(x.shape[0]):
    for i in range(x.shape[1]):
      inputs = np.concatenate([z[row], x[row, i]])
      h = inputs
      for k in range(depth):
        layer = params[f"layer_{k}"]
        h = np.concatenate([h, inputs]) if k == skip else h
        h = activation(h @ effective(layer) + np.asarray(layer["b"], np.float64))
      last = params[f"layer_{depth}"]
      out[row, i] = h @ effective(last) + np.asarray(last["b"], np.float64)
  return out


def random_inputs(rows=3, points=7, features=3, code_dim=5):
  keys = jax.random.split(jax.random.key(2), 2)
  return jax.random.normal(keys[0], (rows, points, features)), jax.random.normal(keys[1], (rows, code_dim))


@pytest.mark.parametrize("weight_norm", [False, True])
@pytest.mark.parametrize("skip, narrows", [(None, False), (1, False), (2, True), (3, True)])
def test_the_shared_form_equals_the_concatenated_one_in_float64(skip, narrows, weight_norm):
  network = mlp(width=24, depth=4, skip=skip, skip_narrows=narrows, weight_norm=weight_norm)
  params = network.init(jax.random.key(0), 3, 2, 5)
  if weight_norm:  # Lengths other than those of v, as after training.
    for i in range(4):
      params[f"layer_{i}"]["g"] = params[f"layer_{i}"]["g"] * jnp.linspace(0.5, 2, params[f"layer_{i}"]["g"].size)
  x, z = random_inputs()
  np.testing.assert_allclose(network.apply(params, x, z), oracle(params, x, z, 4, skip), rtol=1e-5, atol=1e-6)


def test_gradients_of_the_shared_form_equal_those_of_the_concatenated_one():
  network = mlp(width=16, depth=3, skip=1)
  params = network.init(jax.random.key(0), 3, 1, 5)
  x, z = random_inputs()

  def concatenated(params, z):
    inputs = jnp.concatenate([jnp.broadcast_to(z[:, None], (*x.shape[:2], z.shape[1])), x], axis=-1)
    h = inputs
    for k in range(3):
      h = jnp.concatenate([h, inputs], axis=-1) if k == 1 else h
      h = jax.nn.relu(h @ params[f"layer_{k}"]["w"] + params[f"layer_{k}"]["b"].reshape(1, 1, -1))
    return jnp.sum(jnp.sin(h @ params["layer_3"]["w"] + params["layer_3"]["b"].reshape(1, 1, -1)))

  ours = jax.grad(lambda p, z: jnp.sum(jnp.sin(network.apply(p, x, z))), argnums=(0, 1))(params, z)
  theirs = jax.grad(concatenated, argnums=(0, 1))(params, z)
  jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-6), ours, theirs)


def test_what_depends_on_the_code_alone_is_computed_once_per_row():
  network = mlp(width=64, depth=4, skip=2, skip_narrows=True)
  params = network.init(jax.random.key(0), 3, 1, 40)
  count = lambda points: sum_of_products(network, params, jnp.zeros((2, points, 3)), jnp.zeros((2, 40)))
  per_point = (count(200) - count(100)) / 200
  assert per_point == 3 * 64 + 64 * 21 + (21 + 3) * 64 + 64 * 64 + 64


def sum_of_products(network, params, x, z):
  """Multiply-adds in the matmuls of one call, read from its jaxpr."""
  jaxpr = jax.make_jaxpr(network.apply)(params, x, z).jaxpr
  total = 0
  for equation in jaxpr.eqns:
    if equation.primitive.name == "dot_general":
      (contracted, _), _ = equation.params["dimension_numbers"]
      total += equation.outvars[0].aval.size * equation.invars[0].aval.shape[contracted[0]]
  return total


def test_no_code_and_an_empty_code_and_no_rows_are_the_same():
  network = mlp(width=8, depth=2, skip=1)
  params = network.init(jax.random.key(0), 3, 2)
  x, _ = random_inputs()
  values = network.apply(params, x)
  np.testing.assert_array_equal(values, network.apply(params, x, jnp.zeros((3, 0))))
  np.testing.assert_allclose(values[1], network.apply(params, x[1]), rtol=1e-6)
  np.testing.assert_allclose(values[1], network.apply(params, x[1], jnp.zeros(0)), rtol=1e-6)


def test_weight_norm_is_the_identity_at_the_start_and_its_gradient_is_orthogonal_to_v():
  layer = init_linear(jax.random.key(0), 20, 6, weight_norm=True)
  np.testing.assert_allclose(weight(layer), layer["v"], rtol=1e-6)
  doubled = {**layer, "v": 2 * layer["v"]}
  np.testing.assert_allclose(weight(doubled), weight(layer), rtol=1e-6)
  gradient = jax.grad(lambda layer: jnp.sum(weight(layer) ** 3))(layer)
  np.testing.assert_allclose(jnp.sum(gradient["v"] * layer["v"], axis=0), 0, atol=1e-6)  # of gradients of size 0.1
  assert "g" not in init_linear(jax.random.key(0), 20, 6)


def test_initial_weights_and_biases_are_uniform_in_one_over_the_root_of_the_fan_in():
  layer = init_linear(jax.random.key(0), 400, 300)
  for values, num in ((layer["w"], 120_000), (layer["b"], 300)):
    bound = 1 / np.sqrt(400)
    assert float(jnp.max(jnp.abs(values))) <= bound
    assert abs(float(jnp.mean(values))) < 4 * bound / np.sqrt(3 * num)
    # The variance of the squared value of a uniform on +-1 is 4/45.
    assert abs(float(jnp.mean(values**2)) / bound**2 - 1 / 3) < 4 * np.sqrt(4 / 45 / num)


def test_a_skip_that_narrows_keeps_the_width_but_not_below_a_quarter():
  widths = lambda inputs: mlp(width=64, depth=3, skip=2, skip_narrows=True).init(jax.random.key(0), 3, 1, inputs - 3)
  assert widths(20)["layer_1"]["w"].shape == (64, 44) and widths(20)["layer_2"]["w"].shape == (64, 64)
  assert widths(60)["layer_1"]["w"].shape == (64, 16) and widths(60)["layer_2"]["w"].shape == (76, 64)


def test_dropout_is_off_without_a_key_and_the_same_for_the_same_key():
  network = mlp(width=32, depth=2, dropout=0.5)
  params = network.init(jax.random.key(0), 3, 1)
  x, _ = random_inputs()
  plain = mlp(width=32, depth=2).apply(params, x)
  np.testing.assert_array_equal(network.apply(params, x), plain)
  one, again, other = (network.apply(params, x, None, jax.random.key(k)) for k in (1, 1, 2))
  np.testing.assert_array_equal(one, again)
  assert not np.allclose(one, other) and not np.allclose(one, plain)


def test_dropout_leaves_the_expected_value_of_one_layer():
  network = mlp(width=512, depth=1, dropout=0.2)
  params = network.init(jax.random.key(0), 3, 1)
  x = jnp.asarray([[0.3, -0.5, 0.2]])
  draws = jax.vmap(lambda key: network.apply(params, x, None, key)[0, 0])(jax.random.split(jax.random.key(1), 500))
  exact = float(network.apply(params, x)[0, 0])
  assert abs(float(jnp.mean(draws)) - exact) < 4 * float(jnp.std(draws)) / np.sqrt(500)


@pytest.mark.parametrize("name, closed", [
    ("relu", lambda h: np.maximum(h, 0)), ("tanh", np.tanh), ("sine", lambda h: np.sin(30 * h)),
    ("softplus", lambda h: np.logaddexp(0, 100 * h) / 100), ("silu", lambda h: h / (1 + np.exp(-h)))])
def test_activations_have_their_closed_forms(name, closed):
  h = np.linspace(-3, 3, 41)
  np.testing.assert_allclose(ACTIVATIONS[name](jnp.asarray(h, jnp.float32)), closed(h), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("section, says", [
    (dict(name="mlp", skip=8), "not a hidden layer"),
    (dict(name="mlp", activation="rellu"), "relu"),
    (dict(name="mlp", dropout=1.0), "out of range"),
    (dict(name="mlp", compute="bf16"), "bfloat16")])
def test_impossible_networks_are_refused(section, says):
  with pytest.raises(UsageFault, match=says):
    build(NETWORKS, section)


def test_bfloat16_stays_near_float32():
  x, z = random_inputs()
  params = mlp(width=64, depth=3).init(jax.random.key(0), 3, 1, 5)
  exact = mlp(width=64, depth=3).apply(params, x, z)
  rough = mlp(width=64, depth=3, compute="bfloat16").apply(params, x, z)
  assert rough.dtype == jnp.float32
  np.testing.assert_allclose(rough, exact, atol=0.02)  # of values near 0.3
