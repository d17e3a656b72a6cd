"""COLMAP's files: what they say, in both forms, against COLMAP itself; and that nothing in them is believed."""

import struct
import tracemalloc

import numpy as np
import pytest
from colmap_models import cameras_bin, images_bin, points_bin, write_model
from hypothesis import given
from hypothesis import strategies as st

from fields3d.core.errors import BadData, Fault, MissingInput
from fields3d.data.colmap_files import MODELS, read_cameras, read_images, read_model, read_points, rotation_of
from fields3d.geometry import cameras

UNIT = (1.0, 0.0, 0.0, 0.0)
READERS = {"cameras": read_cameras, "images": read_images, "points3D": read_points}
GOOD = {
    "cameras": cameras_bin([(1, 1, 64, 48, (60.0, 55.0, 32.0, 24.0)), (7, 6, 64, 48, tuple(range(1, 13)))]),
    "images": images_bin([(1, UNIT, (1.0, 2.0, 3.0), 1, b"a b.png", 2), (2, UNIT, (0, 0, 0), 7, b"c.png", 0)]),
    "points3D": points_bin([(1.0, 2.0, 3.0, 4, 5, 6, 0.5), (-1.0, 0.0, 1.0, 255, 0, 0, 1.5)]),
}


def write(folder, kind, data, suffix=".bin"):
  path = folder / (kind + suffix)
  path.write_bytes(data if isinstance(data, bytes) else data.encode())
  return path


def test_a_binary_model_reads_back_as_written(tmp_path):
  for kind, data in GOOD.items():
    write(tmp_path, kind, data)
  model = read_model(tmp_path)
  assert model.cameras[1].model == "PINHOLE" and model.cameras[1].params == (60.0, 55.0, 32.0, 24.0)
  assert model.cameras[7].model == "FULL_OPENCV" and model.cameras[7].size == (64, 48)
  assert [(i.name, i.camera) for i in model.images] == [("a b.png", 1), ("c.png", 7)]
  assert model.images[0].translation.tolist() == [1.0, 2.0, 3.0] and model.warnings == ()
  assert model.points.tolist() == [[1.0, 2.0, 3.0], [-1.0, 0.0, 1.0]]
  assert model.colors.tolist() == [[4, 5, 6], [255, 0, 0]] and model.errors.tolist() == [0.5, 1.5]


def test_a_text_model_says_the_same_and_a_blank_line_of_observations_counts(tmp_path):
  write(tmp_path, "cameras", "# two\n1 PINHOLE 64 48 60 55 32 24\r\n7 SIMPLE_PINHOLE 64 48 60 32 24\n", ".txt")
  write(tmp_path, "images", "# n\n1 1 0 0 0 1 2 3 1 a b.png\n\n2 1 0 0 0 0 0 0 7 c.png\n1 2 -1 3 4 5\n", ".txt")
  write(tmp_path, "points3D", "1 1 2 3 4 5 6 0.5 1 0 2 0\n", ".txt")
  model = read_model(tmp_path)
  assert model.cameras[1].params == (60.0, 55.0, 32.0, 24.0) and model.cameras[7].model == "SIMPLE_PINHOLE"
  assert [(i.name, i.camera) for i in model.images] == [("a b.png", 1), ("c.png", 7)]
  assert model.points.tolist() == [[1.0, 2.0, 3.0]] and model.colors.tolist() == [[4, 5, 6]]


@pytest.mark.parametrize("kind", GOOD)
def test_a_file_cut_at_any_byte_is_refused_by_name(tmp_path, kind):
  for length in range(len(GOOD[kind])):
    with pytest.raises(BadData, match=kind):
      READERS[kind](write(tmp_path, kind, GOOD[kind][:length]))
  with pytest.raises(BadData, match="after the last record"):
    READERS[kind](write(tmp_path, kind, GOOD[kind] + b"\0"))


@given(st.sampled_from(list(GOOD)), st.integers(0, 400), st.binary(min_size=1, max_size=9))
def test_no_byte_of_a_file_leads_to_anything_but_an_answer_or_a_fault(tmp_path_factory, kind, at, junk):
  data = bytearray(GOOD[kind])
  at %= len(data)
  data[at:at + len(junk)] = junk
  path = write(tmp_path_factory.getbasetemp(), kind, bytes(data))
  try:
    READERS[kind](path)
  except Fault as fault:
    assert "\n" not in str(fault)


@given(st.sampled_from(list(READERS)), st.text(alphabet="0123456789 -.e#_\n\rPINHOLEa\0é", max_size=80))
def test_no_text_leads_to_anything_but_an_answer_or_a_fault(tmp_path_factory, kind, text):
  path = write(tmp_path_factory.getbasetemp(), kind, text, ".txt")
  try:
    READERS[kind](path)
  except Fault as fault:
    assert "\n" not in str(fault)


