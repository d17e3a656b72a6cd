"""A scene as a dataset: batches of rays with the colours that they should see, as a pure function of the data position."""

import concurrent.futures
import dataclasses
import logging
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from fields3d.core.config import Count, Index
from fields3d.core.errors import UsageFault, require_memory
from fields3d.core.types import Dataset, Shape, View
from fields3d.data.pipeline import generator, once
from fields3d.data.scene import Scene
from fields3d.geometry.rays import CameraRig

_TOLD = 5  # warnings of a scene; `fields3d inspect cameras` tells all
_UNBOUNDED = 8.0  # the cube of interest of a contracted scene, in camera radii, for extraction


@dataclasses.dataclass(frozen=True)
class PixelDraws:
  """How pixels are drawn and shot: the section `draws` of every scene's factory.

  pixels: pixels a batch, drawn from all training pixels alike. supersample: rays a pixel along each side. With 1, a ray
    goes through the pixel's middle; with k, one through a random place of each of its k x k parts: their mean is what
    the pixel, an area, shows. seed: of the draws.
  """
  pixels: Count = 4096
  supersample: Count = 1
  seed: Index = 0


def scene_dataset(scene: Scene, settings: PixelDraws, shapes: Callable[[str], Sequence[Shape]] | None = None) -> Dataset:
  """The dataset of a scene.

  A batch is {"origins", "directions", "viewdirs" (p, k^2, 3), "radii", "near", "far" (p, k^2), "view" (p, k^2), of the
  rays; "rgb" (p, 3), premultiplied, and "alpha" (p,), of the pixel; "mask" (p,) bool and "depth" (p,), along the ray through
  its middle, 0 where unknown, where some view has one}. Photographs are read at the first batch. What the scene warns of is logged.

  Args:
    shapes: split -> ground truth, where it is known.

  Raises:
    UsageFault: pixels that do not fit in memory.
  """
  source, log = _Pixels(scene, settings), logging.getLogger(__name__)
  for line in scene.warnings[:_TOLD]:
    log.warning("%s: %s", scene.name, line)
  if len(scene.warnings) > _TOLD:
    log.warning("%s: %d more warnings, see fields3d inspect cameras", scene.name, len(scene.warnings) - _TOLD)
  shapes = shapes or (lambda split: ())
  facts = scene_facts(scene) | ({} if scene.ndc else source.footprints())
  return Dataset(facts, source.batch, shapes, lambda split: scene.views.get(split, ()))


def scene_facts(scene: Scene) -> dict[str, Any]:
  """What a task, a renderer or an evaluator may know of a scene, as JSON."""
  half = scene.bounds or _UNBOUNDED
  first = scene.views["train"][0].camera
  ndc = dict(zip(("width", "height", "fx", "fy"), (*first.size, *first.intrinsics[:2]), strict=True)) | {"near": 1.0}
  return {"num_views": len(scene.views["train"]), "near": scene.near, "far": scene.far, "ndc": ndc if scene.ndc else None,
          "unbounded": scene.bounds is None, "bounds": ((-half,) * 3, (half,) * 3), "opaque": scene.opaque,
          "background": scene.protocol.get("background", "none"), "protocol": dict(scene.protocol),
          "num_shapes": 1, "world": {"rotation": scene.rotation or np.eye(3).tolist(), **dataclasses.asdict(scene.frame)}}


