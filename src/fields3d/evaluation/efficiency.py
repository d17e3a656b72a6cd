"""What a run costs: seconds, memory, FLOPs, bytes and energy of a sample, a view and a training step.

Samples and views are the run's own: code, field, mesh; rays, image. Both are timed warm, compiling told apart. The
training step is compiled, never run: its seconds are those that the run has logged.
"""

import dataclasses
import pathlib
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Literal

import jax
import jax.numpy as jnp
import numpy as np

from fields3d.core import strict_json
from fields3d.core.config import Count, Index, Positive
from fields3d.core.errors import BadData, Diverged, Unavailable
from fields3d.core.task import field_of
from fields3d.core.types import Field, View
from fields3d.evaluation.results import Evaluation, EvaluationInput, Evaluator, Metric, Row
from fields3d.extraction.sampling import CHUNK
from fields3d.extraction.sparse import extract
from fields3d.metrics.efficiency import Usage, cpu_name, measure_usage
from fields3d.metrics.programs import Cost, compile_program, tpu_device
from fields3d.metrics.statistics import bootstrap_interval
from fields3d.rendering.images import TILE, render_camera


@dataclasses.dataclass(frozen=True)
class Unit:
  """One kind of thing that a run makes.

  what: it in words. seconds (n,): of each; usage: how they were measured, None where they come from a log.
  programs: name -> (function, arguments or their shapes, calls for one thing). donate: see `compile_program`.
  """
  what: str
  seconds: np.ndarray
  programs: Mapping[str, tuple[Callable, tuple, float]]
  usage: Usage | None = None
  donate: bool = False


@dataclasses.dataclass(frozen=True)
class Costs:
  """A unit's programs compiled: name -> (cost of one call, calls for one thing)."""
  programs: Mapping[str, tuple[Cost, float]]

  @property
  def target(self) -> str:
    return next(iter(self.programs.values()))[0].target

  def total(self, field: str) -> float | None:
    """The sum of a field of `Cost` over all calls; None where a program does not tell."""
    values = [(getattr(cost, field), calls) for cost, calls in self.programs.values()]
    return None if any(value is None for value, _ in values) else float(sum(value * calls for value, calls in values))

  def most(self, field: str) -> float:
    """The largest value of a field of `Cost`."""
    return float(max(getattr(cost, field) for cost, _ in self.programs.values()))


def efficiency(repeats: Count = 5, resolution: Count = 128, split: Literal["train", "val", "test"] = "test",
               tile: Count = TILE, pred: str = "sdf", tdp_watts: Positive | None = None, tpu: str | None = None,
               seed: Index = 0) -> Evaluator:
  """Measures what a sample, a view and a training step cost, of those that the task has.

  Args:
    repeats: things timed, after one to warm up.
    resolution: grid nodes per axis of a sample's extraction. pred: the field; "points" draws the task's own clouds.
    split: whose first view is rendered, in its own size; tile: rays a call.
    tdp_watts: the device's design power, for the energy, where the table of `metrics.efficiency` lacks it.
    tpu: a topology such as "v5e:2x2" whose device the programs are also compiled for, with libtpu alone; not when None.
    seed: of the draws and intervals; `EvaluationInput.seed` replaces it.
  """
  settings = dict(locals())

  def run(inputs: EvaluationInput) -> Evaluation:
    chosen = seed if inputs.seed is None else inputs.seed
    device, warnings = _planned_device(tpu)
    views = inputs.dataset.views(split) if "render" in inputs.predict else ()
    units = {}
    if {"sample", pred} <= inputs.predict.keys():
      units["sample"] = _cloud(inputs, repeats, tdp_watts, chosen) if pred == "points" else _sample(
          inputs, pred, resolution, repeats, tdp_watts, chosen)
    if len(views):
      units["view"] = _view(inputs, views[0], tile, repeats, tdp_watts)
    if inputs.update is not None:
      units["step"] = _step(inputs)
    warnings += [f"no {name} is measured: {why}" for name, why in (
        ("sample", f"the task does not predict both 'sample' and {pred!r}" + (
            "; set evals.efficiency.pred=points" if "points" in inputs.predict else "")),
        ("view", f"the task does not predict 'render', or split {split!r} has no views"),
        ("step", "the training step was not handed in")) if name not in units]
    metrics, rows = [], []
    for place, status in ((None, "ok"), *([(device, "planned, not run")] if device is not None else [])):
      for name, unit in units.items():
        costs = Costs({program: (compile_program(fn, *args, device=place, donate=unit.donate).cost, calls)
                       for program, (fn, args, calls) in unit.programs.items()})
        rows.append(Row(name, costs.target, len(rows), status, facts=_facts(unit, costs, place is None)))
        metrics += _metrics(name, unit, costs, chosen) if place is None else []
    return Evaluation("efficiency", metrics, rows, warnings, settings | {"seed": chosen}, "program")

  return run


