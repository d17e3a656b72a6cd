"""Train an experiment from its config file; the same command run again resumes.

Everything goes into the run directory: config.json, environment.json, checkpoints/, metrics.jsonl, tb/. SIGTERM or
Ctrl-C saves and exits with 75. `--config.a.b=v` overrides any setting of the config or argument of its factories.

Several processes train one run when each is started with the same command and JAX_COORDINATOR_ADDRESS (host:port of
process 0), JAX_NUM_PROCESSES and JAX_PROCESS_ID set, or with --distributed auto under SLURM, Open MPI, GKE or on a TPU
pod; they share the run directory. When one dies, all end within two minutes with its name and exit 75.

With gs://BUCKET/PATH as run directory (pip install 'fields3d[gcs]') the run lives in a copy below FIELDS3D_SPOOL (default:
~/.cache/fields3d/spool), and every finished checkpoint, the records and the logs are sent to the bucket at once; the same
command on another machine goes on from there.

examples:
  fields3d train --config experiments/deepsdf/quickstart.py --workdir runs/quickstart
  fields3d train --config experiments/deepsdf/quickstart.py:runlocal --workdir runs/local --config.num_steps=20
"""

import argparse
import contextlib
import json
import os
import pathlib
from collections.abc import Iterator

from fields3d.core import strict_json
from fields3d.core.errors import MissingInput, UsageFault

HELP = "train an experiment from its config file, or resume it"


def add_arguments(parser: argparse.ArgumentParser) -> None:
  parser.add_argument("--config", required=True, metavar="FILE[:ARG]", help="Python file with get_config(arg=None)")
  parser.add_argument("--workdir", required=True, metavar="DIR", help="the run directory, or gs://BUCKET/PATH")
  parser.add_argument("--allow-nonfinite", action="store_true", help="resume even from a checkpoint that holds NaN or Inf")
  parser.add_argument("--distributed", choices=("auto", "off"), metavar="auto|off",
                      help="auto: find the other processes as jax does (SLURM, TPU pod, GKE); off: one process; "
                           "otherwise as JAX_COORDINATOR_ADDRESS, JAX_NUM_PROCESSES and JAX_PROCESS_ID say")
  parser.add_argument("--dry-run", action="store_true", help="check the config, print it and stop")


def run(args: argparse.Namespace) -> int:
  from fields3d.commands.experiment import apply_overrides, read_config
  config = json.loads(json.dumps(apply_overrides(read_config(args.config), args.overrides)))  # tuples as lists
  if args.dry_run:
    print(json.dumps(config, indent=2))
    return 0
  from fields3d.training.distributed import session
  with session(args.distributed), _at_hand(args.workdir, config) as workdir:
    return _train(args, config, workdir)


@contextlib.contextmanager
def _at_hand(workdir: str, config: dict) -> Iterator[pathlib.Path]:
  """The run directory on a disk: for a path in an object store its local copy, which process 0 fetches and sends."""
  import jax

  from fields3d.commands.experiment import build_settings
  from fields3d.training import storage
  from fields3d.training.distributed import agree
  if not storage.is_remote(workdir):
    yield pathlib.Path(workdir)
    return
  if jax.process_count() > 1 and not os.environ.get("FIELDS3D_SPOOL"):
    raise UsageFault("--workdir", f"{workdir} is sent from a local copy, which several processes write together",
                     "set FIELDS3D_SPOOL to a directory that all of them see")
  settings = build_settings(config)
  with contextlib.ExitStack() as stack:
    agree(lambda: stack.enter_context(storage.mirrored(workdir, settings.keep, settings.keep_every)))
    yield storage.spool(workdir)


def _train(args: argparse.Namespace, config: dict, workdir: pathlib.Path) -> int:
  """Everything after the processes have found each other; process 0 alone writes config.json and the logs."""
  from fields3d.commands.experiment import (
    build_dataset,
    build_optimisers,
    build_task,
  )
  from fields3d.training.distributed import agree
  from fields3d.training.lock import locked
  for change in _check_resumed(config, workdir):
    _say(f"changed since the run began: {change}")
  _use_compilation_cache()
  dataset = build_dataset(config)
  task, optimisers = build_task(config, dataset), build_optimisers(config)
  _check_frozen(config, task)
  _check_start(config, workdir)
  record = {"config": config, "source": args.config, "overrides": [f"{k}={v}" for k, v in args.overrides],
            "latents": _check_latents(config, dataset, workdir)}
  with contextlib.ExitStack() as stack:
    def claim():
      strict_json.make_directory(workdir)
      stack.enter_context(locked(workdir))
      _check_resumed(config, workdir)  # another run may have begun here while the data were prepared
      strict_json.write(workdir / "config.json", record)
    agree(claim)
    state = make_loop(config, workdir, dataset, task, optimisers, args.allow_nonfinite).run()
  _say(f"trained {int(state.step)} steps; the run is in {args.workdir}\nnext: fields3d evaluate {args.workdir}")
  return 0


