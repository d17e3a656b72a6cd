"""Protocols: their distances exist, their conventions are what their sources say, and real data behave under them."""

import os
import pathlib

import numpy as np
import pytest

from fields3d.evaluation.cloud_protocols import PROTOCOLS
from fields3d.evaluation.results import bare
from fields3d.evaluation.set_comparison import Clouds, compare_sets
from fields3d.geometry.meshes import normalise, sample_surface
from fields3d.metrics.annealed_matching import annealed_pairwise
from fields3d.metrics.pairs import DISTANCES, pairwise

DATA = pathlib.Path(os.environ.get("FIELDS3D_DATA", pathlib.Path(__file__).parents[2] / "../shared/data"))


def boxes(num, seed, points=32):
  rng = np.random.default_rng(seed)
  return (rng.uniform(0.1, 0.28, (num, 1, 3)) * rng.uniform(-1, 1, (num, points, 3))).astype(np.float32)


def figures(found):
  return {bare(metric.name): metric for metric in found.metrics}


def test_every_protocol_names_distances_that_exist_and_its_sources():
  for name, protocol in PROTOCOLS.items():
    assert protocol.name == name and {protocol.chamfer, protocol.emd} <= set(DISTANCES)
    assert protocol.points == 2048 and "405" in protocol.published
    assert any(".py" in source for source in protocol.sources)


def test_a_shift_has_the_distances_that_the_sources_define():
  """A grid shifted by less than half its spacing: every point's nearest and matched neighbour is its own image."""
  grid = np.stack(np.meshgrid(*[np.arange(4)] * 3), -1).reshape(1, -1, 3).astype(np.float32)
  shift, points = 0.25, 64
  found = {name: [float(pairwise(grid, grid + np.float32([shift, 0, 0]), distance)[0, 0])
                  for distance in (protocol.chamfer, protocol.emd)] for name, protocol in PROTOCOLS.items()}
  assert found["pointflow"] == pytest.approx([2 * shift**2, shift], rel=1e-6)
  assert found["pvd"] == pytest.approx([2 * shift**2, points * shift**2], rel=1e-6)


def test_protocols_agree_under_cd_and_differ_under_emd():
  samples, references = Clouds.whole(boxes(8, 0)), Clouds.whole(boxes(8, 1) + np.float32(0.05))
  flow, pvd = (figures(compare_sets(samples, references, None, PROTOCOLS[name], emd="exact", k=2))
               for name in ("pointflow", "pvd"))
  assert flow["mmd_cd_x1000"].value == pvd["mmd_cd_x1000"].value
  assert flow["mmd_emd_x100"].value != pytest.approx(pvd["mmd_emd_x100"].value, rel=0.5)
  assert "not divide by the points" in pvd["mmd_emd_x100"].protocol and "mean distance" in flow["mmd_emd_x100"].protocol


def test_annealed_figures_take_the_neighbour_as_the_kernels_first_cloud():
  x, y = boxes(5, 0), boxes(6, 1) + np.float32(0.02)
  found = figures(compare_sets(Clouds.whole(x), Clouds.whole(y), None, PROTOCOLS["pointflow"], emd="annealed", k=2))
  rs, rr, ss = (annealed_pairwise(a, b, "pointflow") for a, b in ((y, x), (y, y), (x, x)))
  assert found["mmd_emd_annealed_x100"].value == pytest.approx(100 * rs.min(axis=1).mean(), rel=1e-9)
  whole = np.block([[rr, rs], [rs.T, ss]])  # as PointFlow's knn puts it together
  np.fill_diagonal(whole, np.inf)
  right = (whole.argmin(axis=0) < 6) == (np.arange(11) < 6)
  assert found["1nna_emd_annealed_percent"].value == pytest.approx(100 * right.mean())
  assert found["1nna_emd_annealed_percent/samples"].value == pytest.approx(100 * right[6:].mean())
  assert "mass that no level moved" in found["mmd_emd_annealed_x100"].protocol


@pytest.fixture(scope="module")
def furniture():
  """Clouds of 128 points of 46 chairs and 23 lamps, each in the ball of radius 1/2."""
  folder = DATA / "shapes" / "furniture"
  if not folder.is_dir():
    pytest.skip(f"no furniture pack in {folder}; set FIELDS3D_DATA")
  from fields3d.data.packs import read_pack
  models, out = read_pack(folder), {}
  for label, num in (("chair", 46), ("lamp", 23)):
    kept = [model for model in models if model.label == label][:num]
    clouds = [sample_surface(normalise(model.mesh())[0], 128, np.random.default_rng(i)).points / 2
              for i, model in enumerate(kept)]
    out[label] = np.stack(clouds).astype(np.float32)
  return out


def test_real_chairs_are_not_told_from_real_chairs_and_lamps_are(furniture):
  order = np.random.default_rng(0).permutation(46)
  chairs, others = (Clouds.whole(furniture["chair"][half]) for half in (order[:23], order[23:]))
  real = figures(compare_sets(chairs, others, None, PROTOCOLS["pointflow"], k=3))
  assert real["1nna_cd_percent"].low <= 50 <= real["1nna_cd_percent"].high
  told = figures(compare_sets(Clouds.whole(furniture["lamp"]), others, None, PROTOCOLS["pointflow"], k=3))
  assert told["1nna_cd_percent"].low > 60
  for name in ("mmd_cd_x1000", "jsd_28", "frechet_sliced_13x8_x1000"):
    assert told[name].low > real[name].high, name
  for name in ("cov_cd_percent", "coverage_cd_k3", "density_cd_k3"):
    assert told[name].value < real[name].value, name
