"""Two sets of clouds held against each other: every figure with its interval, and its real control beside it.

The control is the same figure of real shapes against real shapes. With training shapes it is a random choice of as many
of them as there are samples, against the same references: the same sizes, so that what a figure owes to the size of its
sets is in both. Without, it is one half of the references against the other: half the sizes, which the protocol says.
"""

import dataclasses
import functools
from collections.abc import Callable, Mapping, Sequence
from typing import Literal

import numpy as np

from fields3d.core.errors import UsageFault
from fields3d.evaluation.cloud_protocols import CloudProtocol, outside_ball
from fields3d.evaluation.results import Metric
from fields3d.metrics.annealed_matching import annealed_pairwise
from fields3d.metrics.frechet import frechet_of_sets
from fields3d.metrics.manifold import manifold, median_distance, vendi_like
from fields3d.metrics.memorisation import copy_test, nearest_training
from fields3d.metrics.pairs import pairwise
from fields3d.metrics.sets import (
    HALVES,
    PARTS,
    SetDistances,
    cov,
    half_replicates,
    halves,
    jackknife_interval,
    jsd,
    jsd_replicates,
    mmd,
    occupancy_counts,
    one_nn,
    share_interval,
    sliced_quantiles,
    spread_interval,
    with_failures,
)
from fields3d.metrics.transport import MOST_POINTS

HALF_WORDS = "interval by half-sampling both sets (conservative in small sets)"
FAILED_WORDS = "failed samples are empty shapes, infinitely far from all"
Emd = Literal["none", "exact", "annealed"]
Watch = Callable[[str], Callable[[int, int], None]]


@dataclasses.dataclass(frozen=True)
class Clouds:
  """A set of shapes as clouds. points (k, p, 3) in the protocol's unit; rows (k,): which of `num` shapes they are."""
  points: np.ndarray
  rows: np.ndarray
  num: int

  @classmethod
  def whole(cls, points: np.ndarray) -> "Clouds":
    return cls(points, np.arange(len(points)), len(points))

  @property
  def failed(self) -> int:
    return self.num - len(self.rows)

  def take(self, index: np.ndarray) -> "Clouds":
    return Clouds.whole(self.points[index])


@dataclasses.dataclass(frozen=True)
class Comparison:
  """What was found. nearest, distance (num,): each sample's nearest training shape under CD, -1 and inf for none."""
  metrics: tuple[Metric, ...]
  warnings: tuple[str, ...]
  nearest: np.ndarray
  distance: np.ndarray


@dataclasses.dataclass(frozen=True)
class _Setting:
  """What every figure's name and words share."""
  protocol: CloudProtocol
  label: str
  sizes: str
  control: str
  seed: int

  def metric(self, name: str, value: float, interval: tuple[float, float] | None, n: int, floor: float | None,
             better: str, words: str, factor: float = 1.0) -> Metric:
    low, high = (None, None) if interval is None else (factor * end for end in interval)
    finite = lambda x: None if x is None or not np.isfinite(x) else float(factor * x)
    return Metric(f"{name} [{self.label}]", finite(value), low, high, n, self.seed, finite(floor), better,
                  f"{words}; {self.sizes}; {self.control}")


