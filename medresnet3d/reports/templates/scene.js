"use strict";
// What is seen: a volume, its overlays and the state of the view, drawn as three planes and told in words.
// The three planes as the pictures show them: which voxel axis is cut, and which run across and upwards.
const PLANES = [{ axis: 2, across: 0, up: 1 }, { axis: 1, across: 0, up: 2 }, { axis: 0, across: 1, up: 2 }];
const SIDES = [["L", "R"], ["P", "A"], ["I", "S"]];
const OPACITY = 0.4;
const clamp = (value, low, high) => Math.min(high, Math.max(low, value));
const colour = (hex) => [1, 3, 5].map((at) => parseInt(hex.slice(at, at + 2), 16));
const packed = (r, g, b, a) => ((a << 24) | (b << 16) | (g << 8) | r) >>> 0;
const digits = (value) => Math.abs(value) >= 100 ? value.toFixed(0) : value.toPrecision(3).replace(/\.?0+$/, "");

class Scene {
  constructor(root, meta, image, layers) {
    Object.assign(this, { root, meta, image, layers });
    this.at = [...meta.centre];
    this.window = [...meta.window];
    this.layer = layers.length ? 0 : -1;
    this.lastLayer = this.layer;
    this.opacity = OPACITY;
    this.outlines = false;
    this.crosshair = true;
    this.measuring = false;
    this.ruler = null;
    this.rings = true;
    this.hidden = new Set();
    this.strides = [1, meta.shape[0], meta.shape[0] * meta.shape[1]];
    this.panes = [...root.querySelectorAll(".pane")].map((figure) => this.pane(figure));
  }

  find(selector) { return this.root.querySelector(selector); }

  pressed(selector, chosen) {
    this.root.querySelectorAll(selector).forEach((one) => one.setAttribute("aria-pressed", String(chosen(one))));
  }

  pane(figure) {
    const plane = PLANES[Number(figure.dataset.plane)], { shape } = this.meta;
    const canvas = figure.querySelector("canvas"), slider = figure.querySelector("input");
    const small = document.createElement("canvas");
    [small.width, small.height] = [shape[plane.across], shape[plane.up]];
    return { ...plane, figure, canvas, slider, small, label: figure.querySelector("output"), turned: 0, last: -Infinity };
  }

  // Where things are: the patient's right is on the left, if it is known --------------------------------------------
  flipped() { return this.meta.affine !== null; }

  // Voxel coordinate under a place on the picture, and the way back; places are fractions from left and top.
  voxelAt(pane, x, y) {
    const { shape } = this.meta, across = this.flipped() ? 1 - x : x;
    const at = [...this.at];
    at[pane.across] = clamp(Math.floor(across * shape[pane.across]), 0, shape[pane.across] - 1);
    at[pane.up] = clamp(Math.floor((1 - y) * shape[pane.up]), 0, shape[pane.up] - 1);
    return at;
  }

  placeOf(pane, at = this.at) {
    const { shape } = this.meta, across = (at[pane.across] + 0.5) / shape[pane.across];
    return [this.flipped() ? 1 - across : across, 1 - (at[pane.up] + 0.5) / shape[pane.up]];
  }

  // Drawing ----------------------------------------------------------------------------------------------------------
  draw() {
    if (this.waiting) return;
    this.waiting = requestAnimationFrame(() => {
      this.waiting = 0;
      this.root.dataset.drawn = String(Number(this.root.dataset.drawn || 0) + 1);
      this.panes.filter((pane) => !pane.figure.hidden).forEach((pane) => this.drawPane(pane));
      this.tell();
    });
  }

  // One slice as pixels: codes of `data` through a table of packed colours.
  slice(pane, data, table) {
    const { width, height } = pane.small, pixels = new ImageData(width, height), out = new Uint32Array(pixels.data.buffer);
    const across = this.strides[pane.across] * (this.flipped() ? -1 : 1), up = this.strides[pane.up];
    const start = this.at[pane.axis] * this.strides[pane.axis] + (this.flipped() ? (width - 1) * this.strides[pane.across] : 0);
    for (let row = 0, to = 0; row < height; row += 1) {
      let from = start + (height - 1 - row) * up;
      for (let column = 0; column < width; column += 1, to += 1, from += across) out[to] = table[data[from]];
    }
    return pixels;
  }

  greys() {
    const [low, high] = this.window;
    return Uint32Array.from(this.meta.values, (value) => {
      const grey = Math.round(clamp((value - low) / (high - low), 0, 1) * 255);
      return packed(grey, grey, grey, 255);
    });
  }

