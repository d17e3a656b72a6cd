"""Configs: every bad one is one line that names the setting and the remedy, and writes nothing."""

import json
import pathlib

import pytest

from fields3d.commands.experiment import check_same_run, differences, read_config
from fields3d.commands.main import main
from fields3d.core.errors import UsageFault

QUICKSTART = pathlib.Path(__file__).parents[2] / "experiments" / "deepsdf" / "quickstart.py"
SMALL = ["--config.num_steps=2", "--config.data.num_shapes=1", "--config.data.families=mug"]


def train(workdir, *flags, config=f"{QUICKSTART}:runlocal"):
  return main(["train", "--config", str(config), "--workdir", str(workdir), *flags])


@pytest.mark.parametrize("flag, says", [
    ("--config.task.field.widht=3", "--config.task.field.widht: no such setting; did you mean 'width'?"),
    ("--config.optim.field.learning_rate=nan", "--config.optim.field.learning_rate"),
    ("--config.optim.field.learning_rate=-1", "-1 is out of range; give a number at least 0"),
    ("--config.data.rows=0", "--config.data.rows: 0 is out of range; give a number at least 1"),
    ("--config.data.rows=many", "--config.data.rows: expected int"),
    ("--config.data.rows=1000000000", "GiB"),
    ("--config.extract_resolution=0", "--config.extract_resolution: 0 is out of range"),
    ("--config.num_steps=-1", "--config.num_steps: -1 is out of range"),
    ("--config.seed=4294967296", "--config.seed: 4294967296 is out of range"),
    ("--config.taks.field=3", "--config.taks: no such setting; did you mean 'task'?"),
    ("--config.train.shardign.mode=fsdp", "--config.train.shardign: no such setting; did you mean 'sharding'?"),
    ("--config.train.sharding.mod=fsdp", "--config.train.sharding.mod: no such setting; did you mean 'mode'?"),
    ("--config.evals.train.name=geometri", "did you mean 'geometry'?"),
    ("--config.data.families=chiar", "did you mean 'chair'?"),
    ("--config.task.curriculum.eikonl=0.1", "did you mean 'eikonal'?"),
    ("--config.train.spike_factor=0.5", "--config.train.spike_factor: 0.5 is out of range"),
])
def test_a_bad_setting_is_one_line_and_nothing_is_written(flag, says, tmp_path, capsys):
  assert train(tmp_path / "run", flag) == 2
  error = capsys.readouterr().err
  assert says in error and error.count("\n") == 1
  assert not (tmp_path / "run").exists()


CONFIG = "import numpy\nfrom ml_collections import ConfigDict\n\ndef get_config(arg=None):\n  return ConfigDict(dict(data=[{}]))"


@pytest.mark.parametrize("name, text, code, says", [
    ("a.yaml", "!!python/object/apply:os.system ['touch pwned']", 2, "a config is a Python file, not .yaml"),
    ("a.py", "x = 1", 2, "has no get_config(arg=None)"),
    ("a.py", "def get_config(arg=None):\n  return 1 / 0", 2, "a.py:2: the config fails: ZeroDivisionError"),
    ("a.py", "def get_config(arg=None):\n  return {}", 2, "get_config returns a dict, not a ConfigDict"),
    ("a.py", CONFIG.format({(1, 2): 3}), 2, "a.py: the config holds what cannot be kept: keys must be str"),
    ("a.py", CONFIG.format("[numpy.int64(3)]"), 2, "a.py: the config holds what cannot be kept: a int64"),
    ("a.py", CONFIG.format("10 ** 5000"), 2, "a.py: the config holds what cannot be kept: Exceeds the limit"),
    ("a.py", "def broken(:", 2, "the config fails: SyntaxError"),
    ("none.py", None, 66, "no such config file"),
])
def test_a_bad_config_file_is_one_line(name, text, code, says, tmp_path, capsys):
  if text is not None:
    (tmp_path / name).write_text(text)
  assert train(tmp_path / "run", config=tmp_path / name) == code
  error = capsys.readouterr().err
  assert says in error and error.count("\n") == 1


