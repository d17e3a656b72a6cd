"""What autoencoders do on planes of features: points gathered on three planes and squeezed, planes unfolded and looked up."""

import dataclasses
from typing import Annotated

import jax
import jax.numpy as jnp

from fields3d.core.config import Range
from fields3d.core.errors import UsageFault
from fields3d.core.numerics import Policy
from fields3d.encodings.encoding import Encoding
from fields3d.encodings.plane_lookup import lookup_planes
from fields3d.encodings.plane_scatter import cell_offsets, other_planes, scatter_to_planes
from fields3d.fields.autoencoder import WHERE
from fields3d.networks.attention import dense
from fields3d.networks.mlp import init_linear, mlp
from fields3d.networks.network import Network
from fields3d.networks.plane_blocks import convolve, doubled, init_convolution, init_residual, residual

Doublings = Annotated[int, Range(ge=0, le=8)]


@dataclasses.dataclass(frozen=True)
class PlaneStacks:
  """Two convolutional stacks that share their sizes; planes are (r, 3, n, n, width) and weights plain dicts.

  encoding: of points. see: the network of a point before it is gathered. value: the network behind the planes.
  width: of convolutions. features: of a cell that is looked up. layers: residual blocks that see the other planes.
  """
  encoding: Encoding
  see: Network
  value: Network
  width: int
  features: int
  halvings: int
  doublings: int
  layers: int
  policy: Policy
  remat: bool

  def _aware(self, params, h):
    one = lambda params, h: residual(params, h, self.policy, other_planes)
    return (jax.checkpoint(one) if self.remat else one)(params, h)

  def _plain(self, params, h):
    one = lambda params, h: residual(params, h, self.policy)
    return (jax.checkpoint(one) if self.remat else one)(params, h)

  def _init_stages(self, keys, name, num):
    return {f"{name}_{i}": {"convolution": init_convolution(next(keys), self.width, self.width),
                            "block": init_residual(next(keys), self.width)} for i in range(num)}

  def _init_latent(self, keys):
    return {f"latent_{i}": init_residual(next(keys), self.width, 3) for i in range(self.layers)}

  def init_squeeze(self, key):
    """Weights of `squeeze`."""
    keys = iter(jax.random.split(key, 1 + 2 * self.halvings + self.layers))
    return {"points": self.see.init(next(keys), self.encoding.dim + 3, self.width),
            **self._init_stages(keys, "down", self.halvings), **self._init_latent(keys)}

  def squeeze(self, params, points, cells):
    """Planes of cells / 2^halvings cells from points (r, n, 3)."""
    seen = jnp.concatenate([self.encoding.apply({}, points), cell_offsets(points, cells)], axis=-1)
    h = scatter_to_planes(self.see.apply(params["points"], seen), points, cells)
    for i in range(self.halvings):
      h = self._plain(params[f"down_{i}"]["block"], convolve(params[f"down_{i}"]["convolution"], h, self.policy, 2))
    for i in range(self.layers):
      h = self._aware(params[f"latent_{i}"], h)
    return h

  def init_unfold(self, key, cells):
    """Weights of `unfold` for planes of `cells` cells, and of `ask`."""
    keys = iter(jax.random.split(key, 2 + 2 * self.doublings + self.layers))
    return {"place": jnp.zeros((3, cells, cells, self.width)), **self._init_latent(keys),
            **self._init_stages(keys, "up", self.doublings), "out": init_linear(next(keys), self.width, self.features),
            "value": self.value.init(next(keys), self.features + self.encoding.dim, 1)}

  def unfold(self, params, h):
    """Planes as `ask` looks them up, (r, m, m, 3, features), m = 2^doublings n."""
    h = h + params["place"][None]
    for i in range(self.layers):
      h = self._aware(params[f"latent_{i}"], h)
    for i in range(self.doublings):
      h = self._plain(params[f"up_{i}"]["block"], convolve(params[f"up_{i}"]["convolution"], doubled(h), self.policy))
    return dense(params["out"], h, self.policy).transpose(0, 2, 3, 1, 4)

  def ask(self, params, planes, x):
    """Values (r, m) at points x (r, m, 3): a small network of what the planes and the place say."""
    seen = jnp.concatenate([lookup_planes(planes, x), self.encoding.apply({}, x)], axis=-1)
    return self.value.apply(params["value"], seen)[..., 0]


def plane_stacks(encoding: Encoding, width: int, features: int, halvings: int, doublings: int, layers: int, hidden: int,
                 depth: int, remat: bool, compute: str) -> PlaneStacks:
  """The stacks whose small networks are plain ones: two layers before the planes, `depth` of `hidden` behind them.

  >>> from fields3d.encodings.fourier import fourier
  >>> stacks = plane_stacks(fourier(2), 4, 3, 1, 1, 1, 8, 1, False, "float32")
  >>> planes = stacks.squeeze(stacks.init_squeeze(jax.random.key(0)), jnp.ones((1, 6, 3)), 8)
  >>> stacks.unfold(stacks.init_unfold(jax.random.key(0), 4), planes).shape
  (1, 8, 8, 3, 3)
  """
  return PlaneStacks(encoding, mlp(width, 2, compute=compute), mlp(hidden, depth, activation="gelu", compute=compute), width,
                     features, halvings, doublings, layers, Policy(compute), remat)


def halved(cells: int, halvings: int) -> int:
  """cells / 2^halvings, where that is whole.

  >>> halved(64, 2)
  16
  """
  if cells % 2**halvings:
    raise UsageFault(f"{WHERE}.cells", f"{cells} cannot be halved {halvings} times",
                     f"give a multiple of {2**halvings}")
  return cells // 2**halvings
