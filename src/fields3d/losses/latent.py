"""Losses of autoencoders of shapes: what an encoder's distribution costs, and what distances and occupancy do."""

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float


def kl_to_normal(mean: Float[Array, "*n"], log_variance: Float[Array, "*n"]) -> Float[Array, ""]:
  """Mean over all entries of the divergence of N(mean, exp(log_variance)) from N(0, 1), in nats an entry. Exact.

  A mean over entries, as 3DShape2VecSet weighs it, and no sum: weights do not depend on how many entries there are.

  Source: Kingma & Welling 2014, appendix B.

  >>> float(kl_to_normal(jnp.zeros(3), jnp.zeros(3)))
  0.0
  """
  return 0.5 * jnp.mean(mean * mean + jnp.exp(log_variance) - 1 - log_variance)


def truncated_l1(predicted: Float[Array, "*n"], sdf: Float[Array, "*n"], clamp: float) -> Float[Array, ""]:
  """Mean |predicted - clamp(sdf)|: the truth is clamped to +-clamp, the prediction is not.

  Unlike `losses.surface.clamped_l1` it has a gradient everywhere: a network whose first values all lie outside the clamp
  learns all the same. What it learns is flat away from the surface.

  >>> float(truncated_l1(jnp.array([0.5]), jnp.array([0.25]), clamp=0.125))
  0.375
  """
  return jnp.mean(jnp.abs(predicted - jnp.clip(sdf, -clamp, clamp)))


def occupancy_cross_entropy(predicted: Float[Array, "*n"], sdf: Float[Array, "*n"], temperature: float, near: float,
                            near_weight: float) -> Float[Array, ""]:
  """Mean cross-entropy of "inside" by the logit -predicted / temperature, near points weighted by `near_weight`.

  The mean is over all points: a near point costs near_weight of what another costs, and the weights are not normalised.

  Args:
    predicted: negative inside. temperature: what a distance means as a logit. near: points with |sdf| up to it are near.

  Source: Zhang et al. 2023, "3DShape2VecSet", section 7 (volume points + 0.1 near-surface points); there the two kinds are
    drawn apart, here they are told apart by their distance.

  >>> round(float(occupancy_cross_entropy(jnp.zeros(1), jnp.ones(1), 0.1, 0.5, 0.1)), 4)
  0.6931
  """
  logit = -predicted / temperature
  entropy = jax.nn.softplus(logit) - logit * (sdf < 0)
  return jnp.mean(entropy * jnp.where(jnp.abs(sdf) <= near, near_weight, 1.0))
