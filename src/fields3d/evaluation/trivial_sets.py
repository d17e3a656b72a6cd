"""Sets of clouds without a model, made of the training shapes: what any generative model has to beat."""

import numpy as np

from fields3d.core.types import Mesh
from fields3d.evaluation.set_comparison import Clouds
from fields3d.metrics.sets import occupancy_counts


def trivial_sets(training: Clouds, num: int, seed: int = 0) -> dict[str, Clouds]:
  """Three sets of `num` clouds.

  "gaussian_cloud": points of one normal distribution, with the mean and covariance of all training points.
  "independent_points": each point is one of a random training shape: where points are, and nothing of shapes.
  "one_shape": again and again the training shape whose points lie most as all of them do (the cosine of counts on a 28^3
  grid), each time half of its points at random, twice.

  >>> found = trivial_sets(Clouds.whole(np.random.default_rng(0).normal(size=(5, 8, 3)).astype(np.float32) / 9), 3)
  >>> {name: clouds.points.shape for name, clouds in found.items()}
  {'gaussian_cloud': (3, 8, 3), 'independent_points': (3, 8, 3), 'one_shape': (3, 8, 3)}
  """
  rng, points = np.random.default_rng((seed, 29)), training.points
  every, each = points.reshape(-1, 3), points.shape[1]
  normal = rng.multivariate_normal(every.mean(0), np.cov(every.T), (num, each))
  counts = occupancy_counts(points).reshape(len(points), -1).astype(np.float64)
  alike = counts @ counts.sum(0) / np.linalg.norm(counts, axis=1)
  middle = points[int(alike.argmax())]
  half = np.stack([rng.permutation(each)[:each - each // 2] for _ in range(num)])
  again = np.concatenate([half, half[:, :each // 2]], axis=1)
  sets = {"gaussian_cloud": normal, "independent_points": every[rng.integers(len(every), size=(num, each))], "one_shape": middle[again]}
  return {name: Clouds.whole(clouds.astype(np.float32)) for name, clouds in sets.items()}


def splats(points: np.ndarray) -> Mesh:
  """An octahedron at each point (n, 3), for pictures; the fewer points, the larger.

  >>> len(splats(np.zeros((2, 3))).faces)
  16
  """
  ends = 0.7 / np.sqrt(max(1, len(points))) * np.concatenate([np.eye(3), -np.eye(3)])
  faces = np.array([[0, 1, 2], [1, 3, 2], [3, 4, 2], [4, 0, 2], [1, 0, 5], [3, 1, 5], [4, 3, 5], [0, 4, 5]])
  vertices = (points[:, None].astype(np.float64) + ends).reshape(-1, 3)
  return Mesh(vertices, (6 * np.arange(len(points))[:, None, None] + faces).reshape(-1, 3))
