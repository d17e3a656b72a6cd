"""PVCNN: the stages of PVD's code, and lists that do not fit."""

import jax
import pytest

from fields3d.core.errors import UsageFault
from fields3d.networks.pvcnn import pvcnn

SMALL = dict(width=8, down=(8, 8), up=(8, 8), down_blocks=(1, 0), up_blocks=(1, 0), resolutions=(4, 2), centres=(6, 2),
             radii=(1.0, 2.0), attend=(0,))


def test_the_defaults_have_the_channels_of_pvds_code():
  params = jax.eval_shape(lambda key: pvcnn().init(key, (2048, 3), 0), jax.random.key(0))
  pvconvs = {name: [part["conv_0"]["w"].shape[3:] for k, part in sorted(stage.items()) if k.startswith("pvconv")]
             for name, stage in params.items() if name.startswith(("down", "up"))}
  assert pvconvs == {"down_0": [(64, 32), (32, 32)], "down_1": [(64, 64)], "down_2": [(128, 128)], "down_3": [],
                     "up_3": [(256, 256)] * 3, "up_2": [(256, 256)] * 3, "up_1": [(128, 128)] * 2, "up_0": [(64, 64)] * 2}
  widths = lambda shared: [layer["dense"]["w"].shape[1] for _, layer in sorted(shared.items())]
  assert [widths(params[f"down_{i}"]["gather"]) for i in range(4)] == [[32, 64], [64, 128], [128, 256], [256, 256, 512]]
  assert [widths(params[f"up_{i}"]["mix"]) for i in range(4)] == [[128, 128, 64], [256, 128], [256, 256], [256, 256]]
  assert widths(params["head"]) == [128]
  attending = [name for name, stage in params.items() for part in stage.values() if isinstance(part, dict) and "attend" in part]
  assert attending == ["down_1"]


@pytest.mark.parametrize("wrong, match", [(dict(radii=(1.0,)), "differ in length"), (dict(centres=(6, 6)), "decrease"),
                                          (dict(heads=3), "do not divide"), (dict(attend=(7,)), "attend: names stage 7")])
def test_lists_that_do_not_fit_are_faults(wrong, match):
  with pytest.raises(UsageFault, match=match):
    pvcnn(**SMALL | wrong)


@pytest.mark.parametrize("shape", [(6, 3), (8, 2), (8,), (4, 4, 4, 1)])
def test_what_is_no_cloud_of_more_points_than_the_first_stage_keeps_is_a_fault(shape):
  with pytest.raises(UsageFault, match="more than 6 points"):
    pvcnn(**SMALL).init(jax.random.key(0), shape, 0)
