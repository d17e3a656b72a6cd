"""Toy tasks with known optima, for the contract: a regression, an adversarial pair, a frozen group, a refresh."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np

from fields3d.core.task import Task
from fields3d.core.types import Dataset


def regression(noise: float = 0.0) -> Task:
  """One group; the least-squares optimum of y = 3 x - 1 under N(0, noise) label noise."""
  def init(key):
    return {"model": {"w": jax.random.normal(key), "b": jnp.zeros(())}}, {}

  def loss(params, extra, batch, key, step):
    y = batch["y"] + noise * jax.random.normal(key, batch["y"].shape)
    error = params["model"]["w"] * batch["x"] + params["model"]["b"] - y
    value = jnp.mean(error ** 2)
    return value, {"mse": value}

  return Task(init, {"model": loss}, {"line": lambda params, extra, x: params["model"]["w"] * x + params["model"]["b"]})


def adversarial() -> Task:
  """Two groups with opposed losses: discriminator d ascends and generator g descends d * (g - 2) - d^2 / 2.

  The saddle is d = 0, g = 2; alternating gradient steps reach it.
  """
  def init(key):
    return {"generator": {"g": jnp.zeros(())}, "discriminator": {"d": jnp.ones(())}}, {}

  def value(params):
    d, g = params["discriminator"]["d"], params["generator"]["g"]
    return d * (g - 2.0) - 0.5 * d ** 2

  losses = {"discriminator": lambda params, extra, batch, key, step: (-value(params), {}),
            "generator": lambda params, extra, batch, key, step: (value(params), {})}
  return Task(init, losses, {"sample": lambda params, extra, key, num: jnp.full((num, 1), params["generator"]["g"])})


def frozen_and_refreshed() -> Task:
  """A frozen teacher, a student that copies it, and an extra that counts batches and sums them."""
  def init(key):
    params = {"teacher": {"w": jnp.full((2,), 5.0)}, "student": {"w": jnp.zeros((2,))}}
    return params, {"seen": jnp.zeros((), jnp.int32), "sum": jnp.zeros(())}

  def loss(params, extra, batch, key, step):
    return jnp.sum((params["student"]["w"] - params["teacher"]["w"]) ** 2), {}

  def refresh(params, extra, batch, key, step):
    return {"seen": extra["seen"] + 1, "sum": extra["sum"] + jnp.sum(batch["x"])}

  return Task(init, {"student": loss}, {}, refresh)


def tables() -> Task:
  """One group with a table (2, 2, 8) that the sharding rules cut, read by the rows that x falls on."""
  def init(key):
    return {"model": {"table": jax.random.normal(key, (2, 2, 8)), "w": jnp.ones(())}}, {}

  def loss(params, extra, batch, key, step):
    rows = (jnp.abs(batch["x"][:, 0]) * 7).astype(jnp.int32)
    read = params["model"]["table"][:, :, rows].sum((0, 1)) * params["model"]["w"]
    return jnp.mean((read - batch["y"][:, 0]) ** 2), {}

  return Task(init, {"model": loss})


def line_data(rows: int = 8, poison: tuple[int, ...] = ()) -> Dataset:
  """Points of y = 3 x - 1; batches at the positions in `poison` hold a NaN."""
  def batch(position, shard=0, num_shards=1):
    rng = np.random.default_rng(position)
    x = rng.uniform(-1, 1, (rows, 1)).astype(np.float32)
    own = slice(shard * rows // num_shards, (shard + 1) * rows // num_shards)
    y = 3 * x - 1
    if position in poison:
      y = y * np.float32(np.nan)
    return {"x": x[own], "y": y[own]}

  return Dataset({}, batch, lambda split: [])


def compiled(functions):
  """The same record of functions (a field, an encoding), each compiled whole: one by one, operations take many compilations."""
  made = {f.name: getattr(functions, f.name) for f in dataclasses.fields(functions)}
  return dataclasses.replace(functions, **{name: jax.jit(part) for name, part in made.items() if callable(part)})
