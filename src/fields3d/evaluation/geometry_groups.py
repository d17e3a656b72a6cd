"""The groups of geometry metrics that are measured on request, each a function of a case: both surfaces and samples.

Every group says its convention in its metrics' names and protocols, and stands beside the same figure of the truth
against itself, sampled anew (the floor), where there is one.
"""

import dataclasses
import functools
from collections.abc import Callable, Mapping

import numpy as np

from fields3d.core.numerics import distinct
from fields3d.core.types import Frame, Mesh, PointCloud
from fields3d.evaluation.matches import (
  Direction,
  Matches,
  Measure,
  distance,
  half_sum,
  harmonic,
  match,
  measured,
  one_way,
  squared_distance,
  total,
)
from fields3d.evaluation.results import Metric
from fields3d.geometry.distance import inside
from fields3d.geometry.meshes import sample_surface
from fields3d.metrics import edges, voxels

ANGLES = (11.25, 22.5, 30.0)  # degrees
VOXELS = 64
FEW_POINTS = 2048


@dataclasses.dataclass(frozen=True)
class Case:
  """One prediction against one truth, in the normalised frame.

  prediction: None is the empty one, and then so is its sample. true, again: independent samples of the truth.
  truth_inside: points (n, 3) -> (n,) bool. sign: where it comes from, in words.
  frame: distances are given in its world unit. max_distance: see `distances`.
  """
  prediction: Mesh | None
  truth: Mesh
  sample: PointCloud | None
  true: PointCloud
  again: PointCloud
  seed: int
  truth_inside: Callable
  sign: str
  frame: Frame | None
  max_distance: float | None

  @functools.cached_property
  def matches(self) -> Matches | None:
    return None if self.sample is None else match(self.sample, self.true)

  @functools.cached_property
  def floor(self) -> Matches:
    return match(self.again, self.true)

  @property
  def sampling(self) -> str:
    return f"{len(self.true.points):,} points uniform by area on each surface"

  def prediction_inside(self, x: np.ndarray) -> np.ndarray:
    """Which of the points (n, 3) lie in the predicted solid."""
    return np.zeros(len(x), bool) if self.prediction is None else inside(self.prediction, x)


def distances(case: Case, rng: np.random.Generator) -> list[Metric]:
  """The chamfer distances in every convention, and accuracy and completeness as of multi-view stereo (DTU).

  With `max_distance` accuracy and completeness are of the points that are nearer only, as the DTU benchmark discards
  those beyond 20 mm; n then counts what is left. (DTU also masks by visibility and thins points to 0.2 mm.)

  Source: Jensen et al. 2014, "Large scale multi-view stereopsis evaluation", section 4, and its released
    BaseEvalMain_web.m and ComputeStat_web.m (MaxDist = 20).
  """
  del rng
  measures = dict(CHAMFERS)
  limit = case.max_distance
  name, words, keep = "", "", None
  if limit is not None:
    given = limit * (1.0 if case.frame is None else case.frame.scale)
    name, words = f"@max{given:g}", f", points farther than {given:g} left out"
    keep = lambda d: d.distance < limit
  for way, title, what in (("forward", "accuracy", "prediction to truth"),
                           ("backward", "completeness", "truth to prediction")):
    for pool, suffix in (("mean", ""), ("median", "_median")):
      measures[f"{title}{suffix}{name}"] = one_way(
          way, distance, "lower", f"{pool} distance {what}, not squared{words}", pool=pool, power=1, keep=keep)
  return measured(measures, case.matches, case.floor, case.sampling, case.seed, case.frame)


CHAMFERS: Mapping[str, Measure] = {
    "chamfer_sum_squared": Measure(
        squared_distance, total, "lower", "mean squared distance prediction to truth + truth to prediction", power=2),
    "chamfer_mean_squared": Measure(
        squared_distance, half_sum, "lower", "(mean squared distance prediction to truth + truth to prediction) / 2",
        power=2),
    "chamfer_sum_unsquared": Measure(
        distance, total, "lower", "mean distance prediction to truth + truth to prediction, not squared", power=1),
    "chamfer_to_truth_squared": one_way(
        "forward", squared_distance, "lower", "mean squared distance prediction to truth", power=2),
    "chamfer_to_prediction_squared": one_way(
        "backward", squared_distance, "lower", "mean squared distance truth to prediction", power=2),
}


def angle(direction: Direction) -> np.ndarray:
  """(n,) degrees between a normal and its nearest neighbour's, 0 to 90: which way a face looks does not count."""
  return np.degrees(np.arccos(np.clip(direction.cosine, 0, 1)))


def normals(case: Case, rng: np.random.Generator) -> list[Metric]:
  """Surface-normal concordance: the angles themselves, shares within 11.25, 22.5 and 30 degrees, and orientation.

  Source of the thresholds: Fouhey, Gupta & Hebert 2013, "Data-driven 3D primitives", section 5.
  """
  del rng
  near = "between the face normals of nearest neighbours, averaged over both ways"
  measures = {
      "normal_angle_mean": Measure(angle, half_sum, "lower", f"mean angle (degrees, 0 to 90) {near}"),
      "normal_angle_median": Measure(angle, half_sum, "lower", f"median angle (degrees, 0 to 90) {near}",
                                     pool="median"),
      **{f"normals_within@{limit:g}deg": Measure(
          lambda d, limit=limit: (angle(d) < limit).astype(np.float64), half_sum, "higher",
          f"share of angles under {limit:g} degrees {near}") for limit in ANGLES},
      "normal_cosine_signed": Measure(
          lambda d: d.signed, half_sum, "higher", f"mean cosine with its sign {near}: turned faces count against it"),
      "normals_turned": Measure(
          lambda d: (d.signed < -1e-6).astype(np.float64), half_sum, "lower", f"share of negative cosines {near}"),
  }
  return measured(measures, case.matches, case.floor, case.sampling, case.seed, case.frame)


