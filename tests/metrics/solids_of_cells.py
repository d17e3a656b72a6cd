"""Meshes whose every figure is known: the boundary of a set of unit cubes, boxes, pyramids."""

import numpy as np

from fields3d.core.types import Mesh

_QUADS = {  # of the unit cube, counter-clockwise from outside
    (1, 0, 0): [(1, 0, 0), (1, 1, 0), (1, 1, 1), (1, 0, 1)], (-1, 0, 0): [(0, 0, 0), (0, 0, 1), (0, 1, 1), (0, 1, 0)],
    (0, 1, 0): [(0, 1, 0), (0, 1, 1), (1, 1, 1), (1, 1, 0)], (0, -1, 0): [(0, 0, 0), (1, 0, 0), (1, 0, 1), (0, 0, 1)],
    (0, 0, 1): [(0, 0, 1), (1, 0, 1), (1, 1, 1), (0, 1, 1)], (0, 0, -1): [(0, 0, 0), (0, 1, 0), (1, 1, 0), (1, 0, 0)]}


def cells(*places):
  """The boundary of the union of unit cubes at whole-numbered places; vertices are repeated for every square."""
  taken, quads = {tuple(place) for place in places}, []
  for place in places:
    for side, corners in _QUADS.items():
      if tuple(np.add(place, side)) not in taken:
        quads.append(np.add(corners, place))
  start = 4 * np.arange(len(quads))[:, None]
  faces = np.concatenate([start + [0, 1, 2], start + [0, 2, 3]])
  return Mesh(np.concatenate(quads).astype(np.float64), faces)


def box(size, middle=(0, 0, 0)):
  """A box of those sides about a point."""
  cube = cells((0, 0, 0))
  return Mesh((cube.vertices - 0.5) * np.asarray(size, np.float64) + middle, cube.faces)


def pyramid(sides, radius, height, down):
  """A cone of so many sides; its tip points down (to the origin) or up, its base is a disc at the other end."""
  angle = 2 * np.pi * np.arange(sides) / sides
  level = height if down else 0.0
  rim = np.stack([radius * np.sin(angle), np.full(sides, level), radius * np.cos(angle)], 1)  # counter-clockwise from +y
  vertices = np.concatenate([rim, [[0, height - level, 0], [0, level, 0]]])
  i, j = np.arange(sides), (np.arange(sides) + 1) % sides
  tip, middle = np.full(sides, sides), np.full(sides, sides + 1)
  skirt, disc = (np.stack([j, i, tip], 1), np.stack([i, j, middle], 1)) if down else (
      np.stack([i, j, tip], 1), np.stack([j, i, middle], 1))
  return Mesh(vertices, np.concatenate([skirt, disc]))


def turned(mesh):
  """The mesh inside out."""
  return Mesh(mesh.vertices, mesh.faces[:, ::-1])


def joined(*meshes):
  """Several meshes as one."""
  starts = np.cumsum([0, *(len(mesh.vertices) for mesh in meshes)])
  return Mesh(np.concatenate([m.vertices for m in meshes]),
              np.concatenate([m.faces + start for m, start in zip(meshes, starts, strict=False)]))
