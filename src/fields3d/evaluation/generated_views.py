"""Pictures of random draws against pictures of held-out shapes, beside real pictures and poor ones; and is there geometry?"""

import dataclasses
import hashlib
import pathlib
from collections.abc import Mapping, Sequence
from typing import Literal

import jax
import numpy as np
from PIL import Image

from fields3d.core.config import Count, Index
from fields3d.core.errors import UsageFault
from fields3d.core.progress import progress
from fields3d.core.task import lookup
from fields3d.core.types import View
from fields3d.evaluation.render_protocol import Kept
from fields3d.evaluation.rendered import FeatureName, FeatureSet, choose_network, compare_image_features
from fields3d.evaluation.results import Evaluation, EvaluationInput, Evaluator, Metric, Row
from fields3d.evaluation.samples import BLOCK, choose
from fields3d.evaluation.views import block_mean, composite, eight_bits
from fields3d.geometry.transforms import look_at
from fields3d.metrics.frechet import frechet_of_sets
from fields3d.metrics.image_features import Network, features_of
from fields3d.metrics.kid import kid
from fields3d.metrics.view_agreement import billboard_depth, relief, seen_through

CONTROL, SET, VIEW = "training pictures", "wrong colours", "one view in wrong colours"
SHEETS = {"samples": "0000_samples.png", "held_out": "0001_held_out.png"}
_UP = np.array([0.0, 1.0, 0.0])
_TURN = np.radians(35.0)  # between the two cameras of a pair