def _planned_device(tpu: str | None) -> tuple[Any, list[str]]:
  """The TPU to plan for, and why there is none."""
  if tpu is None:
    return None, []
  try:
    return tpu_device(tpu), []
  except Unavailable as fault:
    return None, [str(fault)]


def _sample(inputs: EvaluationInput, pred: str, resolution: int, repeats: int, tdp_watts: float | None,
            seed: int) -> Unit:
  """A draw from key to mesh: the code, the field at the nodes that extraction asks for, colours at its vertices."""
  draw, predict, info = inputs.predict["sample"], inputs.predict, inputs.dataset.info
  count, had, asked = 0, 0, {pred: 0, "color": 0}

  def counted(name, fn):
    def wrapped(x):
      asked[name] += len(x)
      return fn(x)
    return wrapped

  def call():
    nonlocal count, had
    count += 1
    z = draw(jax.random.fold_in(jax.random.key(seed), count), 1)[0]
    field = field_of(predict, z, info, pred, "evals.efficiency.pred")
    color = None if field.color is None else counted("color", field.color)
    try:
      extract(Field(counted(pred, field.fn), field.bounds, color), resolution)
      had += 1
    except (BadData, Diverged):
      return  # a draw without a surface took its time too

  usage = measure_usage(call, repeats, tdp_watts)
  key, points = jax.random.key(seed), jax.ShapeDtypeStruct((CHUNK, 3), jnp.float32)
  z, code = _code(draw, key)
  programs = {"code": code,
              **{name: (predict[name], (points, z), num / count / CHUNK) for name, num in asked.items() if name in predict}}
  what = (f"draw at {resolution} nodes an axis, from key to mesh on the host ({asked[pred] / count:,.0f} points of "
          f"{pred!r} and {asked['color'] / count:,.0f} of 'color' each; {had} of {count} draws had a surface)")
  return Unit(what, usage.seconds, programs, usage)


def _code(draw: Callable, key: jax.Array) -> tuple[Any, tuple]:
  """What one draw's code is like, and the program that makes it."""
  one = lambda key: draw(key, 1)[0]
  return jax.eval_shape(one, key), (one, (key,), 1.0)


def _cloud(inputs: EvaluationInput, repeats: int, tdp_watts: float | None, seed: int) -> Unit:
  """A draw from key to points on the host."""
  draw, points, shape, count = inputs.predict["sample"], inputs.predict["points"], None, 0

  def call():
    nonlocal count, shape
    count += 1
    key = jax.random.fold_in(jax.random.key(seed), count)
    shape = np.asarray(points(draw(key, 1)[0], key)).shape

  usage = measure_usage(call, repeats, tdp_watts)
  key = jax.random.key(seed)
  z, code = _code(draw, key)
  programs = {"code": code, "points": (points, (z, key), 1.0)}
  return Unit(f"draw of a cloud of {shape[0]:,} points, from key to points on the host", usage.seconds, programs, usage)


def _view(inputs: EvaluationInput, view: View, tile: int, repeats: int, tdp_watts: float | None) -> Unit:
  """A view from camera to image on the host."""
  render, seen = inputs.predict["render"], []

  def kept(rays):
    seen.append(rays)
    return render(rays)

  def call():
    seen.clear()
    render_camera(kept, view.camera, inputs.dataset.info, tile=tile)

  usage = measure_usage(call, repeats, tdp_watts)
  what = "view of {} x {} pixels, from camera to image on the host, {} rays a call".format(*view.camera.size, tile)
  return Unit(what, usage.seconds, {"render": (render, (seen[0],), float(len(seen)))}, usage)


def _step(inputs: EvaluationInput) -> Unit:
  """The training step: compiled for one device, timed by the run's own log."""
  step, args = inputs.update()
  what = "training step: seconds as the run logged them, pauses of the loop included; cost as compiled for one device"
  return Unit(what, logged_step_seconds(inputs.out_dir.parents[2] / "metrics.jsonl"), {"step": (step, args, 1.0)},
              donate=True)


