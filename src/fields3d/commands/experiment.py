"""Experiments: from a config file and flags to checked sections, and from sections to objects."""

import dataclasses
import difflib
import importlib.util
import json
import pathlib
import sys
from collections.abc import Mapping
from typing import Annotated, Any

from ml_collections import ConfigDict

from fields3d.core import strict_json
from fields3d.core.config import Count, From, Seed, build, check_arguments, override
from fields3d.core.errors import BadData, Fault, MissingInput, UsageFault, nearest
from fields3d.core.task import Task
from fields3d.core.types import Dataset
from fields3d.data import DATASETS
from fields3d.evaluation import EVALUATORS
from fields3d.tasks import TASKS
from fields3d.training.loop import LoopSettings
from fields3d.training.optim import OPTIMISERS, Optimiser

SETTINGS = {"train": LoopSettings}
# What may differ between a run and its continuation: it changes how long or how closely a run is watched, not its path.
NEUTRAL = ("num_steps", "evals", "task.reconstruct", "train.log_every", "train.checkpoint_every", "train.keep", "train.keep_every",
           "train.prefetch", "train.max_skips", "train.max_rollbacks", "extract_resolution")


@dataclasses.dataclass(frozen=True)
class Experiment:
  """The sections of a config: what may stand at its top.

  seed: of parameters and noise; batches have the data's own. init_from: a run directory to take parameters from (transfer).
  extract_resolution: grid nodes per axis that extract and sample use unless told otherwise.
  """
  num_steps: Count
  data: Annotated[Dataset, From(DATASETS)]
  task: Annotated[Task, From(TASKS)]
  optim: Annotated[Mapping[str, Optimiser], From(OPTIMISERS, each=True)]
  evals: Annotated[Mapping[str, Any], From(EVALUATORS, each=True)] = dataclasses.field(default_factory=dict)
  train: Annotated[LoopSettings, From(SETTINGS)] = dataclasses.field(default_factory=dict)
  seed: Seed = 0
  extract_resolution: Count = 128
  init_from: str | None = None


def read_config(spec: str) -> dict:
  """The nested dict that `FILE[:args]` describes: FILE is Python with `get_config(arg=None)`.

  Where FILE says which args it knows (VARIANTS, a tuple of names), others are refused.

  Raises:
    MissingInput: no such file. UsageFault: not a config, or it fails.
  """
  path, arg = spec, None
  if not pathlib.Path(path).exists() and ":" in spec:
    path, arg = spec.rsplit(":", 1)
  file = pathlib.Path(path)
  if not file.is_file():
    close = difflib.get_close_matches(file.stem, [p.stem for p in file.parent.glob("*.py")], n=1)
    raise MissingInput(path, "no such config file", f"did you mean {file.with_name(close[0] + '.py')}?" if close else
                       "give a Python file with get_config(arg=None), as experiments/deepsdf/quickstart.py")
  if file.suffix != ".py":
    raise UsageFault(path, f"a config is a Python file, not {file.suffix or 'this'}", "write get_config(arg=None) that returns it")
  try:
    config = _call_get_config(file, arg)
  except Fault:
    raise
  except Exception as error:
    line = _line_in(error, file)
    raise UsageFault(f"{path}{line}", f"the config fails: {type(error).__name__}: {error}", "correct it") from error
  if not isinstance(config, ConfigDict):
    raise UsageFault(path, f"get_config returns a {type(config).__name__}, not a ConfigDict", "return a ConfigDict")
  try:
    return json.loads(json.dumps(config.to_dict(), default=_plain))
  except (TypeError, ValueError) as error:
    raise UsageFault(path, f"the config holds what cannot be kept: {error}", "use numbers, strings, tuples, and dicts of names") from error


def _call_get_config(file: pathlib.Path, arg: str | None) -> Any:
  """Runs the user's own config file. Its folder is importable meanwhile, so that a variant imports its parent."""
  module_spec = importlib.util.spec_from_file_location(f"fields3d_config_{file.stem}", file)
  module = importlib.util.module_from_spec(module_spec)
  sys.path.insert(0, str(file.resolve().parent))
  try:
    module_spec.loader.exec_module(module)
    if "get_config" not in vars(module):
      raise UsageFault(file, "has no get_config(arg=None)", "define it")
    variants = vars(module).get("VARIANTS")
    if None not in (arg, variants) and arg not in variants:
      raise UsageFault(f"{file}:{arg}", "the config has no such variant", nearest(arg, variants))
    return module.get_config(arg) if arg is not None else module.get_config()
  finally:
    sys.path.pop(0)