def _check_resumed(config: dict, workdir: pathlib.Path) -> list[str]:
  """What may differ, and does, from the run in the directory; nothing where there is no checkpoint of one.

  A run cannot be shortened: what it has learned since stays its newest checkpoint.
  """
  from fields3d.commands.experiment import check_same_run, read_run_config
  from fields3d.training.manifest import steps
  if not _begun(workdir):
    return []
  changes = check_same_run(read_run_config(workdir)["config"], config, workdir)
  done = max(steps(workdir / "checkpoints"), default=0)
  if done > config["num_steps"]:
    raise UsageFault("--config.num_steps", f"{config['num_steps']} is less than the {done} steps that the run has done",
                     f"give {done} or more, or another --workdir")
  return changes


def _begun(workdir: pathlib.Path) -> bool:
  """Whether the directory has a run with a checkpoint, sound or not; a fault where nothing says of which config."""
  from fields3d.training.manifest import candidates
  found = (workdir / "checkpoints").is_dir() and bool(candidates(workdir / "checkpoints"))
  if found and not (workdir / "config.json").exists():
    raise MissingInput(workdir / "config.json", "is not there, and checkpoints are", "restore it, or give another --workdir")
  return found


def _frozen(task) -> list[str]:
  """The task's groups that no loss trains."""
  import jax
  return sorted(set(jax.eval_shape(task.init, jax.random.key(0))[0]) - set(task.losses))


def _check_frozen(config: dict, task) -> None:
  """Groups that are not trained must come from another run."""
  if not config.get("init_from") and (frozen := _frozen(task)):
    raise UsageFault("--config.init_from", f"is not set, and the task does not train {', '.join(frozen)}", "give the run that has it")


def _check_start(config: dict, workdir: pathlib.Path) -> None:
  """The run that a new one starts from must be there before the new one has a directory."""
  start = config.get("init_from")
  if start and not pathlib.Path(start).exists() and not (workdir / "checkpoints").exists():
    raise MissingInput("--config.init_from", f"{start} is not there", "train that run first, as the config's docstring says, "
                       "or give another's directory")


def _check_latents(config: dict, dataset, workdir: pathlib.Path) -> str | None:
  """Latents must be of the checkpoint that a new run starts from, and those of a resumed run as it began with.

  Returns:
    sha256 of their file; None without any.
  """
  from fields3d.commands.experiment import read_run_config
  from fields3d.data.encoded import made_by
  from fields3d.data.sources import content_hash
  from fields3d.training.manifest import digest_of
  from fields3d.training.transfer import newest_step
  path, start = dataset.info.get("latents"), config.get("init_from")
  if not path or not start:
    return None
  begun = _begun(workdir)
  if not begun:
    kept, checkpoint = made_by(path)
    if checkpoint != digest_of(newest := newest_step(start)):
      raise UsageFault(path, f"is of step {kept} of a run, the parameters are those of {newest}",
                       f"fields3d encode {start}, and --config.data.path={start}/latents.npz")
  digest = content_hash(path).hex()
  if begun and read_run_config(workdir).get("latents") not in (None, digest):
    raise UsageFault(path, "is another file than the run began with", "put that one back, or give another --workdir")
  return digest


def _say(line: str) -> None:
  import jax
  if jax.process_index() == 0:
    print(line)


def make_loop(config: dict, workdir: pathlib.Path, dataset, task, optimisers, allow_nonfinite: bool):
  """The training loop of a checked config, and what a new run directory says of its machine."""
  from fields3d.commands.experiment import build_settings
  from fields3d.training.distributed import agree
  from fields3d.training.logging import RunLog, write_environment
  from fields3d.training.loop import Loop
  from fields3d.training.transfer import restore_partial

  agree(lambda: write_environment(workdir))
  log = RunLog(workdir, config["num_steps"])

  def transfer(params):
    frozen = _frozen(task)
    params, rows = restore_partial(pathlib.Path(config["init_from"]), params)
    for row in rows:
      if row.verdict != "taken" and row.name.split("/")[0] in frozen:
        raise UsageFault("--config.init_from", f"does not give {row.name}, which is not trained here: {row.reason}",
                         "use the base's own settings and data")
      log.note(f"init_from: {row.verdict} {row.name}: {row.reason}")
    if not any(row.verdict == "taken" for row in rows):
      raise UsageFault("--config.init_from", f"{config['init_from']} gives none of this config's parameters", "give a run of the same task")
    return params

  with contextlib.ExitStack() as stack:
    stack.callback(log.close)
    loop = Loop(task, dataset, optimisers, seed=config.get("seed", 0), num_steps=config["num_steps"], workdir=workdir,
                log=log, settings=build_settings(config), transfer=transfer if config.get("init_from") else None,
                allow_nonfinite=allow_nonfinite)
    stack.pop_all()  # its own to close
  return loop


def _use_compilation_cache() -> None:
  """Compiled programs are kept between runs; JAX_COMPILATION_CACHE_DIR moves the folder."""
  import jax
  if jax.config.jax_compilation_cache_dir is None:
    home = os.environ.get("XDG_CACHE_HOME", "~/.cache")
    jax.config.update("jax_compilation_cache_dir", str(pathlib.Path(home, "fields3d", "jax").expanduser()))
  jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.5)
