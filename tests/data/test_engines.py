"""Engines: a call that dies, hangs or raises is named and costs no other call."""

import os
import signal
import time

import numpy as np
import pytest

from fields3d.core.errors import IOFault
from fields3d.data import kept_samples, picture_file
from fields3d.data.engines import Lost, Processes
from fields3d.data.shape_subjects import Procedural


def drain(engine, num):
  done = {}
  while len(done) < num:
    done |= dict(engine.wait())
  return done


def test_calls_that_die_or_hang_are_named_and_the_others_have_their_results():
  with Processes(2, timeout=2.0) as engine:
    engine.submit("hangs", time.sleep, 1000)
    engine.submit("killed", signal.raise_signal, signal.SIGKILL)
    engine.submit("aborted", signal.raise_signal, signal.SIGABRT)
    for i in range(4):
      engine.submit(i, abs, -i)
    done = drain(engine, 7)
  assert [done[i] for i in range(4)] == [0, 1, 2, 3]
  assert done["hangs"] == Lost("took longer than 2 s; --timeout gives it longer")
  assert done["killed"] == Lost("took its worker process with it twice (SIGKILL: out of memory?)")
  assert done["aborted"] == Lost("took its worker process with it twice (SIGABRT)")


class Losing:
  """An engine whose calls all end their processes."""
  capacity = 2

  def __init__(self, workers):
    self.names = []

  def submit(self, name, *call):
    self.names.append(name)

  def wait(self):
    return [(self.names.pop(), Lost("took its worker process with it twice"))]

  def __enter__(self):
    return self

  def __exit__(self, *exception):
    pass


def test_a_shape_that_is_lost_ends_what_needs_every_shape(tmp_path, monkeypatch):
  for module in (kept_samples, picture_file):
    monkeypatch.setattr(module, "Processes", Losing)
  monkeypatch.setattr(picture_file, "_ALONE", 0)
  with pytest.raises(IOFault, match="a shape took its worker process with it twice; run the same command again"):
    kept_samples.kept_samples(tmp_path, {"a": (1,), "b": (1,)}, abs, 2)
  mugs = [Procedural("mug", i, 0) for i in range(2)]
  with pytest.raises(IOFault, match="x.bin: a shape took its worker process with it twice; run the same command again"):
    picture_file.picture_file(tmp_path, "x", mugs, np.zeros((2, 1, 3, 4)), 8, 1, 2)


def test_samples_are_made_by_as_many_processes_as_this_one_has_cores(tmp_path, monkeypatch):
  monkeypatch.setattr(kept_samples, "Processes", Losing)
  monkeypatch.setattr(os, "sched_getaffinity", lambda _: {0})
  monkeypatch.setattr(os, "cpu_count", lambda: 64)
  made = []
  monkeypatch.setattr(kept_samples, "_keep", lambda root, key, *call: made.append(key))
  kept_samples.kept_samples(tmp_path, {"a": (), "b": ()}, dict)
  assert made == ["a", "b"]


def test_a_call_whose_process_was_killed_for_anothers_sake_is_made_again():
  with Processes(1) as engine:
    engine.submit("a", abs, -1)
    assert drain(engine, 1) == {"a": 1}
    engine.submit("b", time.sleep, 0.5)
    engine._workers[0].process.kill()  # the out-of-memory killer, say
    assert drain(engine, 1) == {"b": None}


def test_what_a_call_raises_is_raised_and_leaving_ends_what_runs():
  with pytest.raises(RuntimeError, match="ZeroDivisionError"), Processes(2) as engine:
    engine.submit("long", time.sleep, 1000)
    engine.submit("bad", divmod, 1, 0)
    drain(engine, 1)
  assert not engine._workers


def test_processes_that_cannot_start_end_the_run_rather_than_reject_all_shapes(monkeypatch):
  monkeypatch.setattr("fields3d.data.engines._serve", time.monotonic)  # returns at once
  with pytest.raises(IOFault, match="did not start"), Processes(1) as engine:
    engine.submit("a", abs, -1)
    drain(engine, 1)
