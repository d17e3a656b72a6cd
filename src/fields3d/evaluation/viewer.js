// The report's viewer: reads GLBs that stand in the page and draws prediction and truth side by side in WebGL2.
// Drag orbits, wheel or pinch zooms; every action has a key. Nothing is fetched.
"use strict";

const COMPONENTS = {5120: Int8Array, 5121: Uint8Array, 5122: Int16Array, 5123: Uint16Array, 5125: Uint32Array, 5126: Float32Array};
const WIDTHS = {SCALAR: 1, VEC2: 2, VEC3: 3, VEC4: 4, MAT4: 16};

function decodeBase64(text) {
  const raw = atob(text.trim());
  const bytes = new Uint8Array(raw.length);
  for (let i = 0; i < raw.length; i++) bytes[i] = raw.charCodeAt(i);
  return bytes.buffer;
}

// The chunks of a binary glTF 2.0: its JSON and its one binary buffer.
function readChunks(buffer) {
  const view = new DataView(buffer);
  if (view.byteLength < 20 || view.getUint32(0, true) !== 0x46546C67) throw new Error("not a GLB");
  if (view.getUint32(4, true) !== 2) throw new Error("not glTF version 2");
  if (view.getUint32(8, true) !== view.byteLength) throw new Error("the GLB's length is wrong");
  let gltf = null, binary = null;
  for (let at = 12; at + 8 <= view.byteLength;) {
    const length = view.getUint32(at, true), type = view.getUint32(at + 4, true);
    if (at + 8 + length > view.byteLength) throw new Error("a chunk runs past the end");
    if (type === 0x4E4F534A) gltf = JSON.parse(new TextDecoder().decode(new Uint8Array(buffer, at + 8, length)));
    if (type === 0x004E4942 && !binary) binary = {offset: at + 8, length};
    at += 8 + length;
  }
  if (!gltf) throw new Error("the GLB has no JSON");
  return {gltf, binary};
}

// An accessor as floats (normalised integers become [0, 1] or [-1, 1]); `whole` keeps integers, for indices.
function readAccessor(buffer, {gltf, binary}, index, whole = false) {
  const accessor = gltf.accessors[index], width = WIDTHS[accessor.type], Kind = COMPONENTS[accessor.componentType];
  const out = whole ? new Uint32Array(accessor.count) : new Float32Array(accessor.count * width);
  if (accessor.bufferView === undefined) return out;
  if (accessor.sparse) throw new Error("sparse accessors are not read");
  const part = gltf.bufferViews[accessor.bufferView], size = Kind.BYTES_PER_ELEMENT;
  const stride = part.byteStride || width * size, start = (part.byteOffset || 0) + (accessor.byteOffset || 0);
  if (start + stride * (accessor.count - 1) + width * size > binary.length) throw new Error("an accessor runs past the buffer");
  const top = accessor.normalized ? {1: [127, 255], 2: [32767, 65535]}[size][Kind.name.startsWith("U") ? 1 : 0] : 1;
  for (let i = 0; i < accessor.count; i++) {
    const at = binary.offset + start + i * stride;
    const row = at % size ? new Kind(buffer.slice(at, at + width * size)) : new Kind(buffer, at, width);
    for (let k = 0; k < width; k++) out[i * width + k] = whole ? row[k] : Math.max(row[k] / top, -1);
  }
  return out;
}

// Every triangle of the scene, in its frame: normals, linear colours, indices, bounds low and high; positions from the bounds' center,
// so that 32 bits hold them wherever the scene lies.
function readMesh(buffer) {
  const chunks = readChunks(buffer), {gltf} = chunks, parts = [];
  const visit = (index, parent, depth) => {
    if (depth > 64) throw new Error("nodes are nested too deeply");
    const node = gltf.nodes[index], matrix = multiply(parent, localMatrix(node));
    if (node.mesh !== undefined) {
      for (const primitive of gltf.meshes[node.mesh].primitives) {
        if ((primitive.mode ?? 4) === 4) parts.push(readPrimitive(buffer, chunks, primitive, matrix));
      }
    }
    for (const child of node.children || []) visit(child, matrix, depth + 1);
  };
  const scene = gltf.scenes[gltf.scene || 0];
  for (const root of scene.nodes) visit(root, identity(), 0);
  return joinParts(parts);
}

