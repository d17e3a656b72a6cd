"""Guidance: its ends, its line, and what it asks."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from fields3d.generative import SAMPLERS
from fields3d.generative.diffusion import diffusion
from fields3d.generative.guidance import guided
from fields3d.generative.noise import flow
from fields3d.networks.denoiser import DenoiserNetwork
from fields3d.tasks.priors import diffusion_prior


@pytest.mark.parametrize("scale, asked", [(0.0, ["free"]), (1.0, ["told"]), (3.0, ["free", "told"])])
def test_scale_0_is_unconditional_1_conditional_and_each_asks_only_what_it_needs(scale, asked):
  calls = []

  def net(name, value):
    def answer(x, c):
      calls.append(name)
      return value * x + c
    return answer

  x = np.asarray([1.0, 2.0])
  out = guided(net("told", 5.0), net("free", 2.0), scale)(x, 0.5)
  np.testing.assert_array_equal(out, (2 + scale * 3) * x + 0.5)
  assert calls == asked


@pytest.mark.parametrize("clip, expected", [(None, 6.0), (3.0, 3.0)])
def test_a_bound_holds_what_is_guided_and_not_what_goes_into_it(clip, expected):
  told = lambda label: -1.0 if label is None else 2.5  # with scale 2: 2.5 + 3.5
  net = DenoiserNetwork(init=lambda key, shape, classes, token_dim, self_condition: {},
                        apply=lambda params, x, c, label, tokens, key, previous: 0 * x + told(label))
  prior = diffusion_prior(diffusion(flow(), target="x0", clip=clip), net, SAMPLERS["ddim"](steps=3), guidance=2.0)
  found = prior.sample({}, jax.random.key(0), (4, 2), jnp.zeros(4, int), None)
  np.testing.assert_allclose(found, np.full((4, 2), expected), rtol=1e-5)
