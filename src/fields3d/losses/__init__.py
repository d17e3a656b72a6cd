"""Losses: pure functions of predictions and targets, each a mean over all points."""
