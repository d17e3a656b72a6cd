"""Sparse extraction: equal to dense to the last bit, cheap, bounded, and robust where the field is too steep."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from fields3d.core import errors
from fields3d.core.errors import BadData, Diverged, UsageFault
from fields3d.core.types import Field
from fields3d.extraction import sparse
from fields3d.extraction.sampling import evaluate
from fields3d.extraction.sparse import extract

BOX = np.array([[-1.0, -1, -1], [1, 1, 1]])
BRICK = np.array([[-1.0, -0.3, 0], [1, 0.74, 1.5]])


def sphere(x, radius=0.5):
  return np.linalg.norm(x, axis=-1) - np.float32(radius)


def torus(x):
  return np.hypot(np.hypot(x[:, 0], x[:, 2]) - np.float32(0.6), x[:, 1]) - np.float32(0.25)


def cube(x):
  outside = np.abs(x) - np.float32(0.5)
  return np.linalg.norm(np.maximum(outside, 0), axis=-1) + np.minimum(outside.max(axis=-1), 0)


def clamped(x):
  return np.clip(torus(x), -0.1, 0.1)


def saturated(x):
  return np.tanh(sphere(x) / np.float32(0.1)) * np.float32(0.1)


def cut_by_the_box(x):
  return np.linalg.norm(x - np.array([0.8, 0.9, 0], np.float32), axis=-1) - np.float32(0.7)


def speck(x):
  """A large sphere, and one smaller than a cell that only one node sees."""
  return np.minimum(sphere(x), np.linalg.norm(x - np.float32(0.75), axis=-1) - np.float32(0.02))


def thin_shell(x):
  return np.abs(sphere(x)) - np.float32(0.03)


def full(x):
  """The whole box but for a ball: the surface is the ball and the box's six sides."""
  return -sphere(x)


FIELDS = [sphere, torus, cube, clamped, saturated, cut_by_the_box, speck, thin_shell, full]


def assert_same(first, second):
  np.testing.assert_array_equal(first.vertices, second.vertices)
  np.testing.assert_array_equal(first.faces, second.faces)


@pytest.fixture(scope="module")
def networks():
  """Two tanh networks with random weights; jitted, slope at most the product of the layers' norms."""
  def network(seed, width):
    keys = jax.random.split(jax.random.key(seed), 4)
    sizes = [(3, width), (width, width), (width, width), (width, 1)]
    weights = [jax.random.orthogonal(k, max(s), ())[:s[0], :s[1]] for k, s in zip(keys, sizes, strict=True)]
    def fn(x):
      for w in weights[:-1]:
        x = jnp.tanh(2 * x @ w)
      return (x @ weights[-1])[:, 0]
    return jax.jit(fn), 8.0
  return [network(0, 32), network(3, 64)]


@pytest.mark.parametrize("resolution", [5, 24, 41, 64])
@pytest.mark.parametrize("fn", FIELDS)
def test_sparse_equals_dense_to_the_last_bit(fn, resolution, defects):
  field = Field(fn, BOX)
  dense, _ = extract(field, resolution, method="dense")
  mesh, report = extract(field, resolution)
  assert_same(mesh, dense)
  assert report.method == "dense" or report.slope <= report.lipschitz  # a few cells are all near the surface
  assert report.method == "sparse" or resolution < 64
  assert not [d for d in defects(mesh) if fn is not full or d != "faces inward"]


def test_a_brick_shaped_box_has_nearly_cubic_cells_and_sparse_equals_dense():
  field = Field(torus, BRICK)
  dense, report = extract(field, 50, method="dense")
  assert report.shape == (50, 26, 38)
  assert_same(extract(field, 50)[0], dense)


def test_a_part_on_an_edge_of_a_brick_with_odd_and_even_sides_is_found():
  cell = 1 / 16
  part, whole = np.array([15, 16, 8]) * cell, np.array([0.4, 0.4, 0.5])
  balls = lambda x: np.minimum(np.linalg.norm(x - part, axis=1) - cell / 2, np.linalg.norm(x - whole, axis=1) - 0.25)
  field = Field(balls, np.array([[0, 0, 0], [15 * cell, 1, 1]]))
  mesh, report = extract(field, 17)
  assert report.method == "sparse" and report.shape == (16, 17, 17)
  assert_same(mesh, extract(field, 17, method="dense")[0])


