"""Partial restore: what fits is taken, tables of items are cut to size, the rest stays, and all of it is listed."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import AxisType, NamedSharding, PartitionSpec

from fields3d.core.errors import BadData, MissingInput
from fields3d.core.task import State
from fields3d.training import checkpoint, transfer
from fields3d.training.checkpoint import Checkpoints
from fields3d.training.transfer import restore_partial

PARAMS = {"field": {"kernel": jnp.arange(12.0).reshape(4, 3), "table": jnp.ones((2, 2, 8)), "old": jnp.ones(2),
                    "half": jnp.full((3,), 1.5, jnp.bfloat16), "count": jnp.arange(3)},
          "latent": {"codes": jnp.arange(10.0).reshape(5, 2)}}


def run_with(workdir, params, ema=None, step=7):
  state = State(jnp.int32(step), jax.random.key(0), params, ema or {}, {"field": {"mu": jnp.zeros(3)}}, {})
  with Checkpoints(workdir / "checkpoints") as checkpoints:
    checkpoints.save(step, {"state": state, "loop": {"data": np.zeros(2, np.int32)}})
  return workdir


def verdicts(rows):
  return {row.name: row.verdict for row in rows}


def test_each_leaf_is_taken_reshaped_or_left_by_the_stated_policy(tmp_path):
  fresh = {"field": {"kernel": -jnp.ones((4, 3)), "table": -jnp.ones((2, 2, 16)), "new": -jnp.ones(2),
                     "half": -jnp.ones(3), "count": -jnp.ones(3)},
           "latent": {"codes": -jnp.ones((7, 2))}}
  got, rows = restore_partial(run_with(tmp_path, PARAMS), fresh)
  assert verdicts(rows) == {
      "field/kernel": "taken", "field/half": "taken", "latent/codes": "reshaped", "field/table": "left",
      "field/new": "left", "field/count": "left", "field/old": "left"}
  np.testing.assert_array_equal(got["field"]["kernel"], PARAMS["field"]["kernel"])
  np.testing.assert_array_equal(got["field"]["half"], np.full(3, 1.5, np.float32))
  np.testing.assert_array_equal(got["latent"]["codes"][:5], PARAMS["latent"]["codes"])
  for name in ("table", "new", "count"):
    np.testing.assert_array_equal(got["field"][name], fresh["field"][name])
  np.testing.assert_array_equal(got["latent"]["codes"][5:], -1)
  assert jax.tree.map(lambda a: (a.shape, a.dtype), got) == jax.tree.map(lambda a: (a.shape, a.dtype), fresh)


def test_fewer_rows_take_the_leading_ones_and_wider_rows_are_left(tmp_path):
  run = run_with(tmp_path, PARAMS)
  fewer, _ = restore_partial(run, {"latent": {"codes": jnp.zeros((3, 2))}})
  np.testing.assert_array_equal(fewer["latent"]["codes"], PARAMS["latent"]["codes"][:3])
  _, rows = restore_partial(run, {"latent": {"codes": jnp.zeros((5, 4))}})
  assert verdicts(rows)["latent/codes"] == "left"


def test_the_rows_of_a_kernel_are_never_cut(tmp_path):
  _, rows = restore_partial(run_with(tmp_path, PARAMS), {"field": {"kernel": jnp.zeros((6, 3))}})
  assert rows[0] == ("field/kernel", "left", "shape (4, 3) there, (6, 3) here")


def test_the_average_is_taken_where_the_run_keeps_one(tmp_path):
  ema = {"field": jax.tree.map(lambda a: a + 1, PARAMS["field"])}
  got, _ = restore_partial(run_with(tmp_path, PARAMS, ema), PARAMS)
  np.testing.assert_array_equal(got["field"]["kernel"], PARAMS["field"]["kernel"] + 1)
  np.testing.assert_array_equal(got["latent"]["codes"], PARAMS["latent"]["codes"])


def test_the_placement_of_the_new_parameters_is_kept(tmp_path):
  device = jax.devices()[3]
  got, _ = restore_partial(run_with(tmp_path, PARAMS), jax.device_put(PARAMS, device))
  assert {leaf.device for leaf in jax.tree.leaves(got)} == {device}


def test_rows_are_put_into_a_table_that_is_cut_over_devices(tmp_path):
  mesh = jax.sharding.Mesh(np.asarray(jax.devices()), ("d",), axis_types=(AxisType.Auto,))
  cut = NamedSharding(mesh, PartitionSpec("d"))
  got, _ = restore_partial(run_with(tmp_path, PARAMS), {"latent": {"codes": jax.device_put(-jnp.ones((8, 2)), cut)}})
  assert got["latent"]["codes"].sharding == cut
  np.testing.assert_array_equal(got["latent"]["codes"], np.concatenate([np.arange(10.0).reshape(5, 2), -np.ones((3, 2))]))


def test_a_run_its_checkpoints_or_one_step_may_be_given_and_damage_is_passed_over(tmp_path):
  run_with(tmp_path, jax.tree.map(lambda a: a * 0, PARAMS), step=1)
  run = run_with(tmp_path, PARAMS, step=2)
  for path in (run, run / "checkpoints", run / "checkpoints" / "2"):
    assert restore_partial(path, PARAMS)[0]["field"]["kernel"].sum() == 66
  (run / "checkpoints" / "2" / "manifest.json").write_text("{}")
  warnings = []
  got, _ = restore_partial(run, PARAMS, warn=warnings.append)
  assert got["field"]["kernel"].sum() == 0 and "step 2 is damaged" in warnings[0]
  with pytest.raises(BadData, match="damaged"):
    restore_partial(run / "checkpoints" / "2", PARAMS)


def test_a_step_that_the_run_replaces_meanwhile_is_not_damaged(tmp_path, monkeypatch):
  run, original = run_with(tmp_path, PARAMS, step=1), transfer.verify

  def meanwhile(step_dir):
    if step_dir.name == "1":
      run_with(run, PARAMS, step=2)
      step_dir.rename(step_dir.with_name("1.stale"))
    return original(step_dir)

  monkeypatch.setattr(transfer, "verify", meanwhile)
  assert transfer.newest_step(run).name == "2"


def test_what_is_no_run_is_refused(tmp_path, monkeypatch):
  with pytest.raises(MissingInput):
    restore_partial(tmp_path / "none", PARAMS)
  with pytest.raises(BadData, match="no sound checkpoint"):
    restore_partial(tmp_path, PARAMS)
  (tmp_path / "weights.pkl").write_bytes(b"\x80\x04.")
  with pytest.raises(BadData, match="never opened"):
    restore_partial(tmp_path / "weights.pkl", PARAMS)
  monkeypatch.setattr(checkpoint, "first_nonfinite", lambda tree: None)
  bad = run_with(tmp_path / "bad", {"field": {"kernel": jnp.full((4, 3), jnp.nan)}})
  with pytest.raises(BadData, match="field/kernel holds 12 non-finite"):
    restore_partial(bad, PARAMS)
