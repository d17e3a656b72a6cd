"""The approximate earth mover's distances of published tables of point-cloud generation, as their kernels define them.

Mass flows between two clouds in rounds, by weights exp(-level |x - y|^2) of falling level, each round moving what is
left of both; the cost of the resulting plan is the distance. It is no bound of the optimum: a plan that has moved all
mass costs more, one that has not may cost less. It depends on the unit of length, and on which cloud comes first. Use
it to stand beside published figures; `transport.emd` is the distance itself.
"""

import dataclasses
import functools
from collections.abc import Callable, Mapping

import jax
import jax.numpy as jnp
import numpy as np

from fields3d.core.errors import UsageFault, nearest
from fields3d.metrics.clouds import checked_clouds, middle

BLOCK = 8  # pairs of one call
_TINY = 1e-9


@dataclasses.dataclass(frozen=True)
class Annealing:
  """levels: per squared unit of length, in order. squared: whether a pair costs its squared distance. mean: whether
  the cost is divided by the number of points. definition: in words."""
  levels: tuple[float, ...]
  squared: bool
  mean: bool
  definition: str


_FALLING = tuple(4.0**power for power in range(7, -2, -1))
ANNEALINGS: Mapping[str, Annealing] = {
    "pointflow": Annealing(_FALLING, False, True,
                           "mean distance under a plan annealed over levels 4^7 to 4^-1, as PointFlow's kernel; mass "
                           "that no level moved costs nothing"),
    "pvd": Annealing((*_FALLING, 0.0), True, False,
                     "sum of squared distances under a plan annealed over levels 4^7 to 4^-1 and 0, as PVD's kernel"),
}


def annealed_pairwise(a: np.ndarray, b: np.ndarray, name: str, *,
                      progress: Callable[[int, int], None] | None = None) -> np.ndarray:
  """The annealed distance of each cloud of `a`, as the first, to each of `b`, as the second; float32, not symmetric.

  Args:
    a (n, p, 3), b (m, p, 3): in the unit of the protocol. name: of `ANNEALINGS`.
    progress: called with (pairs done, pairs in all).

  Returns:
    (n, m) float64.

  Raises:
    UsageFault: no such name, or clouds of different sizes. BadData: a coordinate is not finite.

  Source: Fan, Su & Guibas 2017, "A point set generation network" (the kernel); stevenygd/PointFlow
  metrics/pytorch_structural_losses/src/approxmatch.cu; alexzhou907/PVD metrics/PyTorchEMD/cuda/emd_kernel.cu.

  >>> far = annealed_pairwise(np.zeros((1, 1, 3)), np.full((1, 1, 3), 0.5), "pointflow")
  >>> round(float(far[0, 0]), 4)  # one point, moved along the diagonal of a cube of side 1/2
  0.866
  """
  if name not in ANNEALINGS:
    raise UsageFault(name, "no such annealed distance", nearest(name, ANNEALINGS))
  a, b = checked_clouds("a", a), checked_clouds("b", b)
  if a.shape[1] != b.shape[1]:
    raise UsageFault("clouds", f"{a.shape[1]} points against {b.shape[1]}", "draw the same number from each")
  centre = middle(a, b)[0][None, None]
  a, b = ((x - centre).astype(np.float32) for x in (a, b))
  out = np.empty((len(a), len(b)))
  for i, cloud in enumerate(a):
    for j in range(0, len(b), BLOCK):
      block = b[np.resize(np.arange(j, min(j + BLOCK, len(b))), BLOCK)]
      out[i, j:j + BLOCK] = np.asarray(_costs(cloud, block, ANNEALINGS[name]))[:len(b) - j]
      if progress:
        progress(i * len(b) + min(j + BLOCK, len(b)), out.size)
  return out


@functools.partial(jax.jit, static_argnames="kind")
def _costs(a: jax.Array, b: jax.Array, kind: Annealing) -> jax.Array:
  """Of one cloud (p, 3) to each of (k, p, 3): (k,)."""
  return jax.lax.map(lambda other: _cost(a, other, kind), b)


def _cost(a: jax.Array, b: jax.Array, kind: Annealing) -> jax.Array:
  squares = jnp.sum((a[:, None] - b[None])**2, axis=-1)

  def turn(state, level):
    plan, left_a, left_b = state
    weights = jnp.exp(-level * squares)
    sent = left_a / (jnp.matmul(weights, left_b, precision="highest") + _TINY)
    asked = jnp.matmul(sent, weights, precision="highest") * left_b
    taken = jnp.minimum(left_b / (asked + _TINY), 1.0) * left_b
    moved = weights * sent[:, None] * taken[None]
    return (plan + moved, jnp.maximum(left_a - moved.sum(1), 0.0), jnp.maximum(left_b - asked, 0.0)), None

  whole = jnp.ones(len(a), a.dtype)
  (plan, _, _), _ = jax.lax.scan(turn, (jnp.zeros_like(squares), whole, whole), jnp.asarray(kind.levels, a.dtype))
  total = jnp.sum(plan * (squares if kind.squared else jnp.sqrt(squares)))
  return total / len(a) if kind.mean else total
