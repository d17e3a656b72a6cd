"""The radiance task: every option with every renderer, its terms in closed form, and what it predicts."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from fields3d.core.config import build
from fields3d.core.errors import UsageFault
from fields3d.core.task import State, bind
from fields3d.core.types import Rays
from fields3d.data import DATASETS
from fields3d.fields import RADIANCE_FIELDS
from fields3d.fields.field import RadianceField
from fields3d.fields.neus import crossing_depth
from fields3d.rendering import RENDERERS as RENDERER_TABLE
from fields3d.rendering.contraction import contract
from fields3d.tasks import TASKS
from fields3d.tasks.fit_radiance import _flat_rays, fit_radiance
from fields3d.tasks.view_corrections import exposed, moved, rotate
from fields3d.training.optim import adam
from fields3d.training.step import init_state, make_step

GRID = dict(name="hashgrid", levels=2, features=2, log2_rows=8, coarsest=4, finest=8)
SH = dict(name="spherical_harmonics", degree=2)
NGP = dict(name="ngp", encoding=GRID, directions=SH, width=8, color_width=8)
NEUS = dict(name="neus", encoding=GRID, directions=SH, width=8, color_width=8)
RENDERERS = {
    "packed": dict(renderer=dict(name="packed", budget=1024, step=0.1, resolution=8, refresh_cells=256)),
    "survey": dict(renderer=dict(name="packed", budget=512, survey=1024, step=0.1, resolution=8, refresh_cells=256)),
    "hierarchical": dict(renderer=dict(name="hierarchical", coarse=8, fine=8), proposals=dict(coarse=NGP)),
    "proposal": dict(renderer=dict(name="proposal", samples=(12, 8)), proposals=dict(first=dict(name="proposal", encoding=GRID))),
}


def data(**more):
  return build(DATASETS, dict(name="rendered", family="mug", views=3, test_views=1, width=10, supersample=1,
                              draws=dict(pixels=64, **more)), "data")


@pytest.fixture(scope="module")
def dataset():
  return data()


def task_of(dataset, renderer="packed", field=NGP, **settings):
  section = dict(name="fit_radiance", field=field, **RENDERERS[renderer], **settings)
  return build(TASKS, section, "task", info=dataset.info)


def test_parts_are_built(dataset):
  assert set(task_of(dataset).predict) == {"render", "density", "radiance", "code"}


@pytest.mark.parametrize("renderer", RENDERERS)
def test_every_renderer_learns_and_renders(dataset, renderer):
  curriculum = {"color": 1.0, "mask": 0.1, **({"coarse": 1.0} if renderer == "hierarchical" else {}),
                **({"interlevel": 1.0, "distortion": 0.01} if renderer == "proposal" else {})}
  task = task_of(dataset, renderer, background="random", curriculum=curriculum)
  optimisers = {"field": adam(learning_rate=1e-2)}
  state = init_state(task, optimisers, jax.random.key(0))
  traced, train = [], make_step(task, optimisers)
  step = jax.jit(lambda *args: (traced.append(1), train(*args))[1])
  batch = dataset.batch(0, 0, 1)
  losses = []
  for _ in range(12):
    state, metrics = step(state, batch)
    losses.append(float(metrics["loss"]))
  assert not float(metrics["skipped"]) and np.mean(losses[-3:]) < np.mean(losses[:3])
  assert len(traced) == 1
  seen = bind(task, state)["render"](_flat_rays({k: jnp.asarray(v) for k, v in batch.items()}))
  assert seen["rgb"].shape == (64, 3) and bool(jnp.all((seen["opacity"] >= 0) & (seen["opacity"] <= 1 + 1e-5)))


@pytest.mark.slow
@pytest.mark.parametrize("settings, parts", [
    (dict(background="learned"), {"background"}), (dict(refine_cameras=True, curriculum=dict(color=1.0, cameras=1.0)), {"cameras"}),
    (dict(fit_exposure=True), {"exposures"}), (dict(field=NGP | dict(appearance_dim=3)), {"appearance"}),
    (dict(curriculum=dict(color=1.0, depth=0.1)), set()),
    (dict(field=NEUS, curriculum=dict(color=1.0, eikonal=0.1, curvature=0.1)), set()),
])
def test_every_option_gets_a_finite_gradient_that_is_not_zero(settings, parts):
  dataset = data(supersample=2)
  task = task_of(dataset, **settings)
  params, extra = task.init(jax.random.key(0))
  batch = {k: jnp.asarray(v) for k, v in dataset.batch(0, 0, 1).items()}
  loss = lambda own: task.losses["field"]({"field": own}, extra, batch, jax.random.key(1), jnp.int32(5))[0]
  grads = jax.jit(jax.grad(loss))(params["field"])
  assert parts <= set(params["field"])
  for name in ("field", *parts):
    total = sum(float(jnp.sum(jnp.abs(leaf))) for leaf in jax.tree.leaves(grads[name]))
    assert np.isfinite(total) and total > 0, name


@pytest.mark.parametrize("outside, expected", [("unknown", 0), ("background", 1)])
def test_pixels_outside_a_mask_say_nothing_or_that_they_are_background(dataset, outside, expected):
  """All of it masked away, and the colours absurd: with "unknown" the loss is 0, else that of an empty picture."""
  task = task_of(dataset, background="black", outside_mask=outside)
  params, extra = task.init(jax.random.key(0))
  batch = {k: jnp.asarray(v) for k, v in dataset.batch(0, 0, 1).items()}
  batch |= {"mask": jnp.zeros(64, bool), "rgb": jnp.full((64, 3), 7.0), "alpha": jnp.ones(64)}
  total, scalars = task.losses["field"](params, extra, batch, jax.random.key(1), jnp.int32(0))
  assert (float(total) > 0) == expected and float(total) < 1.0
  assert float(scalars["color"]) == float(total)


def test_a_transparent_pixel_over_a_random_background_costs_nothing_where_nothing_is(dataset):
  task = task_of(dataset, background="random", field=NGP | dict(density_bias=-60.0))
  params, extra = task.init(jax.random.key(0))
  batch = {k: jnp.asarray(v) for k, v in dataset.batch(0, 0, 1).items()}
  batch |= {"rgb": jnp.zeros((64, 3)), "alpha": jnp.zeros(64)}
  total, _ = task.losses["field"](params, extra, batch, jax.random.key(1), jnp.int32(0))
  assert float(total) < 1e-10


def test_unknown_views_get_the_mean_of_the_codes_and_cameras_stay_fixed(dataset):
  task = task_of(dataset, field=NGP | dict(appearance_dim=3), refine_cameras=True)
  params, extra = task.init(jax.random.key(0))
  rays = _flat_rays({k: jnp.asarray(v) for k, v in dataset.batch(0, 0, 1).items()})
  rays = Rays(rays.origins, rays.directions, rays.viewdirs, rays.radii, rays.near, rays.far, jnp.full(64, -1))
  one = task.predict["render"](params, extra, rays)["rgb"]
  codes = params["field"]["appearance"]
  same = jax.tree.map(lambda a: a, params)
  same["field"]["appearance"] = jnp.broadcast_to(codes.mean(0), codes.shape)
  same["field"]["cameras"] = jnp.ones_like(params["field"]["cameras"])
  np.testing.assert_allclose(task.predict["render"](same, extra, rays)["rgb"], one, atol=1e-6)  # colours


@pytest.mark.parametrize("coarse, words", [(3, None), (0, None), (2, "proposals.coarse.appearance_dim: is 2, the field's is 3")])
def test_a_coarse_field_may_have_the_codes_of_the_fine_one(dataset, coarse, words):
  section = dict(name="fit_radiance", field=NGP | dict(appearance_dim=3), renderer=dict(name="hierarchical", coarse=8, fine=8),
                 proposals=dict(coarse=NGP | dict(appearance_dim=coarse)), curriculum=dict(color=1.0, coarse=1.0))
  if words:
    with pytest.raises(UsageFault, match=words):
      build(TASKS, section, "task", info=dataset.info)
    return
  task = build(TASKS, section, "task", info=dataset.info)
  params, extra = jax.eval_shape(task.init, jax.random.key(0))
  loss = lambda own: task.losses["field"]({"field": own}, extra, dataset.batch(0, 0, 1), jax.random.key(1), jnp.int32(5))[0]
  jax.eval_shape(lambda params: loss(params["field"]), params)


def test_rotations_keep_lengths_and_compose_about_one_axis():
  rng = np.random.default_rng(0)
  v, d = (jnp.asarray(rng.normal(size=(20, 3)), jnp.float32) for _ in range(2))
  np.testing.assert_allclose(jnp.linalg.norm(rotate(v, d), axis=1), jnp.linalg.norm(d, axis=1), rtol=1e-5)
  np.testing.assert_allclose(rotate(v, rotate(v, d)), rotate(2 * v, d), rtol=1e-4, atol=1e-5)  # of order 1
  tiny = jax.grad(lambda v: jnp.sum(rotate(v, d)[:, 0]))(jnp.zeros((20, 3)))
  np.testing.assert_allclose(tiny, np.cross(d, np.array([[1.0, 0.0, 0.0]])), atol=1e-6)  # d(v x d)_x / dv


def test_moving_and_exposing_by_nothing_changes_nothing(dataset):
  rays = _flat_rays({k: jnp.asarray(v) for k, v in dataset.batch(0, 0, 1).items()})
  for before, after in zip(jax.tree.leaves(rays), jax.tree.leaves(moved(rays, jnp.zeros((3, 6)))), strict=True):
    np.testing.assert_array_equal(before, after)
  rgb = jnp.asarray(np.random.default_rng(0).random((5, 3)), jnp.float32)
  np.testing.assert_allclose(exposed(rgb, jnp.ones((3, 6)), jnp.zeros(5, jnp.int32)), rgb, rtol=1e-6)


@pytest.mark.parametrize("settings, words", [
    (dict(curriculum=dict(color=1.0, eikonal=0.1)), "no distance"), (dict(curriculum=dict(colour=1.0)), "no such term"),
    (dict(curriculum=dict(mask=1.0)), "no color"), (dict(proposals=dict(a=NGP)), "wants 0"),
    (dict(curriculum=dict(color=1.0, cameras=1.0)), "no such corrections"),
    (dict(curriculum=dict(color=1.0, exposures=1.0)), "no such corrections"),
    (dict(curriculum=dict(color=1.0, interlevel=1.0)), "one level"),
    (dict(interlevel_blur=(0.03,)), "the curriculum has no interlevel"),
    (dict(field=dict(name="proposal", encoding=GRID)), "config.task.field: has no colour"),
    (dict(curriculum=dict(color=1.0, interlevel=1.0), interlevel_blur=(0.03,)), "has 1 widths for 0 proposals"),
])
def test_settings_that_do_not_fit_are_refused(dataset, settings, words):
  with pytest.raises(UsageFault, match=words):
    task_of(dataset, **settings)


@pytest.mark.parametrize("field", [dict(NGP, encoding=dict(GRID, antialias=True, finest=64)),
                                   dict(NEUS, encoding=dict(name="integrated_fourier", levels=8)),
                                   dict(name="volsdf", encoding=dict(name="integrated_fourier", levels=8), directions=SH, width=8),
                                   dict(name="nerf", encoding=dict(name="integrated_fourier", levels=8), directions=SH, width=8, depth=2,
                                        skip=None, density_activation="softplus")], ids=["ngp", "neus", "volsdf", "nerf"])
def test_points_are_asked_for_as_the_narrowest_cone_through_them_was(dataset, field):
  """Finer octaves and levels than any pixel's cone are not trained: asked for at points they would be noise on the surface."""
  task = task_of(dataset, field=field)
  params, extra = task.init(jax.random.key(0))
  params = jax.tree.map(lambda a: a + 0.3 * jax.random.normal(jax.random.key(1), a.shape), params)
  views = dataset.views("train")
  x = np.random.default_rng(0).uniform(-0.9, 0.9, (50, 3)).astype(np.float32)
  cones = []
  for view in views:
    (width, height), focal = view.camera.size, np.asarray(view.camera.intrinsics[:2])
    assert view.camera.pose.shape[-1] == 4 and width == height
    cones.append(np.linalg.norm(x - view.camera.pose[:3, 3], axis=-1) / np.sqrt(np.pi * focal.prod()))
  alone = build(RADIANCE_FIELDS, field, "task.field")
  half = dataset.info["bounds"][1][0]
  name = "density" if alone.sdf is None else "sdf"
  of = lambda radius: np.asarray(getattr(alone, name)(params["field"]["field"], jnp.asarray(x) / half, None, radius))
  want, points = of(jnp.asarray(np.min(cones, 0) / half, jnp.float32)), of(None)
  got = np.asarray(task.predict[name](params, extra, jnp.asarray(x), None)) / (1 if name == "density" else half)
  np.testing.assert_allclose(got, want, rtol=2e-3, atol=2e-4)
  assert np.abs(points - want).max() > 0.02


