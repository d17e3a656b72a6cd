"""What people prefer: shares with Wilson's interval, and strengths by Bradley and Terry with bootstrap intervals.

A tie counts half for either side. Strengths are log-odds, with mean 0 over the runs: a run of strength a is chosen over
one of strength b with probability 1 / (1 + exp(b - a)).
"""

import dataclasses
import math
from collections.abc import Sequence
from typing import Any

import numpy as np
from scipy.special import expit

from fields3d.core.errors import BadData
from fields3d.metrics.statistics import Interval, percentile_interval, wilson_interval

RESAMPLES = 2000
MOST_UNBOUNDED = 0.025  # Of resamples; with more there is no 95% interval.


@dataclasses.dataclass(frozen=True)
class Choice:
  """One comparison of runs first and second (indices): score 1 where the first was chosen, 0.5 for a tie, else 0."""
  first: int
  second: int
  score: float
  rater: int = 1


@dataclasses.dataclass(frozen=True)
class Share:
  """How often `first` was chosen over `second` in n comparisons, with intervals over choices (Wilson) and over raters."""
  first: str
  second: str
  n: int
  ties: int
  share: float
  low: float
  high: float
  raters: Interval | None


@dataclasses.dataclass(frozen=True)
class Strength:
  """A run's strength with intervals over choices and over raters (None where the bootstrap cannot bound it)."""
  run: str
  n: int
  strength: float
  choices: Interval | None
  raters: Interval | None


@dataclasses.dataclass(frozen=True)
class Preference:
  """All that choices say. strengths: by falling strength; none for two runs, whose share says it all.

  unbounded: the share of resamples (over choices, over raters) that leave a strength without bound; they are left out.
  """
  num_choices: int
  num_raters: int
  shares: tuple[Share, ...]
  strengths: tuple[Strength, ...]
  unbounded: tuple[float, float]

  def to_json(self) -> dict[str, Any]:
    """As plain values."""
    return dataclasses.asdict(self)


def strongly_connected(wins: np.ndarray) -> np.ndarray:
  """Whether every run has beaten every other, directly or through others: (b, k, k) -> (b,) bool.

  Exactly then the strengths' maximum likelihood estimate exists (Ford 1957).
  """
  k = wins.shape[-1]
  reach = (wins > 0) | np.eye(k, dtype=bool)
  for _ in range(max(1, math.ceil(math.log2(k)))):
    reach = reach.astype(np.float32) @ reach.astype(np.float32) > 0
  return reach.all((-2, -1))


def check_connected(wins: np.ndarray, labels: Sequence[str], where: object = "choices") -> None:
  """Refuses wins (k, k) from which no strengths follow.

  Raises:
    BadData: runs that were never compared with the others, or always or never chosen over them, by name.
  """
  met = (wins + wins.T > 0) | np.eye(len(wins), dtype=bool)
  beaten = (wins > 0) | np.eye(len(wins), dtype=bool)
  for _ in labels:
    met, beaten = met @ met, beaten @ beaten
  names = lambda which: ", ".join(label for label, one in zip(labels, which) if one)
  if not met.all():
    raise BadData(where, f"no comparison links {names(met[0])} with {names(~met[0])}", "collect choices between them")
  for own in beaten:
    if not own.all():  # Nobody of those whom this run beats, directly or not, ever beat one of the rest.
      raise BadData(where, f"{names(~own)} always won against {names(own)}: no finite strengths follow",
                    "collect more choices, or read the shares of each pair")


def bradley_terry(wins: np.ndarray) -> np.ndarray:
  """The maximum likelihood strengths of the Bradley-Terry model, by Newton's method with step halving.

  Args:
    wins: (..., k, k), how often run i was chosen over run j; halves for ties. Strongly connected.

  Returns:
    (..., k) log-odds, of mean 0.

  Source: Bradley & Terry 1952; Hunter 2004, "MM algorithms for generalized Bradley-Terry models", equation 1.

  >>> np.round(bradley_terry(np.array([[0.0, 3.0], [1.0, 0.0]])), 4)  # log 3 apart
  array([ 0.5493, -0.5493])
  """
  wins = np.asarray(wins, np.float64)
  k = wins.shape[-1]
  games, total = wins + np.swapaxes(wins, -1, -2), wins.sum((-2, -1))
  strength, gauge = np.zeros(wins.shape[:-1]), np.full((k, k), 1.0 / k)

  def likelihood(s):
    return -np.sum(wins * np.logaddexp(0, s[..., None, :] - s[..., :, None]), axis=(-2, -1))

  value = likelihood(strength)
  for _ in range(200):
    p = expit(strength[..., :, None] - strength[..., None, :])
    gradient = np.sum(wins - games * p, axis=-1)
    if np.all(np.abs(gradient).max(-1) <= 1e-10 * total):
      break
    weight = games * p * (1 - p)
    curvature = np.eye(k) * weight.sum(-1)[..., None] - weight + gauge * weight.sum((-2, -1))[..., None, None]
    step, size = np.linalg.solve(curvature, gradient[..., None])[..., 0], np.ones(total.shape)
    for _ in range(40):
      trial = strength + size[..., None] * step
      worse = likelihood(trial) < value - 1e-10 * total  # above rounding
      if not worse.any():
        break
      size = np.where(worse, size / 2, size)
    strength = trial - trial.mean(-1, keepdims=True)
    value = likelihood(strength)
  return strength


