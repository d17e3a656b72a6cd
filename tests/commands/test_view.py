"""The view command: the static page is whole, small and silent; the live view refines, stops and listens at home."""

import argparse
import base64
import io
import json
import re
import socket
import sys
import threading
import urllib.request

import numpy as np
import pytest
from PIL import Image
from test_render import ball, views

from fields3d.commands import live_view, main, rundir, static_view
from fields3d.core.types import Mesh
from fields3d.extraction.export import export
from fields3d.rendering.images import render_camera

FACTS = {"near": 1.0, "far": 6.0, "bounds": ((-1.0,) * 3, (1.0,) * 3), "unbounded": False, "ndc": None}
NDC = FACTS | {"ndc": {"width": 24, "height": 18, "fx": 24.0, "fy": 24.0, "near": 1.0}}


@pytest.fixture
def run(tmp_path, monkeypatch):
  workdir = tmp_path / "a <run>"
  (workdir / "meshes").mkdir(parents=True)
  dataset = argparse.Namespace(info=dict(FACTS), views=lambda split: views(6))
  opened = argparse.Namespace(workdir=workdir, config={}, step=7000, predict={"render": ball}, dataset=dataset)
  monkeypatch.setattr(rundir, "open_run", lambda workdir, step=None: opened)
  monkeypatch.setattr(static_view, "COLUMNS", 4)
  return opened


def add_mesh(run, name="surface"):
  mesh = Mesh(np.eye(4, 3), np.array([[0, 2, 1], [0, 1, 3], [0, 3, 2], [1, 2, 3]]), np.full((4, 3), 90, np.uint8))
  return export(mesh, run.workdir / "meshes" / name)


def page_of(run, tmp_path, *words):
  assert main.main(["view", str(run.workdir), "--static", str(tmp_path / "out" / "a.html"), *words]) == 0
  return (tmp_path / "out" / "a.html").read_text()


def test_the_page_holds_the_field_from_everywhere_and_the_meshes(run, tmp_path, capsys):
  glb = add_mesh(run)
  page = page_of(run, tmp_path, "--height", "16")
  assert "a.html is written" in capsys.readouterr().out
  held = json.loads(re.search(r'id="turntable">(.*?)</script>', page)[1])
  assert (held["rows"], held["columns"], held["closed"]) == (3, 4, True) and len(held["frames"]) == 12
  cameras = [c for row in static_view.places([v.camera for v in views(6)], FACTS, 16)[0] for c in row]
  for frame, camera in list(zip(held["frames"], cameras, strict=True))[::5]:
    with Image.open(io.BytesIO(base64.b64decode(frame.partition(",")[2]))) as picture:
      assert picture.size == (21, 16)  # the photographs are 4 to 3
      shown = np.asarray(picture.convert("RGB"), float) / 255
    assert np.abs(shown - render_camera(ball, camera, FACTS)["rgb"]).mean() < 0.1  # webp, at half resolution in colour
  assert base64.b64decode(re.search(r'id="model-0">(.*?)</script>', page)[1]) == glb.read_bytes()
  assert [p.name for p in (tmp_path / "out").iterdir()] == ["a.html"]


def test_a_page_that_cannot_be_written_is_refused_before_the_field_is_rendered(run, tmp_path, capsys):
  add_mesh(run)
  run.predict["render"] = lambda rays: pytest.fail("the field is rendered")
  (tmp_path / "page").mkdir()
  (tmp_path / "file").write_text("")
  before = sorted(tmp_path.iterdir())
  for name, text in (("page", "page: is a directory; give the path of a file"), ("file/a.html", "file: is there and is no directory"),
                     ("file/b/a.html", "file/b: lies below a file; give another path")):
    assert main.main(["view", str(run.workdir), "--static", str(tmp_path / name)]) == 73
    said = capsys.readouterr().err
    assert f"{tmp_path}/{text}" in said and said.count("\n") == 1
  assert sorted(tmp_path.iterdir()) == before


def test_the_page_asks_nothing_of_the_network_and_escapes_names(run, tmp_path):
  add_mesh(run, 'a"b')
  page = page_of(run, tmp_path, "--height", "16")
  assert "a &lt;run&gt;" in page and "<run>" not in page and 'data-shape="a&quot;b"' in page
  assert "default-src 'none'" in page and page.count("'sha256-") == 2
  assert not re.search(r'(src|href)="(?!data:)', page) and "http" not in page.replace("http-equiv", "")


