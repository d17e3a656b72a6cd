"""Families of household objects and vehicles: named parameters with ranges, and the parts that they make.

Each part's distance is exact outside, so each object's is. Inside, the distance falls short of the true depth where
parts overlap: over 8 objects of each family, by 0.0001 to 0.0033 in the mean and by 0.07 at most, against a fine mesh.
Objects stand on y = 0, face +z and are about 2 across; nothing is thinner than 0.05 once scaled to the unit sphere, so
that a small network can learn it.
"""

import dataclasses
import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from fields3d.data.solids import Color, Part
from fields3d.geometry.primitives import (
  Sdf,
  arc,
  box,
  capped_cone,
  capsule,
  complement,
  cup,
  cylinder,
  ellipsoid,
  elongate,
  intersection,
  mirror,
  offset,
  permute,
  prism,
  rotate,
  round_cone,
  rounded_box,
  slab,
  sphere,
  translate,
  union,
)

Parameters = Mapping[str, Any]


@dataclasses.dataclass(frozen=True)
class Uniform:
  """A real parameter, uniform between two ends."""
  low: float
  high: float

  def draw(self, rng: np.random.Generator) -> float:
    return float(rng.uniform(self.low, self.high))


@dataclasses.dataclass(frozen=True)
class Choice:
  """A discrete parameter: each option as likely as the next."""
  options: Sequence[Any]

  def draw(self, rng: np.random.Generator) -> Any:
    return self.options[int(rng.integers(len(self.options)))]


@dataclasses.dataclass(frozen=True)
class Family:
  """A kind of object: its parameters, and the parts that a value of each makes."""
  parameters: Mapping[str, Uniform | Choice]
  build: Callable[[Parameters], Sequence[Part]]

  def draw(self, rng: np.random.Generator) -> dict[str, Any]:
    """One value of every parameter, in their order."""
    return {name: parameter.draw(rng) for name, parameter in self.parameters.items()}


WOOD: tuple[Color, ...] = ((193, 140, 86), (141, 92, 54), (222, 184, 135), (92, 61, 41), (238, 234, 225), (58, 60, 66))
FABRIC: tuple[Color, ...] = ((201, 82, 66), (45, 112, 143), (231, 178, 72), (105, 145, 101), (135, 104, 158),
                             (226, 216, 200))
METAL: tuple[Color, ...] = ((188, 192, 198), (74, 78, 86), (203, 164, 94), (184, 115, 81))
PAINT: tuple[Color, ...] = ((206, 48, 48), (34, 98, 172), (240, 186, 46), (38, 132, 104), (228, 120, 52), (232, 232, 230),
                            (112, 76, 148))
GLAZE: tuple[Color, ...] = ((62, 122, 158), (206, 92, 74), (236, 190, 92), (110, 152, 112), (240, 234, 222),
                            (84, 72, 102))
CREAM, GLASS, RUBBER, CHROME = (246, 241, 230), (52, 72, 94), (44, 45, 50), (205, 208, 212)
GLOW, LAMP_RED, ENGINE_DARK = (255, 226, 140), (190, 30, 36), (52, 55, 62)


def _chair(p: Parameters) -> list[Part]:
  w, d, t, h, r = p["seat_width"] / 2, p["seat_depth"] / 2, p["seat_thickness"] / 2, p["leg_height"], p["leg_radius"]
  parts = [Part("seat", translate(rounded_box((w, t, d), 0.035), (0, h, 0)), p["fabric"])]
  x, z = w - r - 0.02, d - r - 0.02
  if p["legs"] == "pedestal":
    column, foot = cylinder(1.3 * r, h / 2), cylinder(0.85 * min(w, d), 0.045, rounding=0.03)
    leg = union(translate(column, (0, h / 2, 0)), translate(foot, (0, 0.045, 0)))
  else:
    leg = mirror({
        "round": translate(cylinder(r, h / 2, rounding=0.02), (x, h / 2, z)),
        "square": translate(rounded_box((r, h / 2, r), 0.015), (x, h / 2, z)),
        "splayed": round_cone((x - 0.05, h + min(0, t - 1.3 * r), z - 0.05), (x + 0.05, 0.8 * r, z + 0.03), 1.15 * r, 0.8 * r),
    }[p["legs"]], "xz")
  parts.append(Part("legs", leg, p["wood"]))
  parts += _chair_back(p["back"], w, p["back_height"], p["wood"], p["fabric"], (0, h, 0.05 - d), p["back_tilt"])
  if p["arms"]:
    lean = math.tan(p["back_tilt"]) * 0.33
    rest = translate(rounded_box((0.05, 0.035, d + lean / 2 - 0.05), 0.03), (w - 0.05, h + 0.33, 0.03 - lean / 2))
    post = translate(rounded_box((0.04, 0.165, 0.04), 0.02), (w - 0.05, h + 0.165, d - 0.1))
    parts.append(Part("arms", mirror(union(rest, post), "x"), p["wood"]))
  return parts


