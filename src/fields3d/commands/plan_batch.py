"""What a dataset's batches look like, from its section of the config alone: nothing is read, drawn or rendered."""

import inspect
import pathlib
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import jax
import numpy as np

from fields3d.core.errors import UsageFault, nearest
from fields3d.core.types import Dataset, no_views
from fields3d.data import DATASETS
from fields3d.data.npz import read_npz
from fields3d.data.rays import PixelDraws
from fields3d.data.rendered import DISTANCE, FAR, HALF_VIEW, NEAR
from fields3d.data.shape_subjects import SOURCES
from fields3d.data.shape_views import DRAWS, ImageRows

Spec = dict[str, jax.ShapeDtypeStruct]


def _array(*shape: int, dtype=np.float32) -> jax.ShapeDtypeStruct:
  return jax.ShapeDtypeStruct(shape, dtype)


def _classed(classes: Sequence[str], count: int, each: int = 1) -> dict[str, Any]:
  """How many shapes there are, and their classes, which take turns; of each shape `each` variants, side by side."""
  labels = [classes[i % len(classes)] for i in range(count) for _ in range(each) if classes]
  return {"num_shapes": count * each, "classes": sorted(set(labels)), "labels": labels}


def _distances(data: Mapping, count: int | None, full: bool) -> tuple[dict[str, Any], Spec]:
  """Batches of signed distances; `full`: with normals and colours, as procedural shapes have them.

  The classes are the families that the config names; where it names none, all shapes are taken for one class.
  """
  rows, points = data["rows"], data["points"]
  spec = {"shape": _array(rows, dtype=np.int32), "label": _array(rows, dtype=np.int32), "x": _array(rows, points, 3),
          "sdf": _array(rows, points)}
  if data.get("surface"):
    spec["surface"] = _array(rows, data["surface"], 3)
  if full:
    spec |= {"normals": _array(rows, points, 3), "colors": _array(rows, points, 3)}
  return {**_classed(data.get("families") or ("shape",), count), "bounds": [[-1.0] * 3, [1.0] * 3]}, spec


def _rays(data: Mapping, count: int | None, facts: Mapping) -> tuple[dict[str, Any], Spec]:
  """Batches of rays; `facts`: what is known of the scene."""
  draws = data["draws"] if isinstance(data["draws"], PixelDraws) else PixelDraws(**data["draws"])
  rows, rays = draws.pixels, draws.supersample**2
  spec = {name: _array(rows, rays, 3) for name in ("origins", "directions", "viewdirs")}
  spec |= {name: _array(rows, rays) for name in ("radii", "near", "far")}
  spec |= {"view": _array(rows, rays, dtype=np.int32), "rgb": _array(rows, 3), "alpha": _array(rows)}
  half = facts.get("half", 1.0)
  info = {"num_views": count, "near": facts.get("near", 0.2), "far": facts.get("far", 1e3), "ndc": None,
          "unbounded": facts.get("unbounded", False), "bounds": ((-half,) * 3, (half,) * 3), "opaque": facts.get("opaque", False),
          "background": "none", "protocol": {}, "num_shapes": 1}
  info |= {"eyes": [[0.0] * 3] * count, "radii": [0.0] * count} if count else {}
  return info, spec | ({"depth": _array(rows)} if facts.get("depth") else {})


def _pictures(data: Mapping) -> tuple[dict[str, Any], Spec]:
  """Batches of pictures of many shapes, as many as the config says; of a pack, as many as its `max_shapes` or 1000."""
  source, draws = dict(data["source"]), dict(data["draws"])
  kind = DRAWS[draws.pop("name")](**draws)
  name = source.pop("name")
  still = SOURCES[name](**source)
  num = still.num_shapes if name == "families" else still.max_shapes or 1000
  shapes = _classed(still.families if name == "families" else sorted(still.classes), num, dict(data["augment"]).get("variants", 0) + 1)
  camera = {"distance": DISTANCE, "half_view": HALF_VIEW, "near": NEAR, "far": FAR, "width": data["width"]}
  info = {**shapes, "num_views": shapes["num_shapes"] * data["views"], "views_per_shape": data["views"],
          "camera": camera, "near": NEAR, "far": FAR, "ndc": None, "bounds": [[-1.0] * 3, [1.0] * 3],
          "background": "white", "unbounded": False, "opaque": False, "protocol": {}}
  rows = kind.rows
  spec = {"label": _array(rows, dtype=np.int32)}
  if isinstance(kind, ImageRows):
    size = kind.size
    return info, spec | {"rgb": _array(rows, size, size, 3), "alpha": _array(rows, size, size), "pose": _array(rows, 3, 4)}
  spec |= {name: _array(rows, kind.pixels, 3) for name in ("origins", "directions", "viewdirs", "rgb")}
  spec |= {name: _array(rows, kind.pixels) for name in ("radii", "near", "far", "alpha")}
  return info, spec | {"shape": _array(rows, dtype=np.int32), "view": _array(rows, kind.pixels, dtype=np.int32)}


