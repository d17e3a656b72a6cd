"""Object File Format: OFF, COFF, NOFF, CNOFF in text, with or without a break after the keyword; face colours kept."""

import re

import numpy as np

from fields3d.core.types import Mesh
from fields3d.data.mesh_file import MeshFile, colors_to_uint8, split_by_face_color
from fields3d.data.mesh_polygons import triangulate

_HEADER = re.compile(r"(ST)?(C?)(N?)(4?)(n?)OFF", re.ASCII)


def read_off(file: MeshFile) -> Mesh:
  """Reads an OFF file as it stands.

  Raises:
    BadData: a header without its data, counts that the file does not hold, malformed lines (by number), indices out of
      range, vertices that are not finite, and the variants with texture coordinates or other dimensions, by name.

  >>> read_off(MeshFile("a.off", b"OFF 3 1 0\\n0 0 0\\n1 0 0\\n0 1 0\\n3 0 1 2\\n")).faces.tolist()
  [[0, 1, 2]]
  """
  rows, lines, kind = _lines(file)
  counts = file.numbers(rows[:1], np.int64, lines[:1])
  if len(counts) not in (2, 3):
    raise file.fault(f"line {lines[0]}: expected the counts of vertices, faces and edges, got {rows[0].strip()[:40]!r}")
  num_vertices, num_faces = int(counts[0]), int(counts[1])
  file.check_count(num_vertices, "vertex")
  file.check_count(num_faces, "face")
  have = len(rows) - 1
  if have < num_vertices + num_faces:
    raise file.fault(f"the header promises {num_vertices} vertices and {num_faces} faces, the file holds {have} lines",
                     "the file is cut off: fetch or export it again")
  if num_faces == 0 or num_vertices == 0:
    raise file.fault(f"no faces found ({num_vertices} vertices)", "give a mesh with faces")
  if have > num_vertices + num_faces:
    file.warn(f"{have - num_vertices - num_faces} lines after the last face passed over")
  middle = 1 + num_vertices
  end = middle + num_faces
  vertices, colors = _vertices(file, rows[1:middle], lines[1:middle], kind)
  file.check_finite(vertices)
  faces, face_colors = _faces(file, vertices, rows[middle:end], lines[middle:end])
  if colors is None and face_colors is not None:
    vertices, faces, colors = split_by_face_color(vertices, faces, face_colors)
  return Mesh(vertices, faces, colors)


def _lines(file: MeshFile) -> tuple[list[str], list[int], str]:
  """The lines that hold something, comments dropped, the keyword split off; their numbers; the keyword."""
  kept = [(number, line) for number, raw in enumerate(file.text().split("\n"), 1)
          if (line := raw.partition("#")[0]).strip()]
  if not kept:
    raise file.fault("nothing but comments")
  number, first = kept[0]
  match = _HEADER.match(first.lstrip())
  if not match:
    raise file.fault(f"line {number}: expected OFF, got {first.strip()[:40]!r}", "check that it is an OFF file")
  if match[1] or match[4] or match[5] or "BINARY" in first:
    raise file.fault(f"line {number}: the variant {first.strip()[:40]!r} is not read", "save it as plain OFF in text")
  rest = first.lstrip()[match.end():]
  kept = ([(number, rest)] if rest.strip() else []) + kept[1:]
  if not kept:
    raise file.fault("the counts are missing after OFF", "the file is cut off: fetch or export it again")
  return [line for _, line in kept], [number for number, _ in kept], match[0]


def _vertices(file: MeshFile, rows: list[str], lines: list[int], kind: str) -> tuple[np.ndarray, np.ndarray | None]:
  widths = np.fromiter((len(row.split()) for row in rows), np.int64, len(rows))
  normal, color = 3 * ("N" in kind), "C" in kind
  allowed = (6 + normal, 7 + normal) if color else (3 + normal,)
  wrong = np.flatnonzero(~np.isin(widths, allowed))
  if len(wrong):
    raise file.fault(f"line {lines[wrong[0]]}: a vertex of {widths[wrong[0]]} numbers, {kind} has {allowed[0]} "
                     f"({len(wrong)} in all)")
  numbers = file.numbers(rows, np.float64, lines)
  starts = (np.cumsum(widths) - widths)[:, None]
  vertices = numbers[starts + np.arange(3)]
  return vertices, colors_to_uint8(file, numbers[starts + 3 + normal + np.arange(3)]) if color else None


def _faces(file: MeshFile, vertices: np.ndarray, rows: list[str], lines: list[int]):
  """Triangles (f, 3) and their colours (f, 3) uint8, None unless every face has r g b."""
  tokens = [row.split() for row in rows]
  sizes = file.numbers([t[0] for t in tokens], np.int64, lines)
  widths = np.fromiter(map(len, tokens), np.int64, len(tokens))
  short = np.flatnonzero((sizes < 3) | (sizes > widths - 1))
  if len(short):
    at = short[0]
    raise file.fault(f"line {lines[at]}: a face of {sizes[at]} corners with {widths[at] - 1} numbers after it "
                     f"({len(short)} in all)")
  corners = file.numbers([" ".join(t[1:n + 1]) for t, n in zip(tokens, sizes.tolist(), strict=True)], np.int64, lines)
  face = np.repeat(np.arange(len(sizes)), sizes)
  file.check_indices(corners, len(vertices), lambda corner: f"line {lines[face[corner]]}")
  file.check_count(int((sizes - 2).sum()), "face")
  faces, owner, folded = triangulate(vertices, corners, sizes)
  if folded:
    file.warn(f"{folded} polygons fold over however they are split")
  extra = widths - sizes - 1
  if not np.isin(extra, (3, 4)).all():
    return faces, None
  rgb = [" ".join(t[n + 1:n + 4]) for t, n in zip(tokens, sizes.tolist(), strict=True)]
  colors = colors_to_uint8(file, file.numbers(rgb, np.float64, lines).reshape(-1, 3), "face")
  return faces, None if colors is None else colors[owner]