def test_a_directory_with_another_run_is_refused_with_the_difference(tmp_path, capsys):
  run = tmp_path / "run"
  assert train(run, *SMALL) == 0
  before = sorted(p.name for p in (run / "checkpoints").iterdir())
  assert train(run, *SMALL, "--config.seed=7") == 2
  assert "seed: 0 -> 7" in capsys.readouterr().err
  assert before == sorted(p.name for p in (run / "checkpoints").iterdir())
  assert json.loads((run / "config.json").read_text())["config"]["seed"] == 0


def test_a_start_that_failed_leaves_the_directory_to_its_remedy(tmp_path, capsys):
  parts = [*SMALL, "--config.train.accumulate=2"]
  assert train(tmp_path / "run", *parts, "--config.data.rows=3") == 2
  assert "give a multiple of 8" in capsys.readouterr().err
  assert train(tmp_path / "run", *parts, "--config.data.rows=8") == 0
  assert train(tmp_path / "run", *parts, "--config.data.rows=16") == 2
  assert "data.rows: 8 -> 16" in capsys.readouterr().err


def test_checkpoints_without_their_config_are_not_taken_over(tmp_path, capsys):
  run = tmp_path / "run"
  assert train(run, *SMALL) == 0
  (run / "config.json").unlink()
  assert train(run, *SMALL, "--config.seed=7", "--config.num_steps=4") == 66
  assert f"{run / 'config.json'}: is not there, and checkpoints are" in capsys.readouterr().err
  assert not (run / "config.json").exists()


def test_damaged_lines_of_the_log_are_counted_and_do_not_stop_a_run(tmp_path, capsys):
  run = tmp_path / "run"
  assert train(run, *SMALL) == 0
  with (run / "metrics.jsonl").open("a") as log:
    log.write('{"step": "x", "time": 1}\nrubbish\n{"step": 2, "ti')
  assert train(run, *SMALL, "--config.num_steps=3") == 0
  assert "metrics.jsonl: 2 damaged lines are left out" in capsys.readouterr().out


@pytest.mark.parametrize("change", [{"optim": 5}, {"evals": [1]}, {"evals": {"x": 5}}, {"data": 5}, {"train": "a"}])
def test_a_config_whose_sections_are_none_is_bad_data_with_its_name(change, tmp_path, capsys):
  content = {"config": {"data": {}, "task": {}, "optim": {}} | change, "source": "x", "overrides": []}
  (tmp_path / "config.json").write_text(json.dumps(content))
  for command in (["sample"], ["evaluate"], ["inspect", "run"]):
    assert main([*command, str(tmp_path)]) == 65
    assert f"{tmp_path / 'config.json'}: is not a run's config" in capsys.readouterr().err


def test_a_run_may_be_lengthened_and_says_so_but_not_shortened(tmp_path, capsys):
  run = tmp_path / "run"
  assert train(run, *SMALL) == 0
  assert train(run, *SMALL, "--config.num_steps=3") == 0
  assert "num_steps: 2 -> 3" in capsys.readouterr().out
  assert train(run, *SMALL, "--config.num_steps=1") == 2
  assert "--config.num_steps: 1 is less than the 3 steps that the run has done; give 3 or more" in capsys.readouterr().err
  assert json.loads((run / "config.json").read_text())["config"]["num_steps"] == 3


def test_names_with_spaces_and_other_alphabets_work(tmp_path):
  run = tmp_path / "Läufe 模型" / "a b"
  assert train(run, *SMALL) == 0 and main(["inspect", "run", str(run)]) == 0


