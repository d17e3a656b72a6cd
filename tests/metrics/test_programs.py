"""Costs of programs whose operations can be counted by hand, and what is measured of repeated calls."""

import os
import types

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from fields3d.core.errors import Unavailable
from fields3d.metrics import efficiency, programs
from fields3d.metrics.efficiency import estimate_energy, measure_usage, peak_memory, read_rapl, reset_peak_memory
from fields3d.metrics.programs import compile_program, count_flops

WEIGHT = jnp.ones((16, 32))
X = jnp.ones((8, 16))


def flops(fn, *args):
  return count_flops(jax.make_jaxpr(fn)(*args).jaxpr)


def test_products_sums_and_functions_are_counted_as_documented():
  assert flops(lambda x: x @ WEIGHT, X) == (2 * 8 * 16 * 32, 0)
  assert flops(lambda x: jnp.tanh(x) + 1.0, X) == (2 * 8 * 16, 0)
  assert flops(jnp.sum, X) == (8 * 16, 0)
  assert flops(lambda x: x.reshape(-1)[::2].T, X) == (0, 0)
  assert flops(lambda a, b: jnp.einsum("bij,bjk->bik", a, b), jnp.ones((3, 4, 5)), jnp.ones((3, 5, 6))) == (
      2 * 3 * 4 * 5 * 6, 0)


def test_convolutions_are_counted_by_their_products():
  image, kernel = jnp.ones((2, 3, 10, 10)), jnp.ones((7, 3, 3, 3))
  assert flops(lambda x, k: jax.lax.conv(x, k, (1, 1), "VALID"), image, kernel) == (2 * (2 * 7 * 8 * 8) * (3 * 3 * 3), 0)


def test_scans_count_as_often_as_they_run_and_xla_counts_them_once():
  square = jnp.ones((16, 16))
  scanned = lambda x: jax.lax.scan(lambda c, _: (c @ square, None), x, None, length=10)[0]
  cost = compile_program(scanned, X).cost
  assert cost.flops == 10 * 2 * 8 * 16 * 16 and cost.open_loops == 0
  assert cost.compiled_flops == pytest.approx(cost.flops / 10, rel=0.05)


def test_loops_of_unknown_length_are_told_and_the_dearest_branch_counts():
  square = jnp.ones((16, 16))
  loop = lambda x: jax.lax.while_loop(lambda c: c.sum() < 0, lambda c: c @ square, x)
  count, loops = flops(loop, X)
  assert loops == 1 and 2 * 8 * 16 * 16 <= count <= 2 * 8 * 16 * 16 + 200
  branch = lambda x: jax.lax.cond(x[0, 0] > 0, lambda c: c @ square, lambda c: c, x)
  assert 2 * 8 * 16 * 16 <= flops(branch, X)[0] <= 2 * 8 * 16 * 16 + 2


def test_without_loops_the_count_is_xlas():
  def loss(w, x):
    return jnp.mean((jnp.tanh(x @ w) @ w.T - x) ** 2)
  cost = compile_program(jax.grad(loss), jnp.ones((64, 128)), jnp.ones((256, 64))).cost
  assert cost.flops == pytest.approx(cost.compiled_flops, rel=0.05)


def test_compiled_programs_give_the_functions_answers_and_their_arrays_are_arguments():
  bound = lambda p: lambda x: {"y": jax.jit(lambda p, x: x @ p["w"] + p["b"])(p, x)}
  fn = bound({"w": WEIGHT, "b": jnp.arange(32.0)[None]})
  program = compile_program(fn, X)
  np.testing.assert_allclose(program.call(X)["y"], fn(X)["y"], rtol=1e-6)
  assert program.cost.parameters == 16 * 32 + 32 and program.cost.argument_bytes == 4 * (16 * 32 + 32 + 8 * 16)
  assert program.cost.output_bytes == 4 * 8 * 32 and program.cost.target == "cpu"


def test_donated_arguments_are_planned_once():
  step = lambda state, x: (state + x, x.sum())
  kept, given = (compile_program(step, jnp.ones(1000), jnp.ones(1000), donate=donate).cost for donate in (False, True))
  assert kept.peak_bytes - given.peak_bytes == 4000


def test_planning_takes_shapes_alone():
  assert compile_program(lambda x: x @ WEIGHT, jax.ShapeDtypeStruct((8, 16), jnp.float32)).cost.flops == 2 * 8 * 16 * 32


def test_a_tpu_is_planned_with_its_library_and_else_refused_in_one_line(monkeypatch):
  monkeypatch.setattr(programs.importlib.util, "find_spec", lambda name: None)
  with pytest.raises(Unavailable, match="not planned: no libtpu"):
    programs.tpu_device()


@pytest.mark.slow
def test_a_tpus_program_costs_what_the_cpus_does():
  pytest.importorskip("libtpu", reason="libtpu is not installed: pip install 'fields3d[tpu]'")
  planned = compile_program(lambda x: x @ WEIGHT, X, device=programs.tpu_device()).cost
  assert "TPU" in planned.target and planned.flops == 2 * 8 * 16 * 32 and planned.peak_bytes > 0


def test_calls_are_repeated_after_one_and_waited_for():
  calls = []
  found = measure_usage(lambda: calls.append(1) or jnp.ones(3) + 1, repeats=4)
  assert len(calls) == 5 and found.seconds.shape == (4,) and (found.seconds > 0).all() and found.first_seconds > 0
  assert found.spread[0] <= found.median <= found.spread[1] and found.peak_bytes > 0


def test_peak_memory_sees_an_array_that_is_gone():
  if "VmHWM" not in reset_peak_memory():
    pytest.skip("this system does not let a process reset its peak")
  before = peak_memory()
  block = np.ones(2**26, np.uint8)
  del block
  assert peak_memory() - before > 2**25
  reset_peak_memory()
  assert peak_memory() < before + 2**25


def test_energy_is_power_times_time_times_share_or_is_not_given(monkeypatch):
  cpu, gpu = (types.SimpleNamespace(platform=p, device_kind=k) for p, k in (("cpu", "cpu"), ("gpu", "NVIDIA H200")))
  monkeypatch.setattr(efficiency, "cpu_name", lambda: "Abacus 3000")
  unknown = estimate_energy(cpu, 2.0, 1.0, None, 5)
  assert unknown.joules is None and "Abacus 3000" in unknown.method and "tdp_watts" in unknown.method
  cores = os.cpu_count()
  assert estimate_energy(cpu, 2.0, 0.5 * cores, None, 5, tdp_watts=100).joules == pytest.approx(100)
  assert estimate_energy(cpu, 2.0, 1.0, 10.0, 5).joules == 2 and "RAPL" in estimate_energy(cpu, 2.0, 1.0, 10.0, 5).method
  assert estimate_energy(gpu, 2.0, 1.0, None, 5).joules == 1400


def test_rapl_reads_packages_and_not_their_parts(tmp_path):
  for name, value in (("intel-rapl:0", 5), ("intel-rapl:0:0", 3), ("intel-rapl:1", 7)):
    (tmp_path / name).mkdir()
    (tmp_path / name / "energy_uj").write_text(f"{value}\n")
    (tmp_path / name / "max_energy_range_uj").write_text("100\n")
  (tmp_path / "intel-rapl:1" / "energy_uj").unlink()
  assert read_rapl(tmp_path) == {"intel-rapl:0": (5, 100)} and read_rapl(tmp_path / "nowhere") == {}