def test_sparse_equals_dense_for_networks_with_random_weights(networks):
  for fn, bound in networks:
    dense, _ = extract(Field(fn, BOX), 48, method="dense")
    mesh, report = extract(Field(fn, BOX), 48, lipschitz=bound)
    assert_same(mesh, dense)
    assert report.slope <= bound


def test_every_node_is_evaluated_where_the_field_is_near_0_everywhere():
  flat = lambda x: np.float32(0.01) * np.sign(torus(x))
  mesh, report = extract(Field(flat, BOX), 40)
  assert (report.method, report.evaluations, report.slope) == ("dense", 40**3, None)
  assert_same(mesh, extract(Field(flat, BOX), 40, method="dense")[0])


@pytest.mark.parametrize("factor", [3.0, 50.0])
def test_a_field_steeper_than_promised_is_followed_and_reported(factor):
  """Blocks are dropped wrongly, but the surface is found from what was seen of it."""
  field = Field(lambda x: np.float32(factor) * torus(x), BOX)
  dense, _ = extract(field, 64, method="dense")
  mesh, report = extract(field, 64, lipschitz=1.0)
  assert_same(mesh, dense)
  assert report.slope == pytest.approx(factor, rel=0.01) and report.slope > report.lipschitz


@pytest.mark.parametrize("steep", [
    lambda x: 50 * sphere(x - np.float32([0.01, 0.02, 0.03])),
    lambda x: np.where(sphere(x - np.float32([0.01, 0.02, 0.03])) < 0, -1, 1),
    lambda x: 1e6 * cube(x - np.float32([0.3, -0.2, 0.11])),
])
def test_a_surface_so_steep_that_no_block_seems_to_hold_it_is_found(steep):
  """No two evaluated neighbours had different signs: the mesh was empty, and the slope 0."""
  field = Field(steep, BOX, lambda x: np.broadcast_to(np.float32([1, 0, 0]), x.shape))
  mesh, report = extract(field, 64)
  dense, _ = extract(field, 64, method="dense")
  np.testing.assert_array_equal(mesh.vertices, dense.vertices)
  np.testing.assert_array_equal(mesh.faces, dense.faces)
  assert len(mesh.faces) and (report.method == "dense" or report.slope > report.lipschitz == sparse.LIPSCHITZ)


@pytest.mark.parametrize("tile", [1, 5, 16, 63, 64, 65, 100])
def test_the_tile_size_changes_nothing(tile):
  for fn in (cut_by_the_box, torus):
    whole, _ = extract(Field(fn, BOX), 33, tile=64)
    assert_same(extract(Field(fn, BOX), 33, tile=tile)[0], whole)


def test_each_node_is_evaluated_once_in_calls_of_one_size():
  sizes, seen = set(), []
  def spy(x):
    sizes.add(x.shape)
    seen.append(x)
    return torus(x)
  _, report = extract(Field(spy, BOX), 64, chunk=1000)
  assert sizes == {(1000, 3)}
  assert len(np.unique(np.concatenate(seen), axis=0)) == report.evaluations
  assert len(seen) <= report.evaluations // 1000 + report.rounds


def test_jit_compiles_the_field_once():
  traces = []
  @jax.jit
  def fn(x):
    traces.append(x.shape)
    return jnp.linalg.norm(x, axis=-1) - 0.5
  extract(Field(fn, BOX), 40)
  assert len(traces) == 1


@pytest.mark.parametrize("fn, most", [(sphere, 60_000), (saturated, 95_000), (torus, 110_000)])
def test_evaluations_at_128_are_a_fraction_of_the_2_097_152_nodes(fn, most):
  assert extract(Field(fn, BOX), 128)[1].evaluations < most


def test_evaluations_grow_as_the_square_of_the_resolution():
  counts = [extract(Field(torus, BOX), n)[1].evaluations for n in (65, 129)]
  assert np.log2(counts[1] / counts[0]) < 2.3


def test_vertices_converge_to_the_surface_with_order_two():
  far = [np.abs(np.linalg.norm(extract(Field(sphere, BOX), n)[0].vertices, axis=1) - 0.5).max() for n in (33, 65, 129)]
  orders = np.log2(np.array(far)[:-1] / np.array(far)[1:])
  # The limit 1e-3 of a cell next to nodes is of order one, and small beside the rest at these sizes.
  assert np.all(orders > 1.7), orders


