"""The run log: strict records that resume where the run does, event files, console lines, the environment."""

import errno
import importlib.metadata
import io
import json
import re
import socket

import numpy as np
import pytest
from tensorboardX.proto.event_pb2 import Event, SessionLog

from fields3d.core.errors import BadData, IOFault, MissingInput
from fields3d.training import logging
from fields3d.training.logging import RunLog, read_json, read_metrics, write_environment


def log_to(workdir, stream=None, total=1000):
  return RunLog(workdir, total, stream=stream or io.StringIO())


def lines_of(workdir):
  return (workdir / "metrics.jsonl").read_text().splitlines()


def events_of(workdir):
  """Every event of every file, by the record format itself: length (8), crc (4), bytes, crc (4)."""
  events = []
  for path in sorted((workdir / "tb").iterdir(), key=lambda p: p.stat().st_mtime_ns):
    content = path.read_bytes()
    while content:
      size = int.from_bytes(content[:8], "little")
      events.append(Event.FromString(content[12:12 + size]))
      content = content[16 + size:]
  return events


def test_a_record_is_one_strict_json_line_and_reads_back_as_columns(tmp_path):
  with log_to(tmp_path) as log:
    log.start(0)
    log.scalars(10, {"loss": np.float32(0.1), "rate": 1})
    log.scalars(20, {"loss": 0.05, "late": 3.0})
  first, second = (json.loads(line) for line in lines_of(tmp_path))
  assert first["step"] == 10 and first["loss"] == float(np.float32(0.1))
  assert set(first) == {"step", "time", "loss", "rate"}
  assert second["late"] == 3.0
  columns = read_metrics(tmp_path)
  assert columns["step"].tolist() == [10, 20] and columns["step"].dtype == np.int64
  np.testing.assert_array_equal(columns["late"], [np.nan, 3.0])


def test_a_nonfinite_scalar_is_null_and_named_never_a_nan_token(tmp_path):
  with log_to(tmp_path) as log:
    log.start(0)
    log.scalars(1, {"loss": np.nan, "norm": np.inf, "fine": 2.0})
  (line,) = lines_of(tmp_path)
  record = json.loads(line, parse_constant=lambda token: pytest.fail(token))
  assert record["loss"] is None and record["norm"] is None and record["nonfinite"] == ["loss", "norm"]
  assert np.isnan(read_metrics(tmp_path)["loss"][0])


def test_records_are_on_the_disk_before_the_log_is_closed(tmp_path):
  log = log_to(tmp_path)
  log.start(0)
  log.scalars(1, {"loss": 1.0})
  assert len(lines_of(tmp_path)) == 1
  log.close()
  log.close()


def test_resuming_removes_later_records_and_a_torn_line_but_no_notes(tmp_path):
  with log_to(tmp_path) as log:
    log.start(0)
    for step in (10, 20, 30):
      log.scalars(step, {"loss": 1.0})
    log.note("rolled back")
  with open(tmp_path / "metrics.jsonl", "ab") as f:
    f.write(b"\0\0\0\n" + b'{"step": 40, "lo')
  with log_to(tmp_path) as log:
    log.start(20)
    log.scalars(30, {"loss": 2.0})
  assert read_metrics(tmp_path)["step"].tolist() == [10, 20, 30]
  assert read_metrics(tmp_path)["loss"].tolist() == [1.0, 1.0, 2.0]
  assert sum("rolled back" in line for line in lines_of(tmp_path)) == 1
  assert all(json.loads(line) for line in lines_of(tmp_path))


def test_event_files_hold_scalars_images_and_texts_and_void_later_steps_on_resume(tmp_path):
  with log_to(tmp_path) as log:
    log.start(0)
    log.scalars(10, {"loss": 0.25})
    log.image(10, "view", np.zeros((4, 6, 3), np.uint8))
    log.text(10, "config", "`a = 1`")
    log.start(5)
  events = events_of(tmp_path)
  values = [value for event in events for value in event.summary.value]
  assert [v.simple_value for v in values if v.tag == "loss"] == [0.25]
  assert [(v.image.width, v.image.height) for v in values if v.tag == "view"] == [(6, 4)]
  assert any("config" in v.tag for v in values)
  starts = [event.step for event in events if event.session_log.status == SessionLog.START]
  assert starts == [1, 6]


