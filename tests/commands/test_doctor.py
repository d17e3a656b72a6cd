"""The doctor: sound here, and a broken piece is named with its remedy and exit 69."""

import importlib.metadata
import json

import pytest

from fields3d.commands import doctor, main
from fields3d.commands.doctor import Check, parse_requirement


def test_a_sound_installation_is_exit_0(capsys):
  try:
    importlib.metadata.version("fields3d")
  except importlib.metadata.PackageNotFoundError:
    pytest.skip("fields3d runs uninstalled")
  assert main.main(["doctor"]) == 0
  assert "FAILED" not in capsys.readouterr().out
  assert main.main(["doctor", "--json"]) == 0
  report = json.loads(capsys.readouterr().out)
  assert report["ok"] and {"Python", "jax", "marching cubes", "memory"} <= {c["name"] for c in report["checks"]}


def test_a_failure_of_any_probe_is_a_finding_and_exit_69(capsys, monkeypatch):
  def broken_thing():
    yield Check("first", "ok", "fine")
    raise ImportError("no such library")

  monkeypatch.setattr(doctor, "PROBES", (broken_thing,))
  assert main.main(["doctor", "--json"]) == 69
  checks = json.loads(capsys.readouterr().out)["checks"]
  assert checks[1] == {"name": "broken thing", "state": "failed", "detail": "ImportError: no such library"}
  assert main.main(["doctor"]) == 69
  assert "FAILED" in capsys.readouterr().out


def test_wrong_and_missing_libraries_come_with_the_command_that_mends_them(monkeypatch):
  monkeypatch.setattr(importlib.metadata, "requires", lambda name: [
      "jax<0.2,>=0.1", "nothing-of-the-kind>=1", 'viewer-of-nothing>=1; extra == "viewer"', 'numpy>=99; extra == "x"',
      'jax>=9; extra == "gpu"', 'old-thing; python_version < "3.0"'])
  found = {c.name: (c.state, c.detail) for c in doctor.libraries()}
  version = importlib.metadata.version("jax")
  assert found["jax"] == ("failed", f"{version}: pip install 'jax<0.2,>=0.1'")
  assert found["nothing-of-the-kind"] == ("failed", "not installed: pip install 'nothing-of-the-kind>=1'")
  assert found["viewer-of-nothing [viewer]"] == ("missing", "not installed: pip install 'fields3d[viewer]'")
  assert found["numpy [x]"][0] == "missing" and len(found) == 4


def test_an_inverted_marching_cubes_is_found(monkeypatch):
  from fields3d.extraction import marching_cubes
  sound = marching_cubes.marching_cubes
  monkeypatch.setattr(marching_cubes, "marching_cubes", lambda values, bounds: sound(-values, bounds))
  (check,) = doctor.marching_cubes()
  assert check.state == "failed" and "pip install PyMCubes" in check.detail


@pytest.mark.parametrize(("version", "sound"), [("0.10.2", True), ("0.12.0.1", True), ("0.9.9", False), ("0.13", False),
                                                ("0.11.0rc1", True)])
def test_version_bounds_are_those_of_pip(version, sound):
  assert parse_requirement("jax<0.13,>=0.10.2").holds(version) is sound
