"""Checkpoints: what was saved comes back bit for bit, and nothing damaged ever does."""

import errno
import os
import pathlib
import shutil
import signal
import subprocess
import sys
import time

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from jax.sharding import AxisType, NamedSharding, SingleDeviceSharding
from jax.sharding import PartitionSpec as P

from fields3d.core.errors import BadData, CannotWrite, Diverged, IOFault, MissingInput
from fields3d.core.task import State
from fields3d.training import checkpoint, manifest
from fields3d.training.checkpoint import Checkpoints
from fields3d.training.leaves import is_key
from fields3d.training.manifest import steps, verify


def state_at(step):
  """A state with every kind of leaf that a run has; its numbers depend on the step."""
  params = {"field": {"kernel": jax.random.normal(jax.random.key(step), (7, 5)),
                      "half": jnp.full((3,), step, jnp.bfloat16), "bias": jnp.full((), step / 3)}}
  opt = optax.chain(optax.clip_by_global_norm(1.0), optax.adamw(1e-3)).init(params["field"])
  extra = {"occupied": jnp.arange(6) % 2 == 0, "count": jnp.full((2,), step, jnp.int32), "empty": {}}
  return State(jnp.int32(step), jax.random.key(step), params, {}, {"field": opt}, extra)


def tree_at(step):
  return {"state": state_at(step), "loop": {"data": np.asarray([step, 2**40 + step]), "share": np.float64(0.1)}}


def abstract_of(tree):
  return jax.tree.map(
      lambda a: jax.ShapeDtypeStruct(a.shape, a.dtype) if isinstance(a, jax.Array) else np.asarray(a), tree)


def assert_bit_equal(got, want):
  assert jax.tree.structure(got) == jax.tree.structure(want)
  for a, b in zip(jax.tree.leaves(got), jax.tree.leaves(want), strict=True):
    assert a.dtype == b.dtype and a.shape == np.shape(b)
    x, y = (np.asarray(jax.random.key_data(leaf) if is_key(leaf) else leaf) for leaf in (a, b))
    assert x.tobytes() == y.tobytes()


@pytest.fixture
def saved(tmp_path):
  """A directory with steps 1, 2 and 3."""
  with Checkpoints(tmp_path / "checkpoints") as checkpoints:
    for step in (1, 2, 3):
      checkpoints.save(step, tree_at(step))
  return tmp_path / "checkpoints"


def restore(directory, step=None, abstract=None):
  """(restored, warnings)."""
  warnings = []
  with Checkpoints(directory, warn=warnings.append) as checkpoints:
    return checkpoints.restore(abstract or abstract_of(tree_at(0)), step=step), warnings


def files_of(step_dir):
  return sorted(p for p in step_dir.rglob("*") if p.is_file())


