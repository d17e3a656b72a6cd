"""Progress: a bar on a terminal; in a log a line every ten seconds with a rate and the time that is left, none before."""

import io
import sys
import types

from fields3d.core import progress


def test_a_log_gets_a_line_every_ten_seconds_for_each_thing_that_is_counted(monkeypatch, capsys):
  clock = [0.0]
  monkeypatch.setattr(progress, "time", types.SimpleNamespace(monotonic=lambda: clock[0]))
  with progress.progress() as show:
    for done in range(1, 31):
      clock[0] = 2.0 * done
      show("draws", done, 100)
      show("fast", 10 * done, 300)
  lines = capsys.readouterr().err.splitlines()
  assert [line for line in lines if line.startswith("draws")] == [
    f"draws: {done} of 100, 2 s each, {2 * (100 - done)} s to go" for done in (6, 11, 16, 21, 26)]
  fast = [line for line in lines if line.startswith("fast")]
  assert fast[0] == "fast: 60 of 300, 5 a second, 48 s to go" and fast[-1] == "fast: 300 of 300, 5 a second"
  assert len(lines) == 11


def test_short_work_is_silent(capsys):
  with progress.progress() as show:
    show("draws", 1, 2)
    show("draws", 2, 2)
  assert capsys.readouterr().err == ""


def test_a_terminal_gets_a_bar(monkeypatch):
  class Terminal(io.StringIO):
    def isatty(self):
      return True

  monkeypatch.setattr(sys, "stderr", Terminal())
  with progress.progress() as show:
    show("frames", 0.5, 4)
    show("frames", 2, 4)
  assert "frames" in sys.stderr.getvalue() and "2/4" in sys.stderr.getvalue()
