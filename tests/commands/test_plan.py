"""`fields3d plan`: batches without data, collectives from a program's text, rooflines by hand, and the command."""

import importlib.util
import json
import math
import os
import pathlib

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import AxisType, NamedSharding
from jax.sharding import PartitionSpec as P

from fields3d.commands import chips, main, plan, plan_batch, plan_hlo, plan_program
from fields3d.core.config import build
from fields3d.core.errors import UsageFault
from fields3d.data import DATASETS

CONFIG = """
from ml_collections import ConfigDict
def get_config(arg=None):
  config = ConfigDict(dict(num_steps=2, train=dict(log_every=1)))
  config.data = dict(name="deepsdf", path="nowhere", train="nowhere.json", rows=8, points=16)
  config.task = dict(name="fit_sdf", clamp=0.1, block=16, field=dict(
      name="deepsdf", width=8, depth=2, skip=1, code_dim=4, dropout=0.0, weight_norm=False))
  config.optim = dict(field=dict(name="adam", learning_rate=1e-3))
  return config
"""
TEXT = """HloModule jit_step, num_partitions=8

%sum (a: f32[], b: f32[]) -> f32[] {
  ROOT %add = f32[] add(%a, %b)
}

%body (p: (s32[], f32[4])) -> (s32[], f32[4]) {
  %r = f32[4]{0} all-reduce(%x), channel_id=2, replica_groups={{0,1},{2,3},{4,5},{6,7}}, to_apply=%sum
}

%all-reduce-scatter.1 (p: f32[64]) -> f32[16] {
  %r = f32[64]{0} all-reduce(%p), channel_id=9, replica_groups=[2,4]<=[4,2]T(1,0), to_apply=%sum
}

%below.3 (p: (s32[], f32[4])) -> pred[] {
  %n = s32[]{:T(128)} constant(6)
  ROOT %lt = pred[] compare(%i, %n), direction=LT
}

%body.2 (p: (s32[], f32[4])) -> (s32[], f32[4]) {
  %r = f32[7]{0} all-to-all(%x), channel_id=12, replica_groups=mesh['a'=4,'b'=2] {'b'}, dimensions={0}
}

ENTRY %main (p0: f32[8]) -> f32[8] {
  %w = (s32[], f32[4]) while(%t), condition=%c, body=%body, backend_config={"known_trip_count":{"n":"10"}}
  %w2 = (s32[], f32[4]) while(%t), condition=%below.3, body=%body.2
  %g = (f32[2,3]{1,0}, f32[8,3]{1,0}) all-gather-start(%q), channel_id=3, replica_groups=[2,4]<=[4,2]T(1,0), metadata={op_name="j/gather"}
  %h = f32[8,3]{1,0} all-gather-done(%g)
  %f = f32[16]{0} fusion(%h), kind=kCustom, calls=%all-reduce-scatter.1
  %t2 = (bf16[5]{0:T(256)}, s32[], /*index=2*/f32[1,2]{1,0}) all-reduce(%a, %b, %c), channel_id=4, replica_groups=[1,8]<=[8], to_apply=%sum
  %k1 = f32[32]{0} all-gather(%q), channel_id=20, replica_groups=[4,2]<=[8], dimensions={0}, frontend_attributes={chain_id="0"}
  %k2 = f32[32]{0} all-gather(%q), channel_id=20, replica_groups=[4,2]<=[8], dimensions={0}, frontend_attributes={chain_id="0"}
  ROOT %p = f32[6]{0} collective-permute(%a), channel_id=5, source_target_pairs={{0,1},{1,0}}
}
"""


def test_every_collective_of_a_text_has_its_bytes_times_and_axis():
  every = plan_hlo.read_collectives(TEXT, {"data": 4, "model": 2})
  found = {(c.kind, c.group): c for c in every}
  assert len(every) == len(found) == 7
  got = {key: (c.size, c.times, c.axis) for key, c in found.items()}
  assert got == {("all-reduce", 2): (16, 10, "model"), ("all-gather", 4): (96, 1, "data"),
                 ("all-gather", 2): (128, 1, "model"), ("reduce-scatter", 4): (64, 1, "data"),
                 ("all-reduce", 8): (22, 1, "data+model"), ("all-to-all", 2): (28, 6, "model"),
                 ("collective-permute", 2): (24, 1, "model")}
  assert found["all-gather", 4].name == "j/gather"


