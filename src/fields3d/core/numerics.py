"""Numbers: in which precision networks multiply, norms whose gradients are finite everywhere, and sorted sets of integers."""

import dataclasses
import functools
from typing import Literal

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float

Compute = Literal["float32", "tensorfloat32", "bfloat16"]


@dataclasses.dataclass(frozen=True)
class Policy:
  """The precision of a network's matmuls. Parameters, coordinates, encodings, biases and all sums stay float32.

  compute: of the two factors of a matmul. "float32" is float32 on every device, where accelerators would otherwise
    round silently; "tensorfloat32" lets them round to 10 bits of mantissa (three bfloat16 passes on a TPU);
    "bfloat16" rounds to 7 bits, coordinates on their way in too, and halves the memory of saved activations; a distance
    is a staircase then, wherefore commands predict in float32 (`commands.rundir`). On a CPU the first two are the same.
  """
  compute: Compute = "float32"

  def dot(self, x: Float[Array, "n k"], w: Float[Array, "k m"]) -> Float[Array, "n m"]:
    """x @ w, accumulated and returned in float32 (float64 where both factors are). Differentiable to any order.

    bfloat16 rounds the incoming gradient too, so that all three matmuls of a training step are fast ones; it has no
    forward-mode derivative.

    >>> float(Policy("bfloat16").dot(jnp.full((1, 1), 1 + 2**-9), jnp.ones((1, 1)))[0, 0])
    1.0
    """
    if self.compute == "bfloat16":
      return _dot_bfloat16(x, w)
    precision = {"float32": jax.lax.Precision.HIGHEST, "tensorfloat32": jax.lax.Precision.HIGH}[self.compute]
    return jnp.matmul(x, w, precision=precision)

  def convolve(self, x: Float[Array, "r n n c"], w: Float[Array, "k k c d"], stride: int = 1) -> Float[Array, "r m m d"]:
    """A convolution of pictures, zeros around them, m = n / stride: in every other way as `dot`.

    >>> Policy("bfloat16").convolve(jnp.full((1, 2, 2, 1), 1 + 2**-9), jnp.ones((3, 3, 1, 1))).ravel().tolist()
    [4.0, 4.0, 4.0, 4.0]
    """
    if self.compute == "bfloat16":
      return _convolve_bfloat16(stride, x, w)
    precision = {"float32": jax.lax.Precision.HIGHEST, "tensorfloat32": jax.lax.Precision.HIGH}[self.compute]
    return _convolve(stride, precision, x, w)


def _convolve(stride, precision, x, w):
  around = [((size - 1) // 2, size // 2) for size in w.shape[:2]]
  return jax.lax.conv_general_dilated(x, w, (stride, stride), around, dimension_numbers=("NHWC", "HWIO", "NHWC"), precision=precision)


def _rounded(x):
  """float32 of bfloat16's values: their products are exact in one pass, and sums and gradients stay float32."""
  return x.astype(jnp.bfloat16).astype(jnp.float32)


@functools.partial(jax.custom_vjp, nondiff_argnums=(0,))
def _convolve_bfloat16(stride, x, w):
  return _convolve(stride, jax.lax.Precision.DEFAULT, _rounded(x), _rounded(w))


def _convolve_forward(stride, x, w):
  return _convolve_bfloat16(stride, x, w), (x.astype(jnp.bfloat16), w.astype(jnp.bfloat16))


def _convolve_backward(stride, saved, g):
  pull = jax.vjp(functools.partial(_convolve, stride, jax.lax.Precision.DEFAULT), *(a.astype(jnp.float32) for a in saved))[1]
  return pull(_rounded(g))


_convolve_bfloat16.defvjp(_convolve_forward, _convolve_backward)


@jax.custom_vjp
def _dot_bfloat16(x, w):
  x, w = x.astype(jnp.bfloat16), w.astype(jnp.bfloat16)
  return jnp.matmul(x, w, preferred_element_type=jnp.float32)


def _forward(x, w):
  return _dot_bfloat16(x, w), (x.astype(jnp.bfloat16), w.astype(jnp.bfloat16), x[:0], w[:0])


def _backward(saved, g):
  x, w, x_type, w_type = saved
  return _dot_bfloat16(g, w.T).astype(x_type.dtype), _dot_bfloat16(x.T, g).astype(w_type.dtype)


_dot_bfloat16.defvjp(_forward, _backward)


def norm(x: Float[Array, "*b d"]) -> Float[Array, "*b"]:
  """Euclidean length of the last axis, with gradient 0 at 0, where the plain one is NaN.

  >>> [float(g) for g in jax.grad(norm)(jnp.zeros(2))]
  [0.0, 0.0]
  """
  square = jnp.sum(x * x, axis=-1)
  return jnp.where(square > 0, jnp.sqrt(jnp.where(square > 0, square, 1.0)), 0.0)


def mean_where(counted: Bool[Array, "*n"], values: Float[Array, "*n"]) -> Float[Array, ""]:
  """Mean of the values that count; 0 where none does.

  >>> float(mean_where(jnp.array([True, False]), jnp.array([2.0, 5.0])))
  2.0
  """
  return jnp.sum(jnp.where(counted, values, 0.0)) / jnp.maximum(jnp.sum(counted), 1)


@jax.custom_jvp
def truncated_exp(x: Float[Array, "*b"]) -> Float[Array, "*b"]:
  """exp(x) with x bounded by 15 from above, whose derivative never vanishes: a density can always come down again.

  Source: Instant-NGP (Müller et al. 2022), the authors' code.

  >>> float(jax.grad(truncated_exp)(20.0)) == float(truncated_exp(15.0))
  True
  """
  return jnp.exp(jnp.minimum(x, 15.0))


@truncated_exp.defjvp
def _truncated_exp_jvp(primals, tangents):
  (x,), (dx,) = primals, tangents
  y = truncated_exp(x)
  return y, y * dx


def distinct(values: np.ndarray) -> np.ndarray:
  """The values of an array, each once, rising (n,): `np.unique`, which hashes since numpy 2.3, where sorting is 16 times as fast.

  >>> distinct(np.array([[3, 1], [1, 2]])).tolist()
  [1, 2, 3]
  """
  ordered = np.sort(values, axis=None)
  return ordered[np.concatenate([np.ones(min(1, len(ordered)), bool), ordered[1:] != ordered[:-1]])]