def generated_views(split: Literal["train", "val", "test"] = "test", num: Count = 512, features: FeatureName = "auto",
                    weights: str | None = None, pairs: Count = 64, pictures: Index = 16, subsets: Count = 100,
                    subset_size: Count = 1000, seed: Index = 0) -> Evaluator:
  """Evaluates pictures of draws, one each, taken from the poses of held-out pictures.

  Needs the predict functions "sample" and "image". Beside the draws stand, all against the same held-out pictures: training
  pictures (the real control, as many), and baselines: noise (every channel of every pixel uniform), the mean training
  picture, training pictures in wrong colours (hues turned by 180 degrees about grey), and one of these, at random, again and
  again. All pictures are over white and as large as the task's. `pairs` draws are pictured from two cameras 35 degrees
  apart: see `metrics.view_agreement`, also of the same outlines on billboards.

  Args:
    split: whose pictures are the references; of "train" half at most, the control being of the others, which show the same
      shapes. num: how many, at random, and draws; fewer where the split has fewer.
    features: the network; "auto" is FID's where $FIELDS3D_INCEPTION is set. weights: its file.
    pictures: draws on the sheet, each from four sides. subsets, subset_size: of the literature's KID.
    seed: of every random choice; `EvaluationInput.seed` replaces it.
  """
  settings = dict(locals())

  def run(inputs: EvaluationInput) -> Evaluation:
    chosen = seed if inputs.seed is None else inputs.seed
    image = lookup(inputs.predict, "image", "evals.generated_views")
    network = choose_network(features, weights)
    draws = _Draws(lookup(inputs.predict, "sample", "evals.generated_views"), image, chosen)
    held, trained = (inputs.dataset.views(name) for name in (split, "train"))
    if len(held) < 8 or "camera" not in inputs.dataset.info:
      raise UsageFault("evals.generated_views.split", f"the dataset has {len(held)} {split!r} pictures of shapes", "give 8 or more")
    count = min(num, len(held), len(trained) // 2 if split == "train" else len(trained))
    index = choose(len(held), count, chosen, split)
    others = np.setdiff1d(np.arange(len(trained)), index) if split == "train" else np.arange(len(trained))
    poses, width = [held[int(i)].camera.pose for i in index], held[int(index[0])].camera.size[0]
    if width % (side := len(draws.picture(0, poses[0])["rgb"])):
      raise UsageFault("evals.generated_views", f"the data's pictures are {width} pixels wide, the task's {side}, which does not divide it",
                       "set --config.data.width to a multiple")
    with progress() as watch:
      made = []
      for i, pose in enumerate(poses):
        made.append(eight_bits(np.clip(draws.picture(i, pose)["rgb"], 0, 1)))
        watch("pictures of draws", i + 1, count)
      real = _photographs(held, index, side)
      known = others[choose(len(others), count, chosen, "train")]
      training = _photographs(trained, known, side)
      sets = {"draws": np.stack(made), "held out": real, CONTROL: training, **baselines(training, chosen)}
      kept = Kept(inputs.out_dir.parent.parent / "features")
      found = {name: _features(stack, network, kept, lambda done, n=name: watch(n, done, count)) for name, stack in sets.items()}
      groups = _shapes_of(held, index)
      protocol = f"pictures of {side} x {side} pixels over white, one a draw, from the poses of the held-out ones"
      metrics, warnings = compare_image_features(FeatureSet(found["draws"], np.arange(count)), FeatureSet(found["held out"], groups),
                                                 network, protocol, chosen, subsets, min(subset_size, count), watch)
    seen = _shapes_of(trained, known)
    metrics = beside(metrics, found, groups, {CONTROL: seen, SET: seen}, network, chosen, protocol)
    metrics += geometry_metrics(draws, poses[:pairs], inputs.dataset.info["camera"]["half_view"], chosen)
    rows = _sheets(draws, real, inputs.out_dir, min(pictures, count)) if pictures else []
    return Evaluation("generated_views", metrics, rows, warnings, settings | {"seed": chosen}, "sheet", "real control")

  return run


class _Draws:
  """Pictures of a seed's draws: codes as `samples.draw_meshes` draws them, so that a mesh and a picture of draw i agree."""

  def __init__(self, sample, image, seed: int):
    self._sample, self._image, self._key, self._blocks = sample, image, jax.random.key(seed), {}

  def code(self, index: int) -> jax.Array:
    number, place = divmod(index, BLOCK)
    if number not in self._blocks:
      self._blocks[number] = self._sample(jax.random.fold_in(self._key, number), BLOCK)
    return self._blocks[number][place]

  def picture(self, index: int, pose: np.ndarray) -> dict[str, np.ndarray]:
    out = self._image(self.code(index), np.asarray(pose, np.float32))
    return {name: np.asarray(value, np.float32) for name, value in out.items()}


def baselines(training: np.ndarray, seed: int) -> dict[str, np.ndarray]:
  """Four poor sets, as large as the training pictures (n, h, w, 3) uint8: noise, the mean, hues turned by 180 degrees, and
  one picture with its hues turned, at random, n times.

  >>> sorted(baselines(np.zeros((2, 4, 4, 3), np.uint8), 0))
  ['mean picture', 'noise', 'one view in wrong colours', 'wrong colours']
  """
  rng = np.random.default_rng((seed, 21))
  noise = rng.integers(0, 256, training.shape, np.uint8)
  mean = np.broadcast_to(np.rint(training.mean(0)).astype(np.uint8), training.shape)
  turned = np.clip(np.rint(2 * training.mean(-1, keepdims=True) - training), 0, 255).astype(np.uint8)
  one = np.broadcast_to(turned[rng.integers(len(turned))], training.shape)
  return {"noise": noise, "mean picture": mean, SET: turned, VIEW: one}


def beside(metrics: Sequence[Metric], found: Mapping[str, np.ndarray], groups: np.ndarray, shapes: Mapping[str, np.ndarray],
           network: Network, seed: int, protocol: str) -> list[Metric]:
  """The metrics, the distance and KID with the real control's beside them, then those of the other sets, and the draws'
  distance over the best baseline's, wrong colours read as a set of views and as one view.

  Args:
    groups: the shapes of the held-out pictures; shapes: those of other sets that have several pictures of a shape.
  """
  real, count = found["held out"], len(found["draws"])
  distance = {name: frechet_of_sets(x, real) for name, x in found.items() if name not in ("draws", "held out")}
  kernel = {name: kid(x, real, shapes.get(name), groups, resamples=0)[0] for name, x in found.items() if name in distance}
  out = []
  for metric in metrics:
    floor = {network.metric: distance[CONTROL], network.kernel: kernel[CONTROL]}.get(metric.name)
    if floor is not None:
      said = metric.protocol.replace("; control: between halves of B", "")
      metric = dataclasses.replace(metric, floor=floor, protocol=f"{said}; control: {CONTROL} in place of the draws")
    out.append(metric)
  words = f"in place of the draws; {network.protocol}; {protocol}"
  for name in distance:
    for title, value in ((network.metric, distance[name]), (network.kernel, kernel[name])):
      out.append(Metric(f"{title}/{name}", value, None, None, count, seed, None, "lower", f"{name} {words}"))
  own = next(metric for metric in out if metric.name == network.metric)
  for suffix, wrong in (("", SET), (", of one view", VIEW)):
    names = [name for name in distance if name not in {CONTROL, SET, VIEW} - {wrong}]
    best = min(distance[name] for name in names)
    out.append(Metric(f"{network.metric}/of the best baseline{suffix}", own.value / best, None, None, count, seed,
                      distance[CONTROL] / best, "lower",
                      f"the draws' distance over that of the nearest of {', '.join(names)}; {protocol}"))
  return out


def geometry_metrics(draws, poses: Sequence[np.ndarray], half_view: float, seed: int) -> list[Metric]:
  """What share of one picture's points another camera sees through; the same of billboards; and the relief.

  Args:
    draws: `picture(index, pose)`. poses: the first camera of each pair, draw by draw.
  """
  counts, flat, deep = np.zeros(2), np.zeros(2), []
  for i, pose in enumerate(poses):
    other = turned(np.asarray(pose), np.random.default_rng((seed, 22, i)))
    a, b = draws.picture(i, pose), draws.picture(i, other)
    side = len(a["depth"])
    counts += seen_through(a["depth"], a["opacity"], pose, b["depth"], b["opacity"], other, half_view)
    boards = [billboard_depth(p, side, half_view) for p in (pose, other)]
    flat += seen_through(boards[0], a["opacity"], pose, boards[1], b["opacity"], other, half_view)
    deep.append(relief(a["depth"], a["opacity"], np.asarray(pose), half_view))
  share = lambda c: float(c[0] / c[1]) if c[1] else None
  words = "points of one picture that a camera 35 degrees away sees through by more than 0.1, of all that fall into its picture"
  known = [x for x in deep if np.isfinite(x)]
  metric = lambda name, value, better, protocol: Metric(name, value, None, None, len(poses), seed, None, better, protocol)
  return [metric("seen_through", share(counts), "lower", words),
          metric("seen_through/billboards", share(flat), "lower", f"{words}; the same outlines on planes that face their camera"),
          metric("relief", float(np.mean(known)) if known else None, "higher",
                 "deviation of points along the camera's axis over that across it, 0 of a billboard")]


def turned(pose: np.ndarray, rng: np.random.Generator) -> np.ndarray:
  """A camera that looks at 0 from 35 degrees aside, as far away, in a random direction."""
  eye = pose[:, 3]
  aside = np.cross(eye, rng.standard_normal(3))
  aside *= np.linalg.norm(eye) / np.linalg.norm(aside)
  return look_at(np.cos(_TURN) * eye + np.sin(_TURN) * aside, np.zeros(3), _UP)


def _photographs(views: Sequence[View], index: np.ndarray, side: int) -> np.ndarray:
  """The chosen views over white, averaged down to `side` pixels, (n, side, side, 3) uint8."""
  chosen = (composite(views[int(i)].pixels(), "white") for i in index)
  return np.stack([eight_bits(np.clip(block_mean(p, len(p) // side), 0, 1)) for p in chosen])


def _shapes_of(views: Sequence[View], index: np.ndarray) -> np.ndarray:
  """Which shape each chosen view shows: views are named shape/view."""
  names = [views[int(i)].name.rpartition("/")[0] for i in index]
  return np.unique(names, return_inverse=True)[1]


def _features(stack: np.ndarray, network: Network, kept: Kept, advance) -> np.ndarray:
  """The features of pictures, kept on disk by their content: most sets are the same at every step."""
  name = f"{network.key}-{hashlib.sha256(np.ascontiguousarray(stack).tobytes()).hexdigest()[:32]}"
  own = kept.get(name)
  if own is None or own.shape != (len(stack), network.dimensions):
    own = features_of(network, stack, advance=advance).astype(np.float32)
    kept.put(name, own)
  return own.astype(np.float64)


def _sheets(draws: _Draws, real: np.ndarray, out_dir: pathlib.Path, num: int) -> list[Row]:
  """Writes draws, each from four sides in a row, and as many held-out pictures."""
  eyes = [3 * np.array([np.cos(e) * np.sin(a), np.sin(e), np.cos(e) * np.cos(a)])
          for a, e in ((0.5, 0.35), (2.07, 0.35), (3.64, 0.35), (5.2, 0.8))]
  shown = [[eight_bits(np.clip(draws.picture(i, look_at(eye, np.zeros(3), _UP))["rgb"], 0, 1)) for eye in eyes] for i in range(num)]
  rows = [np.concatenate(row, axis=1) for row in shown]
  half = -(-num // 2)
  rows += [np.full_like(rows[0], 255)] * (2 * half - num)
  _save(np.concatenate([np.concatenate(rows[:half]), np.concatenate(rows[half:])], axis=1), out_dir / SHEETS["samples"])
  columns = min(8, len(real))
  lines = range(0, min(columns * half, len(real) // columns * columns), columns)
  _save(np.concatenate([np.concatenate(real[i:i + columns], axis=1) for i in lines]), out_dir / SHEETS["held_out"])
  return [Row(name, "", i, "ok", files={name: file}) for i, (name, file) in enumerate(SHEETS.items())]


def _save(picture: np.ndarray, path: pathlib.Path) -> None:
  """Twice as large: the pictures are small."""
  Image.fromarray(picture.repeat(2, axis=0).repeat(2, axis=1)).save(path)