def test_a_compiled_sum_over_one_axis_in_a_loop_is_found_as_often_as_it_runs():
  mesh = jax.make_mesh((2, 2), ("data", "model"), axis_types=(AxisType.Auto,) * 2)

  def inner(x):
    return jax.lax.scan(lambda c, _: (jnp.sin(jax.lax.psum(c, "data")) / 2, None), x, None, length=7)[0]

  spread = jax.shard_map(inner, mesh=mesh, in_specs=P(None, "model"), out_specs=P(None, "model"), check_vma=False)
  given = jax.ShapeDtypeStruct((3, 10), jnp.float32, sharding=NamedSharding(mesh, P(None, "model")))
  text = jax.jit(spread).lower(given).compile().as_text()
  found = plan_hlo.read_collectives(text, dict(mesh.shape))
  assert [(c.kind, c.size, c.group, c.axis) for c in found] == [("all-reduce", 3 * 5 * 4, 2, "data")] * len(found)
  assert sum(c.times for c in found) == 7


def test_the_bytes_moved_are_those_of_the_products_gathers_and_scatters():
  def program(table, index, w):
    picked = table[index]
    out = jax.lax.scan(lambda c, _: (jnp.tanh(c @ w), None), picked, None, length=5)[0]
    return table.at[index].add(out)

  n, d = 6, 4
  jaxpr = jax.make_jaxpr(program)(np.zeros((100, d), np.float32), np.zeros(n, np.int32), np.zeros((d, d), np.float32)).jaxpr
  row, granule = d * 4, 64
  want = (n * granule + n * row) + 5 * (n * row + d * row + n * row) + (2 * n * granule + n * row)
  assert plan_program.count_moved(jaxpr, granule) == want


@pytest.mark.parametrize(("kind", "sent"), [("all-reduce", 2 * 7 / 8), ("all-gather", 7 / 8), ("reduce-scatter", 7), ("all-to-all", 7 / 8)])
def test_a_collective_takes_what_a_chip_must_send_over_its_links(kind, sent):
  chip = chips.CHIPS["h100"]
  size = 1e9
  assert chips.collective_seconds(kind, size, 8, chip) == pytest.approx(sent * size / chip.link_bandwidth, rel=0.01)
  assert chips.collective_seconds(kind, size, 1, chip) == 0


def test_the_pods_published_all_reduce_rate_is_the_tables():
  # 51.2 TB/s a pod of 256 v5e and 1.1 PB/s of 4,096 v4, by docs.cloud.google.com/tpu/docs
  assert chips.CHIPS["v5e"].link_bandwidth * 256 == pytest.approx(51.2e12)
  assert chips.CHIPS["v4"].link_bandwidth * 4096 == pytest.approx(1.1e15, rel=0.01)
  for chip in chips.CHIPS.values():
    assert chip.source and chip.from_memory


@pytest.mark.parametrize("section", [
    dict(name="procedural", families=("mug",), num_shapes=1, num_val=0, num_test=0, samples_per_shape=64, rows=2, points=8),
    dict(name="rendered", family="mug", views=1, test_views=1, width=8, supersample=1, draws=dict(pixels=6, supersample=2))])
def test_a_planned_batch_is_that_of_the_data(section):
  real = build(DATASETS, section, "data")
  planned, spec, said = plan_batch.planned_dataset(section)
  batch = real.batch(0, 0, 1)
  assert {k: (v.shape, v.dtype) for k, v in spec.items()} == {k: (v.shape, v.dtype) for k, v in batch.items()}
  assert not said
  for fact, value in planned.info.items():
    if fact in ("eyes", "radii"):
      assert np.shape(real.info[fact]) == np.shape(value), fact
    elif fact not in ("protocol", "opaque", "bounds"):
      assert real.info[fact] == value, fact


def test_every_dataset_has_a_specification():
  assert set(plan_batch.SPECS) == set(DATASETS)


@pytest.mark.parametrize("text", ["v5e", "v5e:256", "v5e:0x4", "h100:2x4", "v9:4", "cpu:", "v4:4x4", "v5e:16x16x"])
def test_a_topology_that_is_none_is_refused(text):
  with pytest.raises(UsageFault, match="--topology"):
    chips.read_topology(text)


@pytest.fixture
def config(tmp_path):
  path = tmp_path / "tiny.py"
  path.write_text(CONFIG)
  return str(path)


