"""Signed distances of the four solids that benchmarks measure meshes by, each about the origin, of size near 1."""

import numpy as np


def sphere(p):
  return np.linalg.norm(p, axis=-1) - 0.6


def torus(p):
  return np.hypot(np.hypot(p[:, 0], p[:, 1]) - 0.5, p[:, 2]) - 0.2


def box(p):
  q = np.abs(p) - np.array([0.6, 0.4, 0.3])
  return np.linalg.norm(np.maximum(q, 0), axis=-1) + np.minimum(q.max(-1), 0)


def capsule(p):
  return np.linalg.norm(p - np.clip(p[:, 2:], -0.4, 0.4) * np.array([0, 0, 1.0]), axis=-1) - 0.25
