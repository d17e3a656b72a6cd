"""How published tables measure meshes and images: frame, points, distances and units, by the protocol's name.

A figure that carries a protocol's name in brackets may stand beside that table's, as far as shapes and splits agree.
`describe` lists every protocol with its source, those of point clouds (`cloud_protocols`) too.
"""

import dataclasses
import functools
from collections.abc import Callable, Mapping, Sequence
from typing import Literal

import numpy as np

from fields3d.core.errors import BadData, UsageFault, nearest
from fields3d.core.numerics import distinct
from fields3d.core.types import Frame, Mesh
from fields3d.evaluation import cloud_protocols
from fields3d.evaluation.matches import Matches, Measure, distance, half_sum, harmonic, match, measured, total
from fields3d.evaluation.results import Metric
from fields3d.geometry.distance import inside
from fields3d.geometry.meshes import sample_surface
from fields3d.metrics.statistics import percentile_interval, resampled_means


@dataclasses.dataclass(frozen=True)
class MeshProtocol:
  """One protocol between two meshes.

  unit: which length of a shape's box is `length`. centred: whether the box's centre moves to the origin.
  own_unit: each mesh is scaled by its own box, not both by the truth's.
  points: uniform by area on each surface. measures: name -> measure, in that frame.
  iou: (points, half side) of the cube in which occupancy is compared, or None.
  frame: in words. sources: file and function (or thread) of each statement.
  """
  unit: Literal["diagonal", "side"]
  length: float
  points: int
  measures: Mapping[str, Measure]
  frame: str
  sources: tuple[str, ...]
  centred: bool = True
  own_unit: bool = False
  iou: tuple[int, float] | None = None


@dataclasses.dataclass(frozen=True)
class ImageProtocol:
  """One protocol of images: their size (None: any), background, how many a scene has (None: varies), in words."""
  size: tuple[int, int] | None
  background: str
  views: int | None
  words: str
  sources: tuple[str, ...]


def _thousand_squares(direction):
  return 1000 * direction.distance**2


_SQUARED = "1000 x (mean squared distance prediction to truth + truth to prediction)"

MESH_PROTOCOLS: Mapping[str, MeshProtocol] = {
    "deepsdf": MeshProtocol(
        unit="diagonal", length=1.0, points=30_000,
        measures={"chamfer": Measure(_thousand_squares, total, "lower", _SQUARED, power=2)},
        frame="ShapeNetCore v2's unit, in which a shape's box has diagonal 1 (the un-normalised frame of the evaluation)",
        sources=(
            "facebookresearch/DeepSDF deep_sdf/metrics/chamfer.py: compute_trimesh_chamfer (30,000 samples, np.square, "
            "the two means summed, points / scale - offset)",
            "x 1000: Park et al. 2019, tables 2 to 4 (not looked up)",
            "the unit: fwilliams/point-cloud-utils issue 53, whose model's corners span 0.999")),
    "occnet": MeshProtocol(
        unit="side", length=1.0, points=100_000, iou=(100_000, 0.55),
        measures={
            "chamfer_l1": Measure(
                lambda d: 10 * d.distance, half_sum, "lower", "(mean distance prediction to truth + truth to prediction) "
                "/ 2, not squared, in tenths of the longest side", power=1),
            "normal_consistency": Measure(
                lambda d: d.cosine, half_sum, "higher",
                "mean |cosine| of the normals of nearest neighbours, averaged over both ways")},
        frame="the truth's box centred, its longest side 1",
        sources=(
            "autonomousvision/occupancy_networks im2mesh/eval.py: MeshEvaluator.eval_pointcloud (chamfer-L1, normals)",
            "eval_meshes.py: MeshEvaluator(n_points=100000)",
            "occupancy_networks issue 23: the longest side of the box is 1",
            "a tenth of that side as the unit of Chamfer-L1, and the cube of side 1.1 for IoU: Mescheder et al. 2019, "
            "section 4 and supplement (not looked up)")),
    "vecset": MeshProtocol(
        unit="side", length=2.0, points=100_000, iou=(100_000, 1.0),
        measures={
            "chamfer": Measure(
                distance, total, "lower", "mean distance prediction to truth + truth to prediction, not squared", power=1),
            "f_score@0.02": Measure(
                lambda d: (d.distance < 0.02).astype(np.float64), harmonic, "higher",
                "harmonic mean of precision and recall at 0.02")},
        frame="the truth's box centred, its longest side from -1 to 1",
        sources=(
            "1zb/3DShape2VecSet eval.py: main (m.sample(100000), gt_to_gen_chamfer + gen_to_gt_chamfer, th = 0.02)",
            "the frame: 1zb/3DILG issue 5, \"points are scaled to [-1, 1]\" (the scale's formula is not published)",
            "IoU there is of the network at the data set's own points; here of the meshes, uniform in that cube")),
    "get3d": MeshProtocol(
        unit="side", length=1.0, points=2048, centred=False, own_unit=True,
        measures={"chamfer": Measure(
            _thousand_squares, total, "lower",
            f"{_SQUARED}; the table's MMD is the mean over truths of the least of it", power=2)},
        frame="each mesh about the files' origin, its own box's longest side 1",
        sources=(
            "nv-tlabs/GET3D evaluation_scripts/compute_cd.py: sample_point_with_mesh_name (2,048 points, vertices / "
            "longest side, not centred), chamfer_distance",
            "NVIDIAGameWorks/kaolin metrics/pointcloud.py: chamfer_distance (squared, means summed)",
            "evaluation_scripts/compute_cov_mmd.py: get_score (x 1000)",
            "its cars are sampled from the outer surface only (sample_surface.py); here from all of it")),
}