def test_a_plan_counts_parameters_optimiser_and_the_sum_of_gradients(config, capsys, monkeypatch):
  assert main.main(["plan", "--config", config, "--topology", "cpu:4", "--count", "12", "--json"]) == 0
  found = json.loads(capsys.readouterr().out)
  assert found["chips"] == 4 and found["mesh"] == {"data": 4, "model": 1} and found["fits"]
  assert found["state"]["params"] == 4 * found["parameters"]
  assert 8 * found["parameters"] <= found["state"]["opt"] < 8 * found["parameters"] + 64
  summed = [c for c in found["collectives"] if c["kind"] == "all-reduce" and c["axis"] == "data"]
  assert 4 * found["parameters"] <= sum(c["bytes"] for c in summed) < 8 * found["parameters"] + 4096
  first, last = found["weak_scaling"][0], found["weak_scaling"][-1]
  assert first["chips"] == 1 and first["exposed"] == first["overlapped"] == 1
  assert last["chips"] == 4 and last["exposed"] < last["overlapped"] <= 1
  roof = found["roofline"]
  assert last["exposed"] == pytest.approx(found["alone"] / (max(roof["compute"], roof["memory"]) + roof["communication"]))
  lines = plan.report(found, "tiny.py")
  assert any("DOES NOT FIT" in line for line in plan.report({**found, "fits": False}, "tiny.py"))
  assert any(line.startswith("collectives") for line in lines) and any("all-reduce" in line for line in lines)


def test_what_does_not_fit_ends_with_1(config, capsys, monkeypatch):
  found = plan_program.Planned({"data": 4, "model": 1}, 8, 10, dict(params=1, ema=0, opt=2, extra=0), 3, 1, 3, 2**40, 1.0, 1.0, 1.0,
                               1.0, None, None, [], "float32", "none", "", 0.0)
  monkeypatch.setattr(plan_program, "plan_step", lambda *args: found)
  assert main.main(["plan", "--config", config, "--topology", "cpu:4"]) == plan.DOES_NOT_FIT == 1
  assert "DOES NOT FIT" in capsys.readouterr().out


@pytest.mark.parametrize(("words", "code", "says"), [
    (["--topology", "v5e:16x16"], 69, "pip install"),
    (["--topology", "cpu:4", "--config.data.rows=7"], 2, "--config.data: batches of 7"),
    (["--topology", "cpu:4", "--config.train.model_parallel=3"], 2, "model_parallel"),
    ([], 2, "--topology")])
def test_a_plan_that_cannot_be_made_is_one_line(config, words, code, says, capsys, monkeypatch):
  monkeypatch.delenv("TPU_LIBRARY_PATH", raising=False)
  monkeypatch.setattr(plan_program.importlib.util, "find_spec", lambda name: None)
  assert main.main(["plan", "--config", config, *words]) == code
  lines = capsys.readouterr().err.splitlines()
  assert len(lines) == 1 and says in lines[0]


def test_the_table_of_chips_is_printed(capsys):
  assert main.main(["plan", "--chips"]) == 0
  out = capsys.readouterr().out
  assert all(f"\n{name}" in out for name in chips.CHIPS) and "docs.cloud.google.com" in out


@pytest.mark.slow  # its own process: 8 devices
def test_more_devices_than_here_are_faked_in_a_process(config, capfd):
  assert main.main(["plan", "--config", config, "--topology", "h100:8", "--json"]) == 0
  found = json.loads(capfd.readouterr().out)
  assert found["chips"] == 8 and "no cuda compiler" in found["compiler"] and math.isclose(found["memory"], 80e9)


@pytest.mark.slow
def test_a_tpu_that_is_not_here_is_compiled_for(config, capsys):
  if not os.environ.get("TPU_LIBRARY_PATH") and importlib.util.find_spec("libtpu") is None:
    pytest.skip("libtpu is not here")
  assert main.main(["plan", "--config", config, "--topology", "v5e:2x4", "--json"]) == 0
  found = json.loads(capsys.readouterr().out)
  assert found["chips"] == 8 and "TPU v5 lite" in found["compiler"] and found["collectives"]


@pytest.mark.parametrize("more", [[], ["--json"]])
def test_a_step_that_the_compiler_finds_too_large_does_not_fit(tmp_path, monkeypatch, capsys, more):
  def compiled(*_):
    raise jax.errors.JaxRuntimeError("RESOURCE_EXHAUSTED: Ran out of memory on HBM, 15.81G exceeds 15.75G.\nAllocations: ...")

  monkeypatch.setattr(plan_program, "plan_step", compiled)
  (tmp_path / "c.py").write_text(CONFIG)
  assert main.main(["plan", "--config", str(tmp_path / "c.py"), "--topology", "cpu:1", *more]) == plan.DOES_NOT_FIT
  said = capsys.readouterr().out
  assert "15.81G exceeds 15.75G." in said and "Allocations" not in said
  assert json.loads(said)["fits"] is False if more else "DOES NOT FIT" in said


def test_a_prior_by_class_is_planned_with_the_families_that_the_config_names(capsys):
  config = pathlib.Path(__file__).parents[2] / "experiments" / "classic" / "voxel_diffusion.py"
  assert main.main(["plan", "--config", f"{config}:runlocal", "--topology", "cpu:1", "--json"]) == 0
  assert json.loads(capsys.readouterr().out)["parameters"] > 0