def _chair_back(style: str, w: float, height: float, wood: Color, fabric: Color, hinge, tilt: float) -> list[Part]:
  posts = mirror(translate(rounded_box((0.045, height / 2, 0.045), 0.02), (w - 0.045, height / 2, 0)), "x")
  rail = rounded_box((w, 0.065, 0.045), 0.025)
  pieces: dict[str, list[tuple[str, Sdf, Color]]] = {
      "panel": [("back", translate(rounded_box((w, height / 2, 0.05), 0.04), (0, height / 2, 0)), fabric)],
      "round": [("back", translate(_stadium(w, height / 2, 0.05), (0, height / 2, 0)), fabric)],
      "slats": [
          ("back", union(posts, translate(rail, (0, height - 0.065, 0))), wood),
          ("slats", union(*[translate(rounded_box((0.05, height / 2 - 0.05, 0.035), 0.02), (x, height / 2 - 0.03, 0))
                            for x in (-0.5 * w, 0.0, 0.5 * w)]), fabric)],
      "ladder": [
          ("back", posts, wood),
          ("slats", union(*[translate(rail, (0, y * height - 0.065, 0)) for y in (0.42, 0.71, 1.0)]), fabric)],
  }
  return [Part(label, translate(rotate(sdf, "x", -tilt), hinge), color) for label, sdf, color in pieces[style]]


def _stadium(w: float, h: float, t: float) -> Sdf:
  """A disc of the xy-plane drawn to half sizes w and h, of half thickness t."""
  radius = min(w, h)
  return elongate(permute(cylinder(radius, t, rounding=0.035), "xzy"), (w - radius, h - radius, 0))


def _table(p: Parameters) -> list[Part]:
  a, b, t, h, r = p["width"] / 2, p["depth"] / 2, p["thickness"] / 2, p["height"], p["leg_radius"]
  if p["top"] == "round":
    a = b = (a + b) / 2
  top = {
      "square": rounded_box((a, t, b), 0.03),
      "round": cylinder(a, t, rounding=0.03),
      "oval": elongate(cylinder(b, t, rounding=0.03), (a - b, 0, 0)),
  }[p["top"]]
  x, z = {"square": (a - r - 0.03, b - r - 0.03), "round": (0.56 * a, 0.56 * a), "oval": (a - 0.45 * b, 0.6 * b)}[p["top"]]
  parts = [Part("top", translate(top, (0, h, 0)), p["wood"])]
  if p["legs"] == "pedestal":
    column = translate(cylinder(1.6 * r, h / 2), (0, h / 2, 0))
    foot = translate(offset(capped_cone(0.7 * b, 2.2 * r, 0.03), 0.035), (0, 0.065, 0))
    return parts + [Part("legs", union(column, foot), p["frame"])]
  if p["legs"] == "trestle":
    panel = translate(rounded_box((0.05, h / 2, z), 0.02), (x - 0.03, h / 2, 0))
    beam = translate(rounded_box((x - 0.03, 0.06, 0.04), 0.02), (0, 0.45 * h, 0))
    return parts + [Part("legs", mirror(panel, "x"), p["frame"]), Part("shelf", beam, p["frame"])]
  leg = {
      "round": translate(cylinder(r, h / 2, rounding=0.02), (x, h / 2, z)),
      "square": translate(rounded_box((r, h / 2, r), 0.015), (x, h / 2, z)),
      "splayed": round_cone((x - 0.1, h + min(0, t - 1.3 * r), z - 0.06), (x, 0.8 * r, z), 1.2 * r, 0.8 * r),
  }[p["legs"]]
  parts.append(Part("legs", mirror(leg, "xz"), p["frame"]))
  if p["shelf"]:
    inset = (0.25 * h - 0.8 * r) / (h - 0.8 * r) if p["legs"] == "splayed" else 0.0  # to the legs' axes at its height
    board = rounded_box((x - 0.1 * inset, 0.035, z - 0.06 * inset), 0.02)
    parts.append(Part("shelf", translate(board, (0, 0.25 * h, 0)), p["wood"]))
  return parts