class _Pixels:
  """All training pixels, drawn from by position."""

  def __init__(self, scene: Scene, settings: PixelDraws):
    self.views, self.settings = list(scene.views["train"]), settings
    self.rig = CameraRig([view.camera for view in self.views], scene_facts(scene))
    self.axes = -np.array([view.camera.pose[:, 2] for view in self.views])
    self.widths = np.array([view.camera.size[0] for view in self.views])
    sizes = np.array([view.camera.size[0] * view.camera.size[1] for view in self.views], np.int64)
    self.ends = np.cumsum(sizes)
    self.starts = self.ends - sizes
    side = settings.supersample
    corners = np.stack(np.meshgrid(np.arange(side), np.arange(side)), axis=-1).reshape(1, -1, 2)
    self.corners = corners.astype(np.float64)
    self.pixels = once(self._read)
    require_memory(int(self.ends[-1]) * 8, "--config.data", f"{len(sizes)} photographs, {self.ends[-1]:,} pixels: "
                   "give a smaller width or fewer of them")

  def _read(self) -> dict[str, np.ndarray]:
    """"colors" (all pixels, 4) uint16; "mask" (n,) bool and "depth" (n,) float32 where some view has one."""
    def laid_out(read: Callable[[View], np.ndarray], kind: np.dtype) -> np.ndarray:
      out = np.empty(self.ends[-1], kind)

      def lay(start: int, end: int, view: View) -> None:
        out[start:end] = read(view).reshape(end - start, *kind.shape)

      with concurrent.futures.ThreadPoolExecutor(8) as pool:
        list(pool.map(lay, self.starts, self.ends, self.views))
      return out

    out = {"colors": laid_out(lambda view: view.pixels(), np.dtype((np.uint16, 4)))}
    if any(view.mask for view in self.views):
      out["mask"] = laid_out(_mask, np.dtype(bool))
    if any(view.depth for view in self.views):
      out["depth"] = laid_out(_depth, np.dtype(np.float32))
    return out

  def footprints(self) -> dict[str, list]:
    """"eyes" (v, 3) and "radii" (v,), of the cone of a ray through the middle, a length from the eye."""
    middles = np.array([view.camera.size for view in self.views]) / 2
    shot = self.rig.rays(np.arange(len(self.views)), middles)
    seen = (shot.far > shot.near) & np.isfinite(shot.radii)
    if not seen.any():
      return {}
    return {"eyes": shot.origins[seen].tolist(), "radii": (shot.radii[seen] / self.settings.supersample).tolist()}

  def batch(self, position: int, shard: int = 0, num_shards: int = 1) -> Mapping[str, np.ndarray]:
    num, side = self.settings.pixels, self.settings.supersample
    if num % num_shards:
      raise UsageFault("--config.data.draws.pixels", f"{num} pixels do not divide over {num_shards} processes",
                       f"give a multiple of {num_shards}")
    own = slice(shard * num // num_shards, (shard + 1) * num // num_shards)
    rng = generator(self.settings.seed, position)
    chosen = rng.integers(self.ends[-1], size=num)[own]
    place = rng.random((num, side * side, 2))[own] if side > 1 else 0.5
    view = np.searchsorted(self.ends, chosen, side="right")
    inside = chosen - self.starts[view]
    corner = np.stack([inside % self.widths[view], inside // self.widths[view]], axis=-1)[:, None]
    at = corner + (self.corners + place) / side
    shot = self.rig.rays(np.repeat(view, side * side), at.reshape(-1, 2))
    out = {name: value.reshape(len(view), side * side, *value.shape[1:]) for name, value in dataclasses.asdict(shot).items()}
    out["radii"] = out["radii"] / np.float32(side)
    pixels = self.pixels()
    colors = pixels["colors"][chosen].astype(np.float32) / 65535
    extra = {name: pixels[name][chosen] for name in ("mask", "depth") if name in pixels}
    if "depth" in extra:
      ahead = np.einsum("pki,pi->p", out["viewdirs"], self.axes[view]) / side**2  # cosine of the ray and the camera's axis
      extra["depth"] = np.where(ahead > 0, extra["depth"] / np.where(ahead > 0, ahead, 1), 0).astype(np.float32)
    return out | {"rgb": colors[:, :3], "alpha": colors[:, 3]} | extra


def _mask(view: View) -> np.ndarray:
  width, height = view.camera.size
  return view.mask() if view.mask else np.ones((height, width), bool)


def _depth(view: View) -> np.ndarray:
  width, height = view.camera.size
  return view.depth() if view.depth else np.zeros((height, width), np.float32)
