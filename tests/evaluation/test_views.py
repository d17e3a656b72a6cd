"""The evaluator of views: exact on a field that is known, whatever the background, masks, size or failure."""

import json

import jax.numpy as jnp
import numpy as np
import pytest
from PIL import Image

from fields3d.core.config import build
from fields3d.core.errors import UsageFault
from fields3d.core.types import Camera, Dataset, View
from fields3d.evaluation import EVALUATORS
from fields3d.evaluation.image_set import NOT_FINITE
from fields3d.evaluation.results import EvaluationInput
from fields3d.evaluation.views import ERROR_SCALE, error_map
from fields3d.metrics.image import PSNR_LIMIT

SIZE = (40, 34)


def camera(index):
  pose = np.concatenate([np.eye(3), [[0.1 * index], [0.0], [4.0]]], axis=1)
  return Camera("PINHOLE", SIZE, (50.0, 50.0, 20.0, 17.0), (), pose)


def seen(rays, level=0.0):
  """A field at infinity: colour and opacity by direction alone, over a background of that level."""
  opacity = jnp.clip(0.5 + 2 * rays.directions[:, 0], 0, 1)
  rgb = 0.5 + 0.5 * rays.directions * opacity[:, None] * 0.9
  return {"rgb": rgb * opacity[:, None] + (1 - opacity[:, None]) * level, "opacity": opacity, "depth": opacity}


def photograph(index, offset=0.0, mask=None):
  """The field's own image, each colour off by `offset`."""
  def pixels():
    from fields3d.rendering.images import render_camera
    out = render_camera(seen, camera(index), {"near": 2.0, "far": 6.0})
    both = np.concatenate([out["rgb"] + offset, out["opacity"][..., None]], axis=-1)
    return np.rint(65535 * both).astype(np.uint16)
  return View(f"r_{index}", camera(index), pixels, mask)


def inputs_of(tmp_path, views, render=seen, **info):
  facts = {"near": 2.0, "far": 6.0, "background": "black", "opaque": False,
           "protocol": {"scene": "mic", "resolution": "40x34 area-averaged from 800x800", "colors": "sRGB"}, **info}
  dataset = Dataset(facts, lambda *_: {}, lambda split: (), lambda split: views if split == "test" else ())
  return EvaluationInput({"render": render}, dataset, tmp_path, 7)


def evaluate(inputs, **settings):
  return build(EVALUATORS, {"name": "views", "metrics": ("psnr", "ssim"), **settings}, "evals.test")(inputs)


def values(evaluation, name):
  return [next(m.value for m in row.metrics if m.name == name) for row in evaluation.rows]


def test_a_known_error_has_its_psnr_in_every_view_and_in_the_mean(tmp_path):
  offsets = (0.01, 0.02, 0.04)
  found = evaluate(inputs_of(tmp_path, [photograph(i, offset) for i, offset in enumerate(offsets)]))
  expected = -20 * np.log10(offsets)
  assert values(found, "psnr") == pytest.approx(expected, abs=0.01)  # 16 bits of a photograph
  mean = found.metrics[0]
  assert mean.name == "psnr [mic test 40x34 area-averaged from 800x800, black, sRGB]/mean"
  assert mean.value == pytest.approx(expected.mean(), abs=0.01) and mean.low < mean.value < mean.high and mean.n == 3
  assert json.dumps(found.to_json(), allow_nan=False)


def test_a_perfect_rendering_is_at_the_limit_of_its_photographs_bits(tmp_path):
  found = evaluate(inputs_of(tmp_path, [photograph(0)]))
  assert 95 < values(found, "psnr")[0] <= PSNR_LIMIT
  assert values(found, "ssim_gauss11_range1")[0] == pytest.approx(1, abs=1e-6)


@pytest.mark.parametrize("own", ["white", "black"])
def test_photograph_and_rendering_stand_on_the_same_background(tmp_path, own):
  inputs = inputs_of(tmp_path, [photograph(0)], lambda rays: seen(rays, float(own == "white")), background=own)
  for wanted in (None, "white", "black"):
    found = evaluate(inputs, background=wanted)
    assert values(found, "psnr")[0] > 95 and f", {wanted or own}, " in found.metrics[0].name


def test_opaque_photographs_have_no_background_to_replace(tmp_path):
  inputs = inputs_of(tmp_path, [photograph(0)], background="none", opaque=True)
  with pytest.raises(UsageFault, match="none to replace"):
    evaluate(inputs, background="white")
  assert ", opaque, " in evaluate(inputs).metrics[0].name


def test_transparent_photographs_without_a_background_stand_on_white(tmp_path):
  inputs = inputs_of(tmp_path, [photograph(0)], lambda rays: seen(rays, 1.0), background="none")
  found = evaluate(inputs)
  assert values(found, "psnr")[0] > 95 and ", white, " in found.metrics[0].name


