"use strict";
(() => {
  const root = document.getElementById("viewer");
  if (!root) return;
  const scene = JSON.parse(document.getElementById("meshes").textContent);
  const canvas = root.querySelector("canvas");
  const status = root.querySelector(".status");
  const facts = root.querySelector(".facts");
  const gl = canvas.getContext("webgl2", { antialias: true, alpha: true, premultipliedAlpha: true });
  if (!gl || typeof DecompressionStream === "undefined") {
    status.textContent = "This browser cannot show the shape (it needs WebGL 2). Open the mesh file in a mesh viewer instead.";
    return;
  }

  // ---- unpacking: the inverse of export/packing.py -------------------------------------------------------------
  async function inflate(text) {
    const bytes = Uint8Array.from(atob(text), (letter) => letter.charCodeAt(0));
    const stream = new Blob([bytes]).stream().pipeThrough(new DecompressionStream("deflate"));
    return new Uint8Array(await new Response(stream).arrayBuffer());
  }

  async function unpack(text, rows, columns, Type) {
    const planes = await inflate(text);
    const values = new Type(rows * columns);
    for (let column = 0; column < columns; column++) {
      let sum = 0;
      for (let row = 0; row < rows; row++) {
        let step = 0;
        for (let byte = 0; byte < Type.BYTES_PER_ELEMENT; byte++) {
          step += planes[(byte * columns + column) * rows + row] * 2 ** (8 * byte);
        }
        values[row * columns + column] = sum = (sum + step) % 2 ** (8 * Type.BYTES_PER_ELEMENT);
      }
    }
    return values;
  }

  function vertexNormals(positions, indices) {
    const normals = new Float32Array(positions.length);
    for (let i = 0; i < indices.length; i += 3) {
      const [a, b, c] = [3 * indices[i], 3 * indices[i + 1], 3 * indices[i + 2]];
      const ux = positions[b] - positions[a], uy = positions[b + 1] - positions[a + 1], uz = positions[b + 2] - positions[a + 2];
      const vx = positions[c] - positions[a], vy = positions[c + 1] - positions[a + 1], vz = positions[c + 2] - positions[a + 2];
      const nx = uy * vz - uz * vy, ny = uz * vx - ux * vz, nz = ux * vy - uy * vx;
      for (const k of [a, b, c]) {
        normals[k] += nx; normals[k + 1] += ny; normals[k + 2] += nz;
      }
    }
    for (let i = 0; i < normals.length; i += 3) {
      const length = Math.hypot(normals[i], normals[i + 1], normals[i + 2]) || 1;
      normals[i] /= length; normals[i + 1] /= length; normals[i + 2] /= length;
    }
    return normals;
  }

  // ---- drawing -------------------------------------------------------------------------------------------------
  const VERTEX = `#version 300 es
    in vec3 position; in vec3 normal; in vec3 color;
    uniform mat4 clipFromWorld; uniform mat3 viewFromWorld; uniform vec3 eye;
    out vec3 worldNormal; out vec3 viewNormal; out vec3 tint; out vec3 toEye;
    void main() {
      worldNormal = normal; viewNormal = viewFromWorld * normal; tint = color;
      toEye = viewFromWorld * (eye - position);
      gl_Position = clipFromWorld * vec4(position, 1.0);
    }`;
  const FRAGMENT = `#version 300 es
    precision highp float;
    in vec3 worldNormal; in vec3 viewNormal; in vec3 tint; in vec3 toEye;
    uniform int look; out vec4 result;
    void main() {
      vec3 e = normalize(toEye), n = normalize(viewNormal);
      // Slivers on the outline may show their back; only where the smooth normal agrees is it the inside.
      bool inside = !gl_FrontFacing && dot(n, e) < -0.1;
      if (look == 0) { result = vec4(inside ? tint * 0.55 : tint, 1.0); return; }
      if (look == 2) { result = vec4(normalize(worldNormal) * (inside ? -0.5 : 0.5) + 0.5, 1.0); return; }
      if (inside) n = -n;
      float key = max(dot(n, normalize(vec3(0.45, 0.65, 0.62))), 0.0);
      float fill = max(dot(n, normalize(vec3(-0.7, 0.1, 0.5))), 0.0);
      float sky = 0.5 + 0.5 * n.y;
      float gloss = pow(max(dot(reflect(-normalize(vec3(0.45, 0.65, 0.62)), n), e), 0.0), 24.0);
      vec3 clay = inside ? vec3(0.50, 0.36, 0.31) : vec3(0.76, 0.74, 0.71);
      vec3 light = vec3(0.83, 0.80, 0.75) * key + vec3(0.10, 0.13, 0.18) * fill + mix(vec3(0.06, 0.055, 0.06), vec3(0.20, 0.22, 0.25), sky);
      result = vec4(pow(clay * light + 0.05 * gloss, vec3(0.85)), 1.0);
    }`;

  function compile(kind, source) {
    const shader = gl.createShader(kind);
    gl.shaderSource(shader, source);
    gl.compileShader(shader);
    if (!gl.getShaderParameter(shader, gl.COMPILE_STATUS)) throw new Error(gl.getShaderInfoLog(shader));
    return shader;
  }
  const program = gl.createProgram();
  gl.attachShader(program, compile(gl.VERTEX_SHADER, VERTEX));
  gl.attachShader(program, compile(gl.FRAGMENT_SHADER, FRAGMENT));
  gl.linkProgram(program);
  gl.useProgram(program);
  gl.enable(gl.DEPTH_TEST);
  const uniform = (name) => gl.getUniformLocation(program, name);
  const uniforms = { clip: uniform("clipFromWorld"), view: uniform("viewFromWorld"), eye: uniform("eye"), look: uniform("look") };

  function attribute(name, data, type, normalized) {
    const place = gl.getAttribLocation(program, name);
    gl.bindBuffer(gl.ARRAY_BUFFER, gl.createBuffer());
    gl.bufferData(gl.ARRAY_BUFFER, data, gl.STATIC_DRAW);
    gl.enableVertexAttribArray(place);
    gl.vertexAttribPointer(place, 3, type, normalized, 0, 0);
  }

  async function load(shape) {
    const lattice = await unpack(shape.positions, shape.numVertices, 3, Uint16Array);
    const indices = await unpack(shape.indices, shape.numFaces, 3, Uint32Array);
    const colors = shape.colors ? await unpack(shape.colors, shape.numVertices, 3, Uint8Array) : null;
    const positions = new Float32Array(lattice.length);
    for (let i = 0; i < lattice.length; i++) {
      positions[i] = (lattice[i] / 65535 * shape.size + shape.lower[i % 3] - scene.center[i % 3]) / scene.radius;
    }
    const array = gl.createVertexArray();
    gl.bindVertexArray(array);
    attribute("position", positions, gl.FLOAT, false);
    attribute("normal", vertexNormals(positions, indices), gl.FLOAT, false);
    if (colors) attribute("color", colors, gl.UNSIGNED_BYTE, true);
    gl.bindBuffer(gl.ELEMENT_ARRAY_BUFFER, gl.createBuffer());
    gl.bufferData(gl.ELEMENT_ARRAY_BUFFER, indices, gl.STATIC_DRAW);
    return { array, count: indices.length, hasColors: Boolean(colors) };
  }

  // ---- the camera turns around the object, up stays up ---------------------------------------------------------
  const dot = (a, b) => a[0] * b[0] + a[1] * b[1] + a[2] * b[2];
  const cross = (a, b) => [a[1] * b[2] - a[2] * b[1], a[2] * b[0] - a[0] * b[2], a[0] * b[1] - a[1] * b[0]];
  const unit = (a) => { const l = Math.hypot(...a) || 1; return a.map((x) => x / l); };
  const mix = (a, x, b, y, c, z) => [0, 1, 2].map((i) => a[i] * x + b[i] * y + c[i] * z);
  const FIELD_OF_VIEW = (32 * Math.PI) / 180;

  const up = unit(scene.up);
  const helper = Math.abs(up[2]) < 0.9 ? [0, 0, 1] : [0, 1, 0];
  const sideways = unit(cross(up, helper));
  const ahead = cross(sideways, up);
  const start = { yaw: 0.5, pitch: 0.25, distance: 1.02 / Math.sin(FIELD_OF_VIEW / 2), target: [0, 0, 0] };
  if (scene.eye) {
    const eye = unit(scene.eye);
    start.pitch = Math.max(-0.6, Math.min(0.6, Math.asin(Math.max(-1, Math.min(1, dot(eye, up))))));
    start.yaw = Math.atan2(dot(eye, sideways), dot(eye, ahead));
  }
  let camera, look = "colors", current = 0, spinning = false, drawn = false;
  const reset = () => { camera = { ...start, target: [0, 0, 0] }; redraw(); };

  function axes() {
    const back = mix(sideways, Math.sin(camera.yaw) * Math.cos(camera.pitch), up, Math.sin(camera.pitch), ahead, Math.cos(camera.yaw) * Math.cos(camera.pitch));
    const right = mix(sideways, Math.cos(camera.yaw), up, 0, ahead, -Math.sin(camera.yaw));
    return { right, above: cross(back, right), back };
  }

  function draw() {
    drawn = false;
    const shape = shapes[current];
    if (!shape) return;
    const ratio = Math.min(window.devicePixelRatio || 1, 2);
    const [width, height] = [Math.round(canvas.clientWidth * ratio), Math.round(canvas.clientHeight * ratio)];
    if (canvas.width !== width || canvas.height !== height) { canvas.width = width; canvas.height = height; }
    const { right, above, back } = axes();
    const eye = camera.target.map((x, i) => x + camera.distance * back[i]);
    const near = Math.max(camera.distance - 1.5, 0.01), far = camera.distance + 3;
    const tall = 1 / Math.tan(FIELD_OF_VIEW / 2) * Math.min(1, width / height), wide = tall * height / width;
    const a = (far + near) / (near - far), b = (2 * far * near) / (near - far);
    const shift = [dot(right, eye), dot(above, eye), dot(back, eye)];
    const clip = [];
    for (let i = 0; i < 3; i++) clip.push(wide * right[i], tall * above[i], a * back[i], -back[i]);
    clip.push(-wide * shift[0], -tall * shift[1], -a * shift[2] + b, shift[2]);
    gl.viewport(0, 0, width, height);
    gl.clearColor(0, 0, 0, 0);
    gl.clear(gl.COLOR_BUFFER_BIT | gl.DEPTH_BUFFER_BIT);
    gl.uniformMatrix4fv(uniforms.clip, false, clip);
    gl.uniformMatrix3fv(uniforms.view, false, [0, 1, 2].flatMap((i) => [right[i], above[i], back[i]]));
    gl.uniform3fv(uniforms.eye, eye);
    gl.uniform1i(uniforms.look, { colors: shape.hasColors ? 0 : 1, shaded: 1, normals: 2 }[look]);
    gl.bindVertexArray(shape.array);
    gl.drawElements(gl.TRIANGLES, shape.count, gl.UNSIGNED_INT, 0);
    if (spinning) { camera.yaw += 0.008; redraw(); }
  }
  function redraw() {
    if (!drawn) { drawn = true; requestAnimationFrame(draw); }
  }

  // ---- hands ---------------------------------------------------------------------------------------------------
  const turn = (dx, dy) => {
    camera.yaw -= dx * 0.008;
    camera.pitch = Math.max(-1.55, Math.min(1.55, camera.pitch + dy * 0.008));
    redraw();
  };
  const move = (dx, dy) => {
    const { right, above } = axes();
    const step = 2 * camera.distance * Math.tan(FIELD_OF_VIEW / 2) / Math.min(canvas.clientWidth, canvas.clientHeight);
    camera.target = mix(camera.target, 1, right, -dx * step, above, dy * step);
    redraw();
  };
  const zoom = (factor) => {
    camera.distance = Math.max(0.3, Math.min(20, camera.distance * factor));
    redraw();
  };
  const pointers = new Map();
  const spread = () => {
    const [a, b] = [...pointers.values()];
    return Math.hypot(a.x - b.x, a.y - b.y) || 1;
  };
  canvas.addEventListener("pointerdown", (event) => {
    canvas.setPointerCapture(event.pointerId);
    pointers.set(event.pointerId, { x: event.clientX, y: event.clientY });
    spin(false);
  });
  canvas.addEventListener("pointermove", (event) => {
    const last = pointers.get(event.pointerId);
    if (!last) return;
    const [dx, dy] = [event.clientX - last.x, event.clientY - last.y];
    const before = pointers.size === 2 ? spread() : 0;
    last.x = event.clientX;
    last.y = event.clientY;
    if (pointers.size === 2) { zoom(before / spread()); move(dx / 2, dy / 2); }
    else if (event.buttons & 6 || event.shiftKey) move(dx, dy);
    else turn(dx, dy);
  });
  for (const name of ["pointerup", "pointercancel"]) canvas.addEventListener(name, (event) => pointers.delete(event.pointerId));
  canvas.addEventListener("contextmenu", (event) => event.preventDefault());
  canvas.addEventListener("dblclick", reset);
  canvas.addEventListener("wheel", (event) => {
    event.preventDefault();
    zoom(Math.exp(Math.max(-60, Math.min(60, event.deltaY * (event.deltaMode ? 20 : 1))) * 0.002));
  }, { passive: false });
  canvas.addEventListener("keydown", (event) => {
    const action = { ArrowLeft: () => turn(-16, 0), ArrowRight: () => turn(16, 0), ArrowUp: () => turn(0, -16), ArrowDown: () => turn(0, 16),
      "+": () => zoom(0.9), "-": () => zoom(1.1), 0: reset }[event.key];
    if (action) { event.preventDefault(); action(); }
  });
  function spin(on) {
    spinning = on;
    root.querySelector("[data-action=spin]").setAttribute("aria-pressed", on);
    redraw();
  }

  // ---- buttons -------------------------------------------------------------------------------------------------
  const press = (buttons, chosen) => buttons.forEach((button) => button.setAttribute("aria-pressed", button === chosen));
  const lookButtons = [...root.querySelectorAll("[data-look]")];
  function setLook(name) {
    look = name;
    press(lookButtons, lookButtons.find((button) => button.dataset.look === name));
    redraw();
  }
  lookButtons.forEach((button) => button.addEventListener("click", () => setLook(button.dataset.look)));
  root.querySelector("[data-action=reset]").addEventListener("click", reset);
  root.querySelector("[data-action=spin]").addEventListener("click", () => spin(!spinning));
  root.querySelector("[data-action=full]").addEventListener("click", () =>
    document.fullscreenElement ? document.exitFullscreen() : root.requestFullscreen());
  const shapeBar = root.querySelector("[data-control=shape]");
  const shapes = [];
  const shapeButtons = scene.shapes.map((shape, index) => {
    const button = document.createElement("button");
    button.type = "button";
    button.textContent = shape.name;
    button.addEventListener("click", () => show(index));
    shapeBar.append(button);
    return button;
  });
  shapeBar.hidden = shapeButtons.length < 2;

  async function show(index) {
    status.textContent = "Unpacking the shape …";
    try {
      shapes[index] ||= await load(scene.shapes[index]);
    } catch (error) {
      status.textContent = `The shape cannot be shown: ${error.message}`;
      return;
    }
    current = index;
    status.textContent = "";
    facts.textContent = `${scene.shapes[index].numVertices.toLocaleString("en")} vertices · ${scene.shapes[index].numFaces.toLocaleString("en")} triangles`;
    lookButtons[0].disabled = !shapes[index].hasColors;
    if (look === "colors" && !shapes[index].hasColors) setLook("shaded");
    press(shapeButtons, shapeButtons[index]);
    root.dataset.ready = "yes";
    redraw();
  }
  new ResizeObserver(redraw).observe(canvas);
  reset();
  setLook("colors");
  show(0);
})();
