"""Completions of partial scans: do they end the shape that was scanned, keep to the scan, and differ from each other?

Beside every figure stands the same of the training shapes that lie nearest to the scan (retrieval), as many as completions.
Differences are paired by shape.
"""

import dataclasses
import pathlib
from collections.abc import Mapping, Sequence
from typing import Annotated, Literal

import jax
import numpy as np
from PIL import Image
from scipy.spatial import cKDTree

from fields3d.core.config import Count, Index, Range
from fields3d.core.progress import progress
from fields3d.core.task import lookup
from fields3d.core.types import Shape
from fields3d.evaluation.aggregate import summarise
from fields3d.evaluation.cloud_protocols import PROTOCOLS, CloudProtocol, in_model_frame
from fields3d.evaluation.distribution import sheet, side_by_side
from fields3d.evaluation.results import Evaluation, EvaluationInput, Evaluator, Metric, Row
from fields3d.evaluation.samples import choose, cloud_of
from fields3d.evaluation.trivial_sets import splats
from fields3d.geometry.meshes import sample_surface
from fields3d.metrics.pairs import pairwise

SHEET = "0000_completions.png"
_SHOWN = 3  # completions of a scan that the sheet shows
# name -> (what it is, which way is better)
FIGURES = {
    "completion_cd": ("the completions' distance to the whole shape, mean", "lower"),
    "completion_mmd": ("the least of the completions' distances to the whole shape", "lower"),
    "scan_uhd": ("the largest distance from a point of the scan to the nearest of a completion, mean of completions", "lower"),
    "completion_tmd": ("the sum over completions of the mean distance to the others", "higher"),
}


def completion(split: Literal["train", "val", "test"] = "test", num: Count | None = None, draws: Annotated[int, Range(ge=2)] = 4,
               pred: str = "sdf", protocol: Literal[tuple(PROTOCOLS)] = "pointflow", points: Count | None = None,
               scan_points: Count = 256, resolution: Count = 64, max_train: Count | None = None, pictures: Index = 16,
               picture: Count = 128, seed: Index = 0) -> Evaluator:
  """Evaluates completions of scans: of each shape the half of its surface that lies farthest in a random direction.

  Needs the predict functions "complete" and `pred`. Distances are the protocol's chamfer distances, but for "scan_uhd", which is
  not squared, x 100; all in the protocol's unit.

  Args:
    split: whose shapes are scanned. num: how many, at random; all of the split when None. draws: completions of each scan.
    pred: the predict function that is the field; "points" takes the task's own clouds, without a surface.
    protocol: of `cloud_protocols`. points: of each cloud; the protocol's own number when None.
    scan_points: of a scan. resolution: grid nodes per axis of the extraction.
    max_train: training shapes that are looked at, at random; all when None.
    pictures: scans on the sheet, each beside its first completions and the whole shape; picture: pixels of a side.
    seed: of every random choice; `EvaluationInput.seed` replaces it.

  Source: Wu et al. 2020, "Multimodal shape completion via conditional generative adversarial networks", for UHD and
    TMD. Their MMD takes the completions of all scans together; "completion_mmd" is of a scan's own.
  """
  settings = dict(locals())
  chosen_protocol, per_cloud = in_model_frame(PROTOCOLS[protocol]), points or PROTOCOLS[protocol].points

  def run(inputs: EvaluationInput) -> Evaluation:
    chosen = seed if inputs.seed is None else inputs.seed
    lookup(inputs.predict, "complete", "evals.completion")
    held, trained = (inputs.dataset.shapes(name) for name in (split, "train"))
    known = choose(len(trained), None if max_train is None else min(max_train, len(trained)), chosen, "train")
    known = np.stack([_surface(trained[int(i)], per_cloud, (chosen, 1, int(i))) for i in known])
    trees = [cKDTree(cloud) for cloud in known]
    case = _Case(inputs, chosen_protocol, pred, per_cloud, scan_points, resolution, draws, known, trees, chosen)
    index, rows, cells = choose(len(held), num, chosen, split), [], []
    with progress() as watch:
      for i in map(int, index):
        row, clouds = case.row(held[i], i)
        rows.append(row)
        if len(cells) < pictures:
          cells.append(side_by_side([splats(cloud) for cloud in clouds], (row.name,), picture))
        watch("scans", len(rows), len(index))
    if cells:
      _keep(cells, inputs.out_dir)
      rows[0] = Row(**{**vars(rows[0]), "files": {"completions": SHEET}})
    failed = sum(row.status != "ok" for row in rows)
    warnings = [f"{failed} of {len(rows)} scans have a completion that is none: they have no figures"] * bool(failed)
    return Evaluation("completion", summarise(rows, chosen), rows, warnings, settings | {"seed": chosen})

  return run