def _lamp(p: Parameters) -> list[Part]:
  r, base = p["stem_radius"], p["base_radius"]
  size = 0.8 if p["kind"] == "desk" else 1.0
  half, top, bottom = size * p["shade_height"] / 2, size * p["shade_top"], size * (p["shade_top"] + p["shade_flare"])
  shade = rotate(offset(cup(top - 0.02, bottom - 0.02, half - 0.02, 0.04, 0.03), 0.02), "x", math.pi)
  trim = rotate(union(translate(slab(0.03), (0, half, 0)), translate(slab(0.03), (0, -half, 0))), "x", math.pi)
  bulb = union(translate(sphere(0.1 * size), (0, half - 0.2, 0)), capsule((0, half - 0.2, 0), (0, half - 0.09, 0), 0.05))
  foot = translate(cylinder(base, 0.05, rounding=0.03), (0, 0.05, 0))
  if p["kind"] == "desk":
    elbow, head = (-0.3, 0.1 + 0.75 * p["height"], 0), (0.35, 0.1 + 0.92 * p["height"], 0)
    arm = union(capsule((-0.05, 0.08, 0), elbow, r), capsule(elbow, head, r))
    pivot, turn, at = (0, -0.04 - half, 0), p["tilt"], head
    joints = Part("joints", union(translate(sphere(1.5 * r), elbow), translate(sphere(1.5 * r), head)), p["accent"])
    stem = [Part("stem", arm, p["metal"]), joints]
  else:
    y = p["height"] + 0.1
    pivot, turn, at = (0, 0, 0), 0.0, (0, y, 0)
    stem = [Part("stem", translate(cylinder(r, (y + half) / 2 - 0.02), (0, (y + half) / 2 - 0.02, 0)), p["metal"])]
    if p["kind"] == "vase":
      tall = 0.36 * (y - half)
      body = ellipsoid((min(0.9 * base, 0.3), tall, min(0.9 * base, 0.3)))
      stem.append(Part("body", translate(body, (0, 0.06 + 0.9 * tall, 0)), p["accent"]))

  def place(sdf: Sdf) -> Sdf:
    return translate(rotate(translate(sdf, pivot), "z", turn), at)

  return [Part("base", foot, p["metal"]), *stem, Part("shade", place(shade), p["fabric"], [(place(trim), p["accent"])]),
          Part("bulb", place(bulb), GLOW)]


def _wing(root: float, tip: float, span: float, sweep: float, half: float) -> Sdf:
  """A tapered plate from x = 0 to span, its root chord centred on z = 0, its tip swept back by `sweep`."""
  front = root / 2 - sweep
  outline = ((0, -root / 2), (0, root / 2), (span, front), (span, front - tip))
  return offset(permute(prism(outline, half - 0.02), "xzy"), 0.02)