def test_masked_pixels_do_not_count(tmp_path):
  mask = np.zeros(SIZE[::-1], bool)
  mask[:, :20] = True

  def half_wrong(rays):
    out = seen(rays)
    return out | {"rgb": jnp.where(rays.directions[:, :1] < 0, out["rgb"], 0.0)}

  found = evaluate(inputs_of(tmp_path, [photograph(0, mask=lambda: mask), photograph(1)], half_wrong))
  assert values(found, "psnr")[0] > 95 and values(found, "psnr")[1] < 20


def test_black_empty_and_broken_renderings_are_measured_or_named(tmp_path):
  def black(rays):
    zero = jnp.zeros_like(rays.near)
    return {"rgb": jnp.zeros_like(rays.origins), "opacity": zero, "depth": zero}

  found = evaluate(inputs_of(tmp_path, [photograph(0)], black))
  truth = photograph(0).pixels()[..., :3] / 65535
  assert values(found, "psnr")[0] == pytest.approx(-10 * np.log10(np.mean(truth**2)), abs=1e-4)
  for what in (jnp.nan, jnp.inf, -jnp.inf):
    broken = evaluate(inputs_of(tmp_path, [photograph(0), photograph(1)], lambda rays, what=what: black(rays) | {
        "rgb": jnp.full_like(rays.origins, what)}))
    assert [row.status for row in broken.rows] == [NOT_FINITE] * 2
    assert broken.metrics[0].value is None and "2 of 2 images are not finite" in broken.warnings[-1]
    assert json.dumps(broken.to_json(), allow_nan=False)


def test_fewer_views_are_spread_evenly_and_said_so(tmp_path):
  found = evaluate(inputs_of(tmp_path, [photograph(i, 0.01) for i in range(5)]), max_views=2, supersample=2)
  assert [row.index for row in found.rows] == [0, 2]
  assert found.metrics[0].name.endswith("sRGB, 2x2 rays a pixel rendered, 2 of 5 views]/mean")


def test_pictures_are_the_prediction_the_truth_and_the_error(tmp_path):
  offsets = (0.03, 0.01, 0.02, 0.05, 0.015)
  inputs = inputs_of(tmp_path, [photograph(i, offset) for i, offset in enumerate(offsets)])
  found = evaluate(inputs, pictures=1)
  assert ["comparison" in row.files for row in found.rows] == [True, True, True, True, False]
  picture = np.asarray(Image.open(tmp_path / found.rows[3].files["comparison"])).astype(int)
  prediction, truth, error = np.split(picture, 3, axis=1)
  assert prediction.shape == (*SIZE[::-1], 3)
  assert np.abs(truth - prediction - 0.05 * 255).max() < 1.01
  assert np.array_equal(prediction, np.asarray(Image.open(tmp_path / found.rows[3].files["prediction"])))
  assert error.mean() > 50  # half the scale


def test_no_files_without_pictures(tmp_path):
  evaluate(inputs_of(tmp_path, [photograph(0)]), pictures=0)
  assert not list(tmp_path.iterdir())


def test_the_error_map_is_black_at_0_and_brightest_at_its_scale():
  truth = np.zeros((1, 3, 3), np.uint8)
  image = truth + np.array([0, round(255 * ERROR_SCALE / 2), 255], np.uint8)[None, :, None]
  brightness = error_map(image, truth).astype(int).sum(-1)[0]
  assert brightness[0] < 10 < brightness[1] < brightness[2] > 600


def test_missing_lpips_weights_are_one_warning_and_a_wrong_path_a_fault(tmp_path, monkeypatch):
  for name in ("FIELDS3D_LPIPS", "FIELDS3D_DATA"):
    monkeypatch.delenv(name, raising=False)
  found = evaluate(inputs_of(tmp_path, [photograph(0)]), metrics=("psnr", "lpips"))
  assert [m.name for m in found.rows[0].metrics] == ["psnr"]
  assert len(found.warnings) == 1 and "LPIPS is left out" in found.warnings[0] and "FIELDS3D_LPIPS" in found.warnings[0]
  with pytest.raises(Exception, match=r"none\.npz: no such file"):
    evaluate(inputs_of(tmp_path, [photograph(0)]), metrics=("lpips",), lpips_weights=str(tmp_path / "none.npz"))


def test_a_split_without_views_and_a_task_without_render_are_one_line(tmp_path):
  with pytest.raises(UsageFault, match="no 'train' views"):
    evaluate(inputs_of(tmp_path, [photograph(0)]), split="train")
  inputs = inputs_of(tmp_path, [photograph(0)])
  with pytest.raises(UsageFault, match="no 'render'"):
    evaluate(EvaluationInput({}, inputs.dataset, tmp_path, 7))
