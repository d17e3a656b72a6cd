"""Guidance: its ends, its line, and what it asks."""

import numpy as np
import pytest

from fields3d.generative.guidance import guided


@pytest.mark.parametrize("scale, asked", [(0.0, ["free"]), (1.0, ["told"]), (3.0, ["free", "told"])])
def test_scale_0_is_unconditional_1_conditional_and_each_asks_only_what_it_needs(scale, asked):
  calls = []

  def denoiser(name, value):
    def denoise(x, t):
      calls.append(name)
      return value * x + t
    return denoise

  x = np.asarray([1.0, 2.0])
  out = guided(denoiser("told", 5.0), denoiser("free", 2.0), scale)(x, 0.5)
  np.testing.assert_array_equal(out, (2 + scale * 3) * x + 0.5)
  assert calls == asked