def _plane(p: Parameters) -> list[Part]:
  r, half, span, lift = p["fuselage_radius"], p["length"] / 2, p["span"] / 2, p["dihedral"]
  nose, tail = half - 0.5 * r, -half + 0.08
  hull = union(round_cone((0, 0, half - 2.2 * r), (0, -0.12 * r, nose), r, 0.5 * r),
               capsule((0, 0, half - 2.2 * r), (0, 0, -0.25 * half), r),
               round_cone((0, 0, -0.25 * half), (0, 0.45 * r, tail), r, 0.08))
  windows = [(mirror(translate(box((0.5, 0.1 * r, 0.022)), (0, 0.32 * r, z)), "x"), GLASS)
             for z in np.arange(-0.3 * half, half - 2.6 * r, 0.1)]
  stripe = (translate(slab(0.16 * r), (0, -0.1 * r, 0)), p["accent"])
  cockpit = (translate(box((1, 0.25 * r, 0.35 * r)), (0, 0.48 * r, nose - 0.25 * r)), GLASS)
  parts = [Part("fuselage", hull, CREAM, [stripe, *windows, cockpit])]
  root, tip = p["chord"], max(0.17, p["chord"] * p["taper"])
  level = {"low": -0.45, "high": 0.7}[p["wing"]] * r

  def place(sdf: Sdf) -> Sdf:
    return mirror(translate(rotate(sdf, "z", lift), (0, level, 0.08)), "x")

  tips = translate(box((0.14, 1, 2)), (span, 0, 0))
  parts.append(Part("wings", place(_wing(root, tip, span, p["sweep"], 0.037)), p["body"], [(place(tips), p["accent"])]))
  fin_root, height = 0.3, p["tail_height"]
  fin = ((-0.17, 0), (0.17, 0), (-0.02, height), (-0.18, height))
  fin_at = (0, 0.3 * r, tail + 0.12)
  parts.append(Part("fin", translate(offset(permute(prism(fin, 0.015), "zyx"), 0.02), fin_at), p["accent"]))
  y, z = (0.3 * r + height, tail + 0.04) if p["tail"] == "high" else (0.45 * r, tail + 0.1)
  parts.append(Part("stabiliser", mirror(translate(_wing(fin_root * 0.8, 0.16, 0.34, 0.1, 0.035), (0, y, z)), "x"),
                    p["body"]))
  for i in range(p["engines"]):
    x = span * (0.38 + 0.3 * i) if p["engines"] == 2 else 0.42 * span
    front = 0.08 + root / 2 - p["sweep"] * x / span
    at = (x, level + lift * x - 0.075, front)
    pod, intake = cylinder(0.075, 0.14, rounding=0.03), translate(cylinder(0.05, 0.1), (0, 0.2, 0))
    parts.append(Part("engines", mirror(translate(permute(pod, "xzy"), at), "x"), p["body"],
                      [(mirror(translate(permute(intake, "xzy"), at), "x"), ENGINE_DARK)]))
  if not p["engines"]:
    spinner = round_cone((0, 0, nose), (0, 0, half + 0.04), 0.5 * r, 0.04)
    blade = rotate(translate(rounded_box((0.3, 0.045, 0.03), 0.02), (0, 0, half - 0.02)), "z", 0.35)
    parts.append(Part("propeller", translate(union(spinner, blade), (0, -0.12 * r, 0)), ENGINE_DARK))
  return parts


