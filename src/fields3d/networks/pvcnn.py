"""A denoiser of point clouds: a U-net of point-voxel convolutions over ever fewer points (PVD)."""

import dataclasses
import itertools

import jax
import jax.numpy as jnp

from fields3d.core.config import Count, Index, Positive
from fields3d.core.errors import UsageFault
from fields3d.core.numerics import Compute, Policy
from fields3d.networks.attention import attention, check_heads, dense, init_attention, layer_norm
from fields3d.networks.denoiser import DenoiserNetwork, init_inputs, init_zero, read_inputs
from fields3d.networks.dropout import dropout as drop
from fields3d.networks.mlp import DropRate, linear
from fields3d.networks.point_neighbours import abstracted, rows_at, spread
from fields3d.networks.point_sets import farthest_points
from fields3d.networks.point_voxels import attended, init_attended, init_pvconv, init_shared, pvconv, shared

WHERE = "--config.task.prior.network"


def pvcnn(width: Count = 64, down: tuple[Count, ...] = (32, 64, 128, 256), up: tuple[Count, ...] = (64, 128, 256, 256),
          down_blocks: tuple[Index, ...] = (2, 1, 1, 0), up_blocks: tuple[Index, ...] = (2, 2, 3, 3),
          resolutions: tuple[Count, ...] = (32, 16, 8, 8), centres: tuple[Count, ...] = (1024, 256, 64, 16),
          radii: tuple[Positive, ...] = (0.1, 0.2, 0.4, 0.8), neighbours: Count = 32, attend: tuple[Index, ...] = (1,),
          heads: Count = 1, dropout: DropRate = 0.1, compute: Compute = "float32") -> DenoiserNetwork:
  """A U-net on clouds (n, d) of which the first three channels are places: PVCNN2 as in PVD; 0 at the start.

  Each stage has point-voxel convolutions and gathers the cloud at fewer points; at the fewest, attention among them
  and to the tokens, where there are any; then back, by the three nearest points and what each stage had. Every norm
  is told of noise level and label. A permutation of the points permutes the answer. Without gradient by where points
  stand, other than as features.

  Args (one entry per stage, from all points to few):
    width: of the embeddings of points, level and label.
    down, up: channels of the point-voxel convolutions on the way down and back; gathering ends in twice `down`.
    down_blocks, up_blocks: how many of them.
    resolutions: of their voxels.
    centres: points that each stage ends with. radii: of the balls it gathers, in units of x.
    neighbours: points of a ball.
    attend: the stages whose first convolution down attends among its voxels.
    heads: of all attention.
    dropout: rate inside each point-voxel convolution and before the last layer, in training only.

  Raises:
    UsageFault: lists of unequal length, centres that are not ever fewer, attention where there is no convolution, heads that do
      not divide what attends; at init, a datum that is not a cloud of more points than the first stage ends with.

  Source: PVD (Zhou et al. 2021), section 3 and the authors' code. The defaults are what that code builds: it lists 3
    convolutions for the second and third stage down and makes 1. There level embeddings are concatenated to features,
    a ball's points are the first found, and the input is not handed to the last stage back.

  >>> network = pvcnn(8, (8,), (8,), (1,), (1,), (4,), (5,), (1.0,), neighbours=3, attend=())
  >>> params = jax.eval_shape(lambda key: network.init(key, (7, 3), num_classes=0), jax.random.key(0))
  >>> jax.eval_shape(lambda p: network.apply(p, jnp.ones((5, 7, 3)), jnp.ones(5), None, None), params).shape
  (5, 7, 3)
  """
  lists = (down, up, down_blocks, up_blocks, resolutions, centres, radii)
  if not down or len({len(entries) for entries in lists}) > 1:
    raise UsageFault(WHERE, "down, up, down_blocks, up_blocks, resolutions, centres and radii differ in length",
                     "give each one entry per stage")
  if bare := [i for i in attend if i >= len(down) or not down_blocks[i]]:
    raise UsageFault(f"{WHERE}.attend", f"names stage {bare[0]}, which has no convolution on the way down",
                     f"give some of {', '.join(str(i) for i, blocks in enumerate(down_blocks) if blocks) or 'none'}")
  if any(a <= b for a, b in itertools.pairwise(centres)):
    raise UsageFault(f"{WHERE}.centres", f"{centres} do not decrease", "give ever fewer points")
  stages = tuple(_Stage(i in attend, *entries) for i, entries in enumerate(zip(*lists)))
  for channels in (2 * down[-1], *(stage.down for stage in stages if stage.attend)):
    check_heads(channels, heads, WHERE)
  net = _PVCNN(width, stages, neighbours, heads, dropout, Policy(compute))
  return DenoiserNetwork(net.init, net.apply)


