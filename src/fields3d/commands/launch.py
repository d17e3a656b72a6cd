"""Print what starts a config on a cluster, or start it as several processes on this machine.

gke-xpk prints xpk's commands, gcloud-tpu a queued resource and the commands on its workers, slurm a batch file, and local-N
the N commands that make one run on this machine, which --run starts and waits for. Each starts `fields3d train` once a host
(once a GPU under SLURM) with --distributed auto, or with the JAX_* variables; a stopped run (exit 75) is started again.
Several processes that write a run into a bucket do so from one copy below --spool, on a file system that all of them see.

examples:
  fields3d launch --print slurm --config experiments/nerf/zip360.py --workdir runs/zip360 --topology h100:16 > zip360.sbatch
  fields3d launch --print gke-xpk --config experiments/nerf/zip360.py --workdir gs://BUCKET/zip360 --topology v5e:16x16 --spool /mnt/nfs
  fields3d launch --print gcloud-tpu --config experiments/nerf/zip360.py --workdir gs://BUCKET/zip360 --topology v4:4x4x4 --spool /mnt/nfs
  fields3d launch --run local-2 --config experiments/deepsdf/quickstart.py:runlocal --workdir runs/two
"""

import argparse
import os
import re
import shlex
import signal
import socket
import subprocess
import sys
import time

from fields3d.commands.options import whole
from fields3d.core.errors import OK, TryAgain, UsageFault, nearest
from fields3d.core.stores import is_remote

HELP = "print what starts a config on GKE, TPU VMs, SLURM or several local processes"
TARGETS = ("gke-xpk", "gcloud-tpu", "slurm", "local-2")
RUNTIMES = {"v5e": "v2-alpha-tpuv5-lite", "v6e": "v2-alpha-tpuv6e", "v4": "tpu-ubuntu2204-base", "v5p": "v2-alpha-tpuv5"}
# A shell that gives codes as srun's choice of the highest needs them. SLURM may signal it alone: it passes SIGTERM on and waits.
TASK = """swap() { case $1 in 0|75) return $1;; esac; return $(($1 > 128 ? $1 - 128 : $1 + 128)); }
task() { trap 'kill -TERM $!' TERM; "$@" & while kill -0 $! 2> /dev/null; do wait $!; done; wait $!; swap $?; }"""
GRACE = 120  # seconds that the others have to end by themselves once one has


def add_arguments(parser: argparse.ArgumentParser) -> None:
  what = parser.add_mutually_exclusive_group(required=True)
  what.add_argument("--print", metavar="TARGET", help="gke-xpk, gcloud-tpu, slurm or local-N: print the commands or the file")
  what.add_argument("--run", metavar="TARGET", help="local-N: start N processes here, on CPU devices, and wait for them")
  parser.add_argument("--config", required=True, metavar="FILE[:ARG]", help="Python file with get_config(arg=None)")
  parser.add_argument("--workdir", required=True, metavar="DIR", help="the run directory, one for all processes; gs:// on a pod")
  parser.add_argument("--spool", default=os.environ.get("FIELDS3D_SPOOL"), metavar="DIR",
                      help="where the local copy of a run in a bucket lies, seen by all processes; FIELDS3D_SPOOL by default")
  parser.add_argument("--topology", default=None, metavar="CHIP:N", help="as in fields3d plan; v5e:16x16 or h100:8 by default")
  parser.add_argument("--name", default="fields3d", metavar="NAME", help="of the job; fields3d by default")
  parser.add_argument("--project", default="$PROJECT", metavar="NAME", help="Google Cloud project")
  parser.add_argument("--zone", default="$ZONE", metavar="NAME", help="Google Cloud zone")
  parser.add_argument("--cluster", default="$CLUSTER", metavar="NAME", help="GKE cluster")
  parser.add_argument("--image", default="$IMAGE", metavar="NAME", help="container image that has fields3d[tpu,gcs]")
  parser.add_argument("--hours", type=whole(0), default=24, metavar="N", help="SLURM's time limit, 0 for none; 24 by default")


def run(args: argparse.Namespace) -> int:
  target = args.print or args.run
  if found := re.fullmatch(r"local-([1-9]\d{0,2})", target):
    processes = local_commands(args, int(found[1]), _free_port() if args.run else 8476)
    return _start(processes) if args.run else _show(processes)
  if target not in TARGETS:
    raise UsageFault("--print" if args.print else "--run", f"unknown target {target!r}", nearest(target, TARGETS))
  if args.run:
    raise UsageFault("--run", f"{target} is printed, not started from here", f"give --print {target}, or --run local-N")
  if not re.fullmatch(r"[a-z]([a-z0-9-]{0,38}[a-z0-9])?", args.name):
    raise UsageFault("--name", f"{args.name!r} is no job's name", "give lower-case letters, digits and -, at most 40")
  print({"gke-xpk": xpk, "gcloud-tpu": gcloud, "slurm": slurm}[target](args))
  return OK


