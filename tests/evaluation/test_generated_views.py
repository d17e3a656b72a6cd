"""Generated pictures: geometry figures tell a ball from a billboard, baselines are what they say, a run is evaluated."""

import jax.numpy as jnp
import numpy as np
import pytest
from PIL import Image

from fields3d.core.errors import UsageFault
from fields3d.core.types import Camera, Dataset, View
from fields3d.evaluation import generated_views as module
from fields3d.evaluation.generated_views import baselines, generated_views, geometry_metrics, turned
from fields3d.evaluation.results import EvaluationInput
from fields3d.geometry.transforms import look_at
from fields3d.metrics.image_features import Network
from fields3d.metrics.view_agreement import billboard_depth, rays_of

HALF_VIEW, SIDE = np.radians(20.0), 32


def camera_pose(i):
  v = np.random.default_rng(i).normal(size=3)
  return look_at(3 * v / np.linalg.norm(v), np.zeros(3), np.array([0.0, 1.0, 0.0]))


def picture(pose, flat, radius=0.6):
  """A ball, its radius of its own kind, or the ball's outline on a billboard."""
  origin, d = rays_of(np.asarray(pose, np.float64), SIDE, HALF_VIEW)
  nearest = -(d @ origin)
  square = radius**2 - origin @ origin + nearest**2
  opacity = (square > 0).astype(np.float32)
  depth = billboard_depth(np.asarray(pose, np.float64), SIDE, HALF_VIEW) if flat else nearest - np.sqrt(np.maximum(square, 0))
  rgb = 1 - opacity[..., None] * np.float32([0.2, 0.9, 0.9])
  return {"rgb": rgb, "opacity": opacity, "depth": (depth * opacity).astype(np.float32)}


class Draws:
  def __init__(self, flat):
    self.flat = flat

  def picture(self, index, pose):
    return picture(pose, self.flat)


def test_a_ball_is_told_from_its_billboard():
  poses = [camera_pose(i) for i in range(4)]
  ball, flat = ({m.name: m.value for m in geometry_metrics(Draws(f), poses, HALF_VIEW, 0)} for f in (False, True))
  assert ball["seen_through"] == 0 and ball["relief"] > 0.35
  assert flat["seen_through"] == ball["seen_through/billboards"] > 0.25 and flat["relief"] < 1e-6


def test_the_second_camera_stands_35_degrees_aside_and_looks_at_the_middle():
  pose = camera_pose(0)
  other = turned(pose, np.random.default_rng(1))
  np.testing.assert_allclose(other[:, 3] @ pose[:, 3] / 9, np.cos(np.radians(35)), rtol=1e-6)
  np.testing.assert_allclose(other[:, 2], other[:, 3] / 3, atol=1e-9)  # unit vectors


def test_wrong_colours_keep_brightness_and_white_and_turn_hues_by_half():
  training = np.array([[[[255, 255, 255], [200, 100, 100], [90, 90, 90]]]], np.uint8)
  made = baselines(training, 0)
  assert made["wrong colours"].tolist() == [[[[255, 255, 255], [67, 167, 167], [90, 90, 90]]]]
  assert made["one view in wrong colours"].tolist() == made["wrong colours"].tolist()
  assert made["mean picture"].tolist() == training.tolist() and made["noise"].shape == training.shape


def test_one_view_in_wrong_colours_is_one_of_the_set_again_and_again():
  made = baselines(np.random.default_rng(0).integers(0, 256, (5, 4, 4, 3), np.uint8), 3)
  one, turned_set = made["one view in wrong colours"], made["wrong colours"]
  assert one.shape == turned_set.shape and all((x == one[0]).all() for x in one)
  assert any((x == one[0]).all() for x in turned_set)


def dataset(radius, num=12):
  def views(split):
    out = []
    for i in range(num):
      pose, number = camera_pose(100 * (split == "test") + i), i // 2
      def pixels(pose=pose, number=number):
        seen = picture(pose, False, radius(number))
        rgba = np.concatenate([seen["rgb"] - 1 + seen["opacity"][..., None], seen["opacity"][..., None]], axis=-1)
        return np.rint(65535 * rgba).astype(np.uint16)
      out.append(View(f"shape{number}/{i % 2}", Camera("PINHOLE", (SIDE, SIDE), (1.0,) * 4, (), pose), pixels))
    return out
  return Dataset({"camera": {"half_view": HALF_VIEW}}, lambda *a: {}, lambda split: (), views)


@pytest.mark.parametrize("side", [24, 64])
def test_pictures_that_cannot_be_averaged_to_the_tasks_are_refused(tmp_path, monkeypatch, side):
  monkeypatch.setattr(module, "choose_network", lambda *a: None)
  blank = {"rgb": np.ones((side, side, 3), np.float32)}
  predict = {"sample": lambda key, num: jnp.arange(num), "image": lambda z, pose: blank}
  with pytest.raises(UsageFault, match=f"32 pixels wide, the task's {side}"):
    generated_views(num=8)(EvaluationInput(predict, dataset(lambda number: 0.5), tmp_path, 3))


def test_draws_like_the_held_out_pictures_beat_every_baseline(tmp_path, monkeypatch):
  """Features are the mean colours of 2 x 2 blocks."""
  features = lambda w, x: jnp.mean(jnp.float32(x).reshape(len(x), 2, SIDE // 2, 2, SIDE // 2, 3), axis=(2, 4)).reshape(len(x), -1)
  monkeypatch.setattr(module, "choose_network", lambda *a: Network("FD", "KID", 12, "blocks", "blocks", {}, features))
  radius = lambda number: 0.4 + 0.05 * number
  predict = {"sample": lambda key, num: jnp.arange(num), "image": lambda z, pose: picture(pose, False, 0.01 + radius(int(z) % 6))}
  out = tmp_path / "eval" / "3" / "pictures"
  out.mkdir(parents=True)
  found = generated_views(num=12, pairs=2, pictures=3)(EvaluationInput(predict, dataset(radius), out, 3))
  value = {m.name: m.value for m in found.metrics}
  assert value["FD/of the best baseline"] < 0.2 and value["seen_through"] < 0.01
  for reading, wrong in (("", "wrong colours"), (", of one view", "one view in wrong colours")):
    best = min(value[f"FD/{name}"] for name in ("noise", "mean picture", wrong))
    assert value[f"FD/of the best baseline{reading}"] == value["FD"] / best > 0
  assert value["FD"] < value["FD/wrong colours"] < value["FD/noise"] and value["FD"] < value["FD/mean picture"]
  assert next(m.floor for m in found.metrics if m.name == "FD") == value["FD/training pictures"]
  assert all((out / file).is_file() for row in found.rows for file in row.files.values())
  again = generated_views(num=12, pairs=2, pictures=0)(EvaluationInput(predict, dataset(radius), out, 3))
  assert {m.name: m.value for m in again.metrics} == value  # from the kept features
  few = generated_views(num=6, pairs=1, pictures=2)(EvaluationInput(predict, dataset(radius), out, 3))
  with Image.open(out / few.rows[1].files["held_out"]) as sheet:
    assert sheet.size == (2 * 6 * SIDE, 2 * SIDE)
  of_train = generated_views(split="train", num=12, pairs=2, pictures=0)(EvaluationInput(predict, dataset(radius, 24), out, 3))
  assert next(m.floor for m in of_train.metrics if m.name == "FD") > 1e-6  # the control is of other pictures than the references
