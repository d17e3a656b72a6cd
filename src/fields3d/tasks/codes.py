"""Latent codes: bounded look-up, fitting to an unseen shape, new ones from a Gaussian, ways between two, draws of an encoder's."""

import dataclasses
from collections.abc import Callable, Mapping

import jax
import jax.numpy as jnp
import optax
from jaxtyping import Array, Float

from fields3d.core.config import Count, NonNegative, Positive
from fields3d.core.errors import UsageFault
from fields3d.core.numerics import norm


@dataclasses.dataclass(frozen=True)
class Reconstruction:
  """How the code of an unseen shape is fitted by Adam; the defaults are DeepSDF's.

  steps: updates. learning_rate: divided by 10 after half of them. samples: drawn anew for each step, half of them
  outside and half inside. std: of each entry of the code to begin with. penalty: weight of the mean squared entry.

  Source: reconstruct.py of the authors' DeepSDF code.
  """
  steps: Count = 800
  learning_rate: Positive = 5e-3
  samples: Count = 8000
  std: NonNegative = 0.01
  penalty: NonNegative = 1e-4


def within(codes: Float[Array, "*b d"], bound: float | None) -> Float[Array, "*b d"]:
  """Codes outside the ball of radius `bound` scaled onto it; others, and all where bound is None, as they are.

  The value is that of PyTorch's `Embedding(max_norm=bound)`, which also overwrites the stored code. Here the stored
  code may lie outside, by little: its radial gradient is 0 there, and `losses.regularizers.overshoot` draws it back.

  >>> within(jnp.array([3.0, 4.0]), 1.0).tolist() == within(jnp.array([6.0, 8.0]), 1.0).tolist()
  True
  """
  if bound is None or codes.shape[-1] == 0:
    return codes
  length = norm(codes)
  scale = jnp.where(length > bound, bound / (length + 1e-7), 1.0)
  return codes * scale[..., None]


def surface_of(batch: Mapping[str, jax.Array], enough: int) -> jax.Array:
  """The points on surfaces (r, n, 3) that an encoder reads.

  Raises:
    UsageFault: the batch has none; `enough` of them is the remedy.

  >>> surface_of({"surface": jnp.zeros((1, 2, 3))}, 1024).shape
  (1, 2, 3)
  """
  if "surface" not in batch:
    raise UsageFault("--config.data.surface", "the batches have no points on surfaces", f"set it, as to {enough}")
  return batch["surface"]


def between(params, extra, za: Float[Array, "*s"], zb: Float[Array, "*s"], t: float) -> Float[Array, "*s"]:
  """The predict function "interpolate" of codes of which the straight way from one to another has sense.

  >>> between(None, None, jnp.zeros(2), jnp.ones(2), 0.25).tolist()
  [0.25, 0.25]
  """
  del params, extra
  return (1 - t) * za + t * zb


def drawn(key: jax.Array, mean: Float[Array, "*s"], log_variance: Float[Array, "*s"] | None) -> Float[Array, "*s"]:
  """A draw of each code's normal distribution; the mean where it has none (None).

  >>> drawn(None, jnp.ones(2), None).tolist()
  [1.0, 1.0]
  """
  if log_variance is None:
    return mean
  return mean + jnp.exp(0.5 * log_variance) * jax.random.normal(key, mean.shape, mean.dtype)


def fit_code(loss: Callable, x: Float[Array, "n 3"], sdf: Float[Array, " n"], code_dim: int, settings: Reconstruction,
             key: jax.Array) -> Float[Array, " d"]:
  """The code that minimises loss(z, x, sdf) over samples of one shape, from any number of them, full or partial.

  Args:
    loss: (z, x (samples, 3), sdf (samples,)) -> scalar, a mean over samples.
    x, sdf: the observed samples, n >= 1. With none on one side, all are drawn from the other.
  """
  start_key, sample_key = jax.random.split(key)
  z = settings.std * jax.random.normal(start_key, (code_dim,), jnp.float32)
  half = settings.steps // 2
  rate = lambda step: settings.learning_rate * jnp.where(step < half, 1.0, 0.1)
  adam = optax.adam(rate)
  order = jnp.argsort(sdf < 0, stable=True)
  num_outside = jnp.sum(sdf >= 0)

  def penalised(z, x, sdf):
    return loss(z, x, sdf) + settings.penalty * jnp.mean(z * z)

  def update(carry, step):
    z, state = carry
    pick = order[balanced(jax.random.fold_in(sample_key, step), x.shape[0], num_outside, settings.samples)]
    updates, state = adam.update(jax.grad(penalised)(z, x[pick], sdf[pick]), state)
    return (optax.apply_updates(z, updates), state), None

  (z, _), _ = jax.lax.scan(update, (z, adam.init(z)), jnp.arange(settings.steps))
  return z


def balanced(key: jax.Array, n: int, num_outside: jax.Array, num: int) -> jax.Array:
  """`num` places of n, of which the first `num_outside` are outside: half from either side, or all from one."""
  num_inside = n - num_outside
  outside = jnp.where(num_inside == 0, True, jnp.arange(num) < num - num // 2) & (num_outside > 0)
  count = jnp.where(outside, num_outside, num_inside)
  place = jnp.minimum(jnp.floor(jax.random.uniform(key, (num,)) * count).astype(jnp.int32), count - 1)
  return jnp.where(outside, place, num_outside + place)


def shrunk_gaussian(codes: Float[Array, "n d"]) -> tuple[Float[Array, " d"], Float[Array, "d d"]]:
  """Mean and covariance of codes, the latter shrunk towards a multiple of the identity: far fewer codes than entries
  of the covariance are the rule.

  The covariance is (1 - r) S + r tr(S)/d I with S the empirical one and r the oracle-approximating shrinkage.

  Source: Chen, Wiesel, Eldar & Hero 2010, "Shrinkage algorithms for MMSE covariance estimation", equation 23.
  """
  n, d = codes.shape
  mean = jnp.mean(codes, axis=0)
  centred = codes - mean[None, :]
  empirical = jnp.matmul(centred.T, centred, precision=jax.lax.Precision.HIGHEST) / n
  trace, square = jnp.trace(empirical), jnp.sum(empirical * empirical)
  lower = (n + 1 - 2 / d) * (square - trace**2 / d)
  shrinkage = jnp.where(lower > 0, ((1 - 2 / d) * square + trace**2) / jnp.where(lower > 0, lower, 1.0), 1.0)
  shrinkage = jnp.minimum(shrinkage, 1.0)
  return mean, (1 - shrinkage) * empirical + shrinkage * trace / d * jnp.eye(d, dtype=codes.dtype)


def sample_gaussian(key: jax.Array, mean: Float[Array, " d"], covariance: Float[Array, "d d"],
                    num: int) -> Float[Array, "num d"]:
  """`num` draws from N(mean, covariance); a covariance of 0 gives the mean."""
  noise = jax.random.normal(key, (num, mean.shape[0]), mean.dtype)
  scale = jnp.maximum(jnp.trace(covariance) / mean.shape[0], 1e-30)
  # A jitter of 1e-6 of the mean variance keeps float32 rounding from making the factorisation fail.
  factor = jnp.linalg.cholesky(covariance / scale + 1e-6 * jnp.eye(mean.shape[0], dtype=mean.dtype))
  return mean[None, :] + jnp.sqrt(scale) * jnp.matmul(noise, factor.T, precision=jax.lax.Precision.HIGHEST)
