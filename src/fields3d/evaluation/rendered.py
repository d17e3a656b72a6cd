"""Sets of pictures held against each other by features: Frechet and kernel distances beside real against real.

For any two stacks of images `compare_image_features`; for shapes, their pictures by the fixed protocol
(`render_protocol`). The pictures of one shape are drawn together: they are one independent thing, not twenty-four.
"""

import dataclasses
import functools
from collections.abc import Callable, Sequence
from typing import Literal

import numpy as np

from fields3d.core.config import Count, Fraction, Index
from fields3d.core.errors import MissingInput, UsageFault
from fields3d.core.progress import progress
from fields3d.core.types import Mesh
from fields3d.evaluation.render_protocol import Kept, RenderProtocol, kept_views, mesh_key
from fields3d.evaluation.results import Evaluation, EvaluationInput, Evaluator, Metric, Row
from fields3d.evaluation.samples import cleaned, draw_meshes, reference_meshes
from fields3d.metrics.efficientnet import efficientnet
from fields3d.metrics.frechet import frechet_of_sets
from fields3d.metrics.frechet_sets import estimate
from fields3d.metrics.image_features import Network, features_of
from fields3d.metrics.inception import inception
from fields3d.metrics.kid import kid, kid_of_subsets

SPLITS = 5  # Random halves of the control.
FeatureName = Literal["auto", "efficientnet_lite0", "inception", "inception_torch_fidelity"]
NO_WARNING: Callable[[str, int, int], None] = lambda what, done, total: None


@dataclasses.dataclass(frozen=True)
class FeatureSet:
  """Features (n, d) and what each belongs to (n,): a shape, or the image itself."""
  features: np.ndarray
  groups: np.ndarray

  def only(self, groups: np.ndarray) -> "FeatureSet":
    kept = np.isin(self.groups, groups)
    return FeatureSet(self.features[kept], self.groups[kept])


def choose_network(name: FeatureName = "auto", weights: str | None = None) -> Network:
  """The network of a name; "auto" is FID's (pytorch-fid) where its weights are found, else EfficientNet-Lite0."""
  if name == "auto" and weights is None:
    try:
      return inception()
    except MissingInput:
      return efficientnet()
  if name in ("auto", "efficientnet_lite0"):
    return efficientnet(weights)
  return inception(weights, "pytorch-fid" if name == "inception" else "torch-fidelity")


def rendered(pred: str = "sdf", split: Literal["train", "val", "test"] = "test", num: Count | None = None,
             features: FeatureName = "auto", weights: str | None = None, views: Count = 24, size: Count = 224,
             resolution: Count = 128, specks: Fraction = 0.0, subsets: Count = 100, subset_size: Count = 1000,
             seed: Index = 0) -> Evaluator:
  """Evaluates pictures of as many draws as there are held-out shapes against pictures of these.

  Needs the task's predict functions "sample" and `pred`. A draw without a surface is pictured as the background alone.

  Args:
    pred: the predict function that is the field. split: whose shapes are the references.
    num: how many references, at random, and draws; all of the split when None.
    features: the network; "auto" is FID's where $FIELDS3D_INCEPTION is set. weights: its file.
    views, size: cameras of a shape and pixels of a side, of the rendering protocol.
    resolution: grid nodes per axis of the extraction.
    specks: pieces of a draw below this share of its largest piece's area are taken away.
    subsets, subset_size: of the literature's KID; smaller where there are fewer pictures.
    seed: of every random choice; `EvaluationInput.seed` replaces it.
  """
  settings, protocol = dict(locals()), RenderProtocol(views, size)

  def run(inputs: EvaluationInput) -> Evaluation:
    chosen = seed if inputs.seed is None else inputs.seed
    network = choose_network(features, weights)
    truth = reference_meshes(inputs.dataset, split, num, chosen)
    drawn, done = cleaned(draw_meshes(inputs, len(truth), resolution, chosen, pred), specks)
    kept = Kept(inputs.out_dir.parent / "renders")
    with progress() as watch:
      sets = [features_of_meshes(meshes, network, protocol, kept, lambda done, total, w=what: watch(w, done, total))
              for what, meshes in (("pictured draws", drawn), ("pictured references", truth))]
      metrics, warnings = compare_image_features(*sets, network, protocol.words, chosen, subsets, subset_size, watch)
    rows = [Row(f"draw {i}", "", i, drawn.problems.get(i, "ok")) for i in range(len(drawn))]
    if drawn.problems:
      warnings.append(f"{len(drawn.problems)} of {len(drawn)} draws have no surface: pictured as background alone")
    return Evaluation("rendered", metrics, rows, done + warnings, settings | {"seed": chosen}, "sample", "real control")

  return run