def train_words(args: argparse.Namespace, distributed: bool = True) -> list[str]:
  """The train command, as words."""
  more = ["--distributed", "auto"] if distributed else []
  return ["train", "--config", args.config, "--workdir", args.workdir, *more,
          *(f"--config.{path}={text}" for path, text in args.overrides)]


def _command(args: argparse.Namespace, processes: int) -> str:
  """The train command of each of the processes, with the spool that they share."""
  _check_spool(args, processes)
  return shlex.join([*(["env", f"FIELDS3D_SPOOL={args.spool}"] if args.spool else []), "fields3d", *train_words(args)])


def _check_spool(args: argparse.Namespace, processes: int) -> None:
  if processes > 1 and is_remote(args.workdir) and not args.spool:
    raise UsageFault("--workdir", f"{args.workdir} is sent from a local copy, which {processes} processes write together",
                     "give --spool DIR, a directory that all of them see")


def _tpu(args: argparse.Namespace) -> tuple[str, str, int]:
  """(chip, accelerator type as Google Cloud names it, hosts) of the topology."""
  from fields3d.commands.chips import read_topology
  topology = read_topology(args.topology or "v5e:16x16")
  if topology.chip.platform != "tpu":
    raise UsageFault("--topology", f"{topology} is no TPU", "give a TPU such as v5e:16x16, or --print slurm")
  hosts = max(1, topology.count // (4 if topology.name in ("v4", "v5p") or topology.count > 8 else 8))
  kind = {"v5e": "v5litepod-{n}", "v6e": "v6e-{n}"}.get(topology.name, topology.name + "-{cores}")
  return topology.name, kind.format(n=topology.count, cores=2 * topology.count), hosts


def xpk(args: argparse.Namespace) -> str:
  """xpk's commands for one slice.

  Source: github.com/AI-Hypercomputer/xpk, docs/usage/clusters.md, workloads.md, docker.md.
  """
  _, kind, hosts = _tpu(args)
  mounted = "# The spool is on a file system that all hosts mount, as from xpk storage create --type=gcpfilestore --auto-mount=true.\n"
  where = f"--project={args.project} --zone={args.zone}"
  return "\n".join([
      f"# {kind}: {hosts} hosts, a container on each. Once: pip install xpk; the cluster and its nodes (add --reservation=NAME or",
      "# --on-demand instead of --spot):",
      f"xpk cluster create --cluster={args.cluster} --tpu-type={kind} --num-slices=1 --spot {where}",
      "",
      mounted * bool(args.spool) + "# The run. 75 is a run that was stopped and has saved: it is started again, as after a lost host.",
      f"xpk workload create --cluster={args.cluster} --workload={args.name} --tpu-type={kind} --num-slices=1 {where} \\",
      f"  --docker-image={args.image} --max-restarts=50 --restart-on-exit-codes=75 \\",
      f"  --command={shlex.quote(_command(args, hosts))}",
      "",
      "# Watch, and delete:",
      f"xpk workload list --cluster={args.cluster} --filter-by-job={args.name} {where}",
      f"xpk workload delete --cluster={args.cluster} --workload={args.name} {where}"])


def gcloud(args: argparse.Namespace) -> str:
  """A queued resource, and the run on all its workers.

  Source: docs.cloud.google.com/tpu/docs/queued-resources and /jax-pods.
  """
  chip, kind, hosts = _tpu(args)
  where = f"--zone={args.zone} --project={args.project}"
  mounted = ", each with the spool mounted" if args.spool else ""
  ssh = f"gcloud compute tpus tpu-vm ssh {args.name} {where} --worker=all --command="
  install = shlex.quote("cd fields3d && python3 -m pip install --user uv && ~/.local/bin/uv venv --python 3.12 ~/venv && "
                        '~/.local/bin/uv pip install --python ~/venv/bin/python ".[tpu,gcs]"')
  again = f"until {_command(args, hosts)}; do code=$?; [ $code -eq 75 ] || exit $code; done"
  return "\n".join([
      f"# {kind}: {hosts} hosts. It waits in a queue until its state is ACTIVE.",
      f"gcloud compute tpus queued-resources create {args.name} --node-id={args.name} --accelerator-type={kind} \\",
      f"  --runtime-version={RUNTIMES[chip]} --spot {where}",
      f"gcloud compute tpus queued-resources describe {args.name} {where} --format='value(state.state)'",
      "",
      "# This checkout, with its experiments, onto every host, and a Python for it: the image's own is 3.10.",
      f"gcloud compute tpus tpu-vm scp --recurse --worker=all . {args.name}:fields3d {where}",
      f"{ssh}{install}",
      "",
      f"# The run, the same command on every host{mounted}; 75 is a run that was stopped and has saved.",
      f"{ssh}{shlex.quote('cd fields3d && PATH=$HOME/venv/bin:$PATH && ' + again)}",
      "",
      f"gcloud compute tpus queued-resources delete {args.name} --force {where}"])


def slurm(args: argparse.Namespace) -> str:
  """A batch file: one process a GPU, which JAX joins by SLURM's variables.

  Source: docs.jax.dev, jax.distributed.initialize; slurm.schedmd.com/sbatch.html.
  """
  from fields3d.commands.chips import read_topology
  topology = read_topology(args.topology or "h100:8")
  if topology.chip.platform == "tpu":
    raise UsageFault("--topology", f"{topology} is a TPU", "give GPUs such as h100:16, or --print gcloud-tpu")
  nodes, each = max(1, -(-topology.count // 8)), min(8, topology.count)
  if nodes * each != topology.count:
    raise UsageFault("--topology", f"{topology.count} GPUs are not whole nodes of 8", "give a multiple of 8, or fewer than 8")
  gpus = [f"#SBATCH --gpus-per-node={each}"] if topology.chip.platform == "cuda" else []
  return "\n".join([
      "#!/bin/bash", f"#SBATCH --job-name={args.name}", f"#SBATCH --nodes={nodes}", f"#SBATCH --ntasks-per-node={each}", *gpus,
      "#SBATCH --cpus-per-task=8", f"#SBATCH --time={args.hours}:00:00", "#SBATCH --signal=TERM@120", "#SBATCH --requeue",
      "#SBATCH --open-mode=append", f"#SBATCH --output={args.name}-%j.log", "",
      "# Of all tasks srun gives the highest code: swapped, one's own fault is above the others' 75, and death by a signal below.",
      TASK, "",
      "# SIGTERM comes to every process 120 s before the limit; the run saves, ends with 75, and the job is queued again.",
      "srun --cpus-per-task=8 --kill-on-bad-exit=0 bash -c \"$(declare -f swap task); task \\\"\\$@\\\"\" task "
      f"{_command(args, topology.count)}",
      "swap $?", "code=$?", "if [ $code -eq 75 ]; then scontrol requeue $SLURM_JOB_ID; fi", "exit $code"])


def local_commands(args: argparse.Namespace, count: int, port: int) -> list[tuple[dict[str, str], list[str]]]:
  """(variables, command) of each of `count` processes that make one run on this machine, on the CPU."""
  _check_spool(args, count)
  spool = {"FIELDS3D_SPOOL": args.spool} if args.spool else {}
  common = {**spool, "JAX_PLATFORMS": "cpu", "JAX_COORDINATOR_ADDRESS": f"127.0.0.1:{port}", "JAX_NUM_PROCESSES": str(count)}
  command = [sys.executable, "-m", "fields3d", *train_words(args, distributed=False)]
  return [({**common, "JAX_PROCESS_ID": str(i)}, command) for i in range(count)]


def _show(processes: list[tuple[dict[str, str], list[str]]]) -> int:
  for variables, command in processes:
    print(shlex.join(["env", *(f"{name}={value}" for name, value in variables.items()), "fields3d", *command[3:]]), "&")
  print("wait")
  return OK


def _start(processes: list[tuple[dict[str, str], list[str]]]) -> int:
  """Starts the processes and waits; signals go on to all, once, since a terminal's do not reach them. Returns their code together."""
  running = []

  def forward(number, frame):
    del frame
    for process in running:
      process.send_signal(number)

  numbers = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGQUIT)
  old = {number: signal.signal(number, forward) for number in numbers if signal.getsignal(number) != signal.SIG_IGN}
  deadline = None
  try:
    for variables, command in processes:
      running.append(subprocess.Popen(command, env={**os.environ, **variables}, process_group=0))
    while any(process.poll() is None for process in running):
      if deadline is None and any(process.poll() for process in running):
        deadline = time.monotonic() + GRACE
      if deadline is not None and time.monotonic() > deadline:
        break
      time.sleep(0.2)
  finally:
    for process in running:
      if process.poll() is None:
        process.kill()
        process.wait()
    for number, handler in old.items():
      signal.signal(number, handler)
  return _code([process.returncode for process in running])


def _code(codes: list[int]) -> int:
  """What a run's processes end with together: with one's own fault, since the others then end with 75; with 75; or as killed.

  >>> _code([75, 65, -9]), _code([75, -9]), _code([0, -9]), _code([0, 0])
  (65, 75, 137, 0)
  """
  if own := [code for code in codes if code > 0 and code != TryAgain.exit_code]:
    return max(own)
  return TryAgain.exit_code if TryAgain.exit_code in codes else max((128 - code for code in codes if code), default=OK)


def _free_port() -> int:
  with socket.socket() as probe:
    probe.bind(("127.0.0.1", 0))
    return probe.getsockname()[1]
