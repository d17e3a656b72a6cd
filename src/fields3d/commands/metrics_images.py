"""Measure images against others: two files, or two folders whose images have the same names.

PSNR, SSIM, and LPIPS where its weights are found (FIELDS3D_LPIPS), for each image and as mean and median with 95%
bootstrap intervals over the images.

--protocol names the figures after a published table's protocol, once the images are what it asks for: their size, the
background, how many (fields3d metrics --protocols).

examples:
  fields3d metrics images rendered/ photographs/ --background white
  fields3d metrics images rendered/ nerf_synthetic/mic/test/ --protocol nerf_synthetic
"""

import argparse
import dataclasses

from fields3d.commands.options import existing_file, existing_path

HELP = "two images, or two folders of them"
PROTOCOLS = ("nerf_synthetic", "llff")


def add_arguments(parser: argparse.ArgumentParser) -> None:
  parser.add_argument("prediction", type=existing_path, metavar="A", help="the image or folder to measure")
  parser.add_argument("truth", type=existing_path, metavar="B", help="the image or folder to measure it by")
  parser.add_argument("--background", choices=("white", "black"), default="white",
                      help="under transparent pixels (default %(default)s)")
  parser.add_argument("--mask", type=existing_path, metavar="M",
                      help="an image, or a folder of them by name, black where pixels do not count")
  parser.add_argument("--lpips", type=existing_file, metavar="FILE", help="LPIPS's weights (default: $FIELDS3D_LPIPS)")
  parser.add_argument("--protocol", choices=PROTOCOLS, help="the published table's whose figures these are")


def measure(args: argparse.Namespace) -> tuple:
  """Title, metrics, warnings, and what else the JSON holds; prints the images' own figures."""
  from fields3d.commands.image_pairs import compare_images, pairs, print_rows
  rows, protocol, found, warnings = compare_images(pairs(args.prediction, args.truth, args.mask), args.background,
                                                   args.lpips, args.seed)
  if args.protocol:
    from fields3d.evaluation.protocols import IMAGE_PROTOCOLS, image_words
    sizes = [tuple(map(int, row.label.split("x"))) for row in rows]
    named = f"{image_words(args.protocol, sizes, args.background)}, {protocol}"
    words = IMAGE_PROTOCOLS[args.protocol].words
    found = [dataclasses.replace(m, name=m.name.replace(f"[{protocol}]", f"[{named}]"),
                                 protocol=f"{m.protocol}; {words}") for m in found]
    protocol = named
  if not args.json and len(rows) > 1:
    print_rows(rows)
  own = [{"name": row.name, "status": row.status, **{m.name: m.value for m in row.metrics}} for row in rows]
  title = f"{args.prediction} against {args.truth} [{protocol}]"
  return title, found, warnings, {"protocol": protocol, "images": own}
