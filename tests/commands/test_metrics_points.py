"""fields3d metrics points: clouds and sets of every kind of file, independent code's figures, faults of one line."""

import json
import os
import pathlib

import numpy as np
import pytest
import scipy.optimize
import scipy.spatial

from fields3d.commands import main
from fields3d.evaluation.results import bare

DATA = pathlib.Path(os.environ.get("FIELDS3D_DATA", pathlib.Path(__file__).parents[2] / "../shared/data"))


def boxes(num, seed, points=48):
  rng = np.random.default_rng(seed)
  return (rng.uniform(0.1, 0.28, (num, 1, 3)) * rng.uniform(-1, 1, (num, points, 3))).astype(np.float32)


def figures(capsys, *words):
  assert main.main(["metrics", "points", *map(str, words), "--json"]) == 0
  record = json.loads(capsys.readouterr().out)
  return record, {bare(m["name"]): m for m in record["metrics"]}


def write_ply(path, points):
  head = f"ply\nformat ascii 1.0\nelement vertex {len(points)}\n" + "".join(f"property float {c}\n" for c in "xyz")
  path.write_text(head + "end_header\n" + "".join("{} {} {}\n".format(*p) for p in points))


def test_two_clouds_of_any_format_give_what_scipy_gives(tmp_path, capsys):
  a, b = boxes(2, 0)
  write_ply(tmp_path / "a.ply", a)
  np.save(tmp_path / "a.npy", a)
  np.savez(tmp_path / "a.npz", points=a)
  (tmp_path / "a.obj").write_text("".join("v {} {} {}\n".format(*p) for p in a))
  np.save(tmp_path / "b.npy", b)
  d = scipy.spatial.distance.cdist(a.astype(np.float64), b.astype(np.float64))
  rows, columns = scipy.optimize.linear_sum_assignment(d)
  expected = {"chamfer_sum_squared": (d.min(1)**2).mean() + (d.min(0)**2).mean(), "emd": d[rows, columns].mean(),
              "chamfer_mean_unsquared": (d.min(1).mean() + d.min(0).mean()) / 2,
              "hausdorff": max(d.min(1).max(), d.min(0).max())}
  for name in ("a.ply", "a.npy", "a.npz", "a.obj"):
    _, found = figures(capsys, tmp_path / name, tmp_path / "b.npy")
    for metric, value in expected.items():
      assert found[metric]["value"] == pytest.approx(value, rel=1e-6), (name, metric)  # the texts hold float32
    assert found["chamfer_sum_squared"]["low"] < expected["chamfer_sum_squared"] < found["chamfer_sum_squared"]["high"]
  _, own = figures(capsys, tmp_path / "a.npy", tmp_path / "b.npy", "--protocol", "pvd")
  assert set(own) == {"chamfer_sum_squared", "emd_sum_squared"}


def test_clouds_of_other_sizes_have_no_emd_unless_points_are_drawn(tmp_path, capsys):
  np.save(tmp_path / "a.npy", boxes(1, 0, 40)[0])
  np.save(tmp_path / "b.npy", boxes(1, 1, 60)[0])
  record, found = figures(capsys, tmp_path / "a.npy", tmp_path / "b.npy")
  assert "emd" not in found and "no EMD: 40 points against 60" in record["warnings"][0]
  _, found = figures(capsys, tmp_path / "a.npy", tmp_path / "b.npy", "--points", 32)
  assert found["emd"]["n"] == 32


def test_sets_by_folder_or_by_array_are_the_same(tmp_path, capsys):
  for name, seed in (("a", 0), ("b", 1)):
    (tmp_path / name).mkdir()
    for i, cloud in enumerate(boxes(8, seed)):
      np.save(tmp_path / name / f"{i:02d}.npy", cloud)
    np.savez(tmp_path / f"{name}.npz", clouds=boxes(8, seed))
  (tmp_path / "a" / "notes.txt").write_text("no points")
  record, by_folder = figures(capsys, tmp_path / "a", tmp_path / "b", "--emd", "--neighbours", 2)
  _, by_array = figures(capsys, tmp_path / "a.npz", tmp_path / "b.npz", "--emd", "--neighbours", 2)
  assert by_folder == by_array
  assert {"mmd_emd_x100", "1nna_emd_percent/samples", "jsd_28", "vendi_like_cd", "coverage_cd_k2"} <= set(by_folder)
  assert any("1 other files" in line for line in record["warnings"])
  assert any("48 points a cloud" in line and "2048" in line for line in record["warnings"])
  assert "half" not in record["metrics"][0]["protocol"].split("control")[0].split(";")[0]


def test_sets_far_from_the_origin_are_measured_as_near_it(tmp_path, capsys):
  found = []
  for place in ([0.0, 0.0, 0.0], [4.5e5, 5.4e6, 100.0]):
    for name, seed in (("a", 0), ("b", 1)):
      np.save(tmp_path / f"{name}.npy", boxes(8, seed).astype(np.float64) + place)
      np.save(tmp_path / f"{name}1.npy", boxes(1, seed)[0].astype(np.float64) + place)
    found.append(figures(capsys, tmp_path / "a.npy", tmp_path / "b.npy")[1] | {
        "pair": figures(capsys, tmp_path / "a1.npy", tmp_path / "b1.npy", "--points", 48)[1]["chamfer_sum_squared"]})
  near, far = found
  for name in ("pair", "mmd_cd_x1000", "1nna_cd_percent", "cov_cd_percent"):
    assert far[name]["value"] == pytest.approx(near[name]["value"], rel=1e-5), name  # 5.4e6 in float64 is exact to 1e-9