def features_of_meshes(meshes: Sequence[Mesh | None], network: Network, protocol: RenderProtocol, kept: Kept,
                       advance: Callable[[int, int], None] = lambda done, total: None) -> FeatureSet:
  """The features of every shape's pictures, the shape's index as their group; None is pictured as background alone.

  Pictures and features are kept on disk by the mesh's content, one shape in memory at a time.
  """
  found = []
  for i in range(len(meshes)):
    mesh = meshes[i]
    name = "nothing" if mesh is None or not len(mesh.faces) else mesh_key(mesh)
    name = f"{protocol.name}/{network.key}/{name}"
    own = kept.get(name)
    if own is None or own.shape != (protocol.views, network.dimensions):
      own = features_of(network, _pictures(mesh, protocol, kept), batch=8).astype(np.float32)
      kept.put(name, own)
    found.append(own)
    advance(i + 1, len(meshes))
  if len(found) < 2:
    raise UsageFault("rendered", f"{len(found)} shapes in a set", "give two or more")
  return FeatureSet(np.concatenate(found).astype(np.float64), np.repeat(np.arange(len(found)), protocol.views))


def _pictures(mesh: Mesh | None, protocol: RenderProtocol, kept: Kept) -> np.ndarray:
  if mesh is None or not len(mesh.faces):
    return np.full((protocol.views, protocol.size, protocol.size, 3), 255, np.uint8)
  return kept_views(mesh, protocol, kept)


def compare_images(a: Sequence[np.ndarray], b: Sequence[np.ndarray], network: Network, protocol: str, seed: int = 0,
                   subsets: int = 100, subset_size: int = 1000,
                   watch: Callable[[str, int, int], None] = NO_WARNING) -> tuple[list[Metric], list[str]]:
  """Two stacks of images, (h, w, 3) uint8 each, every image for itself: metrics and warnings.

  Args:
    a: the generated images. b: real ones. protocol: how both came to be, in words.
  """
  sets = []
  for what, images in (("images of A", a), ("images of B", b)):
    found = features_of(network, images, advance=functools.partial(_tell, watch, what, len(images)))
    sets.append(FeatureSet(found, np.arange(len(found))))
  return compare_image_features(*sets, network, protocol, seed, subsets, subset_size, watch)


def _tell(watch: Callable[[str, int, int], None], what: str, total: int, done: int) -> None:
  watch(what, done, total)