def analyse(choices: Sequence[Choice], labels: Sequence[str], seed: int = 0, where: object = "choices") -> Preference:
  """Shares of every pair that was compared and, for more than two runs, strengths.

  The bootstrap resamples choices, which takes them as independent; where there are several raters, it also resamples
  raters with all their choices, which is the interval to read when raters differ (too narrow for under about ten).

  Args:
    choices: at least one. labels: of the runs. seed: of the resampling. where: the choices' file, for messages.

  Raises:
    BadData: no choices, or for more than two runs none from which strengths follow.
  """
  if not choices:
    raise BadData(where, "holds no choices", "collect some first")
  k, rng = len(labels), np.random.default_rng(seed)
  raters = sorted({choice.rater for choice in choices})
  table = np.zeros((len(raters), k, k))
  for choice in choices:
    r = raters.index(choice.rater)
    table[r, choice.first, choice.second] += choice.score
    table[r, choice.second, choice.first] += 1 - choice.score
  wins = table.sum(0)
  by_rater = None
  if len(raters) > 1:
    drawn = rng.multinomial(len(raters), np.full(len(raters), 1 / len(raters)), size=RESAMPLES)
    by_rater = np.einsum("br,rij->bij", drawn.astype(np.float64), table)
  shares = tuple(_share(choices, wins, by_rater, i, j, labels) for i in range(k) for j in range(i + 1, k)
                 if wins[i, j] + wins[j, i] > 0)
  strengths, unbounded = _strengths(choices, wins, by_rater, labels, rng, where) if k > 2 else ((), (0.0, 0.0))
  return Preference(len(choices), len(raters), shares, strengths, unbounded)


def _share(choices: Sequence[Choice], wins: np.ndarray, by_rater: np.ndarray | None, i: int, j: int,
           labels: Sequence[str]) -> Share:
  n = round(wins[i, j] + wins[j, i])
  ties = sum(choice.score == 0.5 and {choice.first, choice.second} == {i, j} for choice in choices)
  interval = None
  if by_rater is not None:
    games = by_rater[:, i, j] + by_rater[:, j, i]
    interval = percentile_interval(by_rater[games > 0, i, j] / games[games > 0])
  return Share(labels[i], labels[j], n, ties, wins[i, j] / n, *wilson_interval(wins[i, j], n), interval)


def _strengths(choices: Sequence[Choice], wins: np.ndarray, by_rater: np.ndarray | None, labels: Sequence[str],
               rng: np.random.Generator, where: object) -> tuple[tuple[Strength, ...], tuple[float, float]]:
  check_connected(wins, labels, where)
  kinds: dict[tuple, int] = {}
  for choice in choices:
    outcome = (choice.first, choice.second, choice.score)
    kinds[outcome] = kinds.get(outcome, 0) + 1
  effect = np.zeros((len(kinds), *wins.shape))
  for t, (i, j, score) in enumerate(kinds):
    effect[t, i, j], effect[t, j, i] = score, 1 - score
  drawn = rng.multinomial(len(choices), np.array(list(kinds.values())) / len(choices), size=RESAMPLES)
  over_choices, lost = _intervals(np.einsum("bt,tij->bij", drawn.astype(np.float64), effect))
  over_raters, lost_raters = ([None] * len(labels), 0.0) if by_rater is None else _intervals(by_rater)
  own, games = bradley_terry(wins), (wins + wins.T).sum(1)
  found = [Strength(label, round(games[i]), float(own[i]), over_choices[i], over_raters[i])
           for i, label in enumerate(labels)]
  return tuple(sorted(found, key=lambda s: -s.strength)), (lost, lost_raters)


def _intervals(wins: np.ndarray) -> tuple[list[Interval | None], float]:
  """Intervals of each run's strength over resamples (b, k, k), and the share of these without finite strengths."""
  sound = strongly_connected(wins)
  lost = float(np.mean(~sound))
  if lost > MOST_UNBOUNDED:
    return [None] * wins.shape[-1], lost
  strengths = bradley_terry(wins[sound])
  return [percentile_interval(strengths[:, i]) for i in range(wins.shape[-1])], lost
