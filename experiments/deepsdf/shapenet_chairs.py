"""DeepSDF on ShapeNet chairs with every hyperparameter of the paper, for a pod or a large GPU.

Source: Park et al. 2019, "DeepSDF", section 5 and the authors' code: 8 layers of 512, latent 256, skip at 4, weight
  norm, dropout 0.2, tanh, clamp 0.1, code regulariser 1e-4 warmed up over 100 epochs, codes N(0, 1/256) with norm at
  most 1, Adam 5e-4 and 1e-3 halved every 500 epochs, 2,001 epochs of 64 shapes x 16,384 samples, half inside and half
  outside. The official split has 3,281 training and 832 test chairs.
Blocks: none, so that chips sum their gradients once a step and not once a block; at a shape a chip of a v5e that takes 0.3 of
  16 GiB. One device that all 64 shapes do not fit wants --config.task.block=1024.
Expect: not run here (no ShapeNet, no pod). Table 3 prints a chamfer (x 1000) of 0.204 mean and 0.072
  median for chairs; the authors' rerun of their released code 0.157 and 0.062.

  fields3d train --config experiments/deepsdf/shapenet_chairs.py --workdir runs/shapenet_chairs \\
      --config.data.path=DATA --config.data.train=TRAIN.json --config.data.test=TEST.json --config.data.meshes=SHAPENET
  fields3d train --config experiments/deepsdf/shapenet_chairs.py:runlocal --workdir runs/local      (seconds)

DATA is DeepSDF's own data folder (SdfSamples/, NormalizationParameters/), TRAIN.json and TEST.json its splits,
SHAPENET the meshes that test shapes are compared with. With :runlocal the embedded
procedural chairs stand in for it, all else being equal but the sizes.
"""

from ml_collections import ConfigDict

TRAIN_SHAPES, SHAPES_A_BATCH, EPOCHS = 3281, 64, 2001
VARIANTS = ("runlocal",)


def get_config(arg=None):
  local = arg == "runlocal"
  epoch = 2 if local else TRAIN_SHAPES // SHAPES_A_BATCH  # steps; the last, smaller batch of an epoch is dropped
  config = ConfigDict()
  config.seed = 0
  config.num_steps = 8 if local else EPOCHS * epoch
  config.data = (
      dict(name="procedural", families=("chair",), num_shapes=8, num_test=0, num_val=0, samples_per_shape=4000, rows=4,
           points=64)
      if local else
      dict(name="deepsdf", path="data/shapenet", train="data/shapenet/sv2_chairs_train.json",
           test="data/shapenet/sv2_chairs_test.json", meshes="data/shapenet/ShapeNetCore.v2", rows=SHAPES_A_BATCH,
           points=16_384))
  halved = lambda rate: dict(name="staircase", value=rate, factor=0.5, every=500 * epoch)
  config.task = dict(
      name="fit_sdf", clamp=0.1, code_bound=1.0, block=64 if local else None,
      field=dict(name="deepsdf", width=32 if local else 512, depth=8, skip=4, code_dim=8 if local else 256, channels=1,
                 dropout=0.2, weight_norm=True),
      curriculum=dict(distance=1.0, code=dict(name="linear", start=0.0, end=1e-4, steps=100 * epoch)),
      reconstruct=dict(steps=20 if local else 800, samples=64 if local else 8000))
  config.optim = dict(field=dict(name="adam", learning_rate=halved(5e-4), learning_rates=dict(codes=halved(1e-3))))
  config.evals = dict(unseen=dict(
      name="geometry", split="train" if local else "test", codes="code" if local else "reconstruct",
      resolution=32 if local else 256, points=1000 if local else 30_000, iou_points=1000 if local else 100_000,
      baseline="none" if local else "nearest_training_shape"))
  config.train = dict(log_every=1 if local else 50, checkpoint_every=4 if local else 1000)
  config.extract_resolution = 32 if local else 256
  return config
