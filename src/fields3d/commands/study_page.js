// A blind comparison: shows two samples, takes a choice by button or key, and hands it to the server, or keeps it for
// download where there is none. The page does not know which run a sample is of.
"use strict";

// Two meshes with one camera, each in its own box, so that neither's size is judged.
class Pair extends Viewer {
  constructor(root) {
    super(root);
    this.camera = {...this.home = {azimuth: 35, elevation: 18, distance: 1.15}};  // corners stay inside
    this.flags.turn = !matchMedia("(prefers-reduced-motion: reduce)").matches;
    if (this.gl && this.flags.turn) this.spin();
  }

  act(name) {
    if (name === "reset") this.camera = {...this.home};
    if (name === "turn") { this.flags.turn = !this.flags.turn; if (this.flags.turn) this.spin(); }
    this.draw();
  }

  step() {}

  show(left, right) {
    this.shape = {mesh: this.load(left), truth: this.load(right)};
    this.camera = {...this.home};
    this.draw();
  }

  pane(mesh, box, left, width, height) { super.pane(mesh, mesh, left, width, height); }
}

{
  const plan = JSON.parse(document.getElementById("study").textContent), {trials} = plan;
  const by = (selector) => document.querySelector(selector), problem = by("#problem");
  const pictures = [...document.querySelectorAll(".pictures img")], buttons = [...document.querySelectorAll("[data-choice]")];
  const isModel = plan.kind === "model", isStatic = plan.mode === "static", store = `fields3d-study-${plan.study}-${plan.rater}`;
  const viewer = isModel ? new Pair(by("[data-pair]")) : null, fetched = new Map();
  const done = new Map(Object.entries(plan.done).map(([trial, choice]) => [Number(trial), choice]));
  let lines = [], at = 0, since = 0, ready = false, turn = 0;

  by(".pictures").hidden = isModel;
  by("canvas").hidden = !isModel;
  for (const element of document.querySelectorAll("[data-models]")) element.hidden = !isModel;
  by("#static").hidden = !isStatic;
  if (isStatic) {
    try { lines = JSON.parse(localStorage.getItem(store) || "[]"); } catch { lines = []; }
    for (const line of lines) done.set(line.trial, line.choice);
  }

  // The text of a sample: in the page, or from the server; of the pair at hand and the next only.
  const text = (name) => {
    const element = document.getElementById(name);
    if (element) return Promise.resolve(element.textContent);
    if (!fetched.has(name)) {
      fetched.set(name, fetch(`/asset/${name}`).then((answer) => {
        if (!answer.ok) throw new Error(`the sample could not be loaded (${answer.status})`);
        return answer.text();
      }));
      fetched.get(name).catch(() => fetched.delete(name));
    }
    return fetched.get(name);
  };
  const place = async (name) => {  // where the viewer looks for a model
    const content = await text(name);
    if (document.getElementById(name)) return;
    const element = document.createElement("script");
    Object.assign(element, {type: "application/octet-stream", id: name, textContent: content});
    element.dataset.lent = "";
    document.body.append(element);
  };
  const forget = (kept) => {
    for (const name of fetched.keys()) if (!kept.has(name)) fetched.delete(name);
    for (const element of document.querySelectorAll("script[data-lent]")) if (!kept.has(element.id)) element.remove();
  };

  const show = async () => {
    const own = ++turn, trial = trials[at];
    by("#trial").hidden = !trial;
    by("#end").hidden = Boolean(trial);
    const count = trials.filter((t) => done.has(t.trial)).length;
    by("#bar").max = trials.length;
    by("#bar").value = count;
    by("#count").textContent = `${count} of ${trials.length}`;
    for (const back of document.querySelectorAll("[data-act=back]")) back.disabled = at === 0;
    if (!trial) {
      by("#said").textContent = isStatic ? "Download the choices and hand the file back." : "Every choice is recorded; you may close this page.";
      return;
    }
    ready = false;
    problem.textContent = "";
    for (const button of buttons) { button.disabled = true; button.classList.toggle("was", done.get(trial.trial) === button.dataset.choice); }
    const next = trials[at + 1];
    try {
      if (isModel) {
        if (!viewer.gl) throw new Error("this browser offers no WebGL2, which models need");
        await Promise.all([place(trial.left), place(trial.right)]);
        if (own === turn) viewer.show(trial.left, trial.right);
      } else {
        const sources = await Promise.all([text(trial.left), text(trial.right)]);
        if (own !== turn) return;
        sources.forEach((source, i) => { pictures[i].src = source; });
        await Promise.all(pictures.map((picture) => picture.decode()));
      }
    } catch (error) {
      if (own === turn) problem.textContent = `This pair cannot be shown: ${error.message}. Press n for the next.`;
      return;
    }
    if (own !== turn) return;
    forget(new Set([trial, next].filter(Boolean).flatMap((t) => [t.left, t.right])));
    if (next && !isStatic) for (const name of [next.left, next.right]) text(name).catch(() => {});
    ready = true;
    since = performance.now();
    for (const button of buttons) button.disabled = false;
  };

  const choose = async (choice) => {
    if (!ready || !trials[at]) return;
    ready = false;
    const line = {rater: plan.rater, trial: trials[at].trial, choice, seconds: Math.round((performance.now() - since) / 100) / 10};
    try {
      if (isStatic) {
        lines.push({study: plan.study, ...line});
        try { localStorage.setItem(store, JSON.stringify(lines)); } catch { /* kept in this page only */ }
      } else {
        const answer = await fetch("/choice", {method: "POST", headers: {"Content-Type": "application/json"}, body: JSON.stringify(line)});
        if (!answer.ok) throw new Error((await answer.text()) || `error ${answer.status}`);
      }
    } catch (error) {
      ready = true;
      problem.textContent = `The choice was not recorded: ${error.message}. Choose again.`;
      return;
    }
    done.set(line.trial, choice);
    at += 1;
    show();
  };

  const back = () => { if (at > 0) { at -= 1; show(); } };
  const download = () => {
    const link = document.createElement("a");
    link.href = URL.createObjectURL(new Blob(lines.map((line) => JSON.stringify(line) + "\n"), {type: "application/jsonl"}));
    link.download = `choices-${plan.rater}.jsonl`;
    link.click();
    setTimeout(() => URL.revokeObjectURL(link.href), 1000);
  };
  const press = (name) => {
    if (name === "back") back();
    else if (name === "download") download();
    else if (viewer?.gl) {
      viewer.act(name);
      by("[data-act=turn]").setAttribute("aria-pressed", viewer.flags.turn);
    }
  };

  for (const button of buttons) button.addEventListener("click", () => choose(button.dataset.choice));
  for (const button of document.querySelectorAll("[data-act]")) button.addEventListener("click", () => press(button.dataset.act));
  if (viewer) by("[data-act=turn]").setAttribute("aria-pressed", viewer.flags.turn);
  document.addEventListener("keydown", (event) => {
    if (event.ctrlKey || event.metaKey || event.altKey) return;
    if (event.key === " " && event.target instanceof HTMLButtonElement) return;  // the button's own key
    const orbit = (right, up) => () => viewer?.gl && viewer.orbit(right, up), zoom = (factor) => () => viewer?.gl && viewer.zoom(factor);
    const action = {
      ArrowLeft: () => choose("left"), ArrowRight: () => choose("right"), ArrowDown: () => choose("tie"), " ": () => choose("tie"),
      u: back, n: () => { if (trials[at] && problem.textContent) { at += 1; show(); } }, t: () => press("turn"), r: () => press("reset"),
      a: orbit(-8, 0), d: orbit(8, 0), w: orbit(0, 8), s: orbit(0, -8), "+": zoom(0.88), "=": zoom(0.88), "-": zoom(1.136),
    }[event.key];
    if (!action || (event.repeat && !"wasd+-=".includes(event.key))) return;  // a key held down is one choice
    event.preventDefault();
    action();
  });

  while (at < trials.length && done.has(trials[at].trial)) at += 1;
  show();
}
