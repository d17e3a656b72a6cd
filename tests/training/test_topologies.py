"""A checkpoint belongs to no topology: what 8 devices saved is restored on 1, on 2 x 4, and by 2 processes, bit for bit."""

import collections

import numpy as np
import processes
import pytest


def states(folder):
  """{topology: [leaf]}, each leaf put together from the shards of all processes, every one of which must agree."""
  found = collections.defaultdict(dict)
  for said in (a for a in processes.answers(folder) if "leaf" in a):
    leaf = found[said["name"]].setdefault(said["leaf"], (np.zeros(said["shape"], said["dtype"]), np.zeros(said["shape"], int)))
    index = tuple(slice(*part) for part in said["index"])
    block = np.frombuffer(bytes.fromhex(said["content"]), said["dtype"]).reshape(leaf[0][index].shape)
    assert not leaf[1][index].any() or leaf[0][index].tobytes() == block.tobytes(), "replicas differ"
    leaf[0][index], leaf[1][index] = block, 1
  assert all(there.all() for leaves in found.values() for _, there in leaves.values()), "a part is nowhere"
  return {name: [leaves[number][0] for number in sorted(leaves)] for name, leaves in found.items()}


def ended_well(started, folder):
  codes = processes.end(started)
  assert set(codes) == {0}, [path.read_text()[-2000:] for path in sorted(folder.glob("err*"))]


@pytest.mark.parametrize(("saved_by", "saved_parallel", "restored"), [
    ((1, 8), 2, [((1, 1), [1]), ((1, 8), [1, 4, 8]), ((2, 4), [4, 1])]),
    pytest.param((2, 2), 4, [((1, 1), [1]), ((4, 1), [2])], marks=pytest.mark.slow),
    pytest.param((1, 1), 1, [((1, 8), [4]), ((2, 4), [2])], marks=pytest.mark.slow),
])
def test_a_checkpoint_restores_bit_equal_on_any_topology(tmp_path, saved_by, saved_parallel, restored):
  """Args: saved_by, restored: (processes, devices of each), and the devices along the model axis."""
  workdir = tmp_path / "run"
  command = processes.worker(workdir, steps=10, tables=True, settings={"model_parallel": saved_parallel})
  ended_well(processes.start(saved_by[0], command, saved_by[1], tmp_path), tmp_path)
  (want,) = states(workdir).values()
  assert len(want) > 8 and any(np.ptp(leaf) > 0 for leaf in want if leaf.size)
  for (count, devices), parallel in restored:
    for path in workdir.glob("answers*"):
      path.unlink()
    command = processes.worker(workdir, steps=10, tables=True, restore=parallel)
    ended_well(processes.start(count, command, devices, tmp_path), tmp_path)
    found = states(workdir)
    assert len(found) == len(parallel)
    for name, got in found.items():
      for one, two in zip(want, got, strict=True):
        assert one.dtype == two.dtype and one.tobytes() == two.tobytes(), name
      print(f"{saved_by[0]} processes of {saved_by[1]} devices -> {name}: {len(got)} leaves bit-equal")