_FILES = "jaxnerf/eval.py: main (the mean over images of compute_psnr); of floats there, of the files' 8 bits here"

IMAGE_PROTOCOLS: Mapping[str, ImageProtocol] = {
    "nerf_synthetic": ImageProtocol(
        size=(800, 800), background="white", views=200,
        words="800 x 800, all 200 test views, on white, sRGB; the mean over views of PSNR, each from its own mean squared "
        "error; SSIM as jaxnerf's; LPIPS here is AlexNet's, most tables print VGG's",
        sources=("google-research/jaxnerf nerf/datasets.py: Blender._load_renderings (white_bkgd)", _FILES)),
    "llff": ImageProtocol(
        size=(1008, 756), background="none", views=None,
        words="1008 x 756 (photographs at a quarter of their size), every 8th photograph from the first held out, opaque, "
        "sRGB; the mean over views of PSNR; LPIPS here is AlexNet's, most tables print VGG's",
        sources=("google-research/jaxnerf nerf/datasets.py: LLFF._load_renderings (images_4, arange(n)[::llffhold])",
                 _FILES)),
}


def mesh_protocol(name: str, where: str = "protocol") -> MeshProtocol:
  """The protocol of a name.

  >>> mesh_protocol("get3d").points
  2048
  """
  if name not in MESH_PROTOCOLS:
    raise UsageFault(where, f"no protocol of meshes is called {name!r}", nearest(name, MESH_PROTOCOLS))
  return MESH_PROTOCOLS[name]


def measure_meshes(prediction: Mesh | None, truth: Mesh, name: str, *, seed: int = 0, index: int = 0,
                   truth_inside: Callable | None = None) -> tuple[Metric, ...]:
  """The figures of a protocol, each "<figure> [<protocol>]", with floors and intervals as of `geometry.compare`.

  Args:
    prediction: in the truth's frame, any that keeps its shape; None is the empty one.
    name: of `MESH_PROTOCOLS`.
    seed, index: of the points; shapes of one set share the seed and differ in the index.
    truth_inside: points (n, 3) of the given frame -> (n,) bool; the truth mesh's own winding number when None.

  Raises:
    UsageFault: no such protocol. BadData: a mesh without extent.
  """
  protocol = mesh_protocol(name)
  frame = protocol_frame(truth, protocol)
  rngs = np.random.default_rng((seed, index)).spawn(4)
  ours = None
  if prediction is not None:
    ours = _moved(prediction, protocol_frame(prediction, protocol) if protocol.own_unit else frame)
  true = _moved(truth, frame)
  clouds = [None if mesh is None else sample_surface(mesh, protocol.points, rng)
            for mesh, rng in zip((true, true, ours), rngs, strict=False)]
  matches: Matches | None = None if clouds[2] is None else match(clouds[2], clouds[0])
  sampling = f"{protocol.points:,} points uniform by area on each surface; {protocol.frame}"
  found = [dataclasses.replace(metric, protocol=metric.protocol.replace("; normalised frame", "")) for metric in
           measured(protocol.measures, matches, match(clouds[1], clouds[0]), sampling, seed, None)]
  if protocol.iou:
    in_truth = functools.partial(inside, true)
    if truth_inside is not None:
      in_truth = lambda x: np.asarray(truth_inside(x * frame.scale + np.asarray(frame.offset)), bool)
    found.append(_iou(ours, in_truth, protocol, rngs[3], seed))
  return tuple(dataclasses.replace(metric, name=f"{metric.name} [{name}]") for metric in found)