def _specified(data: Mapping, count: int | None) -> tuple[dict[str, Any], Spec]:
  """The facts and the batch of a section, completed by its dataset's defaults."""
  name = data["name"]
  defaults = {p.name: p.default for p in inspect.signature(DATASETS[name]).parameters.values()}
  return SPECS[name]({**defaults, **data}, count or ASSUMED.get(name))


def _voxels(data: Mapping, count: int | None) -> tuple[dict[str, Any], Spec]:
  """What the source's batches hold, and the grids."""
  n, (info, spec) = data["resolution"], _specified(data["source"], count)
  return info | {"voxels": n}, spec | {"voxels": _array(spec["shape"].shape[0], n, n, n)}


def _encoded(data: Mapping, count: int | None) -> tuple[dict[str, Any], Spec]:
  """What the source's batches hold, and the latents if their file is there; without it a plan is of a step that encodes."""
  info, spec = _specified(data["source"], count)
  if not pathlib.Path(data["path"]).exists():
    return info, spec
  kept = read_npz(data["path"], ("latents",))["latents"]
  return info, spec | {"latents": _array(spec["shape"].shape[0], *kept.shape[2:])}


_OBJECT = {"near": 2.0, "far": 6.0, "half": 1.5}
_OUTDOORS = {"unbounded": True, "opaque": True, "half": 8.0}
# dataset -> (section with its defaults, count) -> (facts, batch). A dataset without a line here is made and asked.
SPECS: dict[str, Callable] = {
    "procedural": lambda data, count: _distances(data, data["num_shapes"], full=True),
    "meshes": lambda data, count: _distances(data, count, full=False),
    "pack": lambda data, count: _distances(data, count, full=False),
    "deepsdf": lambda data, count: _distances(data, count, full=False),
    "prepared": lambda data, count: _distances(data, count, full=False),
    "rendered": lambda data, count: _rays(data, data["views"], {"near": NEAR, "far": FAR, "depth": True}),
    "shape_views": lambda data, count: _pictures(data),
    "voxels": _voxels,
    "encoded": _encoded,
    "blender": lambda data, count: _rays(data, count, _OBJECT),
    "transforms": lambda data, count: _rays(data, count, _OUTDOORS),
    "colmap": lambda data, count: _rays(data, count, _OUTDOORS),
    "llff": lambda data, count: _rays(data, count, _OUTDOORS),
}
ASSUMED = {"deepsdf": 3281, "colmap": 161, "blender": 100, "transforms": 100, "llff": 20, "meshes": 1000, "pack": 1000,
           "prepared": 1000}


def planned_dataset(data: Mapping, count: int | None = None) -> tuple[Dataset, Spec, str]:
  """A dataset that knows its facts and no data, its batch's arrays, and what was assumed in words.

  Args:
    data: the section `data` of a checked config.
    count: training shapes, or photographs; by default what the config says, else `ASSUMED`.

  Raises:
    UsageFault: a dataset that has no specification.
  """
  name = data["name"]
  if name not in SPECS:
    raise UsageFault("--config.data.name", f"no plan is made of {name!r}", nearest(name, SPECS))
  info, spec = _specified(data, count)
  said = "" if count or name not in ASSUMED else f"{ASSUMED[name]} training {'photographs' if 'rgb' in spec else 'shapes'} (--count)"
  return Dataset(info, None, None, no_views), spec, said