def test_proposals_have_a_colour_where_the_renderer_shows_them(dataset):
  section = dict(name="fit_radiance", field=NGP, renderer=dict(name="hierarchical", coarse=8, fine=8),
                 proposals=dict(coarse=dict(name="proposal", encoding=GRID)))
  with pytest.raises(UsageFault, match="config.task.proposals.coarse: has no colour, which this renderer shows"):
    build(TASKS, section, "task", info=dataset.info)


def test_proposals_are_used_in_the_order_of_their_names(dataset):
  """A ConfigDict forgets the order in which they were written."""
  one, two = dict(name="proposal", encoding=GRID), dict(name="proposal", encoding=GRID, width=4)
  made = [build(TASKS, dict(name="fit_radiance", field=NGP, renderer=dict(name="proposal", samples=(12, 10, 8)),
                            proposals=proposals), "task", info=dataset.info) for proposals in (dict(a=one, b=two), dict(b=two, a=one))]
  rays = {k: jnp.asarray(v) for k, v in dataset.batch(0, 0, 1).items()}
  seen = []
  for task in made:
    params, extra = task.init(jax.random.key(0))
    seen.append(task.predict["render"](params, extra, _flat_rays(rays))["rgb"])
  np.testing.assert_array_equal(*seen)


@pytest.mark.parametrize("name", RENDERERS)
def test_data_that_are_no_scene_are_refused_in_one_line(name):
  with pytest.raises(UsageFault, match="config.data: it is not a scene, there are no ndc, .*; give posed photographs"):
    build(TASKS, dict(name="fit_radiance", field=NGP, **RENDERERS[name]), "task", info={"num_shapes": 2})


