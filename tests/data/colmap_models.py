"""Writers of COLMAP's sparse models for tests, by the published format."""

import struct

import numpy as np

MODEL_IDS = {"SIMPLE_PINHOLE": 0, "PINHOLE": 1, "SIMPLE_RADIAL": 2, "OPENCV": 4, "FULL_OPENCV": 6}


def quaternion_of(rotation) -> np.ndarray:
  """(w, x, y, z) of a rotation matrix, by the eigenvector of Bar-Itzhack's symmetric matrix."""
  r = np.asarray(rotation)
  k = np.array([[r[0, 0] - r[1, 1] - r[2, 2], 0, 0, 0], [r[0, 1] + r[1, 0], r[1, 1] - r[0, 0] - r[2, 2], 0, 0],
                [r[0, 2] + r[2, 0], r[1, 2] + r[2, 1], r[2, 2] - r[0, 0] - r[1, 1], 0],
                [r[2, 1] - r[1, 2], r[0, 2] - r[2, 0], r[1, 0] - r[0, 1], np.trace(r)]])
  x, y, z, w = np.linalg.eigh(k, UPLO="L")[1][:, -1]
  return np.array([w, x, y, z])


def cameras_bin(cameras) -> bytes:
  """cameras: [(id, model id, width, height, params)]."""
  records = [struct.pack(f"<IiQQ{len(p)}d", i, m, w, h, *p) for i, m, w, h, p in cameras]
  return struct.pack("<Q", len(cameras)) + b"".join(records)


def images_bin(images) -> bytes:
  """images: [(id, quaternion, translation, camera id, name as bytes, number of observations)]."""
  records = [struct.pack("<I7dI", i, *q, *t, c) + name + b"\0" + struct.pack("<Q", k) + bytes(24 * k)
             for i, q, t, c, name, k in images]
  return struct.pack("<Q", len(images)) + b"".join(records)


def points_bin(points, track: int = 2) -> bytes:
  """points: [(x, y, z, r, g, b, error)]."""
  records = [struct.pack("<Q3d3BdQ", i, *p, track) + bytes(8 * track) for i, p in enumerate(points)]
  return struct.pack("<Q", len(points)) + b"".join(records)


def write_model(folder, poses, names, points, *, params=(60.0, 55.0, 32.0, 24.0), size=(64, 48)) -> None:
  """A model of one PINHOLE camera; poses (n, 3, 4) camera to world, -z ahead, as ours."""
  folder.mkdir(parents=True, exist_ok=True)
  images = []
  for i, (pose, name) in enumerate(zip(poses, names, strict=True)):
    rotation = (pose[:, :3] * [1.0, -1.0, -1.0]).T
    images.append((i + 1, quaternion_of(rotation), -rotation @ pose[:, 3], 1, name.encode(), 3))
  (folder / "cameras.bin").write_bytes(cameras_bin([(1, 1, *size, params)]))
  (folder / "images.bin").write_bytes(images_bin(images))
  (folder / "points3D.bin").write_bytes(points_bin([(*p, 1, 2, 3, 0.5) for p in points]))
