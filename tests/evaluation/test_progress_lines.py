"""Progress of evaluators in a log: a line every ten seconds with a rate and the time that is left, none before."""

import types

from fields3d.evaluation import progress


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
    f"draws: {done} of 100, 0.5 a second, {2 * (100 - done)} s to go" for done in (6, 11, 16, 21, 26)]
  assert len(lines) == 10


def test_short_work_is_silent(capsys):
  with progress.progress() as show:
    show("draws", 1, 1)
  assert capsys.readouterr().err == ""
