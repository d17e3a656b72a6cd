"""A run's surfaces: of each training shape, or the one of a scene; extracted, simplified and coloured."""

import dataclasses
import re
from collections.abc import Callable, Mapping

import numpy as np

from fields3d.core.errors import UsageFault
from fields3d.core.task import field_of
from fields3d.core.types import Field, Frame, Mesh
from fields3d.extraction.gltf import vertex_normals
from fields3d.extraction.sampling import surface_colors
from fields3d.extraction.simplify import decimate
from fields3d.extraction.sparse import LIPSCHITZ, ExtractionReport, extract
from fields3d.extraction.texture import Texture, bake
from fields3d.geometry.meshes import keep_largest
from fields3d.geometry.rays import from_ndc, to_ndc

REACH = 100.0  # of normalised device coordinates, in near planes: what lies farther is not extracted


@dataclasses.dataclass(frozen=True)
class Surface:
  """One surface to extract: its place in the data, its name and file stem, its field, and its colours.

  color: (points (n, 3), unit outward normals (n, 3)) -> (n, 3) sRGB in [0, 1], or None. method: the usual one.
  unlit: whether colours hold the light. place: a mesh of the field's space in the model frame, where that is another. world: the
    way from the model frame to the data's own, where files are not taken there (`frame`).
  """
  index: int
  name: str
  stem: str
  frame: Frame
  field: Field
  color: Callable | None
  method: str
  unlit: bool = False
  place: Callable[[Mesh], Mesh] | None = None
  world: Mapping | None = None


def surfaces_of(opened, index: tuple[int, ...] | None, level: float) -> list[Surface]:
  """The surfaces of an opened run: the one of its scene where it renders photographs, else each (chosen) training shape's.

  Args:
    level: the density on the surface, where there is no distance.

  Raises:
    UsageFault: there is no such shape, no code of any, or the task predicts neither distance nor density.
  """
  if "render" not in opened.predict:
    return _shapes(opened, index)
  if index not in (None, (0,)):
    raise UsageFault("--index", "the run has one surface", "leave it out")
  return [_scene(opened, level)]


def _shapes(opened, index: tuple[int, ...] | None) -> list[Surface]:
  """The chosen training shapes of a run that fits codes."""
  if "code" not in opened.predict:
    draws = f"draw new shapes: fields3d sample {opened.workdir}" if "sample" in opened.predict else "give a run that fits codes"
    raise UsageFault(opened.workdir, "the run keeps no codes of its training shapes", draws)
  code, shapes = opened.predict["code"], opened.dataset.shapes("train")
  chosen = range(len(shapes)) if index is None else index
  if beyond := [i for i in chosen if i >= len(shapes)]:
    raise UsageFault("--index", f"there is no training shape {beyond[0]}", f"give indices from 0 to {len(shapes) - 1}")
  out = []
  for i in chosen:
    field = field_of(opened.predict, code(i), opened.dataset.info)
    color = None if field.color is None else lambda x, normal, field=field: field.color(x)
    out.append(Surface(i, shapes[i].name, _stem(i, shapes[i].name), shapes[i].frame, field, color, "sparse"))
  return out


def _stem(index: int, name: str) -> str:
  """A file's stem of a shape's name: letters of any script, at most 100 bytes of them in UTF-8, no character cut.

  >>> _stem(3, "../a chair"), len(_stem(0, "椅" * 90))
  ('0003_.._a_chair', 38)
  """
  return f"{index:04d}_" + re.sub(r"[^\w.-]+", "_", name).encode()[:100].decode(errors="ignore")


def _scene(opened, level: float) -> Surface:
  """The one surface of a run on photographs: of its distance, else of its density."""
  predict, code = opened.predict, np.zeros(0, np.float32)
  name = "sdf" if "sdf" in predict else "density"
  field = field_of(predict, code, opened.dataset.info, name, asker=str(opened.workdir))
  color = None if field.color is None else lambda x, normal: field.color(x)
  place, inside = None, lambda x: x
  if ndc := opened.dataset.info.get("ndc"):
    low, high = field.bounds
    field = dataclasses.replace(field, bounds=np.array([[*low[:2], -1.0], [*high[:2], 1 - 2 / REACH]]))
    place, inside = lambda mesh: Mesh(from_ndc(mesh.vertices, ndc), mesh.faces[:, ::-1]), lambda x: to_ndc(x, ndc)
  if "radiance" in predict:
    color = lambda x, normal: predict["radiance"](inside(x), -normal)
  if name == "density":
    field = dataclasses.replace(field, fn=below(field.fn, level))
  return Surface(0, "surface", "surface", Frame(), field, color, "sparse" if name == "sdf" else "dense", "radiance" in predict, place,
                 opened.dataset.info.get("world"))


def below(density: Callable, level: float) -> Callable:
  """A field that is negative where the density is above the level: log(level / density), kept within +-log(100).

  Densities grow by factors, so that the logarithm is nearer to linear between two nodes than the density is.
  """
  def value(x):
    return np.log(level) - np.log(np.clip(np.asarray(density(x)), level / 100, level * 100))
  return value


def mesh_of(surface: Surface, resolution: int, method: str | None = None,
            lipschitz: float | None = None) -> tuple[Mesh, ExtractionReport]:
  """The surface as a mesh of the model frame, without colours; see `extraction.sparse.extract`."""
  plain = dataclasses.replace(surface.field, color=None)
  mesh, report = extract(plain, resolution, method=method or surface.method, lipschitz=lipschitz or LIPSCHITZ)
  return mesh if surface.place is None else surface.place(mesh), report


def finished(mesh: Mesh, color: Callable | None, components: int | None, faces: int | None,
             texture: int | None) -> tuple[Mesh, Texture | None]:
  """The mesh with its largest components, within its budget of faces, and with its colours.

  Args:
    color: as of a `Surface`. components, faces, texture: their numbers, and texels a side; None leaves the step out.
  """
  mesh = keep_largest(mesh, components) if components else mesh
  mesh = decimate(mesh, faces) if faces else mesh
  if texture:
    if color is None:
      raise UsageFault("--texture", "the run's field has no colours", "leave it out")
    return bake(mesh, color, texture)
  if color is None:
    return mesh, None
  return dataclasses.replace(mesh, colors=surface_colors(color, mesh.vertices, vertex_normals(mesh))), None