@pytest.mark.parametrize("kind", GOOD)
@pytest.mark.parametrize("count", [2**63, 2**64 - 1, 3, 10**6])
def test_a_count_beyond_the_file_is_refused_before_anything_is_made(tmp_path, kind, count):
  with pytest.raises(BadData, match="are left"):
    READERS[kind](write(tmp_path, kind, struct.pack("<Q", count) + GOOD[kind][8:]))


def test_points_take_no_more_than_thrice_their_bytes_in_the_file(tmp_path):
  path = write(tmp_path, "points3D", points_bin([(0.1, 0.2, 0.3, 4, 5, 6, 0.5)] * 20_000))
  tracemalloc.start()
  read_points(path)
  most = tracemalloc.get_traced_memory()[1]
  tracemalloc.stop()
  assert most < 3 * path.stat().st_size


def test_a_file_above_the_cap_is_not_read(tmp_path):
  path = tmp_path / "points3D.bin"
  with open(path, "wb") as f:
    f.truncate(2**31 + 1)  # a hole: no such bytes are stored
  with pytest.raises(BadData, match="2147483649 bytes, the cap is"):
    read_points(path)


NAN = float("nan")
INTRINSICS = (60.0, 55.0, 32.0, 24.0)


@pytest.mark.parametrize("kind, data, text", [
    ("cameras", cameras_bin([(1, 99, 64, 48, ())]) + bytes(64), "unknown camera model id 99"),
    ("cameras", cameras_bin([(1, -1, 64, 48, ())]) + bytes(64), "unknown camera model id -1"),
    ("cameras", cameras_bin([(1, 1, 64, 48, INTRINSICS)] * 2), "camera 1 stands twice"),
    ("cameras", cameras_bin([(1, 1, 0, 48, INTRINSICS)]), "0 x 48 pixels"),
    ("cameras", cameras_bin([(1, 1, 2**40, 48, INTRINSICS)]), "pixels"),
    ("cameras", cameras_bin([(1, 1, 64, 48, (NAN, 1, 1, 1))]), "not finite"),
    ("images", images_bin([(1, (0.5, 0, 0, 0), (0, 0, 0), 1, b"a", 0)]), "has length 0.5, not 1"),
    ("images", images_bin([(1, (NAN, 0, 0, 0), (0, 0, 0), 1, b"a", 0)]), "not finite"),
    ("images", images_bin([(1, UNIT, (np.inf, 0, 0), 1, b"a", 0)]), "not finite"),
    ("images", images_bin([(1, UNIT, (0, 0, 0), 1, b"a", 0)] * 2), "'a' stands twice"),
    ("images", images_bin([(1, UNIT, (0, 0, 0), 1, b"", 0)]), "name '' is none"),
    ("images", images_bin([(1, UNIT, (0, 0, 0), 1, b"\xff.png", 0)]), "not UTF-8"),
    ("points3D", points_bin([(0, 0, 0, 0, 0, 0, 0), (NAN, 0, 0, 0, 0, 0, 0)]), r"point 1 is not finite \(1 in all"),
    ("points3D", points_bin([]) + b"", None),
    ("cameras", "1 PINHOLE 64 48 60 55 32", "PINHOLE has 4 parameters, 3 are given"),
    ("cameras", "1 PINHOL 64 48 60 55 32 24", "unknown camera model 'PINHOL'"),
    ("cameras", "1 PINHOLE 64 48 60,5 55 32 24", "are not numbers"),
    ("cameras", "1 PINHOLE 64 48 6_0 55 32 24", "are not numbers"),
    ("cameras", "1 PINHOLE 64 48 1e400 55 32 24", "not finite"),
    ("images", "1 1 0 0 0 0 0 0 1", "9 words, an image has 10"),
    ("images", "1 1 0 0 0 0 0 0 1 a.png", "observations that follows an image is missing"),
    ("points3D", "1 0 0 0 300 0 0 1", "out of 0..255"),
    ("points3D", "1 0 0 0 30 0 0 1 4", "pairs of a track"),
])
def test_what_is_wrong_is_named(tmp_path, kind, data, text):
  path = write(tmp_path, kind, data, ".bin" if isinstance(data, bytes) else ".txt")
  if text is None:
    assert len(READERS[kind](path)[0]) == 0
    return
  with pytest.raises(BadData, match=text):
    READERS[kind](path)


def test_a_quaternion_that_is_almost_of_unit_length_is_normalised_with_a_warning(tmp_path):
  data = images_bin([(1, (0.9995 * 0.6, 0.9995 * 0.8, 0, 0), (0, 0, 0), 1, b"a", 0)])
  images, warnings = read_images(write(tmp_path, "images", data))
  np.testing.assert_allclose(images[0].rotation, [[1, 0, 0], [0, -0.28, -0.96], [0, 0.96, -0.28]], atol=1e-15)
  assert warnings == ["images.bin: 1 quaternions normalised"]


