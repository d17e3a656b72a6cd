"""The report's part on views: the worst, median and best beside their photographs, and PSNR against training time."""

import base64
import html
import io
import pathlib
from collections.abc import Collection, Mapping, Sequence
from typing import Any

import numpy as np
from PIL import Image

from fields3d.evaluation.curves import Series
from fields3d.evaluation.image_set import landmarks
from fields3d.evaluation.report_tables import number
from fields3d.evaluation.results import Row

CURVE_FILE = "eval/curve.json"  # In a run directory; `curve_series` says what it holds.
PICTURES = (".png", ".jpg", ".jpeg", ".webp")
NUM_OTHERS = 60  # Other pictures of an evaluation that are shown.
NUM_PICTURED = 12  # Views whose comparisons are shown, besides the worst, the median and the best.
_WIDTH = 1200  # Pixels of a comparison in the page, at most.


def embedded(path: pathlib.Path, text: str, width: int | None = None) -> str:
  """An <img> that holds a picture as WebP, at most `width` pixels wide. `text` (escaped already) says what it shows."""
  with Image.open(path) as file:
    picture = file if width is None else file.convert("RGB")
    if width is not None:
      picture.thumbnail((width, width), Image.Resampling.BOX)
    packed = io.BytesIO()
    picture.save(packed, "WEBP", quality=86)
    size = picture.size
  data = base64.b64encode(packed.getvalue()).decode()
  return f'<img src="data:image/webp;base64,{data}" width="{size[0]}" height="{size[1]}" alt="{text}">'


def view_pictures(section: str, here: pathlib.Path, rows: Sequence[Row]) -> str:
  """The comparisons of an evaluation's landmarks and first views; `here` holds their files."""
  known = landmarks(rows)
  words = {row.index: word for word, row in known.items()}
  chosen = [*known.values(), *(row for row in rows[:NUM_PICTURED] if row.index not in words)]
  shown = "".join(_comparison(here, row, words.get(row.index, "")) for row in {r.index: r for r in chosen}.values()
                  if "comparison" in row.files)
  if not shown:
    return ""
  name = html.escape(section)
  return f"""<section aria-labelledby="views-{name}"><h2 id="views-{name}">Views: {name}</h2>
<p class="lead">Prediction, photograph, and the mean absolute error of the channels, from 0 (black) to 0.1 (yellow).</p>
<div class="views">{shown}</div></section>"""


def other_pictures(section: str, here: pathlib.Path, rows: Sequence[Row], known: Collection[str]) -> str:
  """The pictures of an evaluation whose kinds are not `known`: sheets, plots, whatever rows hold; nothing without any."""
  found = [(row, kind, here / file) for row in rows for kind, file in row.files.items()
           if kind not in known and file.lower().endswith(PICTURES)]
  if not found:
    return ""
  shown = "".join(f"<figure>{embedded(path, html.escape(f'{row.name}: {kind}'), _WIDTH)}<figcaption><span>"
                  f"{html.escape(row.name)} <b>{html.escape(kind.replace('_', ' '))}</b></span></figcaption></figure>"
                  for row, kind, path in found[:NUM_OTHERS])
  left = f"The first {NUM_OTHERS} of {len(found)}." if len(found) > NUM_OTHERS else ""
  name = html.escape(section)
  return (f'<section aria-labelledby="pictures-{name}"><h2 id="pictures-{name}">Pictures: {name}</h2>'
          f'<p class="lead">{left}</p><div class="views">{shown}</div></section>')


def _comparison(here: pathlib.Path, row: Row, word: str) -> str:
  name = html.escape(row.name)
  scores = " · ".join(f"{m.name.partition('_')[0].upper()} {number(m.value)}" for m in row.metrics)
  picture = embedded(here / row.files["comparison"], f"{name}: prediction, photograph, error", _WIDTH)
  return (f'<figure>{picture}<figcaption><span>{name}{f" <b>{word}</b>" if word else ""}</span>'
          f"<output>{scores}</output></figcaption></figure>")


def curve_series(record: Mapping[str, Any] | None) -> list[Series]:
  """PSNR against training seconds, of `CURVE_FILE`'s content: {"name", "points": [{"step", "seconds", "value"}...]}."""
  if record is None:
    return []
  points = [point for point in record["points"] if point["value"] is not None]
  seconds, values = (np.array([point[key] for point in points], np.float64) for key in ("seconds", "value"))
  return [Series(record["name"], np.rint(seconds).astype(np.int64), values, "second")] if len(points) > 1 else []


def curve_table(record: Mapping[str, Any] | None) -> str:
  """The same as a table, nothing without a record."""
  if record is None:
    return ""
  body = "".join(f"<tr><td>{p['step']:,}</td><td>{p['seconds']:,.0f}</td><td><b>{number(p['value'])}</b></td></tr>"
                 for p in record["points"])
  return f"""<section aria-labelledby="quality"><h2 id="quality">Quality against training time</h2>
<p class="lead">{html.escape(record["name"])}</p>
<div class="scroll"><table><thead><tr><th scope="col">Step</th><th scope="col">Training seconds</th>
<th scope="col">Value</th></tr></thead><tbody>{body}</tbody></table></div></section>"""
