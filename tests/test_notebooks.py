"""Notebooks hold no outputs, and run on a small finished run."""

import pathlib

import nbclient
import nbformat
import pytest

from fields3d.commands.main import main

ROOT = pathlib.Path(__file__).parents[1]
NOTEBOOKS = sorted((ROOT / "notebooks").glob("*.ipynb"))


RUNS = {  # config -> what else it is told
  "deepsdf/quickstart.py": ["--config.data.families=car", "--config.data.num_shapes=2", "--config.num_steps=400",
                            "--config.optim.field.learning_rate=0.003"],
  "classic/point_gan.py": ["--config.num_steps=4"],
}


@pytest.fixture(scope="module", params=RUNS, ids=lambda name: name.partition("/")[0])
def finished_run(request, tmp_path_factory):
  run = tmp_path_factory.mktemp("notebook") / "run"
  config = ROOT / "experiments" / request.param
  assert main(["train", "--config", f"{config}:runlocal", "--workdir", str(run), *RUNS[request.param]]) == 0
  assert main(["evaluate", str(run)]) == 0
  (run / "eval" / "curve.json").write_text("{}")  # as evaluate --curve leaves beside the records
  return run


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_every_notebook_holds_no_outputs(path):
  notebook = nbformat.read(path, as_version=4)
  assert not any(cell.get("outputs") or cell.get("execution_count") for cell in notebook.cells)


@pytest.mark.filterwarnings("ignore")  # of the kernel's own start-up
@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_every_notebook_runs_on_a_small_run(path, finished_run, monkeypatch):
  monkeypatch.setenv("FIELDS3D_RUN", str(finished_run))
  monkeypatch.setenv("FIELDS3D_RESOLUTION", "24")
  notebook = nbformat.read(path, as_version=4)
  client = nbclient.NotebookClient(notebook, timeout=300, resources={"metadata": {"path": str(path.parent)}})
  client.execute()
  assert any(cell.get("outputs") for cell in notebook.cells)
