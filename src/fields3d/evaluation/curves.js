// Learning curves: one chart a scalar, drawn from the numbers in the page; hover or arrow keys read values.
"use strict";

const SVG = "http://www.w3.org/2000/svg";
const CHART = {width: 420, height: 220, left: 58, right: 14, top: 12, bottom: 30};

function element(name, attributes, parent, text) {
  const made = document.createElementNS(SVG, name);
  for (const [key, value] of Object.entries(attributes)) made.setAttribute(key, value);
  if (text !== undefined) made.textContent = text;
  return parent.appendChild(made);
}

const short = (x) => x === 0 ? "0" : Math.abs(x) >= 1e5 || Math.abs(x) < 1e-3 ? x.toExponential(1).replace("e+", "e") : String(+x.toPrecision(3));

function ticks(low, high, log) {
  if (log) {
    const out = [];
    for (let e = Math.floor(Math.log10(low)); e <= Math.ceil(Math.log10(high)); e++) for (const m of [1, 2, 5]) out.push(m * 10 ** e);
    const inside = out.filter((t) => t >= low * 0.999 && t <= high * 1.001), decades = inside.filter((t) => /^1/.test(t.toExponential()));
    return decades.length >= 3 ? decades : inside.slice(0, 8);
  }
  const raw = (high - low) / 4 || 1, size = 10 ** Math.floor(Math.log10(raw)), step = [1, 2, 5, 10].map((m) => m * size).find((s) => s >= raw);
  const out = [];
  for (let t = Math.ceil(low / step) * step; t <= high + step * 1e-9; t += step) out.push(+t.toPrecision(12));
  return out;
}

class Chart {
  constructor(figure, series) {
    Object.assign(this, {figure, series});
    this.positive = series.value.every((v) => v > 0);
    this.svg = element("svg", {viewBox: `0 0 ${CHART.width} ${CHART.height}`, tabindex: 0, role: "img", "aria-label":
      `${series.name}: from ${short(series.value[0])} to ${short(series.value.at(-1))} over ${series.step.at(-1)} ${series.unit}s`}, figure);
    this.readout = figure.querySelector("output");
    this.svg.addEventListener("pointermove", (e) => {
      const box = this.svg.getBoundingClientRect();
      this.read(this.nearest((e.clientX - box.left) / box.width * CHART.width));
    });
    this.svg.addEventListener("pointerleave", () => this.read(-1));
    this.svg.addEventListener("keydown", (e) => {
      const by = {ArrowLeft: -1, ArrowRight: 1}[e.key];
      if (by) { e.preventDefault(); this.read(Math.max(0, Math.min(this.series.step.length - 1, (this.at ?? 0) + by))); }
    });
  }

  draw(log) {
    const {step, value} = this.series, {width, height, left, right, top, bottom} = CHART;
    let low = Math.min(...value), high = Math.max(...value);
    this.log = log && this.positive && high > 4 * low;
    if (low === high) { low -= Math.abs(low) * 0.1 || 1; high += Math.abs(high) * 0.1 || 1; if (this.positive) low = Math.max(low, value[0] / 2); }
    const f = this.log ? Math.log10 : (v) => v, pad = 0.04 * (f(high) - f(low));
    const span = Math.max(step.at(-1) - step[0], 1);
    this.x = (s) => left + (s - step[0]) / span * (width - left - right);
    this.y = (v) => height - bottom - (f(v) - f(low) + pad) / (f(high) - f(low) + 2 * pad) * (height - top - bottom);
    this.svg.replaceChildren();
    for (const t of ticks(low, high, this.log)) {
      element("line", {x1: left, x2: width - right, y1: this.y(t), y2: this.y(t), class: "grid"}, this.svg);
      element("text", {x: left - 8, y: this.y(t) + 4, "text-anchor": "end"}, this.svg, short(t));
    }
    for (const t of ticks(step[0], step.at(-1), false)) {
      element("text", {x: this.x(t), y: height - 10, "text-anchor": "middle"}, this.svg, t >= 1e4 ? `${t / 1000}k` : t);
    }
    const points = step.map((s, i) => `${this.x(s).toFixed(1)},${this.y(value[i]).toFixed(1)}`);
    element("polygon", {points: `${left},${height - bottom} ${points.join(" ")} ${this.x(step.at(-1))},${height - bottom}`, class: "area"}, this.svg);
    element("polyline", {points: points.join(" "), class: "curve"}, this.svg);
    this.mark = element("g", {visibility: "hidden"}, this.svg);
    element("line", {y1: top, y2: height - bottom, class: "cursor"}, this.mark);
    element("circle", {r: 4, class: "dot"}, this.mark);
    this.read(-1);
  }

  nearest(x) {
    let best = 0;
    this.series.step.forEach((s, i) => { if (Math.abs(this.x(s) - x) < Math.abs(this.x(this.series.step[best]) - x)) best = i; });
    return best;
  }

  read(i) {
    const {step, value} = this.series, last = value.length - 1;
    this.mark.setAttribute("visibility", i < 0 ? "hidden" : "visible");
    this.at = i < 0 ? undefined : i;
    const shown = i < 0 ? last : i;
    this.readout.textContent = `${short(value[shown])} at ${this.series.unit} ${step[shown].toLocaleString("en")}`;
    if (i < 0) return;
    const [line, dot] = this.mark.children;
    line.setAttribute("x1", this.x(step[i]));
    line.setAttribute("x2", this.x(step[i]));
    dot.setAttribute("cx", this.x(step[i]));
    dot.setAttribute("cy", this.y(value[i]));
  }
}

const curves = JSON.parse(document.getElementById("curves").textContent);
const charts = [...document.querySelectorAll("[data-curve]")].map((figure) => new Chart(figure, curves[+figure.dataset.curve]));
const scale = document.getElementById("log-scale");
const redraw = () => charts.forEach((chart) => chart.draw(scale.checked));
if (scale) { scale.addEventListener("change", redraw); redraw(); }

// Tables: a click on a heading sorts by its column.
for (const table of document.querySelectorAll("table[data-sortable]")) {
  table.querySelectorAll("th button").forEach((button, column) => button.addEventListener("click", () => {
    const heading = button.closest("th"), up = heading.getAttribute("aria-sort") !== "ascending", body = table.tBodies[0];
    const key = (row) => { const cell = row.cells[column]; return cell.dataset.value === undefined ? cell.textContent : +cell.dataset.value; };
    const rows = [...body.rows].sort((a, b) => { const [x, y] = [key(a), key(b)]; return (x > y ? 1 : x < y ? -1 : 0) * (up ? 1 : -1); });
    for (const other of table.querySelectorAll("th")) other.removeAttribute("aria-sort");
    heading.setAttribute("aria-sort", up ? "ascending" : "descending");
    body.append(...rows);
  }));
}
