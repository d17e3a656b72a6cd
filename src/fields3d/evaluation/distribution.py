"""A run's draws as a set: held against held-out shapes, beside real shapes, and against its training shapes."""

import functools
import pathlib
from collections.abc import Mapping, Sequence
from typing import Any, Literal

import numpy as np
from PIL import Image, ImageDraw

from fields3d.core.config import Count, Fraction, Index
from fields3d.core.progress import progress
from fields3d.core.types import Dataset, Mesh, Shape
from fields3d.evaluation.cloud_protocols import PROTOCOLS, CloudProtocol, in_model_frame
from fields3d.evaluation.results import Evaluation, EvaluationInput, Evaluator, Row
from fields3d.evaluation.samples import LazyMeshes, choose, cleaned, clouds_of, draw_clouds, draw_meshes
from fields3d.evaluation.set_comparison import Clouds, Comparison, Emd, check_points, compare_sets
from fields3d.evaluation.trivial_sets import splats, trivial_sets
from fields3d.rendering.rasterize import render_mesh

SHEET = "0000_nearest_training_shapes.png"
_COLUMNS, _LINE = 4, 13  # Pairs of a sheet's row; pixels of a line of text.


def distribution(pred: str = "sdf", split: Literal["train", "val", "test"] = "test", num: Count | None = None,
                 protocol: Literal[tuple(PROTOCOLS)] = "pointflow", points: Count | None = None,
                 emd: Emd = "none", resolution: Count = 128, specks: Fraction = 0.0, max_train: Count | None = None, k: Count = 5,
                 pictures: Index = 16, picture: Count = 128, trivial: bool = False, seed: Index = 0) -> Evaluator:
  """Evaluates as many draws as there are held-out shapes, as sets of clouds.

  Needs the task's predict functions "sample" and `pred`. Draws are shared with other evaluators of the same seed and
  resolution (`samples.draw_meshes`).

  Args:
    pred: the predict function that is the field; "points" takes the task's own clouds, without a surface.
    split: whose shapes are the references.
    num: how many references, at random, and draws; all of the split when None.
    protocol: of `cloud_protocols`. points: of each cloud; the protocol's own number when None.
    emd: also under an EMD, see `compare_sets`; the exact one's time grows with the cube of `points`.
    resolution: grid nodes per axis of the extraction.
    specks: pieces of a draw's surface below this share of its largest piece's area are taken away.
    max_train: training shapes that are looked at, at random; all when None.
    k: neighbours of the manifolds.
    pictures: draws on the sheet beside their nearest training shapes, the nearest first; picture: pixels of a side.
    trivial: put MMD, COV and 1-NNA of sets without a model beside the draws' (`trivial_sets`).
    seed: of every random choice; `EvaluationInput.seed` replaces it.
  """
  settings = dict(locals())
  chosen_protocol, per_cloud = in_model_frame(PROTOCOLS[protocol]), points or PROTOCOLS[protocol].points
  check_points(per_cloud, emd, "evals.distribution.points")

  def run(inputs: EvaluationInput) -> Evaluation:
    chosen = seed if inputs.seed is None else inputs.seed
    held = _Split(inputs.dataset, split, num, chosen)
    trained = _Split(inputs.dataset, "train", max_train, chosen, limit=True)
    done = []
    if pred == "points":
      clouds, rows, problems = draw_clouds(inputs, len(held), per_cloud, chosen)
      place = {int(row): i for i, row in enumerate(rows)}
      drawn = LazyMeshes(len(held), lambda i: splats(clouds[place[i]]) if i in place else None, problems)
      first = Clouds(clouds * np.float32(chosen_protocol.scale), rows, len(held))
    else:
      drawn, done = cleaned(draw_meshes(inputs, len(held), resolution, chosen, pred), specks)
      first = _clouds("clouds of draws", drawn, per_cloud, chosen, 0, chosen_protocol)
    sets = [first, *(_clouds(f"clouds of {what} shapes", split.meshes(), per_cloud, chosen, i, chosen_protocol)
                     for i, (what, split) in enumerate((("held-out", held), ("training", trained)), 1))]
    with progress() as show:
      found = compare_sets(*sets, chosen_protocol, emd=emd, k=k, seed=chosen, split=f"{split} shapes",
                           trivial=trivial_sets(sets[2], len(held), chosen) if trivial else None,
                           watch=lambda what: functools.partial(show, what))
    rows = _rows(drawn, found, trained, inputs.dataset.info, chosen_protocol)
    if pictures:
      rows = _with_sheet(rows, drawn, found, trained, min(pictures, len(sets[0].rows)), picture, inputs.out_dir)
    warnings = [*done, *found.warnings, *_same_shapes(split)]
    settled = settings | {"seed": chosen}
    return Evaluation("distribution", found.metrics, rows, warnings, settled, "sample", "real control")

  return run