def test_a_state_of_the_task_is_made_of_plain_arrays(dataset):
  task = task_of(dataset)
  state = init_state(task, {"field": adam()}, jax.random.key(0))
  assert isinstance(state, State) and all(isinstance(leaf, jax.Array) for leaf in jax.tree.leaves(state))


@pytest.mark.slow
def test_curvature_of_a_sphere_is_the_angle_of_the_step(dataset):
  radius, half = 0.3, dataset.info["bounds"][1][0]
  distance = lambda params, x, level: jnp.sqrt(jnp.sum(x * x, -1)) - radius + 0 * params

  def section(params, x, d, dt, cone, level):
    sdf = distance(params, x, level)
    return 1e4 * dt * (sdf < 0), x, sdf, x

  ball = RadianceField(lambda key: jnp.zeros(()), section, lambda params, x, d, codes: jnp.full(x.shape, 0.5),
                       lambda params, x, level: 1e3 * (distance(params, x, level) < 0), distance, 0)
  renderer = build(RENDERER_TABLE, dict(name="packed", budget=32768, step=0.005, resolution=8), "renderer", info=dataset.info)
  task = fit_radiance(ball, renderer, dataset.info, curriculum=dict(color=1.0, curvature=1.0), curvature_step=0.01,
                      curvature_points=4096)
  params, extra = task.init(jax.random.key(0))
  batch = {k: jnp.asarray(v) for k, v in data(seed=1).batch(0, 0, 1).items()}
  found = [float(task.losses["field"](params, extra, batch, jax.random.key(k), 0)[1]["curvature"]) for k in range(20)]
  expected = 0.01 / (radius * half) * np.pi / 4  # a random direction's mean share across the normal is pi / 4
  np.testing.assert_allclose(np.mean(found), expected, rtol=0.05)


