"""Sphere tracing: where rays first meet the zero set of a signed distance, and how that place moves with the field.

A step as long as the distance can skip nothing, so the first crossing is found, not some crossing, wherever the distance
is exact or falls short of the truth. Then a safeguarded Newton iteration polishes it. Derivatives do not go through the
steps: the root t of f(o + t d) = 0 obeys dt = -df / (grad f . d), by the field's parameters, origins and directions
alike, and to every order.
"""

import dataclasses
from collections.abc import Callable

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

Field = Callable[[Float[Array, "n 3"]], Float[Array, " n"]]

_LEAST_SLOPE = 1e-3  # of |grad f . d|: rays that graze more than that have no usable derivative, and are held to this


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class Hit:
  """Where n rays meet a surface.

  t (n,): along the ray; `far` where it misses. hit (n,) bool. steps (n,) int32: values of the field that were needed.
  """
  t: jax.Array
  hit: jax.Array
  steps: jax.Array


def sphere_trace(sdf: Field, origins: Float[Array, "n 3"], directions: Float[Array, "n 3"], near: Float[Array, " n"],
                 far: Float[Array, " n"], *, max_steps: int = 512, tolerance: float = 1e-5, lipschitz: float = 1.0,
                 refinements: int = 4) -> Hit:
  """The first point of each ray, from near to far, where the signed distance is not above 0.

  A ray that comes nearer to the surface than `tolerance` hits; a grazing one may then be called a hit that misses by as
  much. The polishing looks for the crossing within 100 tolerances of there: t is exact where |grad f . d| > 0.01. A ray
  that starts inside hits at near. One that has not arrived after max_steps is a miss: at an angle a to a flat face each
  step leaves 1 - sin(a) of the way.

  Args:
    sdf: each value of its own point alone. Parameters that it closes over are differentiated.
    directions: of unit length.
    lipschitz: a bound on the field's slope, by which steps are shortened. Where the slope is larger all the same, the
      surface may be stepped over; where the field is then negative, the crossing is bracketed and still found.
    refinements: Newton's steps, each of which squares the error on smooth fields, or halves the bracket.

  Source: Hart 1996, "Sphere tracing"; the derivative: Yariv et al. 2020 (IDR), equation 3, which is its first order.

  >>> ball = lambda x: jnp.sqrt(jnp.sum(x * x, axis=1)) - 1.0
  >>> ray = jnp.array([[0.0, 0.0, 3.0]]), jnp.array([[0.0, 0.0, -1.0]]), jnp.zeros(1), jnp.full(1, 9.0)
  >>> round(float(jax.grad(lambda r: sphere_trace(lambda x: ball(x) - r, *ray).t[0])(0.5)), 5)
  -1.0
  """
  pure, constants = jax.closure_convert(sdf, origins)
  still = jax.lax.stop_gradient
  along = lambda t: pure(still(origins) + t[:, None] * still(directions), *still(constants))
  found, low, high = _march(along, still(near), still(far), max_steps, tolerance, lipschitz)
  t = jnp.where(found.hit, _polish(along, found.t, low, high, refinements), far)
  surface = found.hit & (high > low)  # neither missed nor inside at once

  def residual(t):
    held = jnp.where(found.hit, near, far)
    return jnp.where(surface, pure(origins + t[:, None] * directions, *constants), t - held)

  def tangent(linear, y):
    slope = linear(jnp.ones_like(y))
    return y / jnp.where(surface, jnp.minimum(slope, -_LEAST_SLOPE), slope)

  return Hit(jax.lax.custom_root(residual, still(t), lambda f, t: t, tangent), found.hit, found.steps)


def _march(along: Callable, near: jax.Array, far: jax.Array, max_steps: int, tolerance: float,
           lipschitz: float) -> tuple[Hit, jax.Array, jax.Array]:
  """The unpolished hits, and the ends of the intervals in which the crossings are; of no length for rays inside at near."""
  def going(c):
    return (c["i"] < max_steps) & jnp.any(c["going"])

  def step(c):
    value = along(c["t"]) / lipschitz
    arrived = value < tolerance
    onward = c["t"] + value
    on = c["going"] & ~arrived & (onward <= far)
    return {"i": c["i"] + 1, "t": jnp.where(on, onward, c["t"]), "back": jnp.where(on, c["t"], c["back"]), "going": on,
            "hit": c["hit"] | (c["going"] & arrived), "crossed": c["crossed"] | (c["going"] & (value < 0)),
            "steps": c["steps"] + c["going"]}

  no = jnp.zeros(near.shape, bool)
  out = jax.lax.while_loop(going, step, {
      "i": jnp.zeros((), jnp.int32), "t": near, "back": near, "going": near < far, "hit": no, "crossed": no,
      "steps": jnp.zeros(near.shape, jnp.int32)})
  low = jnp.where(out["crossed"], out["back"], out["t"])
  high = jnp.where(out["crossed"], out["t"], out["t"] + 100 * tolerance)
  return Hit(out["t"], out["hit"], out["steps"]), low, high


def _polish(along: Callable, t: Float[Array, " n"], low: Float[Array, " n"], high: Float[Array, " n"],
            refinements: int) -> Float[Array, " n"]:
  """Newton's iteration, with a bisection wherever it would leave the interval."""
  for _ in range(refinements):
    value, slope = jax.jvp(along, (t,), (jnp.ones_like(t),))
    low, high = jnp.where(value > 0, t, low), jnp.where(value > 0, high, t)
    newton = t - value / jnp.where(slope < 0, slope, -1.0)
    inside = (slope < 0) & (newton >= low) & (newton <= high)
    t = jnp.where(inside, newton, (low + high) / 2)
  return t