def compare_sets(samples: Clouds, references: Clouds, training: Clouds | None, protocol: CloudProtocol, *,
                 emd: Emd = "none", k: int = 5, seed: int = 0, split: str = "references",
                 sampling: str = "uniform by area", trivial: Mapping[str, Clouds] | None = None,
                 watch: Watch | None = None) -> Comparison:
  """MMD, COV, 1-NNA, precision, recall, density, coverage, diversity, JSD, Frechet distance, memorisation.

  Args:
    samples, references, training: in the protocol's unit; clouds of one number of points. Without training shapes
      there is no memorisation test, and the control is half of the references against the other half.
    emd: also MMD, COV and 1-NNA under the protocol's EMD: the "exact" one, or the "annealed" one of published tables.
    k: of the manifolds. split: what the references are called. sampling: how points were drawn.
    trivial: poor sets by name, whose MMD, COV and 1-NNA under CD are put beside the samples'.
    watch: what is counted -> (done, total) -> None.

  Raises:
    UsageFault: fewer than 4 references or samples with a surface, or clouds of several sizes; see `check_points`.
  """
  check_points(samples.points.shape[1], emd, "points")
  if min(len(references.rows), len(samples.rows)) < 4:
    raise UsageFault("sets", f"{len(samples.rows)} samples with a surface against {len(references.rows)} references",
                     "give at least 4 of each")
  control, against, words = _control(samples, references, training, seed)
  said = lambda what: _setting(protocol, what, references, words, f"{split}, {{}} points {sampling}", seed)
  setting = said(samples)
  watch = watch or (lambda what: None)
  distances = _Distances(protocol, watch)
  metrics = []
  for kind in ("cd", *{"none": (), "exact": ("emd",), "annealed": ("emd_annealed",)}[emd]):
    own = distances.between(kind, samples, references, split)
    real = distances.between(kind, control, against, "the control")
    metrics += _neighbour_metrics(own, real, kind, setting)
    if kind == "cd":
      metrics += _manifold_metrics(own, real, k, setting) + [_diversity(own, setting)]
      for name, poor in (trivial or {}).items():
        far = dataclasses.replace(own, xx=distances.matrix(kind, poor.points, poor.points, name),
                                  xy=distances.matrix(kind, poor.points, references.points, f"{name} to {split}"))
        metrics += [dataclasses.replace(m, name=m.name.replace(" [", f"/{name} [", 1))
                    for m in _neighbour_metrics(far, real, kind, said(poor))[:3]]
  metrics += [_divergence(samples, references, control, against, setting),
              _frechet(samples, references, control, against, setting)]
  nearest, distance = np.full(samples.num, -1), np.full(samples.num, np.inf)
  if training is not None:
    far = distances.matrix("cd", samples.points, training.points, "samples to training shapes")
    held = distances.matrix("cd", references.points, training.points, f"{split} to training shapes")
    nearest[samples.rows], distance[samples.rows] = nearest_training(far)
    metrics += _memorisation(distance[samples.rows], nearest_training(held)[1], len(training.rows), setting)
  return Comparison(tuple(metrics), tuple(_warnings(samples, references, k)), nearest, distance)


def check_points(points: int, emd: Emd, where: str) -> None:
  """Refuses, before anything is measured, numbers of points that a figure cannot be had of.

  Raises:
    UsageFault: fewer points than the Frechet distance's feature has parts, or more than an exact EMD is for.
  """
  if points < PARTS:
    raise UsageFault(where, f"{points} a cloud, the Frechet distance's feature takes {PARTS} parts", "use more")
  if emd == "exact" and points > MOST_POINTS:
    raise UsageFault(where, f"{points:,} a cloud, the exact EMD is for {MOST_POINTS:,} at most", "use fewer, or leave the EMD out")


def _control(samples: Clouds, references: Clouds, training: Clouds | None,
             seed: int) -> tuple[Clouds, Clouds, str]:
  """Real shapes that play the samples, what they are held against, and the words for it."""
  rng = np.random.default_rng((seed, 11))
  if training is not None and len(training.rows) >= samples.num:
    chosen = np.sort(rng.choice(len(training.rows), samples.num, replace=False))
    return training.take(chosen), references, f"control: {samples.num} random training shapes in the samples' place"
  order, half = rng.permutation(len(references.rows)), len(references.rows) // 2
  return (references.take(order[:half]), references.take(order[half:2 * half]),
          f"control: {half} of the references against {half} others, fewer than the samples' own comparison has")


def _setting(protocol: CloudProtocol, samples: Clouds, references: Clouds, control: str, whose: str,
             seed: int) -> _Setting:
  points, m = samples.points.shape[1], len(references.rows)
  failed = f" ({samples.failed} of them failed)" if samples.failed else ""
  return _Setting(protocol, f"{protocol.name}, {samples.num} against {m}, {points:,} points",
                  f"{samples.num} samples{failed} against {m} {whose.format(f'{points:,}')}; {protocol.frame}",
                  control, seed)


class _Distances:
  """Matrices of distances, shown while they are made."""

  def __init__(self, protocol: CloudProtocol, watch: Watch):
    self._protocol, self._watch = protocol, watch

  def matrix(self, kind: str, a: np.ndarray, b: np.ndarray, what: str) -> np.ndarray:
    watch = self._watch(f"{kind.upper()}, {what}")
    if kind == "emd_annealed":  # the authors look for neighbours down the columns: the neighbour comes first
      return annealed_pairwise(b, a, self._protocol.name, progress=watch).T
    return pairwise(a, b, self._protocol.chamfer if kind == "cd" else self._protocol.emd, progress=watch)

  def between(self, kind: str, x: Clouds, y: Clouds, what: str) -> SetDistances:
    xx = self.matrix(kind, x.points, x.points, "samples" if what != "the control" else what)
    xy = self.matrix(kind, x.points, y.points, f"samples to {what}")
    yy = self.matrix(kind, y.points, y.points, what)
    return SetDistances(with_failures(xx, x.rows, x.num, both=True), with_failures(xy, x.rows, x.num), yy)


