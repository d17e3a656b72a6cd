"""The render command: films and frames along every path; faults with their exit codes."""

import argparse
import json
import sys

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from PIL import Image

from fields3d.commands import main, rundir
from fields3d.core.types import Camera, View
from fields3d.geometry.transforms import look_at
from fields3d.rendering import paths
from fields3d.training.logging import read_json


@jax.jit
def ball(rays):
  """An opaque ball of radius 0.5 at 0 before white: red, on its +y side magenta."""
  along = jnp.sum(rays.origins * rays.directions, axis=-1)
  disc = along ** 2 - jnp.sum(rays.origins ** 2, axis=-1) + 0.25
  hit = disc > 0
  depth = jnp.where(hit, -along - jnp.sqrt(jnp.where(hit, disc, 1)), 0)
  left = (rays.origins + depth[:, None] * rays.directions)[:, 1] > 0
  rgb = jnp.where(hit[:, None], jnp.stack([jnp.ones_like(depth), jnp.zeros_like(depth), left], axis=-1), 1)
  return {"rgb": rgb, "opacity": hit.astype(jnp.float32), "depth": depth}


def views(num, size=(24, 18)):
  up, out = np.array([0, 0, 1.0]), []
  for angle in np.linspace(0, 2, num):
    pose = look_at(3 * np.array([np.cos(angle), np.sin(angle), 0.4]), np.zeros(3), up)
    camera = Camera("PINHOLE", size, (24.0, 24.0, size[0] / 2, size[1] / 2), (), pose)
    out.append(View(f"r_{len(out)}", camera, lambda: np.zeros((size[1], size[0], 4), np.uint16)))
  return out


@pytest.fixture
def run(tmp_path, monkeypatch):
  workdir = tmp_path / "run"
  workdir.mkdir()
  split = {"train": views(6), "test": views(4), "val": []}
  info = {"near": 1.0, "far": 6.0, "bounds": ((-1.0,) * 3, (1.0,) * 3), "unbounded": False, "ndc": None}
  dataset = argparse.Namespace(info=info, views=split.__getitem__)
  opened = argparse.Namespace(workdir=workdir, config={}, step=7, predict={"render": ball}, dataset=dataset)
  monkeypatch.setattr(rundir, "open_run", lambda workdir, step=None: opened)
  opened.split = split
  return opened


def render(run, *words):
  return main.main(["render", str(run.workdir), *map(str, words)])


def pixels_of(path):
  with Image.open(path) as image:
    return np.array(image)


def test_test_views_become_frames_with_scales(run, tmp_path, capsys):
  out = tmp_path / "frames"
  assert render(run, "--out", out, "--path", "test", "--what", "rgb,depth,depth16,opacity") == 0
  said = capsys.readouterr()
  assert "step 7: 4 frames of 24 x 18 pixels" in said.out and "depth is shown from 2.7" in said.out
  record = read_json(out / "render.json")
  assert record["step"] == 7 and record["fps"] == 24 and len(record["frames"]) == 4
  assert sorted(p.name for p in out.iterdir()) == sorted(
      [f"{i:05d}.{name}.png" for i in range(4) for name in ("rgb", "depth", "depth16", "opacity")] + ["render.json"])
  row = record["frames"][1]
  rgb, deep = (pixels_of(out / row[name]) for name in ("rgb", "depth16"))
  assert rgb[9, 12, :2].tolist() == [255, 0] and rgb[0, 0].tolist() == [255] * 3
  # The middle of the ball's near side, half a pixel off: 3 sqrt(1.16) - 0.5.
  np.testing.assert_allclose(deep[9, 12] * row["depth16_scale"], 3 * np.sqrt(1.16) - 0.5, rtol=4e-3)
  assert deep[0, 0] == 0


def test_an_orbit_becomes_a_film_with_its_kinds_side_by_side(run, tmp_path):
  assert render(run, "--out", tmp_path / "a.webp", "--frames", 3, "--size", "20x10", "--what", "rgb,opacity",
                "--supersample", 2, "--fps", 10) == 0
  with Image.open(tmp_path / "a.webp") as film:
    assert film.size == (40, 10) and film.n_frames == 3
    film.seek(2)
    pixels = np.asarray(film.convert("RGB"))
  assert pixels[5, 10, :2].tolist() == [255, 0] and pixels[5, 30].tolist() == [255] * 3 and pixels[0, 20].max() == 0


