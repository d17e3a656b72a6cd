"""Camera models against COLMAP's own, against round trips, and against differences."""

import dataclasses

import hypothesis
import numpy as np
import pytest
from hypothesis import strategies

from fields3d.core.errors import UsageFault
from fields3d.core.types import Camera
from fields3d.geometry.cameras import (
    MODELS,
    camera_model,
    pixel_of,
    project,
    resized,
    spherical_intrinsics,
    unproject,
    valid_pixels,
)

LENSES = {
    "SIMPLE_RADIAL": (0.05,), "RADIAL": (-0.1, 0.03), "OPENCV": (-0.1, 0.03, 0.002, -0.003),
    "NERFSTUDIO": (-0.1, 0.03, 0.004, -0.001, 0.002, -0.003),
    "FULL_OPENCV": (-0.1, 0.03, 0.002, -0.003, 0.01, 0.02, -0.01, 0.003), "SIMPLE_DIVISION": (-0.1,), "DIVISION": (-0.1,),
    "FOV": (0.9,), "EUCM": (0.6, 1.1), "SIMPLE_RADIAL_FISHEYE": (0.02,), "RADIAL_FISHEYE": (0.02, -0.004),
    "OPENCV_FISHEYE": (0.02, -0.004, 0.002, -0.0003),
    "THIN_PRISM_FISHEYE": (0.02, -0.004, 0.002, -0.003, 0.001, -0.0002, 0.001, 0.002),
    "RAD_TAN_THIN_PRISM_FISHEYE": (0.02, -0.004, 0.002, -0.003, 0.001, -0.0002, 0.001, 0.002, 0.001, 0.0005, -0.002, 0.0003),
}


def directions_within(degrees, n=60, seed=0):
  """Unit directions within an angle of -z."""
  rng = np.random.default_rng(seed)
  angle, turn = np.radians(degrees) * np.sqrt(rng.uniform(size=n)), 2 * np.pi * rng.uniform(size=n)
  return np.stack([np.sin(angle) * np.cos(turn), np.sin(angle) * np.sin(turn), -np.cos(angle)], axis=-1)



def reach(name):
  """Degrees from the axis that the lens above may see."""
  return {"EQUIRECTANGULAR": 179, "FULL_OPENCV": 45, "RAD_TAN_THIN_PRISM_FISHEYE": 70}.get(name, 100 if "FISHEYE" in name else 55)


def test_every_model_with_parameters_is_tried_here():
  assert set(LENSES) == {name for name, entry in MODELS.items() if entry.parameters}
  assert all(len(LENSES[name]) == len(MODELS[name].parameters) for name in LENSES)


@pytest.mark.parametrize("name", [name for name in MODELS if name != "NERFSTUDIO"])
def test_points_fall_where_colmap_says(name):
  pycolmap = pytest.importorskip("pycolmap")
  oracle = pycolmap.Camera.create_from_model_name(1, name, 100.0, 200, 100)
  intrinsics = np.array([100.0, 100.0, 100.0, 50.0])
  if name == "EQUIRECTANGULAR":
    intrinsics = np.array(spherical_intrinsics(200, 100))
  else:
    oracle.params = [100.0] * (1 if "f," in oracle.params_info else 2) + [100.0, 50.0, *LENSES.get(name, ())]
  d = directions_within(min(reach(name), 85))
  expected = oracle.img_from_cam(d * (1, -1, -1))
  np.testing.assert_allclose(project(name, d, LENSES.get(name, ())) * intrinsics[:2] + intrinsics[2:], expected,
                             rtol=0, atol=1e-10)  # pixels


def test_nerfstudio_lens_is_opencv_where_k3_and_k4_vanish():
  d = directions_within(50)
  np.testing.assert_allclose(project("NERFSTUDIO", d, (-0.1, 0.03, 0, 0, 0.002, -0.003)),
                             project("OPENCV", d, LENSES["OPENCV"]), rtol=1e-14)


@pytest.mark.parametrize("name", MODELS)
def test_unprojecting_a_projection_gives_the_direction_back(name):
  d = directions_within(reach(name))
  back, _, valid = unproject(name, project(name, d, LENSES.get(name, ())), LENSES.get(name, ()))
  assert valid.all()
  np.testing.assert_allclose(back, d, rtol=0, atol=1e-9)  # the residual's tolerance is 1e-10 focal lengths


@pytest.mark.parametrize("name", MODELS)
def test_the_solid_angle_of_the_plane_is_that_of_differences(name):
  xy, h, k = project(name, directions_within(reach(name) * 0.9), LENSES.get(name, ())), 1e-5, LENSES.get(name, ())
  right, left = (unproject(name, xy + (s * h, 0), k)[0] for s in (1, -1))
  down, up = (unproject(name, xy + (0, s * h), k)[0] for s in (1, -1))
  expected = np.linalg.norm(np.cross(right - left, down - up), axis=-1) / (2 * h) ** 2
  np.testing.assert_allclose(unproject(name, xy, k)[1], expected, rtol=1e-5, atol=1e-6)  # of h^2 and rounding / h