def test_without_a_terminal_lines_give_the_step_the_scalars_the_rate_and_the_time_left(tmp_path):
  stream = io.StringIO()
  with log_to(tmp_path, stream) as log:
    log.start(100)
    log._mark = (100, log._mark[1] - 2.0)
    log.scalars(200, {"loss": 0.0123})
    log.note("a note")
  line, note = stream.getvalue().splitlines()
  assert re.fullmatch(r"step 200/1000 loss 0\.0123 [45]\d(\.\d)? step/s ETA 1\d s", line), line
  assert note == "a note"


def test_on_a_terminal_a_bar_is_drawn_and_the_cursor_given_back(tmp_path, monkeypatch):
  monkeypatch.setenv("TERM", "xterm")
  stream = io.StringIO()
  stream.isatty = lambda: True
  with log_to(tmp_path, stream) as log:
    log.start(0)
    log.scalars(500, {"loss": 0.5})
    log.note("a note with [brackets]")
  text = stream.getvalue()
  assert "step 500/1000" in text and "step/s ETA" in text and "a note with [brackets]" in text
  assert text.rindex("\x1b[?25h") > text.rindex("\x1b[?25l")


def test_other_processes_of_a_distributed_run_write_nothing(tmp_path):
  with RunLog(tmp_path / "run", 10, active=False) as log:
    log.start(0)
    log.scalars(1, {"loss": 1.0})
    log.note("x")
  assert not (tmp_path / "run").exists()


def test_reserved_names_are_refused(tmp_path):
  with log_to(tmp_path) as log, pytest.raises(ValueError, match="'time' is a reserved name"):
    log.scalars(1, {"time": 1.0})


def test_a_full_disk_is_exit_74(tmp_path, monkeypatch):
  with log_to(tmp_path) as log:
    log.start(0)

    def refuse(step, values):
      raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(log._board, "scalars", refuse)
    with pytest.raises(IOFault, match="no space left"):
      log.scalars(1, {"loss": 1.0})


def test_damaged_metrics_are_named_by_line(tmp_path):
  with pytest.raises(MissingInput):
    read_metrics(tmp_path)
  for bad, message in ((b'{"step": 1, "loss": NaN}', "NaN is not a finite number"), (b"[1]", "not a record"),
                       (b'{"step": 1, "step": 2}', "stands twice"), (b"\xff", "not JSON")):
    (tmp_path / "metrics.jsonl").write_bytes(b'{"step": 1}\n' + bad + b"\n")
    with pytest.raises(BadData, match=rf"metrics.jsonl:2: .*{message}"):
      read_metrics(tmp_path)


def test_the_environment_names_code_packages_and_machine_but_not_the_host(tmp_path, monkeypatch):
  monkeypatch.setattr(logging.sys, "argv", ["fields3d", "train"])
  write_environment(tmp_path)
  got = read_json(tmp_path / "environment.json")
  assert got["command"] == ["fields3d", "train"] and got["cpu"]["model"]
  assert got["devices"]["count"] == 4 and got["cpu"]["cores"] >= 1 and got["cpu"]["memory_bytes"] > 1e8
  try:
    importlib.metadata.version("fields3d")
    assert got["packages"]["jax"] == importlib.metadata.version("jax")
  except importlib.metadata.PackageNotFoundError:
    assert got["packages"] == {}
  assert got["git"] is None or re.fullmatch("[0-9a-f]{40}", got["git"]["commit"])
  assert f'"{socket.gethostname()}"' not in (tmp_path / "environment.json").read_text()
