"""A field becomes a mesh: every node evaluated (dense), or only those near the surface (sparse).

Sparse extraction evaluates the centres of ever smaller blocks and keeps those that a surface may cross, given how
fast the field can change (`lipschitz`). A field that saturates away from the surface, as a clamped DeepSDF does, only
keeps more blocks, and where nearly all are left, as of a field that is near 0 everywhere, every node is evaluated.
Else, from every sign change found, it follows the surface from cell to cell until no sign change leaves the evaluated
nodes. So a field that is steeper than promised costs nothing where some part of a surface
component was seen; only a whole component can be missed, and the report tells the steepest slope seen. Where all are
missed, though both signs were seen, it goes on with twice the slope.
"""

import dataclasses
import itertools
import math
import time

import numpy as np

from fields3d.core.config import Count, Positive
from fields3d.core.errors import UsageFault, nearest, require_memory
from fields3d.core.numerics import distinct
from fields3d.core.types import Field, Mesh
from fields3d.extraction.lattice import Lattice, lattice
from fields3d.extraction.marching_cubes import assemble, check_values, marching_cubes, tile_triangles
from fields3d.extraction.sampling import CHUNK, Samples, evaluate, vertex_colors

METHODS = ("sparse", "dense")
LIPSCHITZ = 1.2  # a distance has 1; trained ones overshoot a little

_NEARLY_ALL = 0.75  # of the smallest blocks: picking nodes takes longer then than a cheap field's evaluation, and spares little
_BLOCK_BYTES = 300  # a block while its centre is evaluated and judged

_CUBE = np.array(list(itertools.product(range(3), repeat=3)))  # the 27 nodes of a block of 2x2x2 cells
_FIRST = np.all(_CUBE % 2 == 0, axis=1) | np.all(_CUBE == 1, axis=1)  # its corners and its centre
_OCTANTS = _CUBE[np.all(_CUBE < 2, axis=1)]  # its 8 cells' first nodes, and the corners of one
_CELLS = (_OCTANTS[:, None] + _OCTANTS) @ np.array([9, 3, 1])  # (8, 8) the nodes of its cells, as rows of _CUBE


@dataclasses.dataclass(frozen=True)
class ExtractionReport:
  """What an extraction did.

  method: what was done; "sparse" becomes "dense" where a surface may be nearly everywhere.
  shape: nodes along each axis. evaluations: nodes evaluated; rounds of asking for them.
  value_range: of the evaluated nodes. slope: the steepest change between neighbouring evaluated nodes, per unit
    length, and lipschitz: the one assumed (sparse only, else None). Where slope is above lipschitz, a whole component
    smaller than a few cells may be missing.
  """
  method: str
  shape: tuple[int, int, int]
  evaluations: int
  rounds: int
  value_range: tuple[float, float]
  seconds: float
  slope: float | None = None
  lipschitz: float | None = None


def extract(field: Field, resolution: Count, *, method: str = "sparse", lipschitz: Positive = LIPSCHITZ,
            tile: Count = 32, chunk: Count = CHUNK) -> tuple[Mesh, ExtractionReport]:
  """The zero surface of a field, closed at its bounds, with colours where the field has them.

  Both methods give the same vertices and faces, bit for bit and in the same order, where the field is not steeper than
  `lipschitz` (and the module's docstring says what else). See `marching_cubes` for the mesh's properties.

  Args:
    field: negative inside.
    resolution: nodes along the longest side of the bounds; cells are as nearly cubic as the sides divide.
    method: "sparse" or "dense".
    lipschitz: bound of |f(a) - f(b)| / |a - b|; a larger one is safer and slower.
    tile: cells a side of the pieces in which sparse triangles are made; changes memory, not the result.
    chunk: points a call of the field.

  Raises:
    UsageFault: an unknown method, or a grid that does not fit into memory. BadData: no zero crossing in the bounds.
    Diverged: the field is not finite somewhere.
  """
  if method not in METHODS:
    raise UsageFault("--method", f"unknown method {method!r}", nearest(method, METHODS))
  start, grid = time.perf_counter(), lattice(field.bounds, resolution)
  mesh, report = _dense(field, grid, chunk) if method == "dense" else _sparse(field, grid, lipschitz, tile, chunk)
  if field.color is not None:
    mesh = dataclasses.replace(mesh, colors=vertex_colors(field.color, mesh.vertices, chunk))
  return mesh, dataclasses.replace(report, seconds=time.perf_counter() - start)


