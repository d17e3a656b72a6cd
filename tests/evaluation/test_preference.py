"""Preferences against other libraries' maxima, known strengths, coverage; graphs without an answer are refused."""

import numpy as np
import pytest
import scipy.optimize
import scipy.stats

from fields3d.core.errors import BadData
from fields3d.evaluation.preference import Choice, analyse, bradley_terry, check_connected, strongly_connected
from fields3d.metrics.statistics import wilson_interval

STRENGTHS = np.array([0.9, 0.2, -0.3, -0.8])


def draw(num, rng, strengths=STRENGTHS, ties=0.0, raters=1):
  """Choices between random pairs of runs of known strengths."""
  out = []
  for c in range(num):
    i, j = rng.choice(len(strengths), 2, replace=False)
    score = float(rng.random() < 1 / (1 + np.exp(strengths[j] - strengths[i])))
    out.append(Choice(int(i), int(j), 0.5 if rng.random() < ties else score, 1 + c % raters))
  return out


def test_the_strengths_are_the_maximum_that_scipy_finds():
  rng = np.random.default_rng(0)
  wins = rng.integers(0, 9, (5, 5)) / 2.0
  wins[rng.random((5, 5)) < 0.3] = 0
  np.fill_diagonal(wins, 0)
  wins += np.roll(np.eye(5), 1, axis=1)  # a ring: strongly connected

  def loss(s):
    return sum(wins[i, j] * np.logaddexp(0, s[j] - s[i]) for i in range(5) for j in range(5)) + s.sum() ** 2

  theirs = scipy.optimize.minimize(loss, np.zeros(5), method="BFGS", options={"gtol": 1e-9}).x
  ours = bradley_terry(wins)
  assert ours == pytest.approx(theirs, abs=1e-5) and abs(ours.sum()) < 1e-12  # BFGS's own precision
  assert loss(ours) <= loss(theirs) + 1e-12


def test_a_batch_is_its_members_and_nearly_one_sided_counts_converge():
  wins = np.array([[[0, 3, 1], [1, 0, 2], [4, 1, 0]], [[0, 1e6, 1], [1, 0, 1e6], [1, 1, 0]]], np.float64)
  both = bradley_terry(wins)
  for own, table in zip(both, wins, strict=True):
    assert own == pytest.approx(bradley_terry(table), abs=1e-9)
    p = 1 / (1 + np.exp(own[None] - own[:, None]))
    assert np.abs((table - (table + table.T) * p).sum(1)).max() < 1e-9 * table.sum()  # the score equations


def test_known_strengths_are_recovered_within_their_intervals():
  hits, widths = 0, []
  for seed in range(12):
    found = analyse(draw(400, np.random.default_rng(seed)), "abcd", seed=seed)
    true = dict(zip("abcd", STRENGTHS - STRENGTHS.mean(), strict=True))
    hits += sum(s.choices[0] < true[s.run] < s.choices[1] for s in found.strengths)
    widths += [s.choices[1] - s.choices[0] for s in found.strengths]
  assert hits >= 48 - 2.4 - 4 * 2.5  # 48 intervals of 95%; members of a set depend on one another
  assert np.mean(widths) < 0.8


def test_strengths_are_sorted_and_ties_pull_them_together():
  rng = np.random.default_rng(1)
  plain, tied = analyse(draw(600, rng), "abcd"), analyse(draw(600, rng, ties=0.6), "abcd")
  assert [s.run for s in plain.strengths] == list("abcd")
  assert plain.strengths[0].strength > tied.strengths[0].strength > 0
  assert sum(share.ties for share in plain.shares) == 0 and sum(share.ties for share in tied.shares) > 300


def test_two_runs_give_a_share_with_wilsons_interval_and_ties_as_half():
  choices = [Choice(0, 1, 1.0)] * 6 + [Choice(1, 0, 1.0)] * 2 + [Choice(0, 1, 0.5)] * 2
  found = analyse(choices, ["ours", "theirs"])
  share = found.shares[0]
  assert (share.first, share.n, share.ties, share.share, found.strengths) == ("ours", 10, 2, 0.7, ())
  assert (share.low, share.high) == wilson_interval(7.0, 10) and share.raters is None


def test_raters_who_disagree_widen_the_interval_over_raters():
  choices = [Choice(0, 1, float(rater % 2), rater) for rater in range(1, 9) for _ in range(40)]
  share = analyse(choices, "ab").shares[0]
  assert share.share == 0.5 and share.raters[1] - share.raters[0] > 4 * (share.high - share.low)


def test_graphs_without_an_answer_are_refused_by_name():
  wins = np.zeros((4, 4))
  wins[0, 1] = wins[1, 0] = wins[2, 3] = wins[3, 2] = 2
  with pytest.raises(BadData, match="no comparison links a, b with c, d"):
    check_connected(wins, "abcd")
  wins[0, 2] = 1
  with pytest.raises(BadData, match="a, b always won against c, d"):
    check_connected(wins, "abcd")
  assert not strongly_connected(wins[None])[0]
  wins[3, 1] = 0.5
  check_connected(wins, "abcd")
  assert strongly_connected(wins[None])[0]
  with pytest.raises(BadData, match="holds no choices"):
    analyse([], "ab")


def test_strengths_that_few_choices_cannot_bound_have_no_interval():
  choices = [Choice(0, 1, 1.0), Choice(1, 2, 1.0), Choice(2, 0, 1.0)]
  found = analyse(choices, "abc")
  assert found.unbounded[0] > 0.5 and all(s.choices is None and abs(s.strength) < 1e-9 for s in found.strengths)