  colours(layer) {
    if (layer.kind === "heat") {
      return Uint32Array.from(layer.colors, (one, code) => packed(...colour(one), Math.min(255, Math.round(code * 2 * this.opacity))));
    }
    const table = new Uint32Array(256);
    for (const one of this.meta.structures) {
      if (!this.hidden.has(one.code)) table[one.code] = packed(...colour(one.color), Math.round(255 * this.opacity));
    }
    return table;
  }

  drawPane(pane) {
    const { canvas, small } = pane, ratio = devicePixelRatio || 1;
    const width = Math.round(canvas.clientWidth * ratio), height = Math.round(canvas.clientHeight * ratio);
    if (!width || !height) return;
    if (canvas.width !== width || canvas.height !== height) Object.assign(canvas, { width, height });
    const context = canvas.getContext("2d"), paint = small.getContext("2d");
    const put = (pixels, soft) => {
      paint.putImageData(pixels, 0, 0);
      context.imageSmoothingEnabled = soft;
      context.imageSmoothingQuality = "high";
      context.drawImage(small, 0, 0, width, height);
    };
    put(this.slice(pane, this.image, this.greys()), true);
    const layer = this.layers[this.layer];
    if (layer && layer.kind === "labels" && this.outlines) this.drawOutlines(pane, context, layer.codes, ratio);
    else if (layer) put(this.slice(pane, layer.codes, this.colours(layer)), layer.kind === "heat");
    this.drawCrosshair(pane, context, ratio);
    if (this.rings) this.drawRings(pane, context, ratio);
    this.drawScale(pane, context, ratio);
    this.drawRuler(pane, context, ratio);
  }

  drawOutlines(pane, context, data, ratio) {
    const { width, height } = pane.small, { canvas } = pane;
    const sx = canvas.width / width, sy = canvas.height / height;
    const codes = new Uint8Array(this.slice(pane, data, Uint32Array.from({ length: 256 }, (_, code) => code)).data.buffer);
    const at = (x, y) => x < 0 || y < 0 || x >= width || y >= height ? 0 : codes[4 * (y * width + x)];
    const paths = new Map(this.meta.structures.filter((one) => !this.hidden.has(one.code)).map((one) => [one.code, new Path2D()]));
    const line = (path, x0, y0, x1, y1) => { path.moveTo(x0 * sx, y0 * sy); path.lineTo(x1 * sx, y1 * sy); };
    for (let y = 0; y < height; y += 1) for (let x = 0; x < width; x += 1) {
      const code = at(x, y), path = paths.get(code);
      if (!path) continue;
      if (at(x - 1, y) !== code) line(path, x, y, x, y + 1);
      if (at(x + 1, y) !== code) line(path, x + 1, y, x + 1, y + 1);
      if (at(x, y - 1) !== code) line(path, x, y, x + 1, y);
      if (at(x, y + 1) !== code) line(path, x, y + 1, x + 1, y + 1);
    }
    context.lineWidth = 1.5 * ratio;
    context.lineCap = "square";
    for (const one of this.meta.structures) if (paths.has(one.code)) {
      context.strokeStyle = one.color;
      context.stroke(paths.get(one.code));
    }
  }

  drawCrosshair(pane, context, ratio) {
    const { width, height } = context.canvas, place = this.placeOf(pane), gap = 9 * ratio;
    const [x, y] = [place[0] * width, place[1] * height];
    context.lineWidth = ratio;
    context.strokeStyle = "rgb(255 224 138 / .75)";
    context.beginPath();
    for (const [x0, y0, x1, y1] of this.crosshair ? [[0, y, x - gap, y], [x + gap, y, width, y], [x, 0, x, y - gap], [x, y + gap, x, height]] : []) {
      context.moveTo(x0, y0);
      context.lineTo(x1, y1);
    }
    context.stroke();
    if (!this.meta.marked || this.at[pane.axis] !== this.meta.centre[pane.axis]) return;
    const [mx, my] = this.placeOf(pane, this.meta.centre);
    context.lineWidth = 2 * ratio;
    context.strokeStyle = "#ffe08a";
    context.beginPath();
    context.arc(mx * width, my * height, 13 * ratio, 0, 2 * Math.PI);
    context.stroke();
  }

  // Rings around the marks that the slice cuts.
  drawRings(pane, context, ratio) {
    const { width, height } = context.canvas, thickness = this.meta.spacing[pane.axis], [total] = this.extent(pane);
    context.lineWidth = 2 * ratio;
    context.font = `600 ${11 * ratio}px system-ui, sans-serif`;
    for (const mark of this.meta.marks) {
      const far = Math.abs(mark.at[pane.axis] - this.at[pane.axis]) * thickness;
      if (far > Math.max(mark.radius, thickness / 2)) continue;
      const [x, y] = this.placeOf(pane, mark.at), radius = Math.max(5 * ratio, (mark.reach / total) * width);
      context.strokeStyle = context.fillStyle = mark.color;
      context.beginPath();
      context.arc(x * width, y * height, radius, 0, 2 * Math.PI);
      context.stroke();
      context.fillText(mark.name, x * width + radius * 0.8, y * height - radius * 0.8);
    }
  }