def _dense(field: Field, grid: Lattice, chunk: int) -> tuple[Mesh, ExtractionReport]:
  num = math.prod(grid.shape)
  require_memory(8 * num, "--resolution", f"lower it, or use --method sparse ({num} nodes)")
  values = np.empty(num, np.float32)
  step = chunk * max(1, 2**18 // chunk)
  for start in range(0, num, step):
    flat = np.arange(start, min(start + step, num))
    nodes = np.stack(np.unravel_index(flat, grid.shape), axis=-1)
    values[flat] = evaluate(field.fn, grid.positions(nodes).astype(np.float32), chunk).reshape(len(flat))
  check_values(values, "field")
  mesh = marching_cubes(values.reshape(grid.shape), grid.bounds)
  span = (float(values.min()), float(values.max()))
  return mesh, ExtractionReport("dense", grid.shape, num, 1, span, 0.0)


def _sparse(field: Field, grid: Lattice, lipschitz: float, tile: int, chunk: int) -> tuple[Mesh, ExtractionReport]:
  samples, assumed = Samples(field.fn, grid, chunk), lipschitz
  while True:
    blocks = _refine(samples, assumed)
    if len(blocks) > _NEARLY_ALL * math.prod(n // 2 for n in grid.shape):
      return _dense(field, grid, chunk)
    _resolve(samples, blocks, assumed)
    slope = _follow(samples)
    check_values(samples.values, "field")
    if len(triangles := _triangles(samples, tile)):
      break
    assumed *= 2
  mesh = assemble(grid, triangles, samples.at)
  span = (float(samples.values.min()), float(samples.values.max()))
  return mesh, ExtractionReport("sparse", grid.shape, len(samples.keys), samples.rounds, span, 0.0, slope, lipschitz)


def _refine(samples: Samples, lipschitz: float) -> np.ndarray:
  """First nodes (n, 3) of the blocks of 2x2x2 cells that the surface may cross, their centres evaluated."""
  grid = samples.grid
  last = np.array(grid.shape) - 1
  size = max(2, 2 ** (int(last.max()).bit_length() - 4))  # 8 to 15 blocks along the longest side
  blocks = np.stack(np.meshgrid(*(np.arange(0, n, size) for n in last), indexing="ij"), axis=-1).reshape(-1, 3)
  while True:
    centre, end = np.minimum(blocks + size // 2, last), np.minimum(blocks + size, last)
    samples.add(grid.keys(centre))
    values = samples.known(grid.keys(centre))[1]
    radius = np.linalg.norm(np.maximum(centre - blocks, end - centre) * grid.cell, axis=-1)
    border = np.any((blocks == 0) | (end == last), axis=-1)  # where the surface is closed if the inside reaches it
    reach = lipschitz * radius
    blocks = blocks[(values <= reach) & (border | (values >= -reach))]
    if size == 2:
      return blocks
    size //= 2
    require_memory(_BLOCK_BYTES * 8 * len(blocks), "--resolution", "lower it: the surface may be nearly everywhere")
    blocks = (blocks[:, None] + size * _OCTANTS).reshape(-1, 3)
    blocks = blocks[np.all(blocks < last, axis=-1)]


def _resolve(samples: Samples, blocks: np.ndarray, lipschitz: float) -> None:
  """Evaluates nodes of blocks (n, 3) until each sign is known or implied, then all nodes of cells with both signs.

  So if the field keeps to `lipschitz`, every component of the surface has a sign change between evaluated neighbours,
  or, where the inside reaches the border of the box, an evaluated node there: a corner or centre of a block.
  """
  pieces = np.array_split(blocks, max(1, len(blocks) // 2**15))
  for piece in pieces:
    samples.add(_block_keys(samples.grid, piece)[:, _FIRST])
  for want in (_unknown_nodes, _mixed_nodes):
    keys = [distinct(_block_keys(samples.grid, piece)[want(samples, piece, lipschitz)]) for piece in pieces]
    samples.add(np.concatenate(keys))


def _block_keys(grid: Lattice, blocks: np.ndarray) -> np.ndarray:
  """Keys (n, 27) of the blocks' nodes; those beyond the box are replaced by the block's first node."""
  first = grid.keys(blocks)[:, None]
  room = grid.shape - blocks
  beyond = np.any([_CUBE[:, axis] >= room[:, axis, None] for axis in range(3)], axis=0)
  return np.where(beyond, first, first + _CUBE @ grid.strides)


def _unknown_nodes(samples: Samples, blocks: np.ndarray, lipschitz: float) -> np.ndarray:
  return _signs(samples, blocks, lipschitz) == 0


def _mixed_nodes(samples: Samples, blocks: np.ndarray, lipschitz: float) -> np.ndarray:
  signs = _signs(samples, blocks, lipschitz)[:, _CELLS]  # (n, 8, 8)
  mixed = np.any(signs < 0, axis=-1) & np.any(signs > 0, axis=-1)
  out = np.zeros((len(blocks), len(_CUBE)), bool)
  for cell, corners in enumerate(_CELLS):
    out[:, corners] |= mixed[:, cell, None]
  return out


def _signs(samples: Samples, blocks: np.ndarray, lipschitz: float) -> np.ndarray:
  """Signs (n, 27) of the blocks' nodes: evaluated, or implied by the centre or a corner, or 0."""
  keys = _block_keys(samples.grid, blocks)
  found, values = samples.known(keys)
  own = np.where(found, np.where(values < 0, -1, 1), 0).astype(np.int8)
  distance = np.linalg.norm((_CUBE[:, None] - _CUBE[_FIRST]) * samples.grid.cell, axis=-1)  # (27, 9)
  stands = (keys != keys[:, :1]) | (np.arange(len(_CUBE)) == 0)  # not in the place of a node beyond the box
  reach = np.where(found & stands, np.abs(values), 0)[:, None, _FIRST] / lipschitz
  implies = np.where(reach > distance, own[:, None, _FIRST], 0)
  low, high = implies.min(axis=-1), implies.max(axis=-1)
  return np.where(own, own, np.sign(low + high))


def _follow(samples: Samples) -> float:
  """Evaluates all nodes of the cells around each sign change until no new one appears; returns the slope seen."""
  grid, slope = samples.grid, 0.0
  fresh = samples.keys
  while len(fresh):
    missing = []
    values, nodes = samples.known(fresh)[1], grid.nodes(fresh)
    for axis, side in itertools.product(range(3), (-1, 1)):
      found, others = samples.known(fresh + side * grid.strides[axis])
      if found.any():
        slope = max(slope, float(np.max(np.abs(others - values)[found]) / grid.cell[axis]))
      border = nodes[:, axis] == (0 if side < 0 else grid.shape[axis] - 1)
      crossed = np.where(found, (values < 0) != (others < 0), border & (values < 0))
      lower = fresh[crossed] + min(side, 0) * grid.strides[axis]
      for around in _CUBE[_CUBE[:, axis] < 2]:
        keys = lower + (around - (np.arange(3) != axis)) @ grid.strides
        missing.append(keys[~samples.known(keys)[0]])
    fresh = samples.add(np.concatenate(missing))
  return slope


def _triangles(samples: Samples, tile: int) -> np.ndarray:
  """Triangles (f, 3) as edge keys, made tile by tile; nodes that are not evaluated touch no surface."""
  grid = samples.grid
  out = []
  for start, places, inside in _by_tile(samples, tile):
    block = np.zeros((tile + 1,) * 3, bool)
    block.reshape(-1)[places] = inside
    triangles = tile_triangles(block, start, grid)
    lower, axis = np.divmod(triangles[:, 0], 3)
    ends = np.stack([lower, lower + grid.strides[axis]])
    real = samples.known(ends)[0] | ~grid.contains(grid.nodes(ends))
    out.append(triangles[real.all(axis=0)])
  return np.concatenate(out)


def _by_tile(samples: Samples, tile: int):
  """Yields (first node, flat places in the tile, signs) of each tile with an inside node; tiles share border nodes."""
  nodes = samples.grid.nodes(samples.keys) + 1
  counts = -(-(np.array(samples.grid.padded) - 1) // tile)
  numbers, places, picks = [], [], []
  for shift in itertools.product((0, 1), repeat=3):
    index, local = np.divmod(nodes - shift, tile)
    kept = np.all((np.array(shift) == 0) | (local == tile - 1), axis=1)
    numbers.append(np.ravel_multi_index(index[kept].T, counts))
    places.append(np.ravel_multi_index((local[kept] + shift).T, (tile + 1,) * 3))
    picks.append(np.flatnonzero(kept))
  numbers, places, picks = (np.concatenate(a) for a in (numbers, places, picks))
  order = np.argsort(numbers, kind="stable")
  groups = np.flatnonzero(np.diff(numbers[order])) + 1
  for group in np.split(order, groups):
    inside = samples.values[picks[group]] < 0
    if inside.any():
      yield np.array(np.unravel_index(numbers[group[0]], counts)) * tile, places[group], inside