@pytest.mark.parametrize("term", ["coarse", "distortion"])
def test_terms_that_the_renderer_gives_nothing_for_are_refused(dataset, term):
  task = task_of(dataset, curriculum={"color": 1.0, term: 1.0})
  params, extra = task.init(jax.random.key(0))
  with pytest.raises(UsageFault, match=f"{term}: the renderer gives nothing"):
    task.losses["field"](params, extra, dataset.batch(0, 0, 1), jax.random.key(0), jnp.int32(0))


@pytest.mark.parametrize("settings, words", [
    (dict(field=NEUS), "no distances in"), (dict(curriculum=dict(color=1.0, depth=1.0)), "no lengths in"),
    (dict(refine_cameras=True), "no motion of a camera"),
])
def test_normalised_device_coordinates_have_no_lengths(dataset, settings, words):
  facts = dataset.info | {"ndc": {"width": 8, "height": 8, "fx": 8.0, "fy": 8.0, "near": 1.0}}
  with pytest.raises(UsageFault, match=words):
    build(TASKS, dict(name="fit_radiance", field=NGP, **RENDERERS["packed"]) | settings, "task", info=facts)


def sheet(plane, offset, sharpness):
  """A field of the distance from a plane of the box, negative beyond it."""
  distance = lambda params, x, level: offset - x @ plane + 0 * params

  def section(params, x, d, dt, cone, level):
    sdf, slope = distance(params, x, level), jnp.broadcast_to(-plane, x.shape)
    return crossing_depth(sdf, jnp.sum(slope * d, axis=-1), dt, jnp.float32(sharpness)), x, sdf, slope

  return RadianceField(lambda key: jnp.zeros(()), section, lambda params, x, d, codes: x, lambda params, x, level: x[..., 0], distance)