@dataclasses.dataclass(frozen=True)
class _Stage:
  attend: bool
  down: int
  up: int
  down_blocks: int
  up_blocks: int
  resolution: int
  centres: int
  radius: float


@dataclasses.dataclass(frozen=True)
class _PVCNN:
  """The settings of `pvcnn`, and its functions as methods."""
  width: int
  stages: tuple[_Stage, ...]
  neighbours: int
  heads: int
  dropout: float
  policy: Policy

  def init(self, key, shape, num_classes, token_dim=0, self_condition=False):
    first = self.stages[0].centres
    if len(shape) != 2 or shape[0] <= first or shape[1] < 3:
      raise UsageFault(WHERE, f"pvcnn takes clouds of more than {first} points in 3 or more channels, not {shape}",
                       "set fewer centres or another network")
    input_key, down_key, up_key, middle_key, head_key = jax.random.split(key, 5)
    params = {"inputs": init_inputs(input_key, self.width, shape[1], num_classes, token_dim, self_condition)}
    had, channels = [], self.width
    for i, (key, stage) in enumerate(zip(jax.random.split(down_key, len(self.stages)), self.stages)):
      had.append(channels)
      params[f"down_{i}"], channels = self._init_down(key, stage, channels, i == len(self.stages) - 1)
    params["middle"] = self._init_middle(middle_key, channels, token_dim)
    for i, key in reversed(list(enumerate(jax.random.split(up_key, len(self.stages))))):
      wide = self.stages[min(i + 1, len(self.stages) - 1)].up
      widths = (channels + had[i], *(wide,) * (2 if i == 0 else 1), self.stages[i].up)
      params[f"up_{i}"], channels = self._init_up(key, self.stages[i], widths), self.stages[i].up
    params["head"] = init_shared(head_key, (channels, 2 * channels), self.width)
    return {**params, "out": init_zero(2 * channels, shape[1])}

  def _init_down(self, key, stage, channels, last):
    keys = jax.random.split(key, stage.down_blocks + 1)
    params = {}
    for k in range(stage.down_blocks):
      params[f"pvconv_{k}"] = init_pvconv(keys[k], channels, stage.down, self.width, stage.attend and k == 0)
      channels = stage.down
    widths = (3 + channels, *(stage.down,) * (2 if last else 1), 2 * stage.down)
    return {**params, "gather": init_shared(keys[-1], widths, self.width)}, 2 * stage.down

  def _init_middle(self, key, channels, token_dim):
    own, cross = jax.random.split(key)
    params = {"self": init_attended(own, channels, self.width)}
    if token_dim:
      params |= {"cross": init_attention(cross, channels, self.width), "gate": init_zero(self.width, channels)}
    return params

  def _init_up(self, key, stage, widths):
    keys = jax.random.split(key, stage.up_blocks + 1)
    params = {f"pvconv_{k}": init_pvconv(keys[k], stage.up, stage.up, self.width) for k in range(stage.up_blocks)}
    return {**params, "mix": init_shared(keys[-1], widths, self.width)}

  def apply(self, params, x, c, label, tokens, key=None, previous=None):
    h, e, tokens = read_inputs(params["inputs"], x, c, label, tokens, previous, self.policy)
    count = itertools.count()

    def dropped(h):
      return drop(jax.random.fold_in(key, next(count)), h, self.dropout) if self.dropout and key is not None else h

    def convolved(layers, places, h, stage, blocks):
      for k in range(blocks):
        h = pvconv(layers[f"pvconv_{k}"], places, h, e, stage.resolution, self.policy, self.heads, dropped)
      return h

    had, places = [], x[..., :3]
    for i, stage in enumerate(self.stages):
      had.append((places, h))
      h = convolved(params[f"down_{i}"], places, h, stage, stage.down_blocks)
      centres = rows_at(places, farthest_points(places, stage.centres))
      num = min(self.neighbours, places.shape[1])
      h = abstracted(params[f"down_{i}"]["gather"], centres, places, h, e, stage.radius, num, self.policy)
      places = centres
    h = self._middle(params["middle"], h, e, tokens)
    for i, stage in reversed(list(enumerate(self.stages))):
      finer, skipped = had[i]
      h = jnp.concatenate([spread(finer, places, h), skipped], axis=-1)
      h, places = shared(params[f"up_{i}"]["mix"], h, e, self.policy), finer
      h = convolved(params[f"up_{i}"], places, h, stage, stage.up_blocks)
    return dense(params["out"], dropped(shared(params["head"], h, e, self.policy)), self.policy)

  def _middle(self, params, h, e, tokens):
    if tokens is not None:
      gate = linear(params["gate"], e, self.policy)[:, None]
      h = h + gate * attention(params["cross"], layer_norm(None, h), tokens, self.heads, self.policy)
    return attended(params["self"], h, e, self.heads, self.policy)
