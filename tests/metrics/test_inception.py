"""The FID network against the two libraries that define its figures, on random weights; and who may call it FID."""

import numpy as np
import pytest

from fields3d.core.errors import BadData, MissingInput
from fields3d.metrics import inception
from fields3d.metrics.image_features import features_of, resize_bilinear


def weights(seed=0):
  """Random ones that keep the size of what passes through."""
  rng, out = np.random.default_rng(seed), {}
  for name, shape in inception.weight_shapes().items():
    if name.endswith("conv.weight"):
      out[name] = rng.normal(size=shape) * np.sqrt(2 / np.prod(shape[1:]))
    else:
      out[name] = rng.uniform(0.5, 1.5, shape) if name.endswith(("bn.weight", "var")) else 0.1 * rng.normal(size=shape)
  return {name: value.astype(np.float32) for name, value in out.items()}


def images(num, height, width, seed=1):
  """Smooth and rough parts."""
  rng = np.random.default_rng(seed)
  ramp = np.linspace(0, 200, height * width).reshape(1, height, width, 1)
  return np.uint8(ramp + rng.uniform(0, 55, (num, height, width, 3)))


@pytest.mark.parametrize("corner", [0.5, 0.0])
@pytest.mark.parametrize("length, size", [(5, 13), (13, 5), (4, 4)])
def test_resizing_is_linear_between_the_two_nearest_pixels(length, size, corner):
  x = np.random.default_rng(0).normal(size=(1, length, length, 1)).astype(np.float32)
  at = np.clip((np.arange(size) + corner) * length / size - corner, 0, length - 1)
  rows = np.stack([np.interp(at, np.arange(length), x[0, :, j, 0]) for j in range(length)], 1)
  expected = np.stack([np.interp(at, np.arange(length), row) for row in rows])
  np.testing.assert_allclose(resize_bilinear(x, size, corner)[0, :, :, 0], expected, atol=1e-6)  # values of about 1


def test_only_the_published_file_makes_it_fid(tmp_path, monkeypatch):
  monkeypatch.delenv("FIELDS3D_INCEPTION", raising=False)
  with pytest.raises(MissingInput, match="FIELDS3D_INCEPTION"):
    inception.inception()
  (tmp_path / "other.pth").write_bytes(b"PK\x03\x04 and more")
  monkeypatch.setenv("FIELDS3D_INCEPTION", str(tmp_path / "other.pth"))
  with pytest.raises(BadData, match="sha256"):
    inception.inception()


def test_weights_of_another_network_are_refused():
  own = weights()
  for name, change, words in (("Mixed_5b.branch1x1.conv.weight", lambda w: w[:, :3], "shape"),
                              ("Mixed_7c.branch_pool.bn.bias", lambda w: w * np.nan, "finite")):
    with pytest.raises(BadData, match=words):
      inception.network(own | {name: change(own[name])}, "pytorch-fid")
  with pytest.raises(BadData, match="Mixed_6a"):
    inception.network({name: w for name, w in own.items() if "Mixed_6a" not in name}, "pytorch-fid")


def saved(path, torch, net):
  """Our random weights in a file of the library's own network, which also has a classifier and counters."""
  state = net.state_dict() | {name: torch.tensor(value) for name, value in weights().items()}
  torch.save(state, path, _use_new_zipfile_serialization=False)
  return path


@pytest.mark.slow
@pytest.mark.parametrize("size", [(40, 60), (299, 299), (320, 310)])
def test_features_are_pytorch_fid_s_on_random_weights(tmp_path, monkeypatch, size):
  torch = pytest.importorskip("torch", reason="torch is not installed: nothing to compare with")
  theirs = pytest.importorskip("pytorch_fid.inception", reason="pytorch-fid is not installed", exc_type=ImportError)
  from fields3d.metrics.torch_archive import read_torch
  torch.set_num_threads(1)
  monkeypatch.setattr(theirs, "load_state_dict_from_url", lambda *_, **__: {})
  monkeypatch.setattr(torch.nn.Module, "load_state_dict", lambda self, state: None)
  bare = theirs.fid_inception_v3()
  monkeypatch.undo()
  path = saved(tmp_path / "net.pth", torch, bare)
  monkeypatch.setattr(theirs, "load_state_dict_from_url", lambda *_, **__: torch.load(path))
  net, batch = theirs.InceptionV3().eval(), images(2, *size)
  with torch.no_grad():
    expected = net(torch.tensor(batch.transpose(0, 3, 1, 2) / np.float32(255)))[0][:, :, 0, 0].numpy()
  found = features_of(inception.network(read_torch(path), "pytorch-fid"), batch, batch=2)
  assert expected.std() > 0.01
  np.testing.assert_allclose(found, expected, rtol=1e-3, atol=1e-4 * expected.std())


@pytest.mark.slow
@pytest.mark.parametrize("size", [(40, 60), (310, 330)])
def test_features_are_torch_fidelity_s_on_random_weights(tmp_path, size):
  torch = pytest.importorskip("torch", reason="torch is not installed: nothing to compare with")
  theirs = pytest.importorskip("torch_fidelity.feature_extractor_inceptionv3", exc_type=ImportError,
                               reason="torch-fidelity is not installed")
  from fields3d.metrics.torch_archive import read_torch
  torch.set_num_threads(1)
  real, theirs.torch.load = torch.load, lambda *_, **__: {}
  load, torch.nn.Module.load_state_dict = torch.nn.Module.load_state_dict, lambda self, state: None
  try:
    bare = theirs.FeatureExtractorInceptionV3("bare", ["2048"], "none")
  finally:
    theirs.torch.load, torch.nn.Module.load_state_dict = real, load
  path = saved(tmp_path / "net.pth", torch, bare)
  net, batch = theirs.FeatureExtractorInceptionV3("ours", ["2048"], str(path)), images(2, *size)
  expected = net(torch.tensor(batch.transpose(0, 3, 1, 2)))[0].numpy()
  found = features_of(inception.network(read_torch(path), "torch-fidelity"), batch, batch=2)
  np.testing.assert_allclose(found, expected, rtol=1e-3, atol=1e-4 * expected.std())