def _car(p: Parameters) -> list[Part]:
  half, w, wheel = p["length"] / 2, p["width"] / 2, p["wheel_radius"]
  low, high = 0.75 * wheel, 1.85 * wheel + p["fender_height"]
  hood = high - {"sedan": 0.05, "hatchback": 0.07, "coupe": 0.08, "van": 0.03, "pickup": 0.03}[p["body"]]
  side = ((-half, low), (-half, high - 0.06), (0.04 - half, high), (0.35 * half, high), (half - 0.04, hood - 0.03),
          (half, hood - 0.1), (half, low))
  rear, rake, front, slope = {"sedan": (-0.68, 0.2, 0.4, 0.24), "hatchback": (-0.92, 0.12, 0.4, 0.26),
                              "coupe": (-0.8, 0.42, 0.3, 0.3), "van": (-0.95, 0.03, 0.66, 0.22),
                              "pickup": (-0.12, 0.06, 0.5, 0.2)}[p["body"]]
  roof = high + p["cabin_height"]
  cabin = ((rear * half, low + 0.07), (rear * half, high - 0.03), (rear * half + rake, roof),
           (front * half - slope, roof), (front * half, high - 0.03), (front * half, low + 0.07))
  frame = complement(permute(prism(cabin, 2.0), "zyx"))
  pillar = translate(box((1, 1, 0.028)), (0, high, (rear + front) / 2 * half + (rake - slope) / 2))
  flank = mirror(translate(box((0.5, 2, 3)), (0.86 * w + 0.48, 0, 0)), "x")
  trim = [(translate(box((2, 1, 3)), (0, roof + 1.005, 0)), p["paint"]),
          (intersection(flank, frame), p["paint"]), (intersection(flank, pillar), p["paint"])]
  glow = mirror(translate(box((0.1, 0.045, 0.1)), (0.72 * w, hood - 0.14, half + 0.04)), "x")
  stop = mirror(translate(box((0.08, 0.06, 0.1)), (0.8 * w, high - 0.13, -half - 0.04)), "x")
  grille = translate(box((0.38 * w, 0.05, 0.1)), (0, hood - 0.2, half + 0.1))
  bumper = translate(slab(0.05), (0, low - 0.04, 0))
  shell = [(bumper, ENGINE_DARK), (grille, ENGINE_DARK), (glow, GLOW), (stop, LAMP_RED)]
  parts = [Part("body", offset(permute(prism(side, w - 0.045), "zyx"), 0.045), p["paint"], shell),
           Part("cabin", offset(permute(prism(cabin, 0.88 * w - 0.04), "zyx"), 0.04), GLASS, trim)]
  tyre, hub = permute(cylinder(wheel, 0.08, rounding=0.03), "yxz"), permute(cylinder(0.58 * wheel, 1.0), "yxz")
  for label, z in (("front wheels", p["wheelbase"] * half), ("rear wheels", -p["wheelbase"] * half)):
    at = (w - 0.035, wheel, z)
    parts.append(Part(label, mirror(translate(tyre, at), "x"), RUBBER, [(mirror(translate(hub, at), "x"), CHROME)]))
  if p["body"] == "pickup":
    z = (rear - 1) / 2 * half
    wall = mirror(translate(rounded_box((0.04, 0.12, (1 + rear) / 2 * half), 0.02), (w - 0.04, high + 0.06, z)), "x")
    gate = translate(rounded_box((w, 0.12, 0.04), 0.02), (0, high + 0.06, 0.02 - half))
    parts.append(Part("bed", union(wall, gate), p["paint"]))
  if p["spoiler"] and p["body"] in ("sedan", "coupe"):
    posts = mirror(translate(box((0.035, 0.08, 0.035)), (0.6 * w, high + 0.05, 0.12 - half)), "x")
    blade = translate(rounded_box((0.95 * w, 0.032, 0.085), 0.025), (0, high + 0.15, 0.1 - half))
    parts.append(Part("spoiler", union(posts, blade), ENGINE_DARK))
  return parts


def _mug(p: Parameters) -> list[Part]:
  half, bottom, top, wall = p["height"] / 2, p["radius"] * p["taper"], p["radius"], p["wall"]
  rim = 0.025
  vessel = offset(cup(bottom - rim, top - rim, half - rim, wall - 2 * rim, 0.09 - 2 * rim), rim)
  inside = translate(capped_cone(bottom - wall / 2, top - wall / 2, half), (0, 0.045, 0))
  decor = {
      "plain": [],
      "band": [(translate(slab(0.16 * half), (0, 0.1 * half, 0)), p["accent"])],
      "dip": [(translate(slab(half), (0, -1.25 * half, 0)), p["accent"])],
      "stripes": [(translate(slab(0.07 * half), (0, y * half, 0)), p["accent"]) for y in (-0.45, 0.0, 0.45)],
  }[p["decor"]]
  tube, reach, rise = p["handle_tube"], p["handle_reach"], p["handle_rise"]
  loop = {
      "round": elongate(arc(reach, tube, math.pi / 2), (0, rise, 0)),
      "angular": union(capsule((0, reach + rise, 0), (reach, reach + rise, 0), tube),
                       capsule((reach, reach + rise, 0), (reach, -reach - rise, 0), tube),
                       capsule((reach, -reach - rise, 0), (0, -reach - rise, 0), tube)),
  }[p["handle"]]
  lean = math.atan2(top - bottom, 2 * half)
  handle = translate(rotate(loop, "z", -lean), ((bottom + top) / 2 - 0.01, 0, 0))
  parts = [Part("cup", vessel, p["glaze"], [*decor, (inside, p["inner"])]), Part("handle", handle, p["accent"])]
  if p["saucer"]:
    parts.append(Part("saucer", translate(cylinder(1.45 * top, 0.045, rounding=0.035), (0, -half, 0)), p["accent"]))
  return parts


