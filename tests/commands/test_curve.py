"""The curve: seconds of training from the run's own records, every kept checkpoint measured, shown in the report."""

import argparse
import json

import jax.numpy as jnp
import numpy as np
import pytest

from fields3d.commands import curve, main, rundir
from fields3d.core.errors import MissingInput, UsageFault
from fields3d.core.strict_json import read
from fields3d.core.types import Camera, Dataset, View
from fields3d.training import manifest

POSE = np.concatenate([np.eye(3), [[0.0], [0.0], [4.0]]], axis=1)
CAMERA = Camera("PINHOLE", (16, 12), (20.0, 20.0, 8.0, 6.0), (), POSE)
STEPS = (100, 200, 300)


def grey(step):
  """Renders the photographs' grey, off by 1/step."""
  def render(rays):
    rgb = jnp.full_like(rays.origins, 0.5 + 1 / step)
    return {"rgb": rgb, "opacity": jnp.ones_like(rays.near), "depth": jnp.ones_like(rays.near)}
  return render


@pytest.fixture
def run(tmp_path, monkeypatch):
  """A run of two starts, at 1000 s and 2000 s, with three checkpoints of three views."""
  workdir = tmp_path / "run"
  (workdir / "tb").mkdir(parents=True)
  config = {"data": {}, "task": {}, "seed": 1,
            "evals": {"main": {"name": "views", "metrics": ["psnr"], "tile": 64, "pictures": 2}}}
  (workdir / "config.json").write_text(json.dumps({"config": config}))
  rows = [{"step": 50, "time": 1010.0, "loss": 1.0}, {"time": 1011.0, "note": "a note"},
          {"step": 100, "time": 1030.0, "loss": 0.5}, {"step": 200, "time": 2025.0, "loss": 0.2},
          {"step": 300, "time": 2045.0, "loss": 0.1}]
  (workdir / "metrics.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
  for start in (1000, 2000):
    (workdir / "tb" / f"events.out.tfevents.{start}.host.1").touch()
  pixels = np.full((12, 16, 4), 65535, np.uint16)
  pixels[..., :3] = 32768
  photographs = [View(f"v{i}", CAMERA, lambda: pixels) for i in range(3)]
  info = {"near": 2.0, "far": 6.0, "background": "none", "opaque": True,
          "protocol": {"scene": "grey", "resolution": "16x12"}}
  dataset = Dataset(info, lambda *_: {}, lambda split: (), lambda split: photographs)

  def opened(step):
    return argparse.Namespace(workdir=workdir, config=config, step=step, predict={"render": grey(step)},
                              dataset=dataset)

  monkeypatch.setattr(manifest, "steps", lambda directory: list(STEPS))
  monkeypatch.setattr(rundir, "open_steps", lambda workdir, wanted, overrides=(): (opened(step) for step in wanted))
  monkeypatch.setattr(rundir, "open_run", lambda workdir, step=None, overrides=(): opened(step or STEPS[-1]))
  return workdir


def test_training_seconds_leave_out_the_pause_between_two_starts(run):
  steps, seconds = curve.training_seconds(run)
  assert steps.tolist() == [0, 50, 100, 200, 300] and seconds.tolist() == [0, 10, 30, 55, 75]


def test_every_checkpoint_is_measured_and_stands_in_file_table_and_report(run, capsys):
  assert main.main(["evaluate", str(run), "--curve", "2"]) == 0
  record = read(run / "eval" / "curve.json")
  assert [(p["step"], p["seconds"], p["n"]) for p in record["points"]] == [(100, 30, 2), (200, 55, 2), (300, 75, 2)]
  assert [p["value"] for p in record["points"]] == pytest.approx([20 * np.log10(s) for s in STEPS], abs=0.03)
  assert record["command"].endswith("--curve 2")
  assert record["name"] == "psnr [grey test 16x12, opaque, sRGB, 2 of 3 views]/mean against training seconds"
  shown = capsys.readouterr().out
  assert "training seconds" in shown and "ms a frame" in shown and "49.5" in shown
  assert "psnr [grey test 16x12, opaque, sRGB]/mean" in " ".join(shown.split())
  page = (run / "report.html").read_text()
  assert "Quality against training time" in page and '"unit": "second"' in page and "<b>49.5" in page
  assert page.count('<div class="views">') == 1 and page.count("prediction, photograph, error") == 3


def test_a_second_curve_does_not_evaluate_again(run, capsys, monkeypatch):
  assert main.main(["evaluate", str(run)]) == 0
  before, opened = (run / "eval" / "300.json").read_text(), rundir.open_run
  monkeypatch.setattr(rundir, "open_run", lambda *_: pytest.fail("evaluated again"))
  assert main.main(["evaluate", str(run), "--curve", "1"]) == 0
  assert (run / "eval" / "300.json").read_text() == before
  assert "Quality against training time" in (run / "report.html").read_text()
  monkeypatch.setattr(rundir, "open_run", opened)
  assert main.main(["evaluate", str(run), "--curve", "1", "--seed", "4"]) == 0  # another seed: measured again
  record = read(run / "eval" / "300.json")
  assert record["evaluations"]["main"]["settings"]["seed"] == 4
  made = record["evaluations"]["main"]["provenance"]
  made["command"] += " --config.task.renderer.refine=4"  # figures of another renderer: measured again
  (run / "eval" / "300.json").write_text(json.dumps(record))
  assert main.main(["evaluate", str(run), "--curve", "1", "--seed", "4"]) == 0
  assert "refine" not in read(run / "eval" / "300.json")["evaluations"]["main"]["provenance"]["command"]


def test_a_curve_without_views_or_times_is_one_line(run):
  with pytest.raises(UsageFault, match="no evaluator of views"):
    curve.measure_curve(run, {"main": {"name": "geometry"}}, 2, None)
  for path in (run / "tb").iterdir():
    path.unlink()
  with pytest.raises(MissingInput, match="when training started"):
    curve.training_seconds(run)


def test_a_run_that_has_logged_no_step_yet_is_one_line(run):
  (run / "metrics.jsonl").write_text('{"time": 1001.0, "note": "started"}\n')
  with pytest.raises(MissingInput, match="metrics.jsonl: holds no step yet"):
    curve.training_seconds(run)
