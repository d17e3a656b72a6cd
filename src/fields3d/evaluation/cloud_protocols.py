"""How published tables of point-cloud generation measure: distances, points, frame and units, by the protocol's name.

The distances inside MMD, COV and 1-NNA are the protocol's own. The authors' code approximates the EMD by annealing: to
stand beside their tables take "emd_annealed" (`metrics.annealed_matching`, by the protocol's name), and "emd", which is
exact, for what they approximate.
"""

import dataclasses
from collections.abc import Mapping

import numpy as np

from fields3d.core.errors import UsageFault, nearest
from fields3d.metrics.annealed_matching import ANNEALINGS


@dataclasses.dataclass(frozen=True)
class CloudProtocol:
  """One protocol.

  chamfer, emd: names of `metrics.pairs` distances. points: of each cloud.
  scale: x_protocol = scale x_model, where the model frame's shapes lie in the unit ball.
  mmd_factors: by what the printed MMD is multiplied, under "cd", "emd" and "emd_annealed".
  frame, chamfer_words, emd_words: in words. published: the sizes N of the published sets.
  sources: file and function (or paper and place) of each statement.
  """
  name: str
  chamfer: str
  emd: str
  points: int
  scale: float
  mmd_factors: Mapping[str, float]
  frame: str
  chamfer_words: str
  emd_words: str
  published: str
  sources: tuple[str, ...]

  def words(self, kind: str) -> str:
    """The distance of a kind ("cd", "emd" or "emd_annealed") in words."""
    if kind == "emd_annealed":
      return f"EMD: {ANNEALINGS[self.name].definition}"
    return self.chamfer_words if kind == "cd" else self.emd_words


_FRAME = ("global normalisation: no shape is rescaled before distances are taken, in ShapeNetCore v2's unit, where a "
          "shape's box has diagonal 1, so that shapes lie in the ball of radius 1/2")
MODEL_FRAME = ("the model's frame times 1/2: each shape is centred on its box and scaled by itself, so that its farthest vertex is at "
               "0.485; not the published tables' frame, so that figures do not stand beside theirs")
_CHAMFER = "CD: mean squared distance of a's points to b plus that of b's to a"
_SIZES = "N = 405 airplanes, 662 chairs, 352 cars (the reference split; as many samples)"

POINTFLOW = CloudProtocol(
    name="pointflow", chamfer="chamfer_sum_squared", emd="emd", points=2048, scale=0.5,
    mmd_factors={"cd": 1e3, "emd": 1e2, "emd_annealed": 1e2}, frame=_FRAME, chamfer_words=_CHAMFER,
    emd_words="EMD: mean distance (not squared) under the optimal matching, exact; the authors' kernel anneals an "
              "approximate one over levels 4^7 to 4^-1 and may leave mass unmatched",
    published=_SIZES,
    sources=("stevenygd/PointFlow metrics/evaluation_metrics.py: _pairwise_EMD_CD_ (dl.mean + dr.mean), emd_approx "
             "(match cost / N), lgan_mmd_cov, knn, jsd_between_point_cloud_sets (28^3, base 2)",
             "metrics/pytorch_structural_losses/src/approxmatch.cu: matchcostkernel (sqrtf), approxmatchkernel "
             "(j > -2)",
             "test.py: evaluate_gen (samples and references denormalised by the training set's mean and deviation)",
             "the factors 10^3 and 10^2: the caption of Yang et al. 2019, table 1 (not looked up)"))

PVD = CloudProtocol(
    name="pvd", chamfer="chamfer_sum_squared", emd="emd_sum_squared", points=2048, scale=0.5,
    mmd_factors={"cd": 1e3, "emd": 1e2, "emd_annealed": 1e2}, frame=_FRAME, chamfer_words=_CHAMFER,
    emd_words="EMD: sum over points of squared distances under the matching that is optimal for them, exact; the "
              "authors' kernel anneals an approximate one over levels 4^7 to 4^-1 and 0, and does not divide by the "
              "points",
    published=_SIZES + "; the code reads the split named val",
    sources=("alexzhou907/PVD metrics/evaluation_metrics.py: _pairwise_EMD_CD_, knn, jsd_between_point_cloud_sets",
             "metrics/PyTorchEMD/cuda/emd_kernel.cu: matchcost (d without a root, no division), approxmatch (j >= -2)",
             "test_generation.py: get_dataset (normalize_per_shape=False), evaluate_gen (x * s + m)",
             "the factors 10^3 and 10^2: as PointFlow's"))

PROTOCOLS: Mapping[str, CloudProtocol] = {protocol.name: protocol for protocol in (POINTFLOW, PVD)}


def in_model_frame(protocol: CloudProtocol) -> CloudProtocol:
  """The protocol of shapes in the model's frame, times its scale; its words say that this is not the published frame.

  >>> in_model_frame(POINTFLOW).chamfer
  'chamfer_sum_squared'
  """
  return dataclasses.replace(protocol, frame=MODEL_FRAME)


def cloud_protocol(name: str) -> CloudProtocol:
  """The protocol of a name.

  >>> cloud_protocol("pvd").emd
  'emd_sum_squared'
  """
  if name not in PROTOCOLS:
    raise UsageFault("protocol", f"no protocol of clouds is called {name!r}", nearest(name, PROTOCOLS))
  return PROTOCOLS[name]


def outside_ball(clouds: np.ndarray) -> float:
  """The share of points (n, p, 3) outside the ball of radius 1/2 (by more than 0.001), for which JSD's grid is made.

  >>> outside_ball(np.array([[[0.0, 0, 0], [0.6, 0, 0]]]))
  0.5
  """
  return float(np.mean(np.linalg.norm(clouds, axis=-1) > 0.501)) if clouds.size else 0.0
