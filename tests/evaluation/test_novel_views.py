"""The evaluator of unseen shapes from pictures: exact on a task whose errors are known, and nothing that is judged was given."""

import json
import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from PIL import Image

from fields3d.core.config import build
from fields3d.core.errors import UsageFault
from fields3d.core.types import Camera, Dataset, View
from fields3d.evaluation import EVALUATORS
from fields3d.evaluation.image_set import NOT_FINITE
from fields3d.evaluation.novel_views import pixels_of, views_by_shape
from fields3d.evaluation.records import row_name
from fields3d.evaluation.results import EvaluationInput
from fields3d.geometry.transforms import look_at

WIDTH, VIEWS = 16, 6
GRAYS = {"a": 0.25, "b": 0.5, "c": 0.75}  # unseen shapes: pictures of one gray each
TRAINED = np.array([[0.2], [0.4], [0.8]])  # training shapes' codes: their gray


def views():
  focal = WIDTH / 2 / math.tan(math.radians(20))
  out = []
  for name, gray in GRAYS.items():
    for j in range(VIEWS):
      pose = look_at(np.array([3 * math.cos(j), 0.0, 3 * math.sin(j)]), np.zeros(3), np.array([0.0, 1.0, 0.0]))
      pixels = np.full((WIDTH, WIDTH, 4), round(65535 * gray), np.uint16)
      pixels[..., 3] = 65535
      out.append(View(f"{name}/{j:03d}", Camera("PINHOLE", (WIDTH, WIDTH), (focal, focal, 8.0, 8.0), (), pose),
                      lambda p=pixels: p))
  return out


class Fake:
  """A task whose code is a gray; the fitted one is the pictures' mean plus 0.1 over the number of pictures."""

  def __init__(self):
    self.fitted, self.judged = [], []

  def image_code(self, rays, rgb, alpha, key):
    self.fitted.append({tuple(np.round(o, 4)) for o in np.unique(np.asarray(rays.origins), axis=0)})
    return jnp.mean(rgb).reshape(1) + 0.1 / len(self.fitted[-1])

  def image(self, z, pose):
    self.judged.append(tuple(np.round(np.asarray(pose[:, 3]), 4)))
    return {"rgb": jnp.broadcast_to(z.reshape(1, 1, 1), (WIDTH, WIDTH, 3)), "opacity": jnp.ones((WIDTH, WIDTH))}

  def predict(self):
    return {"image_code": self.image_code, "image": self.image, "code": lambda i: jnp.asarray(TRAINED[i]),
            "render_code": lambda z, rays: {"rgb": jnp.broadcast_to(jnp.asarray(z).reshape(1, 1), (len(rays.near), 3))}}


def evaluate(tmp_path, **settings):
  fake = Fake()
  info = {"num_shapes": 3, "camera": {"near": 2.0, "far": 4.0, "width": WIDTH}}
  data = Dataset(info, lambda *_: {}, lambda split: (), lambda split: views() if split == "test" else ())
  section = dict(name="novel_views", metrics=("psnr", "ssim"), pictures=(1, 2), targets=3) | settings
  return build(EVALUATORS, section, "evals.unseen")(EvaluationInput(fake.predict(), data, tmp_path, 7)), fake


def values(found, subject, name):
  return next(m for m in found.metrics if m.subject == subject and m.name.startswith(f"psnr@{name} ") and m.name.endswith("/mean"))


def test_known_errors_have_their_psnr_beside_both_baselines_and_the_paired_gain(tmp_path):
  found, _ = evaluate(tmp_path)
  psnr = lambda error: -20 * np.log10(np.abs(error))
  gray = np.array(list(GRAYS.values()))
  mean, near = gray - TRAINED.mean(), gray - TRAINED[:, 0]
  for k in (1, 2):
    expected = {"prediction": psnr(0.1 / k), "mean_code": psnr(mean).mean(), "improvement": psnr(0.1 / k) - psnr(mean).mean(),
                "nearest_training_shape": psnr(near).mean(), "improvement_on_nearest": psnr(0.1 / k) - psnr(near).mean()}
    for subject, value in expected.items():
      assert values(found, subject, k).value == pytest.approx(value, abs=0.01), (k, subject)  # pictures have 16 bits
  gain = values(found, "improvement", 1)
  assert gain.low <= gain.value <= gain.high and gain.n == 3 and gain.better == "higher"
  assert gain.name == "psnr@1 [test 16x16, white, sRGB]/mean" and row_name(gain.name) == "psnr@1"
  assert [row.facts["nearest_training_shape@1"] for row in found.rows] == [0, 1, 2]
  assert json.dumps(found.to_json(), allow_nan=False)


@pytest.mark.parametrize("what", [np.nan, np.inf])
def test_a_shape_whose_pictures_are_not_finite_has_no_figures(tmp_path, monkeypatch, what):
  bright = lambda self, z, pose: {"rgb": jnp.where(z.reshape(1, 1, 1) > 0.84, what, jnp.broadcast_to(z, (WIDTH, WIDTH, 3)))}
  monkeypatch.setattr(Fake, "image", bright)  # from one picture of the third shape 0.85 is fitted, from two 0.8
  found, _ = evaluate(tmp_path)
  assert [row.status for row in found.rows] == ["ok", "ok", NOT_FINITE]
  assert values(found, "prediction", 1).n == 2 and values(found, "prediction", 2).n == 3


def test_judged_views_are_never_given_and_are_the_same_for_every_number_of_pictures(tmp_path):
  _, fake = evaluate(tmp_path, pictures=(1, 2, 3), max_shapes=1)
  one, two, three = fake.fitted
  assert (len(one), len(two), len(three)) == (1, 2, 3) and one < two < three
  assert len(set(fake.judged)) == 3 and not set(fake.judged) & three
  assert len(fake.judged) == 3 * (1 + 2 * 3)  # the mean code once; then a fitted and a nearest shape for each number


def test_a_sheet_shows_the_given_pictures_the_truth_and_every_prediction(tmp_path):
  found, _ = evaluate(tmp_path, sheets=1)
  assert [set(row.files) for row in found.rows] == [{"sheet"}, set(), set()]
  sheet = np.asarray(Image.open(tmp_path / found.rows[0].files["sheet"]))
  lines = sheet[WIDTH // 2::WIDTH, ::WIDTH, 0] / 255
  assert lines.shape == (6, 3)  # given; truth, from 1, from 2, nearest, mean
  np.testing.assert_allclose(lines[:, 0], [0.25, 0.25, 0.35, 0.30, 0.2, TRAINED.mean()], atol=0.003)  # 8 bits
  assert lines[0, 2] == 1.0  # only two are given


def test_every_pixel_of_a_picture_is_a_ray_of_its_camera():
  rays, rgb, alpha = pixels_of(views()[0], {"near": 2.0, "far": 4.0})
  assert rays.near.shape == alpha.shape == (WIDTH**2,) and rgb.shape == (WIDTH**2, 3)
  np.testing.assert_allclose(rays.origins, np.broadcast_to([3.0, 0.0, 0.0], (WIDTH**2, 3)), atol=1e-6)
  assert jax.tree.all(jax.tree.map(lambda a: len(a) == WIDTH**2, rays)) and rgb.dtype == np.float32


def test_too_few_views_or_none_are_said(tmp_path):
  with pytest.raises(UsageFault, match="too few to give 6"):
    evaluate(tmp_path, pictures=(6,))
  with pytest.raises(UsageFault, match="no 'val' views"):
    views_by_shape([], 2, "val")