def _neighbour_metrics(own: SetDistances, real: SetDistances, kind: str, setting: _Setting) -> list[Metric]:
  """MMD, COV and the three 1-NN accuracies."""
  def figures(d):
    found = one_nn(d)
    return np.array([mmd(d), cov(d), found.accuracy, found.samples, found.references])

  value, floor, spread = figures(own), figures(real), half_replicates(own, figures, seed=setting.seed)
  n, m = own.xy.shape
  column = lambda i: None if spread is None else spread[:, i]
  factor = setting.protocol.mmd_factors[kind]
  words = setting.protocol.words(kind)
  half = f"{HALF_WORDS}, {HALVES} times; {FAILED_WORDS}"
  accuracy = ("percent of shapes whose nearest other shape (leave one out, ties in proportion) is of their own set{}; "
              "50 is ideal, lower is copying of the references")
  out = [setting.metric(f"mmd_{kind}_x{factor:g}", value[0], spread_interval(value[0], column(0), low=0.0), m, floor[0],
                        "lower", "mean over references of the distance to the nearest sample, "
                        f"times {factor:g}; {words}; {half}", factor),
         setting.metric(f"cov_{kind}_percent", value[1], share_interval(value[1], m, column(1)), m, floor[1], "higher",
                        f"percent of references that are some sample's nearest (the first of equals); {words}; {half}",
                        100)]
  for i, (part, count, whose) in enumerate((("", n + m, ""), ("/samples", n, ", of the samples"),
                                            ("/references", m, ", of the references")), start=2):
    out.append(setting.metric(f"1nna_{kind}_percent{part}", value[i], share_interval(value[i], count, column(i)), count,
                              floor[i], "lower", f"{accuracy.format(whose)}; {words}; {half}", 100))
  return out


def _manifold_metrics(own: SetDistances, real: SetDistances, k: int, setting: _Setting) -> list[Metric]:
  """Precision, recall, density and coverage; none where a set has not more than k shapes, no control likewise."""
  def figures(d):
    return np.array(dataclasses.astuple(manifold(d, k)))

  n, m = own.xy.shape
  if k >= min(n, m):
    return []
  value, floor = figures(own), figures(real) if k < min(real.xy.shape) else [None] * 4
  spread = half_replicates(own, figures, seed=setting.seed) if k < min(n, m) // 2 else None
  column = lambda i: None if spread is None else spread[:, i]
  ball = f"ball: as far as the {k}-th nearest other of its own set, closed; {setting.protocol.words('cd')}"
  words_of_halves = "interval by half-sampling both sets (in sets of tens it holds nearer to 85 % of the time)"
  words = ("share of samples in a reference's ball", "share of references in a sample's ball",
           f"how many references' balls hold a sample, over {k}", "share of references whose ball holds a sample")
  out = []
  for i, (name, text) in enumerate(zip(("precision", "recall", "density", "coverage"), words, strict=True)):
    interval = (spread_interval(value[i], column(i), low=0.0) if name == "density" else
                share_interval(value[i], n if name == "precision" else m, column(i)))
    out.append(setting.metric(f"{name}_cd_k{k}", value[i], interval, n if name in ("precision", "density") else m,
                              floor[i], "higher", f"{text}; {ball}; {words_of_halves}; {FAILED_WORDS}"))
  return out


def _diversity(own: SetDistances, setting: _Setting) -> Metric:
  """The Vendi-like number of the samples that are there; its control is the references' own."""
  kept = np.flatnonzero(np.isfinite(own.xy).all(axis=1))
  square = own.xx[np.ix_(kept, kept)]
  everyone = np.arange(len(own.yy))
  figure = lambda square, i, j: vendi_like(square[np.ix_(i, i)], median_distance(own.yy[np.ix_(j, j)]))
  value, floor = (figure(part, np.arange(len(part)), everyone) for part in (square, own.yy))
  interval = jackknife_interval(value, functools.partial(figure, square), len(kept), len(everyone), setting.seed)
  if interval:
    interval = max(interval[0], 1.0), interval[1]
  words = ("exp of the entropy of the eigenvalues (negative ones dropped) of exp(-CD / the references' median CD) over "
           "the samples; Vendi-like: the kernel is ours, and one shape repeated counts more than 1, as its samplings "
           f"differ; {setting.protocol.words('cd')}; jackknife in 10 blocks of both sets, of the logarithm; failed samples "
           "left out; its control is the references' own, whatever else is said of the control")
  return setting.metric("vendi_like_cd", value, interval, len(kept), floor, "higher", words)