def test_upper_rows_look_from_above_and_windows_do_not_close(run):
  rows, closed = static_view.places([v.camera for v in views(6)], FACTS, 16)
  heights = [row[0].pose[2, 3] for row in rows]
  assert closed and heights == sorted(heights, reverse=True)
  facing = [v.camera for v in views(3)]
  rows, closed = static_view.places(facing, NDC, 16)
  assert not closed and (len(rows), len(rows[0])) == (5, 9)
  right = np.mean([c.pose[:, 0] for c in facing], axis=0)
  across = [c.pose[:, 3] @ right for c in rows[2]]
  assert across == sorted(across)
  assert np.all(np.array([row[4].pose[2, 3] for row in rows])[:-1] >= [row[4].pose[2, 3] for row in rows][1:])


def test_pictures_and_meshes_keep_to_their_budgets(run, tmp_path, monkeypatch):
  noise = np.random.default_rng(0).integers(256, size=(64, 64, 3), dtype=np.uint8)
  best = len(static_view._webp(noise, 1 << 20))
  assert len(static_view._webp(noise, best // 2)) <= best // 2
  first, second = add_mesh(run, "a"), add_mesh(run, "b")
  monkeypatch.setattr(static_view, "MESH_BYTES", 4 * (first.stat().st_size + second.stat().st_size) // 3 - 8)
  page = page_of(run, tmp_path, "--height", "16")
  assert 'data-shape="a"' in page and 'data-shape="b"' not in page and "1 meshes stay out" in page


def test_a_run_of_shapes_shows_its_meshes_and_nothing_without_any(run, tmp_path, capsys):
  run.predict = {"sdf": None}
  assert main.main(["view", str(run.workdir), "--static", str(tmp_path / "a.html")]) == 2
  assert "run fields3d extract" in capsys.readouterr().err
  run.predict = {"sdf": None, "sample": None}  # extract has no codes to take
  assert main.main(["view", str(run.workdir), "--static", str(tmp_path / "a.html")]) == 2
  assert f"run fields3d sample {run.workdir} --out {run.workdir}/meshes first" in capsys.readouterr().err
  add_mesh(run)
  page = page_of(run, tmp_path)
  assert "<div class=\"viewer\" data-turntable>" not in page and 'data-mesh="model-0"' in page


def test_without_viser_the_extra_is_named(run, capsys, monkeypatch):
  monkeypatch.setitem(sys.modules, "viser", None)
  assert main.main(["view", str(run.workdir)]) == 69
  assert "pip install 'fields3d[view]'" in capsys.readouterr().err


def test_the_browsers_camera_sees_what_ours_does():
  for view in views(4):
    camera = view.camera
    turn = live_view.Rotation.from_matrix(camera.pose[:, :3] * (1, -1, -1)).as_quat(scalar_first=True)
    fov = 2 * np.arctan(camera.size[1] / 2 / camera.intrinsics[1])
    got = live_view.browser_camera(turn, camera.pose[:, 3], fov, camera.size[0] / camera.size[1], camera.size[1])
    assert got.size == camera.size
    np.testing.assert_allclose(got.pose, camera.pose, atol=1e-12)
    np.testing.assert_allclose(got.intrinsics, camera.intrinsics)


def test_renderings_refine_until_the_camera_moves():
  assert live_view.refinements(16) == [16] and live_view.refinements(1000) == [64, 160, 400, 1000]
  see = lambda rows: views(1, size=(rows, rows))[0].camera
  sizes = [rgb.shape[0] for rgb in live_view.renderings(ball, FACTS, see, 200, lambda: False)]
  assert sizes == [80, 200]
  answers = iter([False, True])
  assert len(list(live_view.renderings(ball, FACTS, see, 200, lambda: next(answers)))) == 1


@pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::pytest.PytestUnraisableExceptionWarning")
def test_the_server_listens_at_home_and_answers(run):
  pytest.importorskip("viser")
  with socket.socket() as free:
    free.bind(("127.0.0.1", 0))
    port = free.getsockname()[1]
  server = live_view.start(run, [add_mesh(run)], "127.0.0.1", port, 32)
  try:
    assert server.get_host() == "127.0.0.1"
    with urllib.request.urlopen(f"http://127.0.0.1:{server.get_port()}", timeout=20) as answer:
      assert answer.status == 200
  finally:
    server.stop()


def test_a_client_gets_coarse_then_fine_pictures(run):
  shown, done = [], threading.Event()

  def set_background_image(image, format):
    shown.append(image.shape)
    if image.shape[0] == 160:
      done.set()

  camera = argparse.Namespace(wxyz=(1, 0, 0, 0), position=(0, 0, -3), fov=1.0, aspect=1.0, on_update=lambda f: None)
  scene = argparse.Namespace(set_background_image=set_background_image)
  client = live_view._Client(argparse.Namespace(camera=camera, scene=scene), ball, FACTS, 160)
  assert done.wait(60)
  client.close()
  assert shown == [(64, 64, 3), (160, 160, 3)]
