"""EfficientNet-Lite0 on real photographs and against a float64 convolution; which weights may carry the name."""

import os
import pathlib

import numpy as np
import pytest
import scipy.ndimage
from PIL import Image

from fields3d.core.errors import BadData, MissingInput
from fields3d.metrics import efficientnet
from fields3d.metrics.image_features import features_of

DATA = pathlib.Path(os.environ.get("FIELDS3D_DATA", pathlib.Path(__file__).parents[3] / "shared" / "data"))
WEIGHTS, MIC = DATA / "features/efficientnet_lite0/eff0_fp16.npz", DATA / "nerf/synthetic_mic/test/r_0.png"
needs_data = pytest.mark.skipif(not (WEIGHTS.is_file() and MIC.is_file()),
                                reason=f"no EfficientNet-Lite0 weights or mic photographs under {DATA}")


@needs_data
def test_a_rendered_microphone_is_seen_as_one_and_batches_do_not_matter():
  net = efficientnet.efficientnet(WEIGHTS)
  with Image.open(MIC) as picture:
    white = Image.alpha_composite(Image.new("RGBA", picture.size, (255,) * 4), picture).convert("RGB")
  image = np.asarray(white.resize((224, 224), Image.Resampling.BILINEAR))
  noise = np.random.default_rng(0).integers(0, 256, (224, 224, 3), np.uint8)
  found = features_of(net, [image, noise, image], batch=2)
  probabilities = np.asarray(efficientnet.class_probabilities(net.weights, found))
  assert probabilities[0].argmax() == 650 and probabilities[0].max() > 0.2  # ImageNet's "microphone"
  assert found.shape == (3, 1280) and np.ptp(found[[0, 2]], axis=0).max() < 1e-4  # Features reach 6.
  with pytest.raises(BadData, match="image 1"):
    features_of(net, [image, image[..., 0]], batch=2)


@pytest.mark.parametrize("stride, height", [(1, 7), (2, 7), (2, 8)])
@pytest.mark.parametrize("size", [3, 5])
def test_depthwise_convolutions_are_scipy_s_correlations(size, stride, height):
  rng = np.random.default_rng(1)
  x, kernel = rng.normal(size=(1, height, height, 2)), rng.normal(size=(size, size, 2))
  found = efficientnet._depthwise(x.astype(np.float32), kernel.astype(np.float32), stride)[0]
  # TensorFlow's "SAME": with stride 2 and even sides one row less of zeros stands before than after.
  first = 0 if stride == 1 or height % 2 else 1
  for c in range(2):
    dense = scipy.ndimage.correlate(x[0, :, :, c], kernel[:, :, c], mode="constant")
    np.testing.assert_allclose(found[..., c], dense[first::stride, first::stride], atol=1e-5)  # sums of 25 of about 1


def test_weights_that_are_not_there_are_named_with_the_remedy(tmp_path, monkeypatch):
  monkeypatch.delenv("FIELDS3D_DATA", raising=False)
  monkeypatch.setenv("FIELDS3D_EFFNET", str(tmp_path / "none.pth"))
  with pytest.raises(MissingInput, match="features"):
    efficientnet.find_weights()
  for name in ("other.pth", "other.npz"):
    np.savez(tmp_path / "w.npz", a=np.zeros(3))
    (tmp_path / name).write_bytes((tmp_path / "w.npz").read_bytes())
    with pytest.raises(BadData, match="sha256"):
      efficientnet.efficientnet(tmp_path / name)