  drawScale(pane, context, ratio) {
    const { width, height } = context.canvas, [total] = this.extent(pane);
    const mm = [1, 2, 5, 10, 20, 50, 100].filter((one) => one <= total / 3).at(-1);
    if (!mm) return;
    const long = (mm / total) * width, y = height - 7 * ratio, x = 7 * ratio;
    context.fillStyle = "#ffe08a";
    context.fillRect(x, y, long, 2 * ratio);
    context.font = `${11 * ratio}px system-ui, sans-serif`;
    context.fillText(`${mm} mm`, x, y - 4 * ratio);
  }

  // Width and height of a plane in millimetres.
  extent(pane) { return [pane.across, pane.up].map((axis) => this.meta.shape[axis] * this.meta.spacing[axis]); }

  length({ pane, from, to }) {
    const [width, height] = this.extent(pane);
    return Math.hypot((to[0] - from[0]) * width, (to[1] - from[1]) * height);
  }

  drawRuler(pane, context, ratio) {
    if (this.ruler?.pane !== pane || this.ruler.slice !== this.at[pane.axis]) return;
    const [[x0, y0], [x1, y1]] = [this.ruler.from, this.ruler.to].map(([x, y]) => [x * context.canvas.width, y * context.canvas.height]);
    context.strokeStyle = context.fillStyle = "#7dffb0";
    context.lineWidth = 1.5 * ratio;
    context.beginPath();
    context.moveTo(x0, y0);
    context.lineTo(x1, y1);
    context.stroke();
    context.font = `600 ${13 * ratio}px system-ui, sans-serif`;
    const text = `${this.length(this.ruler).toFixed(1)} mm`, wide = context.measureText(text).width;
    context.shadowColor = "#000";
    context.shadowBlur = 4 * ratio;
    context.fillText(text, clamp(x1 + 6 * ratio, 0, context.canvas.width - wide), clamp(y1 - 6 * ratio, 14 * ratio, context.canvas.height));
    context.shadowBlur = 0;
  }

  // Words ------------------------------------------------------------------------------------------------------------
  tell() {
    const { meta } = this, [low, high] = this.window;
    for (const pane of this.panes) {
      const text = `slice ${this.at[pane.axis] + 1} of ${meta.shape[pane.axis]}`;
      pane.slider.value = String(this.at[pane.axis]);
      pane.slider.setAttribute("aria-valuetext", text);
      pane.label.textContent = text;
    }
    this.find(".level").value = String((low + high) / 2);
    this.find(".width").value = String(high - low);
    this.find(".window-text").textContent = `level ${digits((low + high) / 2)}, width ${digits(high - low)}${meta.unit && ` ${meta.unit}`}`;
    this.pressed("[data-window]", (one) => JSON.parse(one.dataset.window).every((value, end) => Math.abs(value - this.window[end]) < 1e-3 * (high - low)));
    this.pressed(".overlay [data-layer]", (one) => Number(one.dataset.layer) === this.layer);
    if (this.find(".opacity")) this.find(".opacity").value = String(this.opacity);
    this.find(".readout").textContent = this.here();
  }

  here() {
    const { meta } = this, at = this.at[0] + this.at[1] * this.strides[1] + this.at[2] * this.strides[2];
    const parts = [];
    if (meta.affine) {
      const point = meta.affine.slice(0, 3).map((row) => row[0] * this.at[0] + row[1] * this.at[1] + row[2] * this.at[2] + row[3]);
      parts.push(`${point.map((mm, axis) => `${SIDES[axis][mm < 0 ? 0 : 1]} ${Math.abs(mm).toFixed(1)}`).join("  ")} mm`);
    } else parts.push(`voxel ${this.at.map((one) => one + 1).join(", ")}`);
    parts.push(`value ${digits(meta.values[this.image[at]])}${meta.unit && ` ${meta.unit}`}`);
    const layer = this.layers[this.layer];
    if (layer?.kind === "labels") parts.push(meta.structures.find((one) => one.code === layer.codes[at])?.name ?? "no structure");
    if (layer?.kind === "heat") parts.push(`${layer.name} ${Math.round(layer.codes[at] / 2.55)}%`);
    if (this.ruler) parts.push(`ruler ${this.length(this.ruler).toFixed(1)} mm`);
    return parts.join("  ·  ");
  }
}
