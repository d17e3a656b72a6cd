"""Layers of adversarial networks: weights of unit variance, scaled where they are used, so that Adam moves all alike."""

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

GAIN = np.float32(np.sqrt(2.0))  # keeps the mean square through a leaky rectifier, nearly


def leaky(x: jax.Array) -> jax.Array:
  """sqrt(2) times the rectifier of slope 0.2: the mean square of normal inputs is kept to 4%.

  Source: StyleGAN2 (Karras et al. 2020), the authors' code.

  >>> print(leaky(jnp.array([-1.0, 1.0])))
  [-0.282...  1.414...]
  """
  return GAIN * jnp.where(x >= 0, x, 0.2 * x)


def init_dense(key: jax.Array, fan_in: int, fan_out: int, bias: float = 0.0) -> dict[str, jax.Array]:
  """{"w" (fan_in, fan_out) normal of variance 1, "b" (fan_out,)}."""
  return {"w": jax.random.normal(key, (fan_in, fan_out), jnp.float32), "b": jnp.full((fan_out,), bias, jnp.float32)}


def dense(params: dict[str, jax.Array], x: Float[Array, "n k"]) -> Float[Array, "n m"]:
  """x w / sqrt(fan_in) + b.

  Source: Progressive GAN (Karras et al. 2018), section 4.1.

  >>> dense({"w": jnp.full((4, 1), 3.0), "b": jnp.ones(1)}, jnp.ones((1, 4))).tolist()
  [[7.0]]
  """
  w = params["w"] / np.float32(np.sqrt(len(params["w"])))
  return jnp.matmul(x, w, precision=jax.lax.Precision.HIGHEST) + params["b"][None]


def dense_columns(params: dict[str, jax.Array], x: Float[Array, "k n"]) -> Float[Array, "m n"]:
  """`dense` of columns: where the columns are many and short, several times faster on a CPU.

  >>> dense_columns({"w": jnp.full((4, 1), 3.0), "b": jnp.ones(1)}, jnp.ones((4, 1))).tolist()
  [[7.0]]
  """
  w = params["w"].T / np.float32(np.sqrt(len(params["w"])))
  return jnp.matmul(w, x, precision=jax.lax.Precision.HIGHEST) + params["b"][:, None]


def init_conv(key: jax.Array, size: int, fan_in: int, fan_out: int) -> dict[str, jax.Array]:
  """{"w" (size, size, fan_in, fan_out) normal of variance 1, "b" (fan_out,)}."""
  return {"w": jax.random.normal(key, (size, size, fan_in, fan_out), jnp.float32), "b": jnp.zeros((fan_out,), jnp.float32)}


def kernel_of(params: dict[str, jax.Array]) -> Float[Array, "k k c m"]:
  """The kernel as it multiplies: w / sqrt(k k c)."""
  return params["w"] / np.float32(np.sqrt(np.prod(params["w"].shape[:3])))


def convolve(x: Float[Array, "b h w c"], kernel: Float[Array, "k k c m"]) -> Float[Array, "b h w m"]:
  """Cross-correlation that keeps the size ("same")."""
  return jax.lax.conv_general_dilated(x, kernel, (1, 1), "SAME", dimension_numbers=("NHWC", "HWIO", "NHWC"),
                                      precision=jax.lax.Precision.HIGHEST)


def enlarged(pictures: Float[Array, "b h w c"], factor: int) -> Float[Array, "b h2 w2 c"]:
  """Bilinear, pixels being areas, edges repeated; the mean is kept but for the edges.

  >>> enlarged(jnp.array([0.0, 4.0]).reshape(1, 1, 2, 1), 2)[0, 0].ravel().tolist()
  [0.0, 1.0, 3.0, 4.0]
  """
  b, h, w, c = pictures.shape
  return jax.image.resize(pictures, (b, factor * h, factor * w, c), "bilinear", precision=jax.lax.Precision.HIGHEST)


def reduced(pictures: Float[Array, "b h w c"], factor: int) -> Float[Array, "b h2 w2 c"]:
  """Means of squares of `factor` x `factor` pixels.

  >>> reduced(jnp.arange(4.0).reshape(1, 2, 2, 1), 2).ravel().tolist()
  [1.5]
  """
  b, h, w, c = pictures.shape
  return jnp.mean(pictures.reshape(b, h // factor, factor, w // factor, factor, c), axis=(2, 4))


def unit_rows(x: Float[Array, "n d"]) -> Float[Array, "n d"]:
  """Rows scaled to mean square 1.

  >>> print(unit_rows(jnp.array([[3.0, 4.0]])))
  [[0.848... 1.131...]]
  """
  return x * jax.lax.rsqrt(jnp.mean(x * x, axis=1, keepdims=True) + 1e-8)


def init_mapping(key: jax.Array, dim: int, depth: int) -> dict:
  """A mapping network's layers: `depth` of width `dim`."""
  return {f"layer_{i}": init_dense(k, dim, dim) for i, k in enumerate(jax.random.split(key, depth))}


def mapping(params: dict, z: Float[Array, "n d"]) -> Float[Array, "n d"]:
  """Normal codes z -> styles w: rows scaled to mean square 1, then dense layers.

  Source: StyleGAN (Karras et al. 2019), section 2.
  """
  h = unit_rows(z)
  for i in range(len(params)):
    h = leaky(dense(params[f"layer_{i}"], h))
  return h
