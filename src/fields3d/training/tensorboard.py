"""TensorBoard event files through tensorboardX, written at once.

tensorboardX's own SummaryWriter writes in a thread that a full disk ends with a traceback, and then waits for that
thread for ever; its event and summary types are used here without it.
"""

import os
import pathlib
import time

import numpy as np
from tensorboardX import summary
from tensorboardX.event_file_writer import EventsWriter
from tensorboardX.proto.event_pb2 import Event, SessionLog


class TensorBoard:
  """One event file in `directory`. Every call is on the disk's way when it returns; OSErrors are the caller's."""

  def __init__(self, directory: str | os.PathLike):
    pathlib.Path(directory).mkdir(parents=True, exist_ok=True)
    self._writer = EventsWriter(str(pathlib.Path(directory) / "events"), filename_suffix=f".{os.getpid()}")

  def start(self, step: int) -> None:
    """What earlier files say of later steps than `step` is void."""
    self._write(step + 1, session_log=SessionLog(status=SessionLog.START))

  def scalars(self, step: int, values: dict[str, float]) -> None:
    for name, value in values.items():
      self._write(step, summary=summary.scalar(name, value))
    self._writer.flush()

  def image(self, step: int, name: str, pixels: np.ndarray) -> None:
    """pixels (h, w, 3) uint8 sRGB."""
    self._write(step, summary=summary.image(name, pixels, dataformats="HWC"))
    self._writer.flush()

  def text(self, step: int, name: str, markdown: str) -> None:
    self._write(step, summary=summary.text(name, markdown))
    self._writer.flush()

  def close(self) -> None:
    self._writer.close()

  def _write(self, step: int, **content) -> None:
    self._writer.write_event(Event(step=step, wall_time=time.time(), **content))
