"""Per-path learning rates, decay and clipping; optax is the oracle."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from fields3d.core.config import build
from fields3d.core.errors import UsageFault
from fields3d.training.optim import OPTIMISERS, adam, check_parts

PARAMS = {"decoder": {"kernel": jnp.ones((2, 2))}, "codes": jnp.ones((3,))}
GRADS = {"decoder": {"kernel": jnp.full((2, 2), 0.3)}, "codes": jnp.full((3,), -0.2)}


def updates(optimiser, steps=3):
  state, out = optimiser.transform.init(PARAMS), []
  for _ in range(steps):
    change, state = optimiser.transform.update(GRADS, state, PARAMS)
    out.append(change)
  return out


@pytest.mark.parametrize("name", OPTIMISERS)
def test_every_optimiser_builds_from_a_section_and_descends(name):
  optimiser = build(OPTIMISERS, {"name": name, "learning_rate": 0.01, "ema": 0.9, "clip_norm": 1.0, "weight_decay": 1e-4}, "o")
  for leaf, grad in zip(jax.tree.leaves(updates(optimiser)[0]), jax.tree.leaves(GRADS), strict=True):
    assert np.all(np.sign(leaf) == -np.sign(grad))


def test_adam_is_optax_adam():
  ours, theirs = adam(0.01), optax.adam(0.01)
  state = theirs.init(PARAMS)
  for change in updates(ours):
    expected, state = theirs.update(GRADS, state, PARAMS)
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-6), change, expected)


def test_a_path_takes_its_own_rate_and_zero_freezes_it():
  plain = updates(adam(0.01))[0]
  own = updates(adam(0.01, learning_rates={"codes": lambda step: 0.02}))[0]
  np.testing.assert_allclose(own["codes"], 2 * plain["codes"], rtol=1e-6)
  np.testing.assert_array_equal(own["decoder"]["kernel"], plain["decoder"]["kernel"])
  np.testing.assert_array_equal(updates(adam(0.01, learning_rates={"codes": lambda step: 0.0}))[0]["codes"], 0)


def test_deepsdf_halves_both_rates_every_500_epochs():
  section = {"name": "adam", "learning_rate": {"name": "staircase", "value": 5e-4, "factor": 0.5, "every": 500},
             "learning_rates": {"codes": {"name": "staircase", "value": 1e-3, "factor": 0.5, "every": 500}}}
  rates = build(OPTIMISERS, section, "optim.field").learning_rates
  np.testing.assert_allclose([rates["lr"](s) for s in (0, 499, 500, 1500)], [5e-4, 5e-4, 2.5e-4, 6.25e-5], rtol=1e-6)
  np.testing.assert_allclose(rates["lr/codes"](1000), 2.5e-4, rtol=1e-6)


@pytest.mark.parametrize("bad", [{"learning_rate": -1.0}, {"b1": 1.0}, {"clip_norm": 0.0}, {"ema": 2.0}, {"lr": 1e-3}])
def test_bad_settings_are_named(bad):
  with pytest.raises(UsageFault, match="optim.field"):
    build(OPTIMISERS, {"name": "adam", **bad}, "optim.field")


@pytest.mark.parametrize(("settings", "says"), [
    ({"learning_rates": {"coeds": 0.0}}, "--config.optim.field.learning_rates.coeds: .* 'coeds'; did you mean 'codes'"),
    ({"learning_rates": {"decoder/kernel": 0.0}}, "learning_rates.decoder/kernel: no parameter has the part"),
    ({"weight_decay": 0.1, "decay": ("codes", "kern")}, "--config.optim.field.decay: .* 'kern'; did you mean 'kernel'"),
])
def test_a_part_that_no_parameter_has_is_named(settings, says):
  with pytest.raises(UsageFault, match=says):
    check_parts("field", adam(**settings), PARAMS)
  check_parts("field", adam(learning_rates={"codes": 0.0, "decoder": 1.0}, decay=("kernel",)), PARAMS)
