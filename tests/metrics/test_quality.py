"""The census of meshes that are known, of the real ones against their declared columns, and shares with intervals."""

import csv

import numpy as np
import pytest
from solids_of_cells import box, cells, joined, turned

from fields3d.core.types import Mesh
from fields3d.data.meshes import parse_mesh
from fields3d.data.packs import read_pack
from fields3d.metrics.quality import CHECKS, census


def without(mesh, count):
  return Mesh(mesh.vertices, mesh.faces[count:])


def flaws(mesh):
  """The names of the checks whose answer is not the good one."""
  found = census(mesh)
  return {name for name, check in CHECKS.items() if check.of(found) != check.good}


FAN = Mesh(np.array([[0., 0, 0], [0, 1, 0], [1, 0, 0], [-1, 0, 0], [0, 0, 1]]),
           np.array([[0, 1, 2], [0, 1, 3], [0, 1, 4]]))
CUBE = box((1, 1, 1))
CASES = {
    "a cube is sound": (CUBE, set()),
    "a cube in a cube, inward, is a cavity": (joined(box((3, 3, 3)), turned(CUBE)), {"one_component"}),
    "a face is missing": (without(CUBE, 1), {"watertight", "closed"}),
    "inside out": (turned(CUBE), {"inverted"}),
    "one of two is inside out": (joined(CUBE, turned(box((1, 1, 1), (3, 0, 0)))), {"one_component", "inverted"}),
    "one face is turned": (joined(without(CUBE, 1), turned(Mesh(CUBE.vertices, CUBE.faces[:1]))), {"closed", "oriented"}),
    "two cross": (joined(CUBE, box((1, 1, 1), (0.5, 0.4, 0.3))), {"one_component", "self_intersecting"}),
    "two cubes touch along an edge": (cells((0, 0, 0), (1, 1, 0)),
                                      {"watertight", "closed", "edge_manifold", "vertex_manifold"}),
    "two cubes touch at a corner": (cells((0, 0, 0), (1, 1, 1)), {"vertex_manifold", "one_component"}),
    "a face has no area": (joined(CUBE, Mesh(CUBE.vertices, np.array([[0, 0, 1]]))), {"degenerate"}),
    "a face stands twice": (joined(CUBE, Mesh(CUBE.vertices, CUBE.faces[:1])),
                            {"duplicate", "watertight", "closed", "edge_manifold", "vertex_manifold"}),
}


@pytest.mark.parametrize("name", CASES)
def test_each_flaw_is_found_and_no_other(name):
  mesh, expected = CASES[name]
  assert flaws(mesh) == expected


def test_volumes_and_counts_are_those_of_the_cells():
  found = census(cells((0, 0, 0), (1, 0, 0), (1, 1, 0)))
  assert found.volume == pytest.approx(3) and found.area == pytest.approx(14)
  assert (found.faces, found.components, found.boundary_edges) == (28, 1, 0)
  assert census(FAN).edge_manifold is False and census(FAN, crossings=False).self_intersecting is None


@pytest.mark.parametrize("pack, models", [("furniture", 40), ("lowpoly", 120)])
def test_watertightness_of_real_models_is_as_declared(real_data, pack, models):
  """The tables count faces without area as faces; the smallest models of each pack."""
  folder = real_data / "shapes" / pack
  with open(folder / f"{pack}.csv", newline="", encoding="utf-8-sig") as f:
    rows = list(csv.DictReader(f))
  read = read_pack(folder)
  for i in sorted(range(len(rows)), key=lambda i: int(rows[i]["faces"]))[:models]:
    found = census(read[i].mesh(), crossings=False)
    assert found.watertight_with_degenerate == (rows[i]["watertight"] == "1"), rows[i]["name"]
    assert found.watertight == found.watertight_with_degenerate or found.degenerate


def test_needles_are_faces_or_not_as_asked():
  """A cube's edge split on one side only, the crack filled by a needle: closed to a table, open to a printer."""
  x = np.concatenate([CUBE.vertices, [CUBE.vertices[CUBE.faces[0]][:2].mean(0)]])
  a, b, c = CUBE.faces[0]
  mesh = Mesh(x, np.concatenate([CUBE.faces[1:], [[a, len(x) - 1, c], [len(x) - 1, b, c], [a, b, len(x) - 1]]]))
  found = census(mesh)
  assert found.watertight_with_degenerate and not found.watertight and found.degenerate == 1


def test_classic_meshes_are_watertight_and_open_ones_are_not(real_data):
  def found(folder):
    return {path.name: census(parse_mesh(path)[0], crossings=False).watertight
            for path in sorted((real_data / "meshes" / folder).rglob("*.obj")) if path.stat().st_size < 2**20}
  assert all(found("classic").values()) and not any(found("open_boundary").values())
