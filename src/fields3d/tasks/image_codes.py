"""The code of an unseen shape from posed pixels: many candidates looked at, a few followed, the best one fitted."""

import dataclasses
from collections.abc import Callable

import jax
import jax.numpy as jnp
import optax
from jaxtyping import Array, Float

from fields3d.core.config import Count, NonNegative, Positive
from fields3d.core.types import Rays
from fields3d.tasks.codes import balanced


@dataclasses.dataclass(frozen=True)
class ImageFit:
  """How the code of an unseen shape is fitted to pixels by Adam, in coordinates in which the codes have unit variance.

  candidates: training codes that are looked at, beside the mean. starts: the best of them, all followed for `explore` steps,
  of which the best one goes on for `steps`.
  learning_rate: in units of the codes' deviation; divided by 10 for the second half of `steps`.
  rays: pixels of a step, drawn anew, half of them covered and half not, where there are both.
  penalty: weight of the mean squared coordinate: a Gaussian prior. opacity: weight of the opacities' squared error; falls
  linearly to 0 over all steps, for outlines find the shape and colours refine it.
  """
  candidates: Count = 64
  starts: Count = 4
  explore: Count = 40
  steps: Count = 120
  learning_rate: Positive = 0.05
  rays: Count = 256
  penalty: NonNegative = 1e-3
  opacity: NonNegative = 1.0


@dataclasses.dataclass(frozen=True)
class Prior:
  """The Gaussian of the codes: z = mean + factor w, with w of unit variance. mean (d,), factor (d, d) lower triangular."""
  mean: jax.Array
  factor: jax.Array

  def code(self, w: Float[Array, "*b d"]) -> Float[Array, "*b d"]:
    d = w.shape[-1]
    moved = jnp.matmul(w.reshape(-1, d), self.factor.T, precision="highest").reshape(w.shape)
    return moved + self.mean.reshape((1,) * (w.ndim - 1) + (d,))

  def coordinates(self, z: Float[Array, "n d"]) -> Float[Array, "n d"]:
    return jax.scipy.linalg.solve_triangular(self.factor, (z - self.mean[None, :]).T, lower=True).T


def fit_image_code(render: Callable, prior: Prior, codes: Float[Array, "m d"], rays: Rays, rgb: Float[Array, "n 3"],
                   alpha: Float[Array, " n"], settings: ImageFit, key: jax.Array) -> Float[Array, " d"]:
  """The code whose pictures are nearest to the given pixels, a maximum a posteriori under the prior.

  Args:
    render: (z (s, d), rays (s, p), key) -> (colours over a white background (s, p, 3), opacities (s, p)).
    codes: the training shapes', of which candidates are taken, evenly spread.
    rays, rgb, alpha: n pixels of any number of views; rgb premultiplied by alpha.
  """
  look_key, judge_key, *stages = jax.random.split(key, 4)
  order = jnp.argsort(alpha > 0, stable=True)
  uncovered = jnp.sum(alpha <= 0)
  truth = rgb + (1 - alpha)[:, None]

  def drawn(key):
    return order[balanced(key, len(alpha), uncovered, settings.rays)]

  def errors(w, key, opacity):
    """The penalised loss of each row of w (s, d), on the same pixels."""
    place_key, render_key = jax.random.split(key)
    index = drawn(place_key)
    few = jax.tree.map(lambda a: jnp.broadcast_to(a[index], (len(w), *a[index].shape)), rays)
    shown, covered = render(prior.code(w), few, render_key)
    loss = jnp.mean((shown - truth[index][None]) ** 2, axis=(1, 2))
    loss += opacity * jnp.mean((covered - alpha[index][None]) ** 2, axis=1)
    return loss + settings.penalty * jnp.mean(w * w, axis=1)

  total = settings.explore + settings.steps
  pull = lambda step: settings.opacity * (1 - step / total)
  places = jnp.arange(min(settings.candidates, len(codes))) * len(codes) // min(settings.candidates, len(codes))
  w = jnp.concatenate([jnp.zeros((1, codes.shape[1])), prior.coordinates(codes[places])])
  looked = jax.lax.map(lambda one: errors(one[None], look_key, pull(0))[0], w)
  w = w[jnp.argsort(looked)[:settings.starts]]
  w = _descend(lambda w, key, step: errors(w, key, pull(step)), w, stages[0], 0, settings.explore,
               lambda step: settings.learning_rate)
  w = w[jnp.argmin(errors(w, judge_key, pull(settings.explore)))][None]
  fade = lambda step: settings.learning_rate * jnp.where(step < settings.steps // 2, 1.0, 0.1)
  w = _descend(lambda w, key, step: errors(w, key, pull(step)), w, stages[1], settings.explore, settings.steps, fade)
  return prior.code(w[0])


def _descend(errors: Callable, w: jax.Array, key: jax.Array, begin: int, steps: int, rate: Callable) -> jax.Array:
  """Adam on every row of w for itself: (w, key, step) -> errors (s,) summed, so that rows do not mix."""
  adam = optax.adam(rate)

  def update(carry, step):
    w, state = carry
    slope = jax.grad(lambda w: jnp.sum(errors(w, jax.random.fold_in(key, step), begin + step)))(w)
    updates, state = adam.update(slope, state)
    return (optax.apply_updates(w, updates), state), None

  (w, _), _ = jax.lax.scan(update, (w, adam.init(w)), jnp.arange(steps))
  return w
