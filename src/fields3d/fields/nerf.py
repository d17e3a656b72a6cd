"""The original NeRF: one deep network on sines of the point, colour from a last layer that also sees the direction."""

from typing import Annotated, Literal

import jax
import jax.numpy as jnp

from fields3d.core.config import Count, From, Index, Range
from fields3d.core.numerics import Compute, Policy
from fields3d.encodings import ENCODINGS
from fields3d.encodings.encoding import Encoding, check_fixed
from fields3d.fields.field import RadianceField
from fields3d.networks.mlp import init_linear, linear, mlp


def nerf(encoding: Annotated[Encoding, From(ENCODINGS)], directions: Annotated[Encoding, From(ENCODINGS)],
         width: Count = 256, depth: Annotated[int, Range(ge=2)] = 8, skip: Count | None = 5, color_width: Count = 128,
         density_activation: Literal["relu", "softplus"] = "relu", appearance_dim: Index = 0,
         compute: Compute = "float32") -> RadianceField:
  """The radiance field of NeRF: 8 layers of 256, the point again at the sixth, density from the last through a ReLU.

  The paper's point encoding is 10 octaves of sines beside the coordinates, the direction's 4. Ours work on the box
  [-1, 1]^3 with a factor pi, as the paper's equation 4; the authors' code has no pi and scenes up to +-4, which is one
  octave and a third less at the fine end. Densities are per unit of the model frame.

  Args:
    encoding: of points in [-1, 1]^3; the coordinates themselves are added. directions: of unit directions, likewise.
    skip: the layer, from 0, that sees the encoded point again; none without.
    color_width: of the one layer that stands between features and colour.
    density_activation: the paper's "relu" may start with no density anywhere, and then stays so; "softplus" cannot.
    appearance_dim: width of the appearance code; 0 for none.

  Source: Mildenhall et al. 2020, "NeRF", figure 7; numbers of layers as in the authors' code and in jaxnerf.

  >>> field = nerf(ENCODINGS["fourier"](levels=10), ENCODINGS["fourier"](levels=4), width=8)
  >>> field.density(field.init(jax.random.key(0)), jnp.zeros((5, 3)), None).shape
  (5,)
  """
  check_fixed(directions, "--config.task.field.directions")
  policy, rectify = Policy(compute), {"relu": jax.nn.relu, "softplus": jax.nn.softplus}[density_activation]
  trunk = mlp(width, depth - 1, skip, compute=compute)
  color_net = mlp(color_width, 1, compute=compute)

  def init(key):
    keys = jax.random.split(key, 5)
    return {"encoding": encoding.init(keys[0]), "trunk": trunk.init(keys[1], 3 + encoding.dim, width),
            "density": init_linear(keys[2], width, 1), "bottleneck": init_linear(keys[3], width, width),
            "color": color_net.init(keys[4], width + 3 + directions.dim + appearance_dim, 3)}

  def hidden(params, x, radius, level):
    flat = x.reshape(-1, 3)
    encoded = encoding.apply(params["encoding"], flat, level, None if radius is None else radius.reshape(-1))
    return jax.nn.relu(trunk.apply(params["trunk"], jnp.concatenate([flat, encoded], axis=-1)))

  def sigma(params, h, shape):
    return rectify(linear(params["density"], h, policy)).reshape(shape)

  def section(params, x, d, dt, radius, level):
    del d
    h = hidden(params, x, radius, level)
    return sigma(params, h, dt.shape) * dt, h.reshape(*dt.shape, width), None, None

  def color(params, h, d, appearance):
    flat = linear(params["bottleneck"], h.reshape(-1, width), policy)
    parts = [flat, d.reshape(-1, 3), directions.apply({}, d.reshape(-1, 3))]
    parts += [] if appearance is None else [appearance.reshape(-1, appearance_dim)]
    return jax.nn.sigmoid(color_net.apply(params["color"], jnp.concatenate(parts, axis=-1))).reshape(d.shape)

  def density(params, x, level, radius=None):
    return sigma(params, hidden(params, x, radius, level), x.shape[:-1])

  return RadianceField(init, section, color, density, None, appearance_dim)