def flip(path, bit):
  content = bytearray(path.read_bytes())
  content[bit // 8] ^= 1 << bit % 8
  path.write_bytes(content)


def test_every_kind_of_leaf_comes_back_bit_for_bit(saved):
  (step, tree), warnings = restore(saved)
  assert step == 3 and not warnings
  assert_bit_equal(tree, tree_at(3))
  assert jax.random.uniform(tree["state"].key) == jax.random.uniform(jax.random.key(3))


@pytest.mark.parametrize("impl", ["threefry2x32", "rbg"])
def test_typed_keys_keep_their_generator(tmp_path, impl):
  tree = {"state": {"key": jax.random.key(3, impl=impl), "many": jax.random.split(jax.random.key(4, impl=impl), 3)}}
  with Checkpoints(tmp_path) as checkpoints:
    checkpoints.save(1, tree)
    _, got = checkpoints.restore(abstract_of(tree))
  assert_bit_equal(got, tree)


def test_arrays_may_be_donated_or_overwritten_as_soon_as_save_returns(tmp_path):
  table, counts = jnp.arange(1 << 20, dtype=jnp.float32), np.arange(4)
  overwrite = jax.jit(lambda x: -jnp.ones_like(x) + 0 * x, donate_argnums=0)
  with Checkpoints(tmp_path) as checkpoints:
    checkpoints.save(1, {"state": table, "loop": counts})
    table = overwrite(table)
    counts[:] = -1
    _, got = checkpoints.restore({"state": jax.ShapeDtypeStruct((1 << 20,), jnp.float32), "loop": np.zeros(4, int)})
  np.testing.assert_array_equal(got["state"], np.arange(1 << 20, dtype=np.float32))
  np.testing.assert_array_equal(got["loop"], np.arange(4))


def test_an_empty_or_missing_directory_restores_nothing(tmp_path):
  assert restore(tmp_path / "none") == (None, [])
  assert steps(tmp_path / "none") == []


def test_a_step_can_be_asked_for_and_a_part_of_its_tree(saved):
  (step, tree), _ = restore(saved, step=2, abstract={"state": abstract_of(state_at(0))})
  assert step == 2
  assert_bit_equal(tree, {"state": state_at(2)})
  with pytest.raises(MissingInput, match="has no step 7; known: 1, 2, 3"):
    restore(saved, step=7)


def test_a_flipped_bit_in_any_file_is_found_and_the_step_before_is_used(saved):
  for path in files_of(saved / "3"):
    if path.stat().st_size:
      content = path.read_bytes()
      flip(path, 8 * (len(content) // 2) + 3)
      assert len(verify(saved / "3")) == 1, path
      (step, tree), warnings = restore(saved)
      assert step == 2 and len(warnings) == 1 and "step 3 is damaged" in warnings[0] and path.name in warnings[0]
      path.write_bytes(content)
  assert_bit_equal(tree, tree_at(2))
  assert verify(saved / "3") == []


def test_200_random_bit_flips_are_all_found(saved):
  rng = np.random.default_rng(0)
  paths = [p for p in files_of(saved / "3") if p.stat().st_size]
  for _ in range(200):
    path = paths[rng.integers(len(paths))]
    bit = int(rng.integers(8 * path.stat().st_size))
    flip(path, bit)
    assert verify(saved / "3"), (path, bit)
    flip(path, bit)
  assert verify(saved / "3") == []


def test_bits_all_over_the_manifest_matter(saved):
  path = saved / "3" / manifest.NAME
  content = path.read_bytes()
  for bit in range(0, 8 * len(content), 97):
    flip(path, bit)
    assert verify(saved / "3", contents=False), bit
    path.write_bytes(content)


@pytest.mark.parametrize("damage", ["truncate", "remove", "remove manifest", "rename step"])
def test_other_damage_is_found_too(saved, damage):
  largest = max(files_of(saved / "3" / "state"), key=lambda p: p.stat().st_size)
  if damage == "truncate":
    os.truncate(largest, largest.stat().st_size // 2)
  elif damage == "remove":
    largest.unlink()
  elif damage == "remove manifest":
    (saved / "3" / manifest.NAME).unlink()
  else:
    (saved / "3").rename(saved / "4")
  assert steps(saved) == [1, 2]
  (step, tree), warnings = restore(saved)
  assert step == 2 and len(warnings) == 1 and "damaged" in warnings[0]
  assert_bit_equal(tree, tree_at(2))


def test_with_no_sound_step_nothing_is_restored_silently(saved):
  for step in (1, 2, 3):
    flip(max(files_of(saved / str(step) / "state"), key=lambda p: p.stat().st_size), 100)
  with pytest.raises(BadData, match="none of its 3 checkpoints is sound"):
    restore(saved)
  with pytest.raises(BadData, match="damaged"):
    restore(saved, step=1)


def test_a_damaged_step_saved_again_is_kept_aside(saved):
  flip(files_of(saved / "3" / "state")[-1], 5)
  with Checkpoints(saved) as checkpoints:
    checkpoints.save(3, tree_at(3))
  assert (saved / "3.damaged").is_dir() and verify(saved / "3") == []
  assert not list(saved.glob("*.tmp")) and not list(saved.glob("*.stale"))


def test_a_sound_step_saved_again_is_replaced(saved):
  with Checkpoints(saved) as checkpoints:
    checkpoints.save(3, tree_at(5))
  assert_bit_equal(restore(saved)[0][1], tree_at(5))
  assert sorted(p.name for p in saved.iterdir()) == ["1", "2", "3"]


@pytest.mark.parametrize("when", ["verify", "load"])
def test_a_step_that_a_run_replaces_while_another_command_reads_it_is_not_damaged(tmp_path, monkeypatch, when):
  directory, due = tmp_path / "checkpoints", [2]
  with Checkpoints(directory, keep=1) as training:
    training.save(1, tree_at(1), blocking=True)
    original = getattr(checkpoint, when)

    def meanwhile(*arguments):
      for step in [due.pop()] if due else []:
        training.save(step, tree_at(step), blocking=True)
      return original(*arguments)

    monkeypatch.setattr(checkpoint, when, meanwhile)
    (step, tree), warnings = restore(directory)
    assert step == 2 and not warnings
    assert_bit_equal(tree, tree_at(2))
    due.append(3)
    with pytest.raises(MissingInput, match="has no step 2; known: 3"):
      restore(directory, step=2)


def test_leftovers_of_a_killed_save_are_ignored_then_removed(saved):
  (saved / "4.tmp" / "state.orbax-checkpoint-tmp").mkdir(parents=True)
  (saved / "0.stale").mkdir()
  found, warnings = restore(saved)
  assert found[0] == 3 and len(warnings) == 1 and "4.tmp" in warnings[0]
  with Checkpoints(saved) as checkpoints:
    checkpoints.save(4, tree_at(4))
  assert sorted(p.name for p in saved.iterdir()) == ["2", "3", "4"]


def test_nothing_is_committed_before_its_manifest_is_on_the_disk(tmp_path, monkeypatch):
  seen = []
  real = checkpoint.write_manifest

  def slow(step_dir, facts):
    seen.append((checkpoints.committed, steps(tmp_path), step_dir.name))
    real(step_dir, facts)

  monkeypatch.setattr(checkpoint, "write_manifest", slow)
  with Checkpoints(tmp_path) as checkpoints:
    checkpoints.save(1, tree_at(1))
    checkpoints.wait()
    assert checkpoints.committed == 1
  assert seen == [(None, [], "1.tmp")]


def test_pruning_keeps_the_newest_and_every_kth_and_counts_no_damaged_one(tmp_path):
  with Checkpoints(tmp_path, keep=2, keep_every=4) as checkpoints:
    for step in range(1, 8):
      checkpoints.save(step, {"w": jnp.full(3, step)})
    checkpoints.wait()
    assert steps(tmp_path) == [4, 6, 7]
    (tmp_path / "7" / manifest.NAME).unlink()
    checkpoints.save(9, {"w": jnp.ones(3)}, blocking=True)
  assert steps(tmp_path) == [4, 6, 9] and manifest.candidates(tmp_path) == [4, 6, 7, 9]


def test_a_step_whose_flipped_bit_was_found_displaces_no_sound_one(tmp_path):
  with Checkpoints(tmp_path, keep=1, warn=lambda line: None) as checkpoints:
    checkpoints.save(2, tree_at(2))
    checkpoints.save(4, tree_at(4), prune=False, blocking=True)
    flip(max(files_of(tmp_path / "4" / "state"), key=lambda p: p.stat().st_size), 100)
    assert checkpoints.restore(abstract_of(tree_at(0)))[0] == 2
    checkpoints.save(3, tree_at(3))
  assert steps(tmp_path) == [3, 4]
  assert_bit_equal(restore(tmp_path)[0][1], tree_at(3))


def test_a_step_is_given_up_for_a_sound_one_before_it_and_stays_where_there_is_none(saved):
  flip(files_of(saved / "2" / "state")[-1], 5)
  with Checkpoints(saved, warn=lambda line: None) as checkpoints:
    assert checkpoints.restore(abstract_of(tree_at(0)), before=3)[0] == 1
    assert steps(saved) == [1, 2] and checkpoints.restore(abstract_of(tree_at(0)), before=1) is None
    checkpoints.save(3, tree_at(4))
  assert_bit_equal(restore(saved)[0][1], tree_at(4))


def test_a_save_may_leave_the_old_steps(saved):
  with Checkpoints(saved, keep=1) as checkpoints:
    checkpoints.save(4, tree_at(4), prune=False, blocking=True)
    assert steps(saved) == [1, 2, 3, 4]
    checkpoints.save(5, tree_at(5))
  assert steps(saved) == [5]


@pytest.mark.parametrize("value", [np.nan, np.inf])
@pytest.mark.parametrize("dtype", [jnp.float32, jnp.bfloat16])
def test_a_nonfinite_leaf_is_never_saved(saved, value, dtype):
  tree = {"state": {"w": jnp.ones(4), "b": jnp.ones((2, 2), dtype).at[0, 1].set(value)}}
  with Checkpoints(saved) as checkpoints, pytest.raises(Diverged, match="state/b holds 1 non-finite"):
    checkpoints.save(4, tree)
  assert steps(saved) == [1, 2, 3] and not list(saved.glob("4*"))


def test_a_nonfinite_checkpoint_is_restored_only_on_request(tmp_path, monkeypatch):
  tree = {"state": {"w": jnp.asarray([1.0, jnp.nan])}}
  with Checkpoints(tmp_path) as checkpoints:
    with monkeypatch.context() as patch:
      patch.setattr(checkpoint, "first_nonfinite", lambda tree: None)
      checkpoints.save(1, tree, blocking=True)
    with pytest.raises(BadData, match=r"state/w holds 1 non-finite.*--allow-nonfinite"):
      checkpoints.restore(abstract_of(tree))
    assert_bit_equal(checkpoints.restore(abstract_of(tree), allow_nonfinite=True)[1], tree)


@pytest.mark.parametrize(("change", "message"), [
    (lambda p: {**p, "kernel": jnp.ones((7, 6))}, r"kernel is float32\[7, 5\], the config makes float32\[7, 6\]"),
    (lambda p: {**p, "half": jnp.ones(3)}, r"half is bfloat16\[3\], the config makes float32\[3\]"),
    (lambda p: {**p, "more": jnp.ones(3)}, "has no state/params/field/more"),
    (lambda p: {"kernel": p["kernel"], "half": p["half"]}, "holds state/params/field/bias, which .* not"),
])
def test_another_tree_is_refused_naming_the_leaf(saved, change, message):
  tree = tree_at(3)
  tree["state"].params["field"] = change(tree["state"].params["field"])
  with pytest.raises(BadData, match=message):
    restore(saved, abstract=abstract_of(tree))


def test_a_sharded_save_restores_on_another_topology(tmp_path):
  devices = jax.devices()
  four = jax.sharding.Mesh(np.asarray(devices), ("d",), axis_types=(AxisType.Auto,))
  pair = jax.sharding.Mesh(np.asarray(devices[:2]), ("d",), axis_types=(AxisType.Auto,))
  value = jnp.arange(64.0).reshape(8, 8)
  tree = {"state": {"rows": jax.device_put(value, NamedSharding(four, P("d"))),
                    "same": jax.device_put(value, NamedSharding(four, P())),
                    "key": jax.device_put(jax.random.key(1), NamedSharding(four, P()))}}
  with Checkpoints(tmp_path) as checkpoints:
    checkpoints.save(1, tree)
    for place in (SingleDeviceSharding(devices[2]), NamedSharding(pair, P(None, "d")), NamedSharding(four, P())):
      keys = place if place.num_devices != 2 else NamedSharding(pair, P())
      abstract = {"state": {name: jax.ShapeDtypeStruct(a.shape, a.dtype, sharding=keys if name == "key" else place)
                            for name, a in tree["state"].items()}}
      _, got = checkpoints.restore(abstract)
      assert got["state"]["rows"].sharding.is_equivalent_to(place, 2)
      assert_bit_equal(got, tree)


def test_a_nan_in_a_shard_of_a_later_device_is_seen(tmp_path):
  mesh = jax.sharding.Mesh(np.asarray(jax.devices()), ("d",), axis_types=(AxisType.Auto,))
  rows = jax.device_put(jnp.ones((8, 2)).at[7, 1].set(jnp.nan), NamedSharding(mesh, P("d")))
  with Checkpoints(tmp_path) as checkpoints, pytest.raises(Diverged, match="w holds 1"):
    checkpoints.save(1, {"w": rows})


def test_a_pickle_is_never_opened(tmp_path):
  path = tmp_path / "model.pth"
  path.write_bytes(b"\x80\x04cposix\nsystem\n")
  with pytest.raises(BadData, match=r"pickled weights can run code.*give a run directory"):
    restore(path)


@pytest.mark.parametrize(("number", "fault"), [(errno.ENOSPC, IOFault), (errno.EACCES, CannotWrite),
                                               (errno.EROFS, CannotWrite), (errno.EIO, IOFault)])
def test_a_failed_write_is_one_fault_at_the_next_call_and_leaves_the_last_step(saved, monkeypatch, number, fault):
  def refuse(step_dir, facts):
    raise OSError(number, os.strerror(number), str(step_dir))

  with Checkpoints(saved) as checkpoints:
    with monkeypatch.context() as patch:
      patch.setattr(checkpoint, "write_manifest", refuse)
      checkpoints.save(4, tree_at(4))
      with pytest.raises(fault, match="4: "):
        checkpoints.save(5, tree_at(5))
    assert checkpoints.committed is None and steps(saved) == [1, 2, 3] and not list(saved.glob("*.tmp"))
    checkpoints.save(5, tree_at(5))
  assert steps(saved) == [2, 3, 5]


@pytest.mark.parametrize("refused", [False, True])
def test_an_error_that_leaves_waits_for_the_save_but_not_for_other_processes(tmp_path, monkeypatch, refused):
  def refuse(step_dir, facts):
    raise OSError(errno.EIO, os.strerror(errno.EIO), str(step_dir))

  warnings = []
  with pytest.raises(ZeroDivisionError), Checkpoints(tmp_path, warn=warnings.append) as checkpoints:
    if refused:
      monkeypatch.setattr(checkpoint, "write_manifest", refuse)
    checkpoints.save(1, tree_at(1))
    monkeypatch.setattr(checkpoint, "_together", lambda fault: pytest.fail("asked the others"))
    raise ZeroDivisionError
  assert steps(tmp_path) == ([] if refused else [1]) and len(warnings) == refused
  assert all("the step is not saved" in line for line in warnings)


def test_a_directory_that_cannot_be_made_is_exit_73(tmp_path):
  (tmp_path / "file").write_text("")
  with Checkpoints(tmp_path / "file" / "checkpoints") as checkpoints, pytest.raises(CannotWrite) as caught:
    checkpoints.save(1, tree_at(1))
  assert caught.value.exit_code == 73


def test_a_full_disk_is_exit_74_and_the_last_step_intact(tmp_path):
  disk = tmp_path / "disk"
  disk.mkdir()
  if os.geteuid() != 0 or subprocess.run(["mount", "-t", "tmpfs", "-o", "size=1m", "tmpfs", disk], check=False,
                                         capture_output=True).returncode:
    pytest.skip("a small tmpfs cannot be mounted here")
  noise = jax.random.normal(jax.random.key(0), (1000, 1000))
  try:
    with Checkpoints(disk / "checkpoints") as checkpoints:
      checkpoints.save(1, tree_at(1), blocking=True)
      checkpoints.save(2, {"state": noise})
      with pytest.raises(IOFault, match="no space left") as caught:
        checkpoints.wait()
      assert caught.value.exit_code == 74 and checkpoints.committed == 1
      assert_bit_equal(checkpoints.restore(abstract_of(tree_at(0)))[1], tree_at(1))
      assert manifest.candidates(checkpoints.directory) == [1]
  finally:
    subprocess.run(["umount", disk], check=True)


CHILD = """
import sys, jax.numpy as jnp
from fields3d.training.checkpoint import Checkpoints
with Checkpoints(sys.argv[1], keep=2) as checkpoints:
  found = checkpoints.restore({"w": jnp.zeros((64, 1024))})
  step = found[0] if found else 0
  assert not found or bool((found[1]["w"] == step).all())
  print("ready", step, flush=True)
  while True:
    step += 1
    checkpoints.save(step, {"w": jnp.full((64, 1024), float(step))})
    print("committed", checkpoints.committed, flush=True)
"""


def kill_while_saving(directory, rounds):
  rng = np.random.default_rng(1)
  for _ in range(rounds):
    child = subprocess.Popen([sys.executable, "-c", CHILD, directory], stdout=subprocess.PIPE, text=True)
    assert child.stdout.readline().startswith("ready")
    time.sleep(float(rng.uniform(0.02, 0.6)))
    child.send_signal(signal.SIGKILL)
    claimed = [line.split()[1] for line in child.communicate(timeout=60)[0].splitlines()]
    claimed = max((int(c) for c in claimed if c.isdigit()), default=0)
    found, _ = restore(pathlib.Path(directory), abstract={"w": np.zeros((64, 1024), np.float32)})
    step = found[0] if found else 0
    assert step >= claimed
    assert step == 0 or bool((found[1]["w"] == step).all())
    assert verify(pathlib.Path(directory) / str(step)) == [] or step == 0


def test_kill_9_while_saving_leaves_the_newest_committed_step(tmp_path):
  kill_while_saving(str(tmp_path), 2)


@pytest.mark.slow
def test_kill_9_at_20_moments_while_saving_leaves_the_newest_committed_step(tmp_path):
  kill_while_saving(str(tmp_path), 20)


def test_a_copied_checkpoint_is_still_sound(saved, tmp_path):
  shutil.copytree(saved, tmp_path / "copy")
  assert restore(tmp_path / "copy")[0][0] == 3