def logged_step_seconds(path: pathlib.Path) -> np.ndarray:
  """Seconds a step between records of a metrics.jsonl that follow each other; none where there is no such file.

  A pause between two runs of the same directory counts as one long step: take the median.

  Raises:
    BadData: a line is damaged.
  """
  if not path.is_file():
    return np.zeros(0)
  lines = path.read_text("utf-8", "replace").split("\n")[:-1]
  records = [strict_json.loads(line, f"{path}:{number}") for number, line in enumerate(lines, 1)]
  marks = np.array([(record["step"], record["time"]) for record in records
                    if isinstance(record, dict) and "step" in record and "time" in record], np.float64).reshape(-1, 2)
  steps, seconds = np.diff(marks, axis=0).T
  forward = (steps > 0) & (seconds > 0)
  return seconds[forward] / steps[forward]


def _facts(unit: Unit, costs: Costs, here: bool) -> dict[str, Any]:
  """Everything of a unit, as plain values; times only where the programs ran."""
  facts = {"what": unit.what, **{f"program {name}": {"calls": calls, **dataclasses.asdict(cost)}
                                 for name, (cost, calls) in costs.programs.items()}}
  if here and len(unit.seconds):
    facts["quartiles"] = [float(second) for second in np.quantile(unit.seconds, [0.25, 0.5, 0.75])]
  if here and (usage := unit.usage) is not None:
    facts |= {"seconds": usage.seconds.tolist(), "first_seconds": usage.first_seconds, "busy_cores": usage.busy_cores,
              "load": usage.load, "memory_method": usage.memory_method, "energy_method": usage.energy.method}
  return facts


def _metrics(name: str, unit: Unit, costs: Costs, seed: int) -> list[Metric]:
  """The figures of one unit; only seconds have an interval."""
  usage = unit.usage
  spread = ", quartiles {:.4g} to {:.4g} s".format(*np.quantile(unit.seconds, [0.25, 0.75])) if len(unit.seconds) else ""
  warm = "" if usage is None else (f"; warm: the first took {usage.first_seconds:.3g} s with any compiling; load "
                                   f"{usage.load:.1f} before; {usage.busy_cores:.2f} cores busy")
  loops = int(sum(cost.open_loops for cost, _ in costs.programs.values()))
  found = [("seconds", float(np.median(unit.seconds)) if len(unit.seconds) else None,
            f"median of {len(unit.seconds)}{spread}{warm}; bootstrap of the median"),
           ("compile_seconds", sum(cost.compile_seconds for cost, _ in costs.programs.values()),
            "tracing and compiling of its programs, faster where the compilation cache holds them"),
           ("flops", costs.total("flops"), "as written: 2 a multiply-add of a product, 1 any other number made; scans as "
            "often as they run" + f"; {loops} loops of unknown length count once: a lower bound" * (loops > 0)),
           ("compiled_flops", costs.total("compiled_flops"), "XLA's cost analysis; bodies of loops count once"),
           ("bytes", costs.total("compiled_bytes"), "read and written by the compiled kernels, XLA's cost analysis; bodies "
            "of loops count once"),
           ("planned_memory", costs.most("peak_bytes"),
            "bytes: arguments, outputs and temporaries of its largest program, XLA's plan"),
           ("parameters", costs.most("parameters"), "numbers of the model's arrays that its largest program is given")]
  if usage is not None:
    found += [("peak_memory", float(usage.peak_bytes), f"bytes: {usage.memory_method}"),
              ("energy", usage.energy.joules, f"joules: {usage.energy.method}")]
    if usage.device_peak_bytes is not None:
      found.append(("device_peak_memory", float(usage.device_peak_bytes),
                    "bytes: the device's allocator, its peak since the process began"))
  on = f"{unit.what}; on {cpu_name() if costs.target == 'cpu' else costs.target}"
  return [_metric(f"{name}/{kind}", value, unit.seconds if kind == "seconds" else (), f"{protocol}; {on}", seed)
          for kind, value, protocol in found]


def _metric(name: str, value: float | None, seconds: Sequence[float], protocol: str, seed: int) -> Metric:
  low, high = bootstrap_interval(np.asarray(seconds), np.median, seed=seed) or (None, None)
  return Metric(name, value, low, high, max(len(seconds), 1), seed, None, "lower", protocol)