def sharp_edges(case: Case, rng: np.random.Generator) -> list[Metric]:
  """The chamfer distance and F-score of points near sharp edges; None where a shape has none (F: 0, or 1 if neither).

  100,000 points on each surface; one is near an edge if another within 0.01 of the truth's longest side has a normal
  with |cos| < 0.1, BSP-Net's rule; F at 0.01 of that side. See `metrics.edges`.
  """
  side = float(np.ptp(case.truth.vertices[distinct(case.truth.faces)], axis=0).max())
  radius, threshold = edges.RADIUS * side, edges.THRESHOLD * side
  streams = rng.spawn(3)
  meshes = (case.prediction, case.truth, case.truth)
  found = [None if mesh is None else edges.edge_cloud(sample_surface(mesh, edges.POINTS, stream), radius)
           for mesh, stream in zip(meshes, streams, strict=True)]
  words = (f"points near sharp edges (another within {edges.RADIUS} of the truth's longest side whose normal has |cos| "
           f"< {edges.COSINE}) of {edges.POINTS:,} uniform by area on each surface")
  measures = {
      "edge_chamfer_sum_squared": Measure(
          squared_distance, total, "lower", "mean squared distance prediction to truth + truth to prediction", power=2),
      f"edge_f_score@{edges.THRESHOLD:g}side": Measure(
          lambda d: (d.distance < threshold).astype(np.float64), harmonic, "higher",
          f"harmonic mean of precision and recall at {edges.THRESHOLD:g} of the truth's longest side"),
  }
  predicted, true, again = found
  if len(true.points) == 0 or len(again.points) == 0:
    share = 1.0 if predicted is not None and not len(predicted.points) else 0.0
    return [Metric(name, None if m.better == "lower" else share, None, None, 0, case.seed,
                   None if m.better == "lower" else 1.0, m.better, f"{m.definition}; {words}")
            for name, m in measures.items()]
  matches = None if predicted is None or not len(predicted.points) else match(predicted, true)
  return measured(measures, matches, match(again, true), words, case.seed, case.frame)


def voxel_iou(case: Case, rng: np.random.Generator) -> list[Metric]:
  """The IoU of solid voxels: 64^3 centres in the least cube about both surfaces' joint box."""
  del rng
  corners = [mesh.vertices[distinct(mesh.faces)] for mesh in (case.prediction, case.truth) if mesh is not None]
  x = voxels.cube_centres(np.min([c.min(0) for c in corners], 0), np.max([c.max(0) for c in corners], 0), VOXELS)
  shape = (VOXELS,) * 3
  ours, theirs = (np.asarray(f(x), bool).reshape(shape) for f in (case.prediction_inside, case.truth_inside))
  protocol = (f"volume in both over volume in either of {VOXELS}^3 voxels by their centres, in the least cube about "
              f"both surfaces; inside by the predicted mesh's winding number and the true {case.sign}; every voxel is "
              "counted: no interval")
  return [Metric(f"voxel_iou@{VOXELS}", voxels.iou(ours, theirs), None, None, VOXELS**3, case.seed, 1.0, "higher",
                 protocol)]


def transport(case: Case, rng: np.random.Generator) -> list[Metric]:
  """The exact earth mover's distance and the density-aware chamfer distance of 2,048 samples each."""
  from fields3d.metrics.clouds import density_aware_chamfer
  from fields3d.metrics.transport import emd
  streams = rng.spawn(3)
  sample, true, again = (None if mesh is None else sample_surface(mesh, FEW_POINTS, stream).points
                         for mesh, stream in zip((case.prediction, case.truth, case.truth), streams, strict=True))
  scale = 1.0 if case.frame is None else case.frame.scale
  unit = "normalised frame" if case.frame is None else "world frame"
  sampling = f"{FEW_POINTS:,} points uniform by area on each surface; one figure of all points: no interval"
  out = []
  for name, fn, factor, words in (
      ("emd", emd, scale, f"mean distance, not squared, of the best assignment of the points (exact); {unit}"),
      ("density_aware_chamfer", density_aware_chamfer, 1.0, "Wu et al. 2021, equation 6, alpha 1000, squared distance; "
       "normalised frame")):
    value = None if sample is None else factor * float(fn(sample, true))
    out.append(Metric(f"{name}@{FEW_POINTS}", value, None, None, FEW_POINTS, case.seed,
                      factor * float(fn(again, true)), "lower", f"{words}; {sampling}"))
  return out


def silhouettes(case: Case, rng: np.random.Generator) -> list[Metric]:
  """The LFD-like distance of silhouettes; see `metrics.silhouettes` for what differs from the published one."""
  del rng
  from fields3d.metrics.silhouettes import PROTOCOL, light_field, light_field_distance
  value = None
  if case.prediction is not None:
    value = light_field_distance(light_field(case.prediction), light_field(case.truth))
  return [Metric("lfd_like", value, None, None, 1, case.seed, None, "lower", PROTOCOL)]


GROUPS: Mapping[str, Callable[[Case, np.random.Generator], list[Metric]]] = {
    "distances": distances,
    "normals": normals,
    "edges": sharp_edges,
    "voxels": voxel_iou,
    "transport": transport,
    "silhouettes": silhouettes,
}