def test_earlier_frames_do_not_stay_among_new_ones(run, tmp_path):
  for words, names in ((["--frames", 3, "--what", "rgb,depth16"], [f"0000{i}.{kind}.png" for i in range(3) for kind in ("depth16", "rgb")]),
                       (["--frames", 2], ["00000.rgb.png", "00001.rgb.png"])):
    assert render(run, "--out", tmp_path / "f", "--path", "train", *words) == 0
    assert sorted(path.name for path in (tmp_path / "f").iterdir()) == [*names, "render.json"]


def test_frames_asked_for_lie_on_the_way_through_the_views(run, tmp_path):
  assert render(run, "--out", tmp_path / "f", "--path", "train", "--frames", 11) == 0
  assert len(read_json(tmp_path / "f" / "render.json")["frames"]) == 11


def test_forward_facing_scenes_get_a_spiral(run, tmp_path, monkeypatch):
  asked = []
  real = paths.spiral
  monkeypatch.setattr(paths, "spiral", lambda *words: asked.append(words[1:]) or real(*words))
  run.dataset.info["ndc"] = {"width": 24, "height": 18, "fx": 24.0, "fy": 24.0, "near": 1.0}
  assert render(run, "--out", tmp_path / "f", "--frames", 2) == 0
  assert asked == [(1.0, np.inf, 2)]


def test_a_camera_path_file_says_size_and_speed(run, tmp_path):
  frame = {"camera_to_world": np.vstack([views(1)[0].camera.pose, [0, 0, 0, 1]]).reshape(-1).tolist(), "fov": 40}
  file = {"render_width": 16, "render_height": 12, "fps": 5, "camera_path": [frame, frame]}
  (tmp_path / "p.json").write_text(json.dumps(file))
  assert render(run, "--out", tmp_path / "f", "--path", tmp_path / "p.json") == 0
  assert read_json(tmp_path / "f" / "render.json")["fps"] == 5
  assert pixels_of(tmp_path / "f" / "00000.rgb.png").shape == (12, 16, 3)


@pytest.mark.parametrize("words, code, text", [
    (["--path", "orbt"], 2, "--path: unknown path 'orbt'; did you mean 'orbit'?"),
    (["--path", "none.json"], 66, "none.json: no such file"),
    (["--size", "20"], 2, "is not a size such as 800x600"),
    (["--size", "0x9"], 2, "is not a size such as 800x600"),
    (["--what", "rgb,dept"], 2, "unknown kind 'dept', did you mean 'depth'?"),
    (["--what", "normal", "--path", "test"], 2, "gives no normals"),
    (["--frames", "0"], 2, "--frames"),
    (["--fps", "nan"], 2, "--fps"), (["--fps", "1e-7"], 2, "--fps"), (["--size", "99999x99999"], 2, "--size: needs 596.0 GiB"),
])
def test_wrong_options_are_one_line(run, tmp_path, capsys, words, code, text):
  assert render(run, "--out", tmp_path / "f", *words) == code
  assert text in capsys.readouterr().err.splitlines()[-1]


def test_a_film_that_cannot_be_leaves_nothing(run, tmp_path, capsys, monkeypatch):
  before = sorted(tmp_path.iterdir())
  assert render(run, "--out", tmp_path / "a.mp5") == 2
  assert render(run, "--out", tmp_path / "a.webp", "--what", "depth16") == 2
  assert render(run, "--out", tmp_path / "a.webp", "--what", "normal", "--frames", 2) == 2
  monkeypatch.setitem(sys.modules, "imageio_ffmpeg", None)
  assert render(run, "--out", tmp_path / "a.mp4") == 69
  assert "pip install 'fields3d[video]'" in capsys.readouterr().err
  run.split["train"] = []
  assert render(run, "--out", tmp_path / "a.webp") == 2
  assert "the run has no training views" in capsys.readouterr().err
  run.predict.pop("render")
  assert render(run, "--out", tmp_path / "a.webp") == 2
  assert "predicts no 'render'" in capsys.readouterr().err
  assert sorted(tmp_path.iterdir()) == before


def test_where_nothing_can_be_written_nothing_is_rendered(run, tmp_path, capsys):
  run.predict["render"] = lambda rays: pytest.fail("the field is rendered")
  (tmp_path / "folder.webp").mkdir()
  (tmp_path / "file").write_text("")
  for out, text in (("folder.webp", "is a directory"), ("file/below/a.webp", "lies below a file"), ("file/below", "lies below a file")):
    assert render(run, "--out", tmp_path / out) == 73
    assert text in capsys.readouterr().err
  assert not list((tmp_path / "folder.webp").iterdir())