function readPrimitive(buffer, chunks, primitive, matrix) {
  const {attributes} = primitive, own = readAccessor(buffer, chunks, attributes.POSITION), n = own.length / 3;
  const positions = new Float64Array(3 * n);
  for (let i = 0; i < n; i++) positions.set(transform(matrix, own.subarray(3 * i, 3 * i + 3)), 3 * i);
  const indices = primitive.indices === undefined ? Uint32Array.from({length: n}, (_, i) => i)
    : readAccessor(buffer, chunks, primitive.indices, true);
  const material = chunks.gltf.materials?.[primitive.material]?.pbrMetallicRoughness?.baseColorFactor || [1, 1, 1, 1];
  const colors = new Float32Array(3 * n);
  const given = attributes.COLOR_0 === undefined ? null : readAccessor(buffer, chunks, attributes.COLOR_0);
  const width = given ? given.length / n : 0, plain = given || primitive.material !== undefined ? [1, 1, 1] : [0.80, 0.785, 0.76];
  for (let i = 0; i < n; i++) for (let k = 0; k < 3; k++) colors[3 * i + k] = (given ? given[i * width + k] : plain[k]) * material[k];
  const normals = attributes.NORMAL === undefined ? smoothNormals(positions, indices)
    : turnNormals(readAccessor(buffer, chunks, attributes.NORMAL), matrix);
  return {positions, indices, colors, normals};
}

// Normals under a matrix: by its cofactors, which hold for mirrors and uneven scales too.
function turnNormals(normals, m) {
  const [a, b, c] = [0, 4, 8].map((k) => m.slice(k, k + 3)), columns = [cross(b, c), cross(c, a), cross(a, b)];
  for (let i = 0; i < normals.length; i += 3) {
    const n = normals.subarray(i, i + 3);
    normals.set(normalise([0, 1, 2].map((r) => columns.reduce((sum, column, k) => sum + column[r] * n[k], 0))), i);
  }
  return normals;
}

// Area-weighted normals of the triangles around a point; vertices at one place share them.
function smoothNormals(positions, indices) {
  const normals = new Float32Array(positions.length), twin = new Map(), same = new Uint32Array(positions.length / 3);
  for (let i = 0; i < same.length; i++) {
    const key = `${positions[3 * i]},${positions[3 * i + 1]},${positions[3 * i + 2]}`;
    if (!twin.has(key)) twin.set(key, i);
    same[i] = twin.get(key);
  }
  for (let f = 0; f < indices.length; f += 3) {
    const [a, b, c] = [0, 1, 2].map((k) => positions.subarray(3 * indices[f + k], 3 * indices[f + k] + 3));
    const area = cross(subtract(b, a), subtract(c, a));
    for (let k = 0; k < 3; k++) for (let d = 0; d < 3; d++) normals[3 * same[indices[f + k]] + d] += area[d];
  }
  for (let i = 0; i < same.length; i++) normals.set(normalise(normals.subarray(3 * same[i], 3 * same[i] + 3)), 3 * i);
  return normals;
}

function joinParts(parts) {
  if (!parts.length) throw new Error("the GLB has no triangles");
  const join = (name, Kind) => {
    const out = new Kind(parts.reduce((sum, part) => sum + part[name].length, 0));
    let at = 0, base = 0;
    for (const part of parts) {
      out.set(name === "indices" ? part[name].map((i) => i + base) : part[name], at);
      at += part[name].length;
      base += part.positions.length / 3;
    }
    return out;
  };
  const places = join("positions", Float64Array), low = [Infinity, Infinity, Infinity], high = [-Infinity, -Infinity, -Infinity];
  places.forEach((x, i) => { low[i % 3] = Math.min(low[i % 3], x); high[i % 3] = Math.max(high[i % 3], x); });
  const center = middle({low, high});
  return {positions: Float32Array.from(places, (x, i) => x - center[i % 3]), normals: join("normals", Float32Array),
          colors: join("colors", Float32Array), indices: join("indices", Uint32Array), low, high, center};
}