@pytest.mark.parametrize("unbounded, half", [(False, 1.0), (False, 3.0), (True, None)])
def test_a_distance_absorbs_by_how_much_it_falls_in_whatever_space_it_is(dataset, unbounded, half):
  """A plane across x in the box: the optical depth of a whole ray is that of its two ends, however the box lies in space."""
  plane, s = 0.1, 4.0
  field = sheet(jnp.array([1.0, 0.0, 0.0]), plane, s)
  facts = dataset.info | {"unbounded": unbounded, "bounds": ((-half,) * 3, (half,) * 3) if half else dataset.info["bounds"]}
  renderer = build(RENDERER_TABLE, dict(name="proposal", samples=(96,)), "renderer", info=facts | {"unbounded": True})
  task = fit_radiance(field, renderer, facts)
  params, extra = task.init(jax.random.key(0))
  reach, one = 0.9 if half == 1.0 else 2.5, jnp.ones(1)
  ahead = jnp.array([[1.0, 0.0, 0.0]])
  rays = Rays(-reach * ahead, ahead, ahead, 0 * one, 0 * one, 2 * reach * one, jnp.full(1, -1))
  ends = jnp.array([-reach, reach]) / half if half else contract(jnp.array([[-reach, 0, 0], [reach, 0, 0]]))[:, 0]
  before, after = jax.nn.softplus(-s * (plane - ends))
  np.testing.assert_allclose(task.predict["render"](params, extra, rays)["opacity"][0], 1 - jnp.exp(before - after), rtol=2e-3)


def test_normals_are_of_the_model_frame_where_space_is_contracted(dataset):
  """A plane of the box lies in space as a curved sheet: what is seen of it beyond the unit ball turns as the sheet does."""
  field = sheet(jnp.array([0.8, 0.6, 0.0]), 0.7, 400.0)
  facts = dataset.info | {"unbounded": True}
  task = fit_radiance(field, build(RENDERER_TABLE, dict(name="proposal", samples=(512,)), "renderer", info=facts), facts)
  params, extra = task.init(jax.random.key(0))
  ahead, one = jnp.array([[1.0, 0.0, 0.0]]), jnp.ones(1)
  rays = Rays(jnp.array([[0.0, 1.5, 0.5]]), ahead, ahead, 0 * one, 0.05 * one, 4 * one, jnp.full(1, -1))
  seen = jax.jit(task.predict["render"])(params, extra, rays)
  met = rays.origins + seen["depth"][:, None] * ahead
  assert float(jnp.abs(field.sdf(0.0, contract(met), None))[0]) < 5e-3 and float(seen["opacity"][0]) > 0.99
  normal = jax.grad(lambda x: field.sdf(0.0, contract(x), None)[0])(met)[0]
  np.testing.assert_allclose(seen["normal"][0], normal / jnp.linalg.norm(normal), atol=0.02)


@pytest.mark.parametrize("background", ["white", "random"])
def test_a_transparent_pixel_says_nothing_against_its_views_true_exposure(dataset, background):
  """The field is empty, and so are the photographs, which a gain of 0.7 dims: whatever is behind, nothing is wrong."""
  task = task_of(dataset, background=background, fit_exposure=True, field=NGP | dict(density_bias=-60.0))
  params, extra = task.init(jax.random.key(0))
  params["field"]["exposures"] = jnp.zeros((3, 6)).at[0, :3].set(jnp.log(0.7))
  batch = {k: jnp.asarray(v) for k, v in dataset.batch(0, 0, 1).items()} | {"rgb": jnp.zeros((64, 3)), "alpha": jnp.zeros(64)}
  assert float(task.losses["field"](params, extra, batch, jax.random.key(1), jnp.int32(0))[0]) < 1e-10