def compare_image_features(a: FeatureSet, b: FeatureSet, network: Network, protocol: str, seed: int = 0,
                           subsets: int = 100, subset_size: int = 1000,
                           watch: Callable[[str, int, int], None] = NO_WARNING) -> tuple[list[Metric], list[str]]:
  """Frechet distance with its limit and its curve, matched parts beside real against real, and KID.

  Args:
    a: of the generated set. b: of the real one.

  Returns:
    metrics: the distance of the whole sets; "@infinite", the limit; "@40%"..., the curve; "@matched", of parts as large
      as half the real set, whose floor is the same between two halves of it; KID, whose floor is that of the halves;
      KID of subsets as papers give it. n counts groups of the smaller set. And warnings.
  """
  if min(len(np.unique(a.groups)), len(np.unique(b.groups))) < 4:
    raise UsageFault("rendered", "a set has fewer than 4 independent things", "give more shapes or images")
  fd, groups = network.metric, min(len(np.unique(a.groups)), len(np.unique(b.groups)))
  words = f"{network.protocol}; {protocol}; {_sizes(a, b)}"
  found = estimate(a.features, b.features, a.groups, b.groups, seed=seed,
                   advance=lambda done: watch("curves of size", done, 11))
  matched, control, real_kid = _matched(a, b, seed)
  value, interval = kid(a.features, b.features, a.groups, b.groups, seed=seed)
  size = min(subset_size, len(a.features) // 2, len(b.features) // 2)  # of whole sets, subsets would all be one
  mean, deviation = kid_of_subsets(a.features, b.features, subsets, size, seed)
  jackknife = "interval over shapes or images of both sets by a jackknife in 10 blocks"

  def metric(name, value, interval, floor, protocol, n=groups):
    low, high = interval or (None, None)
    return Metric(name, value, low, high, n, seed, floor, "lower", f"{protocol}; {words}")

  curve = [metric(f"{fd}@{round(100 * n / found.curve.sizes[-1][0])}%", v, None, None,
                  f"of random parts of {n:,} and {m:,} images")
           for (n, m), v in zip(found.curve.sizes[:-1], found.curve.values[:-1])]
  metrics = [
      metric(fd, found.curve.whole, found.whole, None,
             f"squared Frechet distance of Gaussians, biased by N; {jackknife}"),
      metric(f"{fd}@infinite", found.curve.infinite, found.infinite, None,
             f"end of the line through the curve in 1/N, both sets shrinking; {jackknife}"),
      metric(f"{fd}@matched", matched, None, control, f"mean over {SPLITS} random parts of A and halves of B of one "
             "size; control: between the two halves of B", groups // 2),
      *curve,
      metric(network.kernel, value, interval, real_kid, "unbiased squared MMD, kernel (x.y/d + 1)^3, pairs within a "
             "shape left out; bootstrap over shapes or images of both sets; control: between halves of B"),
      metric(f"{network.kernel}@subsets", mean, None, None,
             f"mean over {subsets} subsets of {size} images, standard deviation {deviation:.3g}, images taken as "
             "independent")]
  return metrics, _doubts(a, b, network)


def _matched(a: FeatureSet, b: FeatureSet, seed: int) -> tuple[float, float, float]:
  """Frechet distance of parts of A and B of as many images, of the halves of B, and KID of the whole halves: means over splits."""
  found = []
  names_a, names_b = np.unique(a.groups), np.unique(b.groups)
  for split in range(SPLITS):
    rng = np.random.default_rng((seed, 11, split))
    order, order_a = rng.permutation(names_b), rng.permutation(names_a)
    halves = order[:len(order) // 2], order[len(order) // 2:][:len(order) // 2]
    sides = (a, order_a), (b, halves[0]), (b, halves[1])
    size = min(np.isin(x.groups, names).sum() for x, names in sides)
    part, one, two = (_first_images(x, names, size) for x, names in sides)
    whole = b.only(halves[1]), b.only(halves[0])
    found.append((frechet_of_sets(part.features, one.features), frechet_of_sets(two.features, one.features),
                  kid(*(x.features for x in whole), *(x.groups for x in whole), resamples=0)[0]))
  return tuple(float(x) for x in np.mean(found, axis=0))


def _first_images(x: FeatureSet, names: np.ndarray, size: int) -> FeatureSet:
  """`size` images of the groups of these names: whole groups in this order, the last cut."""
  order = {name: i for i, name in enumerate(names.tolist())}
  place = [order.get(group, len(names)) for group in x.groups.tolist()]
  taken = np.sort(np.argsort(place, kind="stable")[:size])
  return FeatureSet(x.features[taken], x.groups[taken])


def _sizes(a: FeatureSet, b: FeatureSet) -> str:
  return " against ".join(f"{len(x.features):,} images of {len(np.unique(x.groups)):,}" for x in (a, b))


def _doubts(a: FeatureSet, b: FeatureSet, network: Network) -> list[str]:
  least, wanted = min(len(a.features), len(b.features)), 2 * network.dimensions
  if least >= wanted:
    return []
  return [f"{least:,} images are fewer than twice the features' {network.dimensions:,} dimensions: {network.metric} is "
          "far above its limit and the line to infinite N ends too high; compare with the real control only"]