function edgesOf(indices) {
  const seen = new Set(), out = [];
  for (let f = 0; f < indices.length; f += 3) {
    for (let k = 0; k < 3; k++) {
      const a = indices[f + k], b = indices[f + (k + 1) % 3], key = Math.min(a, b) * 0x4000000 + Math.max(a, b);
      if (!seen.has(key)) { seen.add(key); out.push(a, b); }
    }
  }
  return new Uint32Array(out);
}

const subtract = (a, b) => [a[0] - b[0], a[1] - b[1], a[2] - b[2]];
const cross = (a, b) => [a[1] * b[2] - a[2] * b[1], a[2] * b[0] - a[0] * b[2], a[0] * b[1] - a[1] * b[0]];
const dot = (a, b) => a[0] * b[0] + a[1] * b[1] + a[2] * b[2];
const middle = (box) => box.low.map((x, k) => (x + box.high[k]) / 2);
const normalise = (a) => { const l = Math.hypot(a[0], a[1], a[2]) || 1; return [a[0] / l, a[1] / l, a[2] / l]; };

// Matrices are columns, as in glTF and WebGL.
const identity = () => [1, 0, 0, 0, 0, 1, 0, 0, 0, 0, 1, 0, 0, 0, 0, 1];
const multiply = (a, b) => a.map((_, i) => [0, 1, 2, 3].reduce((s, k) => s + a[4 * k + i % 4] * b[4 * (i >> 2) + k], 0));
const transform = (m, p) => [0, 1, 2].map((r) => m[r] * p[0] + m[4 + r] * p[1] + m[8 + r] * p[2] + m[12 + r]);

function localMatrix(node) {
  if (node.matrix) return node.matrix;
  const [x, y, z, w] = node.rotation || [0, 0, 0, 1], [sx, sy, sz] = node.scale || [1, 1, 1], t = node.translation || [0, 0, 0];
  return [sx * (1 - 2 * (y * y + z * z)), sx * 2 * (x * y + z * w), sx * 2 * (x * z - y * w), 0,
          sy * 2 * (x * y - z * w), sy * (1 - 2 * (x * x + z * z)), sy * 2 * (y * z + x * w), 0,
          sz * 2 * (x * z + y * w), sz * 2 * (y * z - x * w), sz * (1 - 2 * (x * x + y * y)), 0, t[0], t[1], t[2], 1];
}

function perspective(fov, aspect, near, far) {
  const f = 1 / Math.tan(fov / 2);
  return [f / aspect, 0, 0, 0, 0, f, 0, 0, 0, 0, (far + near) / (near - far), -1, 0, 0, 2 * far * near / (near - far), 0];
}

function lookAt(eye, target) {
  const back = normalise(subtract(eye, target)), right = normalise(cross([0, 1, 0], back)), up = cross(back, right);
  return [right[0], up[0], back[0], 0, right[1], up[1], back[1], 0, right[2], up[2], back[2], 0,
          -dot(right, eye), -dot(up, eye), -dot(back, eye), 1];
}

const VERTEX = `#version 300 es
layout(location=0) in vec3 position; layout(location=1) in vec3 normal; layout(location=2) in vec3 color;
uniform mat4 view, projection; out vec3 n, c, p;
void main() { n = normal; c = color; p = position; gl_Position = projection * view * vec4(position, 1.0); }`;