@dataclasses.dataclass(frozen=True)
class _Case:
  """One evaluation's settings, see `completion`; known (t, n, 3): clouds of training shapes, trees: of each."""
  inputs: EvaluationInput
  protocol: CloudProtocol
  pred: str
  points: int
  scan_points: int
  resolution: int
  draws: int
  known: np.ndarray
  trees: Sequence[cKDTree]
  seed: int

  def row(self, shape: Shape, i: int) -> tuple[Row, list[np.ndarray]]:
    """A shape's figures; and clouds to be seen: the scan, some completions, the whole."""
    truth, again = (_surface(shape, self.points, (self.seed, stream, i)) for stream in (2, 3))
    scan = half_of(_surface(shape, 2 * self.scan_points, (self.seed, 4, i)), np.random.default_rng((self.seed, 5, i)))
    codes = self.inputs.predict["complete"](scan, jax.random.fold_in(jax.random.key(self.seed), i), self.draws)
    found = [cloud_of(self.inputs, code, self.pred, self.points, self.resolution, self.seed, i * self.draws + k)
             for k, code in enumerate(codes)]
    clouds, problems = [c for c, _ in found if c is not None], [problem for c, problem in found if c is None]
    near = self.known[np.argsort([tree.query(scan)[0].mean() for tree in self.trees], kind="stable")[:self.draws]]
    floor = self._measured(again[None], truth, scan)
    own = dict.fromkeys(FIGURES) if problems else self._measured(np.stack(clouds), truth, scan)
    status = f"{problems[0]} ({len(problems)} of {self.draws} completions)" if problems else "ok"
    row = Row(shape.name, shape.label, i, status, self._metrics(own, floor), self._metrics(self._measured(near, truth, scan), floor))
    return row, [scan, *clouds[:_SHOWN], truth]

  def _measured(self, clouds: np.ndarray, truth: np.ndarray, scan: np.ndarray) -> dict[str, float | None]:
    """The figures of clouds (k, n, 3) in the model's frame; of one, no "completion_tmd"."""
    scale, factor = np.float32(self.protocol.scale), self.protocol.mmd_factors["cd"]
    scaled = clouds * scale
    own = factor * pairwise(scaled, truth[None] * scale, self.protocol.chamfer)[:, 0]
    apart = factor * pairwise(scaled, scaled, self.protocol.chamfer).sum() / (len(clouds) - 1) if len(clouds) > 1 else None
    worst = 100 * self.protocol.scale * np.mean([cKDTree(cloud).query(scan)[0].max() for cloud in clouds])
    return {"completion_cd": float(own.mean()), "completion_mmd": float(own.min()), "scan_uhd": float(worst),
            "completion_tmd": None if apart is None else float(apart)}

  def _metrics(self, values: Mapping[str, float | None], floor: Mapping[str, float | None]) -> tuple[Metric, ...]:
    """floor: the figures of the whole shape, sampled anew."""
    how = (f"{self.draws} completions of a half of the surface, {self.scan_points} points; clouds of {self.points} points; "
           f"{self.protocol.chamfer_words}; {self.protocol.frame}")
    factor = lambda figure: 100 if figure == "scan_uhd" else self.protocol.mmd_factors["cd"]
    return tuple(Metric(f"{figure}_x{factor(figure):g} [{self.protocol.name}, {self.points} points]", values[figure], None, None,
                        self.points, self.seed, floor[figure], better, f"{words}; {how}") for figure, (words, better) in FIGURES.items())


def half_of(surface: np.ndarray, rng: np.random.Generator) -> np.ndarray:
  """A scan: the half of the points (n, 3) that lies farthest in a random direction.

  >>> len(half_of(np.zeros((6, 3)), np.random.default_rng(0)))
  3
  """
  return surface[np.argsort(surface @ rng.normal(size=3), kind="stable")[:len(surface) // 2]]


def _surface(shape: Shape, points: int, seed: tuple[int, ...]) -> np.ndarray:
  return sample_surface(shape.mesh(), points, np.random.default_rng(seed)).points.astype(np.float32)


def _keep(cells: Sequence[Image.Image], out_dir: pathlib.Path) -> None:
  """The sheet: one cell below the other, a cell narrower than the others (fewer completions) at the left."""
  width = max(cell.size[0] for cell in cells)
  even = []
  for cell in cells:
    even.append(Image.new("RGB", (width, cell.size[1]), "white"))
    even[-1].paste(cell)
  sheet(even, 2).save(out_dir / SHEET)