def test_what_is_of_sets_is_refused_for_two_clouds(tmp_path, capsys):
  np.save(tmp_path / "a.npy", boxes(1, 0)[0])
  for words in (["--emd", "annealed"], ["--neighbours", "3"]):
    assert main.main(["metrics", "points", str(tmp_path / "a.npy"), str(tmp_path / "a.npy"), *words]) == 2
    assert f"{words[0]}: is of sets of clouds" in capsys.readouterr().err


def test_real_against_real_is_not_told_and_copies_of_training_clouds_are(tmp_path, capsys):
  training = boxes(30, 5)
  np.save(tmp_path / "train.npy", training)
  np.save(tmp_path / "new.npy", boxes(20, 6))
  np.save(tmp_path / "held.npy", boxes(20, 7))
  np.save(tmp_path / "copies.npy", training[:20] + np.random.default_rng(0).normal(0, 1e-3, (20, 48, 3)))
  _, real = figures(capsys, tmp_path / "new.npy", tmp_path / "held.npy", "--train", tmp_path / "train.npy")
  assert real["1nna_cd_percent"]["low"] <= 50 <= real["1nna_cd_percent"]["high"]
  assert real["z_u_cd"]["low"] < 0 < real["z_u_cd"]["high"]
  record, copied = figures(capsys, tmp_path / "copies.npy", tmp_path / "held.npy", "--train", tmp_path / "train.npy")
  assert copied["z_u_cd"]["value"] < -5
  assert [row["index"] for row in record["nearest_training"]] == list(range(20))


def test_the_table_names_protocol_and_control(tmp_path, capsys):
  np.save(tmp_path / "a.npy", boxes(6, 0))
  np.save(tmp_path / "b.npy", boxes(6, 1))
  assert main.main(["metrics", "points", str(tmp_path / "a.npy"), str(tmp_path / "b.npy"), "--neighbours", "6"]) == 0
  shown = capsys.readouterr().out
  assert "1nna_cd_percent/references" in shown and "3 of the references against 3 others" in shown
  assert "at random from each file" in shown and "k = 6 need more shapes" in shown


def files(tmp_path):
  np.save(tmp_path / "cloud.npy", boxes(1, 0)[0])
  np.save(tmp_path / "set.npy", boxes(5, 0))
  np.save(tmp_path / "few.npy", boxes(3, 0))
  np.save(tmp_path / "nan.npy", np.where(np.arange(48)[:, None] == 7, np.nan, boxes(1, 0)[0]))
  np.save(tmp_path / "flat.npy", np.ones((5, 48, 3)))
  np.save(tmp_path / "two.npy", np.zeros((5, 48, 2)))
  np.save(tmp_path / "pickled.npy", np.array([{}], object), allow_pickle=True)
  (tmp_path / "empty.ply").write_bytes(b"")
  (tmp_path / "cut.npy").write_bytes((tmp_path / "set.npy").read_bytes()[:-5])
  (tmp_path / "comma.obj").write_text("v 1,5 0 0\nv 0 0 0\n")
  (tmp_path / "none").mkdir()


@pytest.mark.parametrize(("a", "b", "code", "told"), [
    ("cloud.npy", "set.npy", 2, "a cloud against a set"),
    ("missing.npy", "cloud.npy", 66, "no such file"),
    ("nan.npy", "cloud.npy", 65, "nan.npy: vertex 7 (from 0) is not finite"),
    ("flat.npy", "set.npy", 65, "identical (5 such clouds)"),
    ("two.npy", "set.npy", 65, "expected (n, p, 3)"),
    ("pickled.npy", "cloud.npy", 65, "never loaded"),
    ("empty.ply", "cloud.npy", 65, "empty file"),
    ("cut.npy", "set.npy", 65, "cut.npy"),
    ("comma.obj", "cloud.npy", 65, "decimals with a point"),
    ("none", "set.npy", 65, "no point files"),
    ("few.npy", "set.npy", 2, "at least 4"),
    ("set.npy", "set.npy --points 99", 2, "cloud 0 has 48"),
])
def test_bad_inputs_are_one_line_with_the_file(tmp_path, capsys, a, b, code, told):
  files(tmp_path)
  b, *more = b.split()
  assert main.main(["metrics", "points", str(tmp_path / a), str(tmp_path / b), *more]) == code
  error = capsys.readouterr().err
  assert told in error and error.count("\n") == 1


def test_real_clouds_agree_with_a_kd_tree(capsys):
  folder = DATA / "pointclouds"
  if not (folder / "pc_corgi.npz").is_file():
    pytest.skip(f"no point clouds in {folder}; set FIELDS3D_DATA")
  _, found = figures(capsys, folder / "pc_corgi.npz", folder / "pc_cube_stack.npz")
  a, b = (np.load(folder / name)["coords"].astype(np.float64) for name in ("pc_corgi.npz", "pc_cube_stack.npz"))
  ab, ba = scipy.spatial.cKDTree(b).query(a)[0], scipy.spatial.cKDTree(a).query(b)[0]
  assert found["chamfer_sum_squared"]["value"] == pytest.approx((ab**2).mean() + (ba**2).mean(), rel=1e-6)
