"""The watch over a run: when to go back to the last checkpoint, and when to give up.

All of it is host arithmetic on the scalars of finished steps, in step order, so that a resumed run decides alike.
"""

import dataclasses
import math
import statistics
from collections.abc import Mapping

import numpy as np

from fields3d.core.errors import Diverged

WINDOW = 64
NOT_ALWAYS = ("spread", "coverage", "coverage_real")  # scalars that are not finite at steps that do not measure them


@dataclasses.dataclass
class Guard:
  """Counts bad steps. A step is bad when it was skipped as non-finite, or when its loss spikes.

  max_skips: consecutive skipped steps that are borne; one more asks for a rollback.
  spike_factor: a finite loss above this multiple of the median of the last 64 good losses is a spike (None: never);
    more than `spike_patience` consecutive spikes ask for a rollback.
  max_rollbacks: rollbacks without a new checkpoint in between that are borne; one more raises Diverged.
  """
  max_skips: int = 10
  spike_factor: float | None = None
  spike_patience: int = 10
  max_rollbacks: int = 2
  skipped: int = 0
  spikes: int = 0
  total_skipped: int = 0
  attempts: int = 0
  losses: list[float] = dataclasses.field(default_factory=list)

  @property
  def steady(self) -> bool:
    """Whether the last step was good: what a checkpoint of another holds may be what a rollback flees from."""
    return not (self.skipped or self.spikes)

  def watch(self, step: int, metrics: Mapping[str, float]) -> str | None:
    """Takes a finished step's scalars; returns why to roll back, or None.

    >>> guard = Guard(max_skips=1)
    >>> [guard.watch(s, {"loss": math.nan, "skipped": 1.0}) for s in (1, 2)]
    [None, "'loss' was not finite in 2 consecutive steps, the last of them step 2"]
    """
    if metrics["skipped"] > 0:
      self.skipped += 1
      self.total_skipped += 1
      if self.skipped > self.max_skips:
        return f"{culprit(metrics)!r} was not finite in {self.skipped} consecutive steps, the last of them step {step}"
      return None
    self.skipped = 0
    loss = metrics["loss"]
    if self.spike_factor and len(self.losses) == WINDOW:
      median = statistics.median(self.losses)
      if loss > self.spike_factor * abs(median):
        self.spikes += 1
        if self.spikes > self.spike_patience:
          return (f"'loss' spiked to {loss:.4g}, over {self.spike_factor:g} times its median {median:.4g}, for "
                  f"{self.spikes} consecutive steps, the last of them step {step}")
        return None
    self.spikes = 0
    self.losses = [*self.losses, loss][-WINDOW:]
    return None

  def roll_back(self, reason: str, where: object) -> None:
    """Counts a rollback; raises Diverged when there were too many without progress."""
    self.attempts += 1
    if self.attempts > self.max_rollbacks:
      raise Diverged(where, f"{reason}, after {self.max_rollbacks} rollbacks",
                     "lower the learning rate, clip gradients (clip_norm) or check the data")

  def saved(self) -> None:
    """A checkpoint was made: the run has progressed."""
    self.attempts = 0

  def as_arrays(self) -> dict[str, np.ndarray]:
    """What a checkpoint keeps of the guard."""
    losses = np.zeros(WINDOW, np.float32)
    losses[:len(self.losses)] = self.losses
    return {"losses": losses,
            "counts": np.asarray([len(self.losses), self.skipped, self.spikes, self.total_skipped], np.int32)}

  def load(self, arrays: Mapping[str, np.ndarray]) -> None:
    num, self.skipped, self.spikes, self.total_skipped = (int(c) for c in arrays["counts"])
    self.losses = [float(v) for v in arrays["losses"][:num]]


def culprit(metrics: Mapping[str, float]) -> str:
  """The first scalar that is not finite, the most specific first; "parameters" where all scalars are finite.

  >>> culprit({"loss": math.nan, "field/eikonal": math.inf, "field/distance": 0.1})
  'field/eikonal'
  """
  bad = [name for name, value in metrics.items() if not math.isfinite(value) and name.split("/")[-1] not in NOT_ALWAYS]
  general = ("loss", "grad_norm")
  specific = [name for name in bad if name.split("/")[-1] not in general]
  return next(iter(specific + bad), "parameters")