def test_a_missing_file_and_a_missing_camera_are_named(tmp_path):
  write(tmp_path, "cameras", GOOD["cameras"])
  with pytest.raises(MissingInput, match="has no images.bin or .txt and no points3D.bin or .txt"):
    read_model(tmp_path)
  write(tmp_path, "images", images_bin([(1, UNIT, (0, 0, 0), 5, b"a", 0)]))
  write(tmp_path, "points3D", GOOD["points3D"])
  with pytest.raises(BadData, match="'a' has camera 5, which cameras lacks"):
    read_model(tmp_path)


def test_every_camera_model_of_colmap_is_one_of_ours_with_as_many_parameters():
  for name, length in MODELS.values():
    if name != "EQUIRECTANGULAR":  # its parameters are the image's size
      assert length - 2 - len(cameras.MODELS[name].parameters) in (1, 2), name


def test_real_files_of_a_scene_without_images_bin(real_data):
  folder = real_data / "nerf" / "llff_fern" / "sparse" / "0"
  camera, = read_cameras(folder / "cameras.bin").values()
  assert camera.model == "SIMPLE_RADIAL" and camera.size == (4032, 3024)
  np.testing.assert_allclose(camera.params[0], 3260.526, atol=1e-3)  # the focal length of poses_bounds.npy
  points, colors, errors = read_points(folder / "points3D.bin")
  assert len(points) == len(colors) == len(errors) > 5000 and 0.3 < errors.mean() < 2
  with pytest.raises(MissingInput, match="has no images.bin or .txt;"):
    read_model(folder)


@pytest.mark.parametrize("form", ["binary", "text"])
def test_both_forms_read_as_colmap_reads_them(tmp_path, form):
  pycolmap = pytest.importorskip("pycolmap")
  options = pycolmap.SyntheticDatasetOptions()
  options.num_points3D, options.num_frames_per_rig = 50, 5
  there = pycolmap.synthesize_dataset(options)
  (there.write_binary if form == "binary" else there.write_text)(str(tmp_path))
  model = read_model(tmp_path)
  assert {i: (c.model, c.size) for i, c in model.cameras.items()} == {
      i: (c.model_name, (c.width, c.height)) for i, c in there.cameras.items()}
  expected = {image.name: image for image in there.images.values()}
  assert [image.name for image in model.images] == sorted(expected)
  for image in model.images:
    matrix = expected[image.name].cam_from_world().matrix()
    np.testing.assert_allclose(np.c_[image.rotation, image.translation], matrix, rtol=1e-12, atol=1e-14)
    np.testing.assert_array_equal(model.cameras[image.camera].params, expected[image.name].camera.params)
  points = {tuple(p.xyz): tuple(p.color) for p in there.points3D.values()}
  assert {tuple(p): tuple(c) for p, c in zip(model.points, model.colors, strict=True)} == points


def test_the_ids_and_lengths_of_camera_models_are_colmaps():
  pycolmap = pytest.importorskip("pycolmap")
  theirs = {member.value: name for name, member in pycolmap.CameraModelId.__members__.items() if name != "INVALID"}
  assert {i: name for i, (name, _) in MODELS.items()} == {i: n for i, n in theirs.items() if i in MODELS}
  for number, (name, length) in MODELS.items():
    camera = pycolmap.Camera.create_from_model_name(1, name, 100.0, 64, 48)
    assert len(camera.params) == length, number


@given(st.lists(st.floats(-1, 1), min_size=4, max_size=4).filter(lambda q: np.linalg.norm(q) > 0.1))
def test_a_quaternions_matrix_is_a_rotation_about_its_axis(q):
  unit = np.array(q) / np.linalg.norm(q)
  rotation = rotation_of(unit)
  np.testing.assert_allclose(rotation @ rotation.T, np.eye(3), atol=1e-14)  # entries at most 1
  np.testing.assert_allclose(rotation @ unit[1:], unit[1:], atol=1e-14)
  np.testing.assert_allclose(np.trace(rotation), 4 * unit[0]**2 - 1, atol=1e-14)


def test_the_writer_of_these_tests_agrees_with_the_reader(tmp_path):
  pose = np.c_[np.diag([1.0, -1.0, -1.0]) @ rotation_of(np.array([0.6, 0.8, 0.0, 0.0])).T, [1.0, 2.0, 3.0]]
  write_model(tmp_path, pose[None], ["a.png"], [(0.0, 0.0, 0.0)])
  image, = read_model(tmp_path).images
  np.testing.assert_allclose(-image.rotation.T @ image.translation, pose[:, 3])
  np.testing.assert_allclose(image.rotation.T * [1.0, -1.0, -1.0], pose[:, :3], atol=1e-15)