def _divergence(samples: Clouds, references: Clouds, control: Clouds, against: Clouds, setting: _Setting) -> Metric:
  x, y = occupancy_counts(samples.points), occupancy_counts(references.points)
  total = lambda counts: counts.sum(0, dtype=np.int64)
  floor = jsd(*(total(occupancy_counts(c.points)) for c in (control, against)))
  value = jsd(total(x), total(y))
  interval = spread_interval(value, jsd_replicates(x, y, seed=setting.seed), low=0.0)
  words = ("Jensen-Shannon divergence, in bits, of where all points of a set are: nearest nodes of a 28^3 grid over "
           f"[-1/2, 1/2]^3 within the ball of radius 1/2; {HALF_WORDS}; failed samples have no points")
  return setting.metric("jsd_28", value, interval, min(len(x), len(y)), floor, "lower", words)


def _frechet(samples: Clouds, references: Clouds, control: Clouds, against: Clouds, setting: _Setting) -> Metric:
  x, y, a, b = (sliced_quantiles(c.points) for c in (samples, references, control, against))
  value = frechet_of_sets(x, y)
  spread = np.array([frechet_of_sets(x[i], y[j]) for i, j in halves(len(x), len(y), 50, setting.seed)])
  words = ("squared Frechet distance, times 1000, of Gaussians of a feature without weights: mean position of each "
           "eighth of the points along 13 directions (104 numbers, a sliced Wasserstein embedding); not the FPD of a "
           f"PointNet; biased upwards in small sets, as its control is; {HALF_WORDS}; failed samples left out")
  return setting.metric("frechet_sliced_13x8_x1000", value, spread_interval(value, spread, low=0.0),
                        min(len(x), len(y)), frechet_of_sets(a, b), "lower", words, 1000)


def _memorisation(samples: np.ndarray, held_out: np.ndarray, known: int, setting: _Setting) -> list[Metric]:
  """Z_U, and the median distance to the nearest of `known` training shapes; the control is held-out shapes' own."""
  found = copy_test(samples, held_out, setting.seed)
  order = np.random.default_rng((setting.seed, 13)).permutation(len(held_out))
  half = len(held_out) // 2
  real = copy_test(held_out[order[:half]], held_out[order[half:]], setting.seed, resamples=2)
  words = (f"Mann-Whitney Z of distances to the nearest of {known:,} training shapes, samples against references, ties corrected; "
           "far below 0 is copying, above 0 says only that samples are farther away; p (copying) = "
           f"{found.p_value:.2g}; {setting.protocol.words('cd')}; interval: bootstrap over both sets in Wilson's form, training shapes "
           f"fixed; failed samples left out; its control: {half} references against the other {len(held_out) - half}")
  rng = np.random.default_rng((setting.seed, 17))
  medians = [np.median(samples[rng.integers(len(samples), size=len(samples))]) for _ in range(1000)]
  factor = setting.protocol.mmd_factors["cd"]
  text = (f"median over samples of the distance to the nearest of {known:,} training shapes, times {factor:g}; much lower than its "
          f"control (the references') is copying; {setting.protocol.words('cd')}; percentile bootstrap over samples; "
          "failed samples left out")
  return [setting.metric("z_u_cd", found.z, found.interval, min(len(samples), len(held_out)), real.z, "higher", words),
          setting.metric(f"nearest_training_cd_x{factor:g}/median", float(np.median(samples)),
                         tuple(np.quantile(medians, [0.025, 0.975]).tolist()), len(samples), float(np.median(held_out)),
                         "higher", text, factor)]


def _warnings(samples: Clouds, references: Clouds, k: int) -> Sequence[str]:
  out = []
  if samples.failed:
    out.append(f"{samples.failed} of {samples.num} samples have no surface: 1-NNA takes them as told apart, they cover "
               "and are near nothing; JSD, Frechet distance, diversity and memorisation leave them out")
  for name, clouds in (("samples", samples), ("references", references)):
    if share := outside_ball(clouds.points):
      out.append(f"{100 * share:.3g}% of the points of the {name} lie outside the ball of radius 1/2: JSD counts them "
                 "at its rim")
  if k >= min(samples.num, len(references.rows)):
    out.append(f"precision, recall, density and coverage at k = {k} need more shapes: left out")
  return out