const FRAGMENT = `#version 300 es
precision highp float;
in vec3 n, c, p; uniform vec3 eye; uniform vec3 key; uniform vec4 line; out vec4 shown;
float light(vec3 normal, vec3 towards, float wrap) { return max((dot(normal, towards) + wrap) / (1.0 + wrap), 0.0); }
void main() {
  if (line.a > 0.0) { shown = vec4(line.rgb * line.a, line.a); return; }
  vec3 see = normalize(eye - p), normal = normalize(n);
  vec3 flat_ = normalize(cross(dFdx(p), dFdy(p)));
  flat_ *= sign(dot(flat_, see)); normal *= sign(dot(normal, flat_));
  normal = normalize(mix(flat_, normal, smoothstep(0.2, 0.5, dot(normal, flat_))));
  vec3 fill = mix(vec3(0.16, 0.15, 0.14), vec3(0.46, 0.49, 0.54), normal.y * 0.5 + 0.5);
  vec3 total = fill + vec3(0.80, 0.76, 0.70) * light(normal, key, 0.15);
  vec3 halfway = normalize(key + see);
  float rim = pow(1.0 - max(dot(normal, see), 0.0), 4.0);
  vec3 linear = c * total + 0.10 * pow(max(dot(normal, halfway), 0.0), 40.0) + 0.10 * rim;
  linear = min(linear, 0.7) + 0.3 * (1.0 - exp(-max(linear - 0.7, 0.0) / 0.3));
  shown = vec4(mix(12.92 * linear, 1.055 * pow(linear, vec3(1.0 / 2.4)) - 0.055, step(0.0031308, linear)), 1.0);
}`;

class Viewer {
  constructor(root) {
    this.root = root;
    this.canvas = root.querySelector("canvas");
    this.status = root.querySelector("[data-status]");
    this.labels = root.querySelectorAll("[data-pane]");
    this.flags = {truth: true, wire: false, turn: false};
    this.home = {azimuth: 35, elevation: 18, distance: 1};
    this.camera = {...this.home};
    this.shape = null;
    this.cache = new Map();
    if (this.connect()) this.listen();
  }

  connect() {
    this.gl = this.canvas.getContext("webgl2", {antialias: true, alpha: true, premultipliedAlpha: true});
    if (!this.gl) { this.say("This browser offers no WebGL2: the pictures show every shape."); return false; }
    this.build();
    return true;
  }

  build() {
    const gl = this.gl, program = gl.createProgram();
    for (const [type, source] of [[gl.VERTEX_SHADER, VERTEX], [gl.FRAGMENT_SHADER, FRAGMENT]]) {
      const shader = gl.createShader(type);
      gl.shaderSource(shader, source);
      gl.compileShader(shader);
      gl.attachShader(program, shader);
    }
    gl.linkProgram(program);
    if (!gl.getProgramParameter(program, gl.LINK_STATUS)) throw new Error(gl.getProgramInfoLog(program));
    this.program = program;
    this.at = Object.fromEntries(["view", "projection", "eye", "key", "line"].map((u) => [u, gl.getUniformLocation(program, u)]));
    this.cache.clear();
  }

  say(text) { this.status.textContent = text; }

  listen() {
    const canvas = this.canvas, pointers = new Map();
    canvas.addEventListener("pointerdown", (e) => { canvas.setPointerCapture(e.pointerId); pointers.set(e.pointerId, [e.clientX, e.clientY]); });
    for (const end of ["pointerup", "pointercancel"]) canvas.addEventListener(end, (e) => pointers.delete(e.pointerId));
    canvas.addEventListener("pointermove", (e) => {
      if (!pointers.has(e.pointerId)) return;
      const [x, y] = pointers.get(e.pointerId), other = [...pointers].find(([id]) => id !== e.pointerId)?.[1];
      pointers.set(e.pointerId, [e.clientX, e.clientY]);
      if (other) {
        const span = (px, py) => Math.hypot(px - other[0], py - other[1]) || 1;
        this.zoom(span(x, y) / span(e.clientX, e.clientY));
      } else this.orbit((x - e.clientX) * 0.45, (e.clientY - y) * 0.45);
    });
    canvas.addEventListener("wheel", (e) => { e.preventDefault(); this.zoom(Math.exp(Math.sign(e.deltaY) * Math.min(Math.abs(e.deltaY), 100) * 0.0015)); }, {passive: false});
    canvas.addEventListener("dblclick", () => this.act("reset"));
    canvas.addEventListener("keydown", (e) => {
      const step = {ArrowLeft: () => this.orbit(-8, 0), ArrowRight: () => this.orbit(8, 0), ArrowUp: () => this.orbit(0, 8),
        ArrowDown: () => this.orbit(0, -8), "+": () => this.zoom(0.88), "=": () => this.zoom(0.88), "-": () => this.zoom(1.136),
        w: () => this.act("wire"), t: () => this.act("truth"), a: () => this.act("turn"), r: () => this.act("reset"),
        n: () => this.step(1), p: () => this.step(-1)}[e.key];
      if (step && !e.ctrlKey && !e.metaKey && !e.altKey) { e.preventDefault(); step(); }
    });
    canvas.addEventListener("webglcontextlost", (e) => e.preventDefault());
    canvas.addEventListener("webglcontextrestored", () => { this.build(); this.draw(); });
    for (const button of this.root.querySelectorAll("button[data-act]")) button.addEventListener("click", () => this.act(button.dataset.act));
    this.pickers = [...document.querySelectorAll("button[data-shape]")];
    for (const picker of this.pickers) picker.addEventListener("click", () => this.open(picker));
    new ResizeObserver(() => this.draw()).observe(canvas);
    if (this.pickers.length) this.open(this.pickers[0]);
  }

