"""`fields3d launch`: what it prints names the right things and survives a shell; local processes start, end and are reported."""

import json
import os
import shlex
import signal
import subprocess
import sys

import processes
import pytest

from fields3d.commands import launch, main

WORDS = ["--spool", "/mnt/a b", "--config", "experiments/nerf/zip360.py", "--workdir", "gs://b/my run", "--config.data.path=it's here"]
TRAIN = ["env", "FIELDS3D_SPOOL=/mnt/a b", "fields3d", "train", "--config", "experiments/nerf/zip360.py", "--workdir", "gs://b/my run",
         "--distributed", "auto", "--config.data.path=it's here"]


def printed(capsys, target, *more):
  assert main.main(["launch", "--print", target, *WORDS, *more]) == 0
  return capsys.readouterr().out


@pytest.mark.parametrize("target", ["gke-xpk", "gcloud-tpu", "slurm", "local-3"])
def test_what_is_printed_is_shell_that_parses(target, capsys):
  done = subprocess.run(["bash", "-n"], input=printed(capsys, target), text=True, capture_output=True, check=False)
  assert done.returncode == 0, done.stderr


def test_slurm_starts_one_process_a_gpu_and_queues_a_stopped_run_again(capsys):
  text = printed(capsys, "slurm", "--topology", "h100:16", "--name", "zip")
  assert {"#SBATCH --nodes=2", "#SBATCH --ntasks-per-node=8", "#SBATCH --gpus-per-node=8", "#SBATCH --requeue"} <= set(text.splitlines())
  step = next(line for line in text.splitlines() if line.startswith("srun"))
  assert shlex.split(step)[-len(TRAIN):] == TRAIN and "-eq 75" in text and "srun --cpus-per-task=8 " in step


SRUN = """#!/bin/bash
# Three tasks, each signalled as SLURM does by default: its first process alone. Gives the highest of their codes.
worst=0
for i in 0 1 2; do SLURM_PROCID=$i "${@:3}" & tasks[i]=$!; done
if [ -n "$TELL" ]; then
  for i in 0 1 2; do until [ -e ready$i ]; do sleep 0.05; done; done
  kill -TERM ${tasks[@]}
fi
for i in 0 1 2; do wait ${tasks[i]}; code=$?; [ $code -gt $worst ] && worst=$code; done
exit $worst
"""
FIELDS3D = """#!/bin/bash
[ "${*: -1}" = "--config.data.path=it's here" ] || exit 64
if [ -n "$TELL" ]; then trap 'sleep 0.2; exit 75' TERM; : > ready$SLURM_PROCID; for ((i = 0; i < 1200; i++)); do sleep 0.05; done; fi
echo >> calls
codes=($CODES); code=${codes[${SLURM_PROCID:-$(wc -l < calls) - 1}]}
if [ $code = killed ]; then kill -9 $$; fi
exit $code
"""


def stubbed(folder, text, codes, tell=""):
  """(exit code, whether it was queued again) of a shell text whose commands are stand-ins."""
  for name, content in (("srun", SRUN), ("fields3d", FIELDS3D), ("scontrol", "#!/bin/bash\necho $* > queued\n")):
    (folder / name).write_text(content)
    (folder / name).chmod(0o755)
  variables = {**os.environ, "PATH": f"{folder}:{os.environ['PATH']}", "CODES": codes, "TELL": tell, "SLURM_JOB_ID": "7"}
  done = subprocess.run(["bash", "-c", text], env=variables, cwd=folder, capture_output=True, text=True, check=False)
  return done.returncode, (folder / "queued").exists()


@pytest.mark.parametrize(("codes", "want", "again"), [
    ("0 0 0", 0, False), ("75 75 75", 75, True), ("75 65 75", 65, False), ("2 75 75", 2, False), ("75 76 75", 76, False),
    ("75 killed 75", 75, True), ("75 killed 70", 70, False), ("0 killed 0", 137, False)])
def test_a_slurm_job_is_queued_again_unless_a_task_has_a_fault_of_its_own(tmp_path, capsys, codes, want, again):
  assert stubbed(tmp_path, printed(capsys, "slurm"), codes) == (want, again)


def test_the_signal_of_a_slurm_job_reaches_the_run_and_its_code_the_job(tmp_path, capsys):
  assert stubbed(tmp_path, printed(capsys, "slurm"), "", tell="yes") == (75, True)


@pytest.mark.parametrize("code", [0, 65, 70])
def test_a_host_starts_a_stopped_run_again_and_ends_with_its_code(tmp_path, capsys, code):
  loop = shlex.split(next(line for line in printed(capsys, "gcloud-tpu").splitlines() if "; do" in line))[-1]
  loop = loop.removeprefix("--command=").replace("cd fields3d && ", "")
  assert stubbed(tmp_path, loop, f"75 75 {code}")[0] == code
  assert (tmp_path / "calls").read_text() == "\n" * 3


