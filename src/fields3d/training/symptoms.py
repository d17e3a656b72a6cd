"""Failures of training that no single step shows: a generator that collapses, a critic that wins or is outrun, norms that explode.

Host arithmetic on the scalars of each log line, by the last part of their names; it warns and changes nothing.
"""

import collections
import dataclasses
import statistics
from collections.abc import Iterator, Mapping

PATIENCE = 3  # log lines in a row that show a symptom before it is told
LEAST_SPREAD, LEAST_COVERAGE, SATURATED, OUTRUN, EXPLODED = 0.2, 0.5, 0.98, 0.25, 100.0
_MEMORY = 64  # log lines whose norms are remembered


@dataclasses.dataclass
class Symptoms:
  """What has been seen so far. counts: log lines in a row by symptom. norms: gradients' norms by group."""
  counts: collections.Counter = dataclasses.field(default_factory=collections.Counter)
  norms: dict[str, collections.deque] = dataclasses.field(default_factory=dict)

  def watch(self, scalars: Mapping[str, float]) -> list[str]:
    """Takes the means of a log line; returns what is to be told now: each symptom once, until it has gone and come back.

    A scalar that the line does not have says nothing, and neither ends nor begins a symptom.

    >>> symptoms = Symptoms()
    >>> [len(symptoms.watch({"g/spread": 0.1})) for _ in range(4)]
    [0, 0, 1, 0]
    """
    told = []
    for symptom, present, text in [*_adversaries(scalars), *self._norms(scalars)]:
      self.counts[symptom] = self.counts[symptom] + 1 if present else 0
      if self.counts[symptom] == PATIENCE:
        told.append(text)
    return told

  def _norms(self, scalars: Mapping[str, float]) -> Iterator[tuple[str, bool, str]]:
    for name, value in scalars.items():
      if name.rpartition("/")[2] != "grad_norm":
        continue
      seen = self.norms.setdefault(name, collections.deque(maxlen=_MEMORY))
      usual = statistics.median(seen) or None if len(seen) >= 5 else None  # no norm is so many times 0
      if usual is None or value <= EXPLODED * usual:
        seen.append(value)  # what has exploded does not become usual
      yield name, usual is not None and value > EXPLODED * usual, (
          f"{name} {value:.3g}, over {EXPLODED:g} times its usual {usual or 0:.3g}: set clip_norm, or lower the learning rate")


def _adversaries(scalars: Mapping[str, float]) -> Iterator[tuple[str, bool, str]]:
  """Of each group that has the scalars, (symptom, whether it is present, the warning)."""
  for name, value in scalars.items():
    group, _, last = name.rpartition("/")
    beside = lambda other, group=group: scalars.get(f"{group}/{other}")
    if last == "spread":
      yield name, value < LEAST_SPREAD, (f"{name} {value:.2g}: what is generated is far less varied than the data: mode collapse? "
                                         "lower its learning rate, or use WGAN-GP with more critic_steps")
    if last == "coverage" and (real := beside("coverage_real")) is not None:
      yield name, value < LEAST_COVERAGE * real, (f"{name} {value:.2g}, of real data {real:.2g}: few data are near what is generated: "
                                                  "mode collapse? see the spread beside it")
    if last == "right_on_fake" and (real := beside("right_on_real")) is not None:
      yield name, min(value, real) > SATURATED, (f"{group} is right on {min(value, real):.0%} of all: it gives the generator little "
                                                 "to learn from: raise the penalty, or lower its learning rate")
      yield f"{name} outrun", value + real < 2 * OUTRUN, (f"{group} is right on {(value + real) / 2:.0%} of all, less than by chance: the "
                                                          "generator outruns it: lower its learning rate, or raise critic_steps")