def _line_in(error: BaseException, file: pathlib.Path) -> str:
  lines, trace = [], error.__traceback__
  while trace is not None:
    if pathlib.Path(trace.tb_frame.f_code.co_filename).name == file.name:
      lines.append(trace.tb_lineno)
    trace = trace.tb_next
  return f":{lines[-1]}" if lines else ""


def _plain(value: Any) -> Any:
  if isinstance(value, (set, frozenset)):
    return sorted(value)
  raise TypeError(f"a {type(value).__name__}")


def apply_overrides(config: dict, overrides: list[tuple[str, str]]) -> dict:
  """The config with each (path, text) set; checks every setting, makes nothing.

  Raises:
    UsageFault: an unknown, ill-typed, out-of-range or non-finite setting, naming it and the nearest.
  """
  for path, text in overrides:
    override(config, path, text)
  check_arguments(Experiment, config)
  return config


def differences(old: dict, new: dict) -> list[str]:
  """The settings in which two configs differ, as 'path: old -> new'.

  >>> differences({"a": {"b": 1}}, {"a": {"b": 2}, "c": 3})
  ['a.b: 1 -> 2', 'c: unset -> 3']
  """
  flat_old, flat_new = _flatten(old), _flatten(new)
  paths = sorted({*flat_old, *flat_new})
  text = lambda flat, path: repr(flat[path]) if path in flat else "unset"
  return [f"{p}: {text(flat_old, p)} -> {text(flat_new, p)}" for p in paths if text(flat_old, p) != text(flat_new, p)]


def _flatten(config: Mapping, prefix: str = "") -> dict[str, Any]:
  out = {}
  for name, value in config.items():
    out.update(_flatten(value, f"{prefix}{name}.") if isinstance(value, Mapping) else {prefix + name: value})
  return out


def check_same_run(old: dict, new: dict, workdir: pathlib.Path) -> list[str]:
  """Whether `new` may continue the run in `workdir`; returns the harmless differences.

  Raises:
    UsageFault: a difference that would change the run's path.
  """
  changes = differences(old, new)
  harmful = [c for c in changes if not any(c.startswith((f"{n}:", f"{n}.")) for n in NEUTRAL)]
  if harmful:
    more = f" and {len(harmful) - 3} more" if len(harmful) > 3 else ""
    raise UsageFault(workdir, f"holds a run with another config ({', '.join(harmful[:3])}{more})",
                     "give another --workdir, or the run's own config to resume it")
  return changes


def build_dataset(config: Mapping) -> Dataset:
  return build(DATASETS, config["data"], "data")


def build_task(config: Mapping, dataset: Dataset) -> Task:
  return build(TASKS, config["task"], "task", info=dataset.info)


def build_optimisers(config: Mapping) -> dict[str, Optimiser]:
  return {group: build(OPTIMISERS, section, f"optim.{group}") for group, section in config.get("optim", {}).items()}


def build_settings(config: Mapping) -> LoopSettings:
  return build(SETTINGS, config.get("train", {}), "train")


def read_run_config(workdir: pathlib.Path) -> dict:
  """config.json of a run: {"config", "source", "overrides", "latents" (sha256 of the file that it learns from, or null)}.

  Raises:
    MissingInput: not a run directory. BadData: damaged.
  """
  path = workdir / "config.json"
  if not path.is_file():
    raise MissingInput(workdir, "is not a run directory (no config.json)", "give the --workdir of a train command")
  found = strict_json.read(path)
  if not isinstance(found, dict) or not _is_config(found.get("config")) or not _are_words(found.get("overrides", [])):
    raise BadData(path, "is not a run's config", "restore it, or train again into another directory")
  return found


def _is_config(config: Any) -> bool:
  """Whether the sections that every command reads are sections."""
  if not isinstance(config, dict):
    return False
  sections = [config.get("data"), config.get("task"), *(config.get(name, {}) for name in ("optim", "train", "evals"))]
  return all(isinstance(section, dict) for section in sections) and all(isinstance(section, dict) for section in sections[-1].values())


def _are_words(found: Any) -> bool:
  return isinstance(found, list) and all(isinstance(word, str) for word in found)