def protocol_frame(mesh: Mesh, protocol: MeshProtocol) -> Frame:
  """The frame in which the protocol measures, from a mesh's box.

  >>> box = Mesh(np.array([[0.0, 0, 0], [4, 2, 0], [0, 2, 1]]), np.array([[0, 1, 2]]))
  >>> protocol_frame(box, mesh_protocol("vecset"))
  Frame(offset=(2.0, 1.0, 0.5), scale=2.0)
  """
  corners = mesh.vertices[distinct(mesh.faces)]
  low, high = corners.min(0), corners.max(0)
  extent = float(np.linalg.norm(high - low) if protocol.unit == "diagonal" else np.max(high - low))
  if not 0 < extent < np.inf:
    raise BadData("mesh", f"extent is {extent:g}", "give a mesh of finite, non-zero size")
  offset = (low + high) / 2 if protocol.centred else np.zeros(3)
  return Frame(tuple(offset.tolist()), extent / protocol.length)


def _moved(mesh: Mesh, frame: Frame) -> Mesh:
  return Mesh((mesh.vertices - np.asarray(frame.offset)) / frame.scale, mesh.faces)


def _iou(prediction: Mesh | None, truth_inside: Callable, protocol: MeshProtocol, rng: np.random.Generator,
         seed: int) -> Metric:
  points, half = protocol.iou
  x = rng.uniform(-half, half, (points, 3))
  ours = np.zeros(points, bool) if prediction is None else inside(prediction, x)
  theirs = truth_inside(x)
  both, either = ours & theirs, ours | theirs
  means = resampled_means(np.stack([both, either], axis=1), np.random.default_rng((seed, 2)))
  ratio = np.divide(means[:, 0], means[:, 1], out=np.ones(len(means)), where=means[:, 1] > 0)
  low, high = percentile_interval(ratio)
  value = float(both.sum() / either.sum()) if either.any() else 1.0
  return Metric("volumetric_iou", value, low, high, points, seed, 1.0, "higher", "volume in both over volume in either, "
                f"{points:,} points uniform in the cube of half side {half:g}; {protocol.frame}")


def image_words(name: str, sizes: Sequence[tuple[int, int]], background: str, where: str = "--protocol") -> str:
  """A protocol's name as it stands in figures' names, once the images are seen to be what it asks for.

  Args:
    sizes: (width, height) of each image. background: that transparent pixels were put on.

  Returns:
    "nerf_synthetic", or "nerf_synthetic, 20 of 200 views".

  Raises:
    UsageFault: no such protocol, another background. BadData: an image of another size, or too many.

  >>> image_words("nerf_synthetic", [(800, 800)] * 2, "white")
  'nerf_synthetic, 2 of 200 views'
  """
  if name not in IMAGE_PROTOCOLS:
    raise UsageFault(where, f"no protocol of images is called {name!r}", nearest(name, IMAGE_PROTOCOLS))
  protocol = IMAGE_PROTOCOLS[name]
  if protocol.background not in ("none", background):
    raise UsageFault("--background", f"{name} is on {protocol.background}", f"give --background {protocol.background}")
  for size in sizes:
    if protocol.size not in (None, size):
      raise BadData(where, f"{name}'s images are {_pixels(protocol.size)}, one here is {_pixels(size)}",
                    "give images of that size, or leave the protocol out")
  if protocol.views is not None and len(sizes) != protocol.views:
    if len(sizes) > protocol.views:
      raise BadData(where, f"{name} has {protocol.views} views, here are {len(sizes)}", "give one scene's test views")
    return f"{name}, {len(sizes)} of {protocol.views} views"
  return name


def _pixels(size: tuple[int, int]) -> str:
  return f"{size[0]}x{size[1]}"


def describe() -> str:
  """Every protocol: what it measures, its frame or views, and where that is written, as text."""
  lines = []
  for name, mesh in MESH_PROTOCOLS.items():
    figures = ", ".join([*mesh.measures, *["volumetric_iou"] * bool(mesh.iou)])
    lines += [f"{name} (meshes): {figures}; {mesh.points:,} points; {mesh.frame}"]
    lines += [f"    {measure.definition}" for measure in mesh.measures.values()]
    lines += [f"    source: {source}" for source in mesh.sources]
  for name, cloud in cloud_protocols.PROTOCOLS.items():
    lines += [f"{name} (point clouds): {cloud.points:,} points; {cloud.frame}", f"    {cloud.chamfer_words}",
              f"    {cloud.emd_words}", *(f"    source: {source}" for source in cloud.sources)]
  for name, image in IMAGE_PROTOCOLS.items():
    lines += [f"{name} (images): {image.words}", *(f"    source: {source}" for source in image.sources)]
  return "\n".join(lines)
