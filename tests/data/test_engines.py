"""Engines: a call that dies, hangs or raises is named and costs no other call."""

import signal
import time

import pytest

from fields3d.core.errors import IOFault
from fields3d.data.engines import Lost, Processes


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