@pytest.mark.parametrize(("topology", "kind"), [("v5e:16x16", "v5litepod-256"), ("v4:4x4x4", "v4-128"), ("v6e:2x4", "v6e-8")])
def test_tpus_have_the_clouds_names_and_the_whole_command(topology, kind, capsys):
  text = printed(capsys, "gke-xpk", "--topology", topology)
  assert f"--tpu-type={kind}" in text and "--restart-on-exit-codes=75" in text
  joined = shlex.split(next(part for part in text.split("\n\n") if "workload create" in part), comments=True)
  command = next(word for word in joined if word.startswith("--command="))
  assert shlex.split(command.removeprefix("--command=")) == TRAIN
  assert "--type=gcpfilestore" in text
  text = printed(capsys, "gcloud-tpu", "--topology", topology)
  assert f"--accelerator-type={kind}" in text and "queued-resources create" in text and "--worker=all" in text
  _, install, loop = (shlex.split(line)[-1].removeprefix("--command=") for line in text.splitlines() if "--worker=all" in line)
  assert shlex.split(install)[-1] == ".[tpu,gcs]"
  assert shlex.split(loop.partition("until ")[2].partition("; do")[0]) == TRAIN


def test_local_processes_are_numbered_and_share_an_address(capsys):
  lines = printed(capsys, "local-3").splitlines()
  assert len(lines) == 4 and lines[-1] == "wait"
  for i, line in enumerate(lines[:3]):
    words = shlex.split(line)
    assert f"JAX_PROCESS_ID={i}" in words and "JAX_NUM_PROCESSES=3" in words and words[-1] == "&" and words[:2] == TRAIN[:2]
    assert words[words.index("fields3d"):-1] == [w for w in TRAIN[2:] if w not in ("--distributed", "auto")]


@pytest.mark.parametrize("words", [["gke-xpk"], ["gcloud-tpu"], ["slurm"], ["local-2"]])
def test_several_processes_that_send_to_a_bucket_are_told_to_share_a_spool(words, capsys, monkeypatch):
  monkeypatch.delenv("FIELDS3D_SPOOL", raising=False)
  assert main.main(["launch", "--print", *words, *WORDS[2:]]) == 2
  lines = capsys.readouterr().err.splitlines()
  assert len(lines) == 1 and "give --spool DIR" in lines[0]
  one = {"slurm": ["--topology", "h100:1"], "local-2": ["--workdir", "runs/two"]}.get(*words, ["--topology", "v6e:2x4"])
  assert main.main(["launch", "--print", *words, *WORDS[2:], *one]) == 0
  assert "SPOOL" not in capsys.readouterr().out
  monkeypatch.setenv("FIELDS3D_SPOOL", "/mnt/set")
  assert main.main(["launch", "--print", *words, *WORDS[2:]]) == 0
  assert "FIELDS3D_SPOOL=/mnt/set" in capsys.readouterr().out


@pytest.mark.parametrize(("words", "says"), [
    (["--print", "slrum"], "did you mean 'slurm'?"), (["--run", "slurm"], "is printed"),
    (["--print", "slurm", "--topology", "v4:4x4x4"], "TPU"),
    (["--print", "gke-xpk", "--topology", "h100:8"], "no TPU"), (["--print", "slurm", "--topology", "h100:12"], "whole nodes"),
    (["--print", "gke-xpk", "--name", "Not A Name"], "--name"),
    (["--print", "slurm", "--hours=-5"], "--hours: '-5' is not a whole number of at least 0")])
def test_a_wrong_target_is_one_line_and_exit_2(words, says, capsys):
  assert main.main(["launch", *words, *WORDS]) == 2
  lines = capsys.readouterr().err.splitlines()
  assert len(lines) == 1 and says in lines[0]


@pytest.mark.parametrize(("codes", "want"), [((0, 0), 0), ((0, 75), 75), ((70, 75), 70), ((75, 2), 2), ((2, 66), 66)])
def test_the_code_of_local_processes_is_that_of_a_fault_before_that_of_a_stopped_one(codes, want):
  assert launch._start([({}, [sys.executable, "-c", f"raise SystemExit({code})"]) for code in codes]) == want


def test_a_killed_process_is_an_error_and_the_others_do_not_hang(monkeypatch):
  monkeypatch.setattr(launch, "GRACE", 0.5)
  die = f"import os; os.kill(os.getpid(), {int(signal.SIGKILL)})"
  assert launch._start([({}, [sys.executable, "-c", die]), ({}, [sys.executable, "-c", "import time; time.sleep(60)"])]) == 137


def test_a_terminals_interrupt_comes_once(tmp_path):
  count = """
import pathlib, signal, sys, time
came = []
signal.signal(signal.SIGINT, lambda *_: (came.append(1), pathlib.Path("came").touch()))
signal.signal(signal.SIGTERM, lambda *_: sys.exit(len(came) + 100))
pathlib.Path("ready").touch()
time.sleep(60)
"""
  start = ("import signal, sys; from fields3d.commands import launch; signal.signal(signal.SIGINT, signal.default_int_handler); "
           f"sys.exit(launch._start([({{}}, [sys.executable, '-c', {count!r}])]))")  # whoever started the suite may ignore interrupts
  launcher = subprocess.Popen([sys.executable, "-c", start], cwd=tmp_path, process_group=0)
  processes.wait_for((tmp_path / "ready").exists)
  os.killpg(launcher.pid, signal.SIGINT)
  processes.wait_for((tmp_path / "came").exists)
  launcher.terminate()
  assert launcher.wait(60) == 101


@pytest.mark.slow  # two processes that each compile
def test_two_local_processes_train_one_run(tmp_path):
  run = tmp_path / "two"
  code = main.main(["launch", "--run", "local-2", "--config", "experiments/deepsdf/quickstart.py:runlocal", "--workdir", str(run),
                    "--config.num_steps=3", "--config.data.rows=8", "--config.train.log_every=1"])
  assert code == 0
  rows = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
  assert {row["step"] for row in rows if "step" in row} >= {1, 2, 3}