@hypothesis.given(k=strategies.tuples(*[strategies.floats(-0.05, 0.05)] * 4), seed=strategies.integers(0, 100))
def test_weak_distortions_of_any_sign_are_undone(k, seed):
  d = directions_within(40, n=10, seed=seed)
  back, _, valid = unproject("OPENCV", project("OPENCV", d, k), k)
  assert valid.all()
  np.testing.assert_allclose(back, d, rtol=0, atol=1e-9)


def test_points_beyond_the_fold_of_a_lens_are_not_valid():
  """r (1 - 0.2 r^2) is at most 0.8607, at r = sqrt(5 / 3)."""
  fold = 2 / 3 * np.sqrt(5 / 3)
  xy = np.array([[fold - 1e-3, 0], [fold + 1e-3, 0], [0, 3.0]])
  assert unproject("SIMPLE_RADIAL", xy, (-0.2,))[2].tolist() == [True, False, False]


@pytest.mark.parametrize(("name", "k", "reach", "bent"), [
    ("RADIAL", (-0.207, 0.014), 1.57, lambda r: r - 0.207 * r**3 + 0.014 * r**5),  # rises again beyond its fold
    ("OPENCV_FISHEYE", (0.116, 0.058, 0.016, -0.018), 1.57, lambda r: r + 0.116 * r**3 + 0.058 * r**5 + 0.016 * r**7 - 0.018 * r**9),
    ("DIVISION", (0.3,), 0.912, lambda r: 2 * r / (1 + np.sqrt(1 - 1.2 * r * r))),
])
def test_points_of_a_strong_lens_are_found_up_to_its_fold_and_none_beyond(name, k, reach, bent):
  r = np.linspace(0, reach, 4001)
  fold = int(np.argmax(bent(r)))
  asked = np.linspace(0.01, 2.1, 200)
  d, _, valid = unproject(name, np.stack([asked, 0 * asked], axis=-1), k)
  before, beyond = asked < 0.85 * bent(r)[fold], asked > 1.1 * bent(r)[fold]
  assert valid[before].all() and not valid[beyond].any()
  found = np.arctan2(d[:, 0], -d[:, 2]) if "FISHEYE" in name else d[:, 0] / -d[:, 2]
  expected = np.interp(asked[before], bent(r)[:fold + 1], r[:fold + 1])
  np.testing.assert_allclose(found[before], expected, rtol=0, atol=1e-4)  # of the table's steps


def test_an_fov_lens_of_no_angle_does_not_distort():
  d = directions_within(50)
  np.testing.assert_allclose(project("FOV", d, (0.0,)), project("PINHOLE", d), rtol=1e-12)
  assert unproject("FOV", project("FOV", d, (0.0,)), (0.0,))[2].all()


def test_a_fisheye_sees_no_farther_than_the_whole_sphere():
  assert unproject("FISHEYE", np.array([[3.1, 0], [3.2, 0]]))[2].tolist() == [True, False]


def test_perspective_sees_nothing_behind():
  assert np.isnan(project("PINHOLE", np.array([[0.0, 0.0, 1.0]]))).all()


def test_one_row_of_parameters_per_point_equals_one_call_per_row():
  k = np.random.default_rng(1).uniform(-0.05, 0.05, (5, 4))
  xy = directions_within(30, n=5)[:, :2]
  together = unproject("OPENCV", xy, k)[0]
  alone = [unproject("OPENCV", p[None], row)[0][0] for p, row in zip(xy, k)]
  np.testing.assert_allclose(together, alone, rtol=0, atol=1e-9)  # of the residual, 1e-10


def test_right_is_right_and_up_is_up_on_the_image():
  camera = Camera("PINHOLE", (64, 48), (50.0, 50.0, 32.0, 24.0), (), np.eye(4)[:3])
  column, row = pixel_of(camera, np.array([[1.0, 2.0, -10.0]]))[0]
  assert (column, row) == pytest.approx((37.0, 14.0))


def test_valid_pixels_are_those_within_the_fold():
  camera = Camera("SIMPLE_RADIAL", (40, 40), (20.0, 20.0, 20.0, 20.0), (-0.2,), np.eye(4)[:3])
  column, row = np.meshgrid(np.arange(40) + 0.5 - 20, np.arange(40) + 0.5 - 20)
  np.testing.assert_array_equal(valid_pixels(camera), np.hypot(column, row) / 20 < 2 / 3 * np.sqrt(5 / 3))


def test_a_resized_camera_sees_the_same_share_of_the_image():
  camera = Camera("OPENCV", (64, 48), (50.0, 51.0, 30.0, 25.0), LENSES["OPENCV"], np.eye(4)[:3])
  points = 3 * directions_within(25)
  small = pixel_of(resized(camera, 16, 8), points)
  np.testing.assert_allclose(small, pixel_of(camera, points) * (16 / 64, 8 / 48), rtol=1e-12)


def test_an_unknown_model_is_refused_with_the_nearest_name():
  with pytest.raises(UsageFault, match="did you mean 'OPENCV'"):
    camera_model("OPEN_CV")


def test_the_whole_sphere_covers_an_equirectangular_image():
  camera = Camera("EQUIRECTANGULAR", (64, 32), spherical_intrinsics(64, 32), (), np.eye(4)[:3])
  assert valid_pixels(camera).all()
  wide = dataclasses.replace(camera, intrinsics=(64 / (2 * np.pi), 20 / np.pi, 32.0, 16.0))
  assert not valid_pixels(wide).all()
