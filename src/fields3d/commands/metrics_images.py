"""Measure images against others: two files, or two folders whose images have the same names.

PSNR, SSIM, and LPIPS where its weights are found (FIELDS3D_LPIPS), for each image and as mean and median with 95%
bootstrap intervals over the images.

examples:
  fields3d metrics images rendered/ photographs/ --background white
"""

import argparse

from fields3d.commands.options import existing_file, existing_path

HELP = "two images, or two folders of them"


def add_arguments(parser: argparse.ArgumentParser) -> None:
  parser.add_argument("prediction", type=existing_path, metavar="A", help="the image or folder to measure")
  parser.add_argument("truth", type=existing_path, metavar="B", help="the image or folder to measure it by")
  parser.add_argument("--background", choices=("white", "black"), default="white",
                      help="under transparent pixels (default %(default)s)")
  parser.add_argument("--mask", type=existing_path, metavar="M",
                      help="an image, or a folder of them by name, black where pixels do not count")
  parser.add_argument("--lpips", type=existing_file, metavar="FILE", help="LPIPS's weights (default: $FIELDS3D_LPIPS)")


def measure(args: argparse.Namespace) -> tuple:
  """Title, metrics, warnings, and what else the JSON holds; prints the images' own figures."""
  from fields3d.commands.image_pairs import compare_images, pairs, print_rows
  rows, protocol, found, warnings = compare_images(pairs(args.prediction, args.truth, args.mask), args.background,
                                                   args.lpips, args.seed)
  if not args.json and len(rows) > 1:
    print_rows(rows)
  own = [{"name": row.name, "status": row.status, **{m.name: m.value for m in row.metrics}} for row in rows]
  title = f"{args.prediction} against {args.truth} [{protocol}]"
  return title, found, warnings, {"protocol": protocol, "images": own}