  act(name) {
    if (name === "reset") this.camera = {...this.home};
    else {
      this.flags[name] = !this.flags[name];
      this.root.querySelector(`[data-act=${name}]`)?.setAttribute("aria-pressed", this.flags[name]);
    }
    if (name === "turn" && this.flags.turn) this.spin();
    this.draw();
  }

  spin() {
    let last = performance.now();
    const frame = (now) => {
      if (!this.flags.turn) return;
      this.orbit((now - last) * 0.02, 0);
      last = now;
      requestAnimationFrame(frame);
    };
    requestAnimationFrame(frame);
  }

  orbit(right, up) {
    this.camera.azimuth += right;
    this.camera.elevation = Math.max(-89, Math.min(89, this.camera.elevation + up));
    this.draw();
  }

  zoom(factor) { this.camera.distance = Math.max(0.15, Math.min(6, this.camera.distance * factor)); this.draw(); }

  step(by) {
    const at = this.pickers.indexOf(this.current), next = this.pickers[(at + by + this.pickers.length) % this.pickers.length];
    this.open(next);
    next.scrollIntoView({block: "nearest", inline: "nearest"});
  }

  open(picker) {
    for (const other of this.pickers) other.setAttribute("aria-pressed", other === picker);
    this.current = picker;
    const ids = picker.dataset;
    try {
      this.shape = {mesh: this.load(ids.mesh), truth: this.load(ids.truth)};
      const count = this.shape.mesh ? `${(this.shape.mesh.count / 3).toLocaleString("en")} triangles shown` : "no surface";
      this.say(`${ids.shape} · ${count}`);
    } catch (error) {
      this.shape = null;
      this.say(`${ids.shape}: ${error.message}`);
    }
    this.draw();
  }

  // The mesh in the page's element of that id, on the GPU; the last 24 stay there.
  load(id) {
    if (!id) return null;
    if (!this.cache.has(id)) {
      const gl = this.gl, mesh = readMesh(decodeBase64(document.getElementById(id).textContent));
      const array = gl.createVertexArray(), owned = [];
      const upload = (target, data) => { const b = gl.createBuffer(); gl.bindBuffer(target, b); gl.bufferData(target, data, gl.STATIC_DRAW); owned.push(b); return b; };
      gl.bindVertexArray(array);
      [mesh.positions, mesh.normals, mesh.colors].forEach((data, at) => {
        upload(gl.ARRAY_BUFFER, data);
        gl.enableVertexAttribArray(at);
        gl.vertexAttribPointer(at, 3, gl.FLOAT, false, 0, 0);
      });
      const faces = upload(gl.ELEMENT_ARRAY_BUFFER, mesh.indices), edges = edgesOf(mesh.indices), lines = upload(gl.ELEMENT_ARRAY_BUFFER, edges);
      this.cache.set(id, {array, faces, lines, owned, count: mesh.indices.length, edges: edges.length, low: mesh.low, high: mesh.high, center: mesh.center});
      if (this.cache.size > 24) {
        const [oldest, gone] = this.cache.entries().next().value;
        gone.owned.forEach((b) => gl.deleteBuffer(b));
        gl.deleteVertexArray(gone.array);
        this.cache.delete(oldest);
      }
    }
    return this.cache.get(id);
  }