FAMILIES: dict[str, Family] = {
    "chair": Family({
        "seat_width": Uniform(0.72, 1.0), "seat_depth": Uniform(0.7, 0.95), "seat_thickness": Uniform(0.09, 0.16),
        "leg_height": Uniform(0.55, 0.8), "leg_radius": Uniform(0.05, 0.07), "back_height": Uniform(0.6, 0.95),
        "back_tilt": Uniform(0.0, 0.2), "legs": Choice(("round", "square", "splayed", "pedestal")),
        "back": Choice(("panel", "round", "slats", "ladder")), "arms": Choice((False, True)),
        "wood": Choice(WOOD), "fabric": Choice(FABRIC)}, _chair),
    "table": Family({
        "width": Uniform(1.3, 1.8), "depth": Uniform(0.85, 1.15), "thickness": Uniform(0.08, 0.13),
        "height": Uniform(0.6, 1.0), "leg_radius": Uniform(0.055, 0.08), "top": Choice(("square", "round", "oval")),
        "legs": Choice(("round", "square", "splayed", "trestle", "pedestal")), "shelf": Choice((False, True)),
        "wood": Choice(WOOD), "frame": Choice(WOOD[3:] + METAL[:2])}, _table),
    "lamp": Family({
        "kind": Choice(("stick", "vase", "desk")), "height": Uniform(1.0, 1.45), "stem_radius": Uniform(0.05, 0.065),
        "base_radius": Uniform(0.28, 0.4), "shade_height": Uniform(0.42, 0.65), "shade_top": Uniform(0.25, 0.38),
        "shade_flare": Uniform(0.05, 0.25), "tilt": Uniform(0.6, 0.95), "fabric": Choice((CREAM, *FABRIC)),
        "metal": Choice(METAL), "accent": Choice(GLAZE)}, _lamp),
    "plane": Family({
        "length": Uniform(1.6, 1.95), "fuselage_radius": Uniform(0.12, 0.17), "span": Uniform(1.5, 1.95),
        "chord": Uniform(0.3, 0.42), "taper": Uniform(0.5, 0.85), "sweep": Uniform(0.0, 0.4),
        "dihedral": Uniform(0.0, 0.12), "tail_height": Uniform(0.3, 0.42), "wing": Choice(("low", "high")),
        "tail": Choice(("low", "high")), "engines": Choice((0, 1, 2)), "body": Choice(((205, 211, 219), (228, 232, 236), (176, 186, 198))),
        "accent": Choice(PAINT)}, _plane),
    "car": Family({
        "body": Choice(("sedan", "hatchback", "coupe", "van", "pickup")), "length": Uniform(1.65, 1.9),
        "width": Uniform(0.7, 0.84), "fender_height": Uniform(0.08, 0.15), "cabin_height": Uniform(0.24, 0.33),
        "wheel_radius": Uniform(0.17, 0.22), "wheelbase": Uniform(0.56, 0.66), "spoiler": Choice((False, True)),
        "paint": Choice(PAINT)}, _car),
    "mug": Family({
        "height": Uniform(0.85, 1.25), "radius": Uniform(0.42, 0.55), "taper": Uniform(0.75, 1.0),
        "wall": Uniform(0.075, 0.1), "handle": Choice(("round", "angular")), "handle_reach": Uniform(0.2, 0.27),
        "handle_rise": Uniform(0.0, 0.1), "handle_tube": Uniform(0.05, 0.065), "saucer": Choice((False, False, True)),
        "decor": Choice(("plain", "band", "dip", "stripes")), "glaze": Choice(GLAZE), "inner": Choice((CREAM, (250, 250, 248))),
        "accent": Choice(GLAZE)}, _mug),
}
