"""Points near a surface's sharp edges, found from the normals of a dense sample, without the mesh's own edges."""

import numpy as np
import scipy.spatial

from fields3d.core.types import PointCloud

RADIUS, COSINE, THRESHOLD, POINTS = 0.004, 0.2, 0.005, 100_000  # NMC's, of a shape whose longest side is 1


def near_edges(points: np.ndarray, normals: np.ndarray, radius: float, cosine: float = COSINE) -> np.ndarray:
  """Which points have another within `radius` whose normal stands nearly at right angles to theirs.

  Exact. It finds edges whose faces meet at about 90 degrees, not slight creases: with |cos| < 0.2 those between 78 and
  102 degrees. BSP-Net's own figures use a radius of 0.01 and |cos| < 0.1 of ShapeNet's unit.

  Args:
    points (n, 3), normals (n, 3) unit, of a sample with several points within `radius` of each.
    radius: in the points' unit. cosine: normals with a smaller |cosine| count as at right angles.

  Returns:
    (n,) bool.

  Source: Chen & Zhang 2021, Neural Marching Cubes, section 4 ("edge chamfer distance") and its released evaluation,
    eval_cd_nc_f1_ecd_ef1.py; Chen, Tagliasacchi & Zhang 2020, BSP-Net, section 4.2, evaluation/edge_from_point.py.

  >>> x = np.array([[0.0, 0, 0], [0.1, 0, 0], [5, 0, 0]])
  >>> near_edges(x, np.eye(3), 0.2).tolist(), near_edges(x, np.ones((3, 3)) / 3**0.5, 0.2).tolist()
  ([True, True, False], [False, False, False])
  """
  found = np.zeros(len(points), bool)
  pairs = scipy.spatial.cKDTree(points).query_pairs(radius, output_type="ndarray")
  sharp = pairs[np.abs(np.sum(normals[pairs[:, 0]] * normals[pairs[:, 1]], axis=1)) < cosine]
  found[sharp.ravel()] = True
  return found


def edge_cloud(cloud: PointCloud, radius: float, cosine: float = COSINE) -> PointCloud:
  """The points of a cloud with normals that are near its sharp edges; perhaps none."""
  near = near_edges(cloud.points, cloud.normals, radius, cosine)
  return PointCloud(cloud.points[near], cloud.normals[near])