  draw() {
    if (!this.waiting) this.waiting = requestAnimationFrame(() => { this.waiting = 0; this.paint(); });
  }

  paint() {
    const gl = this.gl, ratio = Math.min(window.devicePixelRatio || 1, 2);
    const width = Math.max(1, Math.round(this.canvas.clientWidth * ratio)), height = Math.max(1, Math.round(this.canvas.clientHeight * ratio));
    if (this.canvas.width !== width || this.canvas.height !== height) { this.canvas.width = width; this.canvas.height = height; }
    gl.disable(gl.SCISSOR_TEST);
    gl.clearColor(0, 0, 0, 0);
    gl.clear(gl.COLOR_BUFFER_BIT | gl.DEPTH_BUFFER_BIT);
    const both = this.flags.truth && this.shape?.truth && this.shape?.mesh;
    const panes = !this.shape ? [] : both ? [this.shape.mesh, this.shape.truth] : [this.shape.mesh || this.shape.truth];
    this.labels.forEach((label, i) => { label.hidden = !panes[i]; });
    if (this.labels[0] && this.shape) this.labels[0].textContent = this.shape.mesh ? "Prediction" : "Truth (no prediction)";
    this.root.dataset.panes = panes.length;
    const box = this.shape?.truth || this.shape?.mesh;
    panes.forEach((mesh, i) => this.pane(mesh, box, i * width / panes.length, width / panes.length, height));
  }

  pane(mesh, box, left, width, height) {
    const gl = this.gl, fov = 0.55, {azimuth, elevation, distance} = this.camera;
    const target = subtract(middle(box), mesh.center), radius = Math.hypot(...subtract(box.high, box.low)) / 2 || 1;
    const [a, e] = [azimuth * Math.PI / 180, elevation * Math.PI / 180];
    const away = 0.92 * radius * distance / Math.sin(fov / 2) / Math.min(1, width / height);
    const eye = [Math.sin(a) * Math.cos(e), Math.sin(e), Math.cos(a) * Math.cos(e)].map((d, k) => target[k] + away * d);
    const turned = a - 0.7, key = normalise([0.62 * Math.sin(turned), 0.8, 0.62 * Math.cos(turned)]);
    gl.viewport(left, 0, width, height);
    gl.enable(gl.DEPTH_TEST);
    gl.useProgram(this.program);
    gl.uniformMatrix4fv(this.at.view, false, lookAt(eye, target));
    gl.uniformMatrix4fv(this.at.projection, false, perspective(fov, width / height, Math.max(away - 3 * radius, radius * 0.01), away + 3 * radius));
    gl.uniform3fv(this.at.eye, eye);
    gl.uniform3fv(this.at.key, key);
    gl.bindVertexArray(mesh.array);
    gl.uniform4f(this.at.line, 0, 0, 0, 0);
    gl.enable(gl.POLYGON_OFFSET_FILL);
    gl.polygonOffset(1, 1);
    gl.bindBuffer(gl.ELEMENT_ARRAY_BUFFER, mesh.faces);
    gl.drawElements(gl.TRIANGLES, mesh.count, gl.UNSIGNED_INT, 0);
    gl.disable(gl.POLYGON_OFFSET_FILL);
    if (this.flags.wire) {
      gl.enable(gl.BLEND);
      gl.blendFunc(gl.ONE, gl.ONE_MINUS_SRC_ALPHA);
      gl.uniform4f(this.at.line, 0.05, 0.09, 0.18, 0.4);
      gl.bindBuffer(gl.ELEMENT_ARRAY_BUFFER, mesh.lines);
      gl.drawElements(gl.LINES, mesh.edges, gl.UNSIGNED_INT, 0);
      gl.disable(gl.BLEND);
    }
  }
}

for (const root of document.querySelectorAll("[data-viewer]")) new Viewer(root);