def test_a_name_too_long_and_a_file_in_the_way_cannot_be_written(tmp_path, capsys):
  (tmp_path / "file").write_text("")
  assert train(tmp_path / ("x" * 300), *SMALL) == 73
  assert train(tmp_path / "file" / "run", *SMALL) == 73
  assert train(tmp_path / "file", *SMALL) == 73
  assert capsys.readouterr().err.count("\n") == 3


def test_weights_of_another_library_are_refused_not_opened(tmp_path, capsys):
  (tmp_path / "model.pth").write_bytes(b"\x80\x02cos\nsystem\n")
  assert train(tmp_path / "run", *SMALL, f"--config.init_from={tmp_path / 'model.pth'}") == 65
  assert "pickle" in capsys.readouterr().err


def test_a_transfer_lists_what_was_taken_and_what_was_not(tmp_path, capsys):
  assert train(tmp_path / "one", *SMALL) == 0
  assert train(tmp_path / "two", *SMALL, f"--config.init_from={tmp_path / 'one'}", "--config.data.num_shapes=3",
               "--config.task.field.depth=5") == 0
  text = capsys.readouterr().out
  assert "reshaped field/codes: rows 0 to 0 of 1 there into 3 here" in text
  assert "taken field/decoder/network/layer_0" in text and "left field/decoder/network/layer_" in text


def test_a_transfer_of_nothing_is_refused(tmp_path, capsys):
  other = str(pathlib.Path(__file__).parents[2] / "experiments" / "classic" / "point_gan.py:runlocal")
  assert main(["train", "--config", other, "--workdir", str(tmp_path / "one"), "--config.num_steps=1"]) == 0
  assert train(tmp_path / "two", *SMALL, f"--config.init_from={tmp_path / 'one'}") == 2
  assert "gives none of this config's parameters" in capsys.readouterr().err


def test_a_group_that_is_not_trained_must_come_whole_from_another_run(tmp_path, capsys):
  configs = pathlib.Path(__file__).parents[2] / "experiments" / "generative"
  codes, prior = (f"{configs / name}.py:runlocal" for name in ("deepsdf_codes", "code_prior"))
  prior = ["train", "--config", prior, "--workdir", str(tmp_path / "prior"), "--config.num_steps=1"]
  assert main([*prior, "--config.init_from=None"]) == 2 and not (tmp_path / "prior").exists()
  assert "--config.init_from: is not set, and the task does not train field" in capsys.readouterr().err
  base = tmp_path / "base"
  assert main([*prior, f"--config.init_from={base}"]) == 66 and not (tmp_path / "prior").exists()
  assert f"--config.init_from: {base} is not there; train that run first" in capsys.readouterr().err
  assert main(["train", "--config", codes, "--workdir", str(base), "--config.num_steps=1", "--config.data.num_shapes=6"]) == 0
  assert main([*prior, f"--config.init_from={base}"]) == 2
  assert "does not give field/codes, which is not trained here" in capsys.readouterr().err


def test_differences_that_change_the_path_of_a_run_are_harmful():
  old = {"seed": 0, "num_steps": 5, "train": {"keep": 3, "accumulate": 1}}
  assert check_same_run(old, {**old, "num_steps": 9}, pathlib.Path("run")) == ["num_steps: 5 -> 9"]
  assert differences(old, old) == []
  with pytest.raises(UsageFault, match="train.accumulate: 1 -> 2"):
    check_same_run(old, {**old, "train": {"keep": 3, "accumulate": 2}}, pathlib.Path("run"))


def test_a_variant_config_imports_its_parent(tmp_path):
  (tmp_path / "parent_for_test.py").write_text(
      "from ml_collections import ConfigDict\ndef get_config(arg=None):\n  return ConfigDict({'num_steps': 5, 'seed': 1})\n")
  (tmp_path / "variant.py").write_text(
      "import parent_for_test\ndef get_config(arg=None):\n  c = parent_for_test.get_config(arg)\n  c.seed = 2\n  return c\n")
  assert read_config(str(tmp_path / "variant.py")) == {"num_steps": 5, "seed": 2}