class _Split:
  """Some shapes of a split: all, or `num` at random; with `limit`, at most so many."""

  def __init__(self, dataset: Dataset, split: str, num: int | None, seed: int, limit: bool = False):
    self._shapes = dataset.shapes(split)
    if limit and num is not None:
      num = min(num, len(self._shapes))
    self.index = choose(len(self._shapes), num, seed, split)

  def __len__(self) -> int:
    return len(self.index)

  def __getitem__(self, i: int) -> Shape:
    return self._shapes[int(self.index[i])]

  def meshes(self) -> LazyMeshes:
    return LazyMeshes(len(self), lambda i: self[i].mesh())


def _clouds(what: str, meshes: Sequence[Mesh | None], points: int, seed: int, stream: int, protocol: CloudProtocol) -> Clouds:
  """In the protocol's unit. what: their name, while they are made."""
  with progress() as show:
    clouds, rows = clouds_of(meshes, points, seed, stream, functools.partial(show, what))
  return Clouds(clouds * np.float32(protocol.scale), rows, len(meshes))


def _same_shapes(split: str) -> list[str]:
  if split != "train":
    return []
  return ["the references are training shapes: they say nothing of new shapes, and the memorisation test compares "
          "training shapes with themselves"]


def _rows(drawn: LazyMeshes, found: Comparison, trained: _Split, info: Mapping[str, Any],
          protocol: CloudProtocol) -> list[Row]:
  """One row a draw: its nearest training shape, how far, and that shape's licence where the dataset knows it."""
  licences, rows = info.get("licences"), []
  for i in range(len(drawn)):
    name, facts, label = f"draw {i}", {}, ""
    if i not in drawn.problems:
      near = int(found.nearest[i])
      shape = trained[near]
      label = shape.label
      facts = {"nearest_training_shape": shape.name, f"{protocol.chamfer}_to_it": float(found.distance[i])}
      facts |= {"its_licence": licences[int(trained.index[near])]} if licences else {}
    rows.append(Row(name, label, i, drawn.problems.get(i, "ok"), (), (), facts))
  return rows


def _with_sheet(rows: list[Row], drawn: LazyMeshes, found: Comparison, trained: _Split, num: int, size: int,
                out_dir: pathlib.Path) -> list[Row]:
  """The rows, with the sheet of the `num` draws that are nearest to a training shape, listed by the nearest."""
  order = np.argsort(found.distance, kind="stable")[:num].tolist()
  cells = []
  for i in order:
    facts = rows[i].facts
    distance = next(value for key, value in facts.items() if key.endswith("_to_it"))
    text = (f"{rows[i].name}: {distance:.3g} from", facts["nearest_training_shape"], facts.get("its_licence", ""))
    cells.append(side_by_side([drawn[i], trained[int(found.nearest[i])].mesh()], text, size))
  sheet(cells).save(out_dir / SHEET)
  first = order[0]
  rows[first] = Row(**{**vars(rows[first]), "files": {"nearest_training_shapes": SHEET}})
  return rows


def side_by_side(meshes: Sequence[Mesh], text: Sequence[str], size: int) -> Image.Image:
  """Meshes in one frame, beside each other, over lines of text."""
  from fields3d.evaluation.geometry import joint_box
  box = joint_box(*meshes)
  cell = Image.new("RGB", (len(meshes) * size, size + _LINE * len(text)), "white")
  for place, shown in enumerate(meshes):
    cell.paste(Image.fromarray(render_mesh(shown, size, bounds=box)), (place * size, 0))
  pen = ImageDraw.Draw(cell)
  for line, words in enumerate(text):
    pen.text((3, size + _LINE * line), words.encode("ascii", "replace").decode()[:len(meshes) * size // 6], fill="black")
  return cell


def sheet(cells: Sequence[Image.Image], columns: int = _COLUMNS) -> Image.Image:
  """Pictures of one size in rows."""
  width, height = cells[0].size
  columns = min(columns, len(cells))
  out = Image.new("RGB", (columns * width, -(-len(cells) // columns) * height), "white")
  for i, cell in enumerate(cells):
    out.paste(cell, (i % columns * width, i // columns * height))
  return out