def test_colours_are_the_fields_at_the_vertices():
  field = Field(sphere, BOX, color=lambda x: 0.5 + 0.5 * x)
  mesh, _ = extract(field, 24)
  assert mesh.colors.dtype == np.uint8
  # atol: half a level of rounding, and float32.
  np.testing.assert_allclose(mesh.colors / 255, 0.5 + 0.5 * mesh.vertices, rtol=0, atol=0.5 / 255 + 1e-6)


@pytest.mark.parametrize("method", ["dense", "sparse"])
def test_a_field_without_zero_crossing_is_a_fault_with_its_range(method):
  for fn, side in ((lambda x: sphere(x) + 1, "outside"), (lambda x: sphere(x) - 9, "inside")):
    with pytest.raises(BadData, match=f"no zero crossing: the values lie in .*all {side}"):
      extract(Field(fn, BOX), 24, method=method)


@pytest.mark.parametrize("method", ["dense", "sparse"])
def test_a_field_that_is_not_finite_is_a_fault_with_the_count(method):
  def fn(x):
    return np.where(x[:, 0] > 0.9, np.nan, sphere(x))
  with pytest.raises(Diverged, match=r"\d+ of \d+ values are not finite"):
    extract(Field(fn, BOX), 24, method=method)


def test_what_does_not_fit_into_memory_is_refused_before_it_is_allocated(monkeypatch):
  with pytest.raises(UsageFault, match=r"--resolution: needs \d+\.\d GiB"):
    extract(Field(sphere, BOX), 100_000, method="dense")
  monkeypatch.setattr(errors, "available_memory", lambda: 2**24)
  with pytest.raises(UsageFault, match=r"--resolution: needs \d+\.\d GiB"):
    extract(Field(lambda x: np.zeros(len(x), np.float32), BOX), 1000)


@pytest.mark.parametrize("resolution", [1_455_000, 2_100_000, 2**22, 10**20])
@pytest.mark.parametrize("method", ["dense", "sparse"])
def test_more_nodes_than_int64_keys_are_refused_with_the_bytes_they_need(method, resolution):
  with pytest.raises(UsageFault, match=r"--resolution: needs \d+\.\d GiB"):
    extract(Field(sphere, BOX), resolution, method=method)


def test_wrong_arguments_are_faults():
  field = Field(sphere, BOX)
  with pytest.raises(UsageFault, match="did you mean 'sparse'"):
    extract(field, 24, method="sprase")
  with pytest.raises(UsageFault, match="at least 2"):
    extract(field, 1)
  for bounds in (BOX[::-1], np.full((2, 3), np.nan), BOX[0], 1.7e308 * BOX):
    with pytest.raises(UsageFault, match="not a box|is not a box"):
      extract(Field(sphere, bounds), 24)
  with pytest.raises(BadData, match="one row a point"):
    evaluate(lambda x: x[:-1], np.zeros((4, 3), np.float32))


def test_a_component_is_missed_only_where_the_field_breaks_its_promise():
  """The one limit of sparse extraction, and that the report shows it: a far ball, steep and unseen."""
  def fn(x):
    ball = np.linalg.norm(x - np.array([0.6, 0.6, 0.6], np.float32), axis=-1) - np.float32(0.06)
    return np.where(ball < 0, np.float32(-0.5), sphere(x, 0.3)).astype(np.float32)
  dense, _ = extract(Field(fn, BOX), 64, method="dense")
  mesh, report = extract(Field(fn, BOX), 64)
  assert len(mesh.faces) < len(dense.faces) and report.slope <= 1.001
  assert_same(extract(Field(fn, BOX), 64, lipschitz=20.0)[0], dense)


def test_signs_are_implied_only_within_reach():
  samples = sparse.Samples(sphere, sparse.lattice(BOX, 9), 64)
  block = np.array([[0, 0, 0]])
  samples.add(sparse._block_keys(samples.grid, block)[:, sparse._FIRST])
  signs = sparse._signs(samples, block, 1.0).reshape(3, 3, 3)
  assert np.all(signs == 1)  # the far corner is 1.2 away
  assert np.all(sparse._signs(samples, block, 1e6).reshape(-1)[~sparse._FIRST] == 0)
