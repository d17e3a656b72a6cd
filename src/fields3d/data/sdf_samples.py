"""Signed-distance samples of a mesh, drawn as DeepSDF draws them, and their records on disk.

Differences from DeepSDF's preprocessing, each to be more exact: distances are to the triangles rather than to the
nearest of many surface points, signs are winding numbers rather than votes of 11 normals (`geometry/distance.py` has
the error rates), and no sample is thrown away for a doubtful sign.
"""

import dataclasses

import numpy as np

from fields3d.core.errors import BadData
from fields3d.core.types import Mesh
from fields3d.data.pipeline import SdfSamples
from fields3d.geometry import distance
from fields3d.geometry.meshes import face_normals, sample_surface

_NEAR = 1e-6  # below this distance a gradient is the face's normal


@dataclasses.dataclass(frozen=True)
class Protocol:
  """How many samples, and where.

  num: in all. near_fraction of them are surface points displaced by Gaussian noise, each point once by each of
  `near_variances` (squared lengths, per axis); the rest are uniform in the cube [-1, 1]^3.
  """
  num: int = 500_000
  near_variances: tuple[float, ...] = (0.005, 0.0005)
  near_fraction: float = 0.94


# Source: Park et al. 2019, "DeepSDF", section 5.1, with the numbers of its released preprocessing.
TRAINING = Protocol()
TESTING = Protocol(250_000, (0.05, 0.0005), 0.94)


def draw_points(mesh: Mesh, protocol: Protocol, rng: np.random.Generator) -> np.ndarray:
  """Where to sample: (num, 3) float32, those near the surface first."""
  variances = protocol.near_variances
  num_near = round(protocol.num * protocol.near_fraction) if variances else 0
  count = -(-num_near // max(len(variances), 1))
  surface = sample_surface(mesh, count, rng).points if count else np.zeros((0, 3))
  near = [surface + rng.normal(scale=np.sqrt(v), size=surface.shape) for v in variances]
  around = np.concatenate([*near, np.zeros((0, 3))])[:num_near]
  return np.concatenate([around, rng.uniform(-1, 1, (protocol.num - num_near, 3))]).astype(np.float32)


def sample_sdf(mesh: Mesh, protocol: Protocol, rng: np.random.Generator, sign: distance.Sign = "winding",
               faces: np.ndarray | None = None) -> SdfSamples:
  """Signed-distance samples with the distance's gradient, and the nearest surface point's colour where there is one.

  The distance is that of the float32 point, rounded to float32.

  Args:
    mesh: in the model frame, [-1, 1]^3.
    sign: how distances are signed.
    faces: (f,) bool, the faces that bound the solid (`distance.expose`); all by default.

  >>> import trimesh
  >>> box = trimesh.creation.box([1, 1, 1])
  >>> s = sample_sdf(Mesh(box.vertices, box.faces), Protocol(100), np.random.default_rng(0))
  >>> s.x.shape, bool((s.sdf[:s.num_outside] >= 0).all()), bool((s.sdf[s.num_outside:] < 0).all())
  ((100, 3), True, True)
  """
  surface = mesh if faces is None else dataclasses.replace(mesh, faces=mesh.faces[faces])
  x = draw_points(surface, protocol, rng)
  return label_points(mesh, x, sign, faces)


def label_points(mesh: Mesh, x: np.ndarray, sign: distance.Sign = "winding",
                 faces: np.ndarray | None = None) -> SdfSamples:
  """The samples at given points x (n, 3) float32, outside ones first; otherwise as `sample_sdf`."""
  at = x.astype(np.float64)
  length, face, foot = distance.closest(mesh, at, faces)
  inner = distance.inside(mesh, at, sign)
  gradient = (at - foot) / np.maximum(length, _NEAR)[:, None]
  gradient[inner] *= -1
  on = np.flatnonzero(length < _NEAR)
  gradient[on] = _outward(mesh, face[on], foot[on], sign)
  colors = None if mesh.colors is None else distance.surface_colors(mesh, face, foot)
  sdf = np.where(inner, -length, length).astype(np.float32)
  return split_by_sign(x, sdf, gradient.astype(np.float32), colors)


def _outward(mesh: Mesh, face: np.ndarray, foot: np.ndarray, sign: distance.Sign) -> np.ndarray:
  """The normals of faces at points on them, turned away from the solid."""
  normal = face_normals(mesh)[face]
  inward = distance.inside(mesh, foot + 10 * _NEAR * normal, sign)
  return np.where(inward[:, None], -normal, normal)


def split_by_sign(x: np.ndarray, sdf: np.ndarray, normals: np.ndarray | None = None,
                  colors: np.ndarray | None = None) -> SdfSamples:
  """Samples in the order that training wants: outside (sdf >= 0) first, otherwise as given."""
  order = np.argsort(sdf < 0, kind="stable")
  pick = lambda a: None if a is None else np.ascontiguousarray(a[order])
  return SdfSamples(pick(x), pick(sdf), int((sdf >= 0).sum()), pick(normals), pick(colors))


def record_type(normals: bool, colors: bool) -> np.dtype:
  """One sample on disk: all of it in one place, so that a random sample costs one page."""
  fields = [("x", "<f4", (3,)), ("sdf", "<f4")]
  fields += [("normal", "<f4", (3,))] if normals else []
  fields += [("rgba", "u1", (4,))] if colors else []
  return np.dtype(fields)


def to_records(samples: SdfSamples) -> np.ndarray:
  """Samples as a record array (n,).

  >>> s = split_by_sign(np.zeros((2, 3), np.float32), np.float32([-1, 1]))
  >>> from_records(to_records(s), s.num_outside).sdf.tolist()
  [1.0, -1.0]
  """
  records = np.zeros(len(samples.sdf), record_type(samples.normals is not None, samples.colors is not None))
  records["x"], records["sdf"] = samples.x, samples.sdf
  if samples.normals is not None:
    records["normal"] = samples.normals
  if samples.colors is not None:
    records["rgba"][:, :3], records["rgba"][:, 3] = samples.colors, 255
  return records


def from_records(records: np.ndarray, num_outside: int) -> SdfSamples:
  """The samples of a record array, as views of it: of a mapped file, nothing is read yet."""
  if not 0 <= num_outside <= len(records):
    raise BadData("samples", f"{num_outside} of {len(records)} are outside", "prepare them again")
  names = records.dtype.names
  return SdfSamples(np.asarray(records["x"]), np.asarray(records["sdf"]), num_outside,
                    np.asarray(records["normal"]) if "normal" in names else None,
                    np.asarray(records["rgba"])[:, :3] if "rgba" in names else None)
