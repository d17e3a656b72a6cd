"""LPIPS: a float64 loop on random weights, the published distances on the real ones, weights that are not LPIPS's."""

import json

import numpy as np
import pytest
from PIL import Image

from fields3d.core.errors import BadData, MissingInput
from fields3d.metrics.lpips import lpips
from fields3d.networks.alexnet import SHA256, SMALLEST, digest, find_weights

LAYERS = ((11, 3, 64), (5, 64, 192), (3, 192, 384), (3, 384, 256), (3, 256, 256))  # kernel, channels in and out
STRIDE, PADDING = (4, 1, 1, 1, 1), (2, 2, 1, 1, 1)


@pytest.fixture(scope="module")
def weights():
  """Random weights of a fourth of AlexNet's widths."""
  rng, out = np.random.default_rng(0), {}
  for i, (kernel, before, width) in enumerate(LAYERS):
    before, width = (before if i == 0 else before // 4), width // 4
    fan = kernel * kernel * before
    out[f"conv{i}_kernel_hwio"] = rng.normal(0, (2 / fan) ** 0.5, (kernel, kernel, before, width)).astype(np.float32)
    out[f"conv{i}_bias"] = rng.normal(0, 0.1, width).astype(np.float32)
    out[f"lin{i}"] = rng.random(width).astype(np.float32)
  return out


def loop_features(weights, image):
  """Yields the five layers of an image, in float64, one place after another."""
  x = (2 * image - 1 - np.array([-0.030, -0.088, -0.188])) / np.array([0.458, 0.448, 0.450])
  for i in range(5):
    if i in (1, 2):
      h, w = ((n - 3) // 2 + 1 for n in x.shape[:2])
      x = np.array([[x[2 * r:2 * r + 3, 2 * c:2 * c + 3].max((0, 1)) for c in range(w)] for r in range(h)])
    kernel = weights[f"conv{i}_kernel_hwio"].astype(np.float64)
    size, stride = len(kernel), STRIDE[i]
    x = np.pad(x, [(PADDING[i],) * 2] * 2 + [(0, 0)])
    h, w = ((n - size) // stride + 1 for n in x.shape[:2])
    y = np.zeros((h, w, kernel.shape[3]))
    for r in range(h):
      for c in range(w):
        y[r, c] = np.tensordot(x[stride * r:stride * r + size, stride * c:stride * c + size], kernel, 3)
    x = np.maximum(y + weights[f"conv{i}_bias"], 0)
    yield x


def test_the_distance_is_the_definition_written_as_a_loop(weights):
  rng = np.random.default_rng(1)
  a, b = rng.random((2, 40, 47, 3))
  expected = 0.0
  for i, (x, y) in enumerate(zip(loop_features(weights, a), loop_features(weights, b))):
    x, y = (v / (np.sqrt((v**2).sum(-1, keepdims=True)) + 1e-10) for v in (x, y))
    expected += (((x - y) ** 2) @ weights[f"lin{i}"]).mean()
  assert lpips(weights, a, b) == pytest.approx(expected, rel=1e-5)


def test_equal_images_are_at_0_and_masked_pixels_do_not_count(weights):
  rng = np.random.default_rng(2)
  a, b = rng.random((2, 40, 40, 3))
  mask = np.ones((40, 40), bool)
  mask[10:20] = False
  partly = np.where(mask[..., None], a, b)
  # float32's rounding, of distances near 0.1
  assert max(lpips(weights, a, a), lpips(weights, partly, a, mask)) < 1e-9 < 1e-3 < lpips(weights, partly, a)


def test_the_smallest_image_has_a_distance_and_a_smaller_one_none(weights):
  rng = np.random.default_rng(3)
  a, b = rng.random((2, SMALLEST, SMALLEST, 3))
  assert lpips(weights, a, b) > 0
  assert lpips(weights, a[1:], b[1:]) is None


def test_the_published_distances(real_data):
  folder = real_data / "features" / "lpips"
  found = find_weights(folder / "alexnet_lpips_v01.npz")
  reference, *others = (np.asarray(Image.open(folder / f"{name}.png").convert("RGB")) / 255
                        for name in ("ex_ref", "ex_p0", "ex_p1"))
  distances = [lpips(found, image, reference) for image in others]
  assert [round(d, 3) for d in distances] == [0.722, 0.138]
  expected = json.loads((folder / "expected.json").read_text())["alex_v0.1"]
  assert distances == pytest.approx([expected["ex_ref,ex_p0"], expected["ex_ref,ex_p1"]], abs=5e-5)  # four digits kept


def test_weights_are_found_by_environment_and_checked_by_value(real_data, tmp_path, monkeypatch):
  monkeypatch.setenv("FIELDS3D_DATA", str(real_data))
  monkeypatch.delenv("FIELDS3D_LPIPS", raising=False)
  found = find_weights()
  assert digest(found) == SHA256
  again = tmp_path / "again.npz"
  np.savez_compressed(again, **dict(reversed(found.items())))
  monkeypatch.setenv("FIELDS3D_LPIPS", str(again))
  assert digest(find_weights()) == SHA256
  np.savez(again, **{**found, "lin0": found["lin0"] * np.float32(1.0001)})
  with pytest.raises(BadData, match="its values have sha256"):
    find_weights()


def test_no_weights_or_no_such_weights_are_one_line(tmp_path, monkeypatch):
  for name in ("FIELDS3D_LPIPS", "FIELDS3D_DATA"):
    monkeypatch.delenv(name, raising=False)
  with pytest.raises(MissingInput, match="set FIELDS3D_LPIPS"):
    find_weights()
  with pytest.raises(MissingInput, match="no such file"):
    find_weights(tmp_path / "none.npz")
  (tmp_path / "text.npz").write_text("text")
  with pytest.raises(BadData, match="not a whole .npz"):
    find_weights(tmp_path / "text.npz")
  np.savez(tmp_path / "pickled.npz", a=np.array([{}], object))
  with pytest.raises(BadData, match="not a whole .npz"):
    find_weights(tmp_path / "pickled.npz")
