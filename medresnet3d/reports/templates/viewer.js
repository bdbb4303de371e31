"use strict";
// What a reader does to a scene: slices, crosshair, window, overlays, by pointer, wheel, keys and buttons.
const STEP_PIXELS = 30, NOTCH_PIXELS = 50, PAUSE_MS = 300, TAP_PIXELS = 8;

// Wheel turns that began outside a viewer go on scrolling the page when the pointer comes over a picture.
let pageTurn = -Infinity;
addEventListener("wheel", (event) => { if (!event.target.closest?.(".stage")) pageTurn = event.timeStamp; }, { passive: true });

class Viewer extends Scene {
  constructor(root, meta, image, layers) {
    super(root, meta, image, layers);
    for (const pane of this.panes) this.connectPane(pane);
    this.connectControls();
    root.addEventListener("keydown", (event) => this.key(event));
    new ResizeObserver(() => this.draw()).observe(root);
    root.classList.add("live");
    const narrow = matchMedia("(max-width: 560px)").matches && this.panes.length > 1;
    this.show(narrow ? this.panes[0].figure.dataset.plane : "all");
  }

  connectPane(pane) {
    const { slider, canvas } = pane;
    slider.addEventListener("input", () => this.cut(pane, Number(slider.value)));
    canvas.addEventListener("wheel", (event) => this.wheel(pane, event), { passive: false });
    canvas.addEventListener("pointerdown", (event) => this.grasp(pane, event));
    canvas.addEventListener("contextmenu", (event) => event.preventDefault());
    canvas.addEventListener("dblclick", () => this.enlarge(pane));
  }

  // Pointer, wheel and keys ------------------------------------------------------------------------------------------
  wheel(pane, event) {
    if (event.ctrlKey || event.metaKey || Math.abs(event.deltaX) > Math.abs(event.deltaY)) return;
    if (event.timeStamp - pageTurn < PAUSE_MS) { pageTurn = event.timeStamp; return; }
    const pixels = event.deltaY * [1, 33, 400][event.deltaMode];
    const going = event.timeStamp - pane.last < PAUSE_MS;
    const edge = pixels > 0 ? 0 : this.meta.shape[pane.axis] - 1;
    if (this.at[pane.axis] === edge && !going) return;
    event.preventDefault();
    pane.last = event.timeStamp;
    pane.turned = Math.abs(pixels) >= NOTCH_PIXELS ? Math.sign(pixels) * STEP_PIXELS : pane.turned + pixels;
    const steps = Math.trunc(pane.turned / STEP_PIXELS);
    pane.turned -= steps * STEP_PIXELS;
    this.cut(pane, this.at[pane.axis] - steps);
  }

  place(pane, event) {
    const box = pane.canvas.getBoundingClientRect();
    return [(event.clientX - box.left) / box.width, (event.clientY - box.top) / box.height];
  }

  grasp(pane, start) {
    if (!start.isPrimary) return;
    start.preventDefault();
    pane.slider.focus({ preventScroll: true });
    const { canvas } = pane, windowing = start.button === 2;
    if (!windowing && (this.measuring || start.shiftKey)) { this.measure(pane, start); return; }
    const touch = start.pointerType === "touch";
    const from = { index: this.at[pane.axis], window: [...this.window], far: 0 };
    const point = (event) => { this.at = this.voxelAt(pane, ...this.place(pane, event)); this.draw(); };
    const move = (event) => {
      const dx = event.clientX - start.clientX, dy = event.clientY - start.clientY;
      from.far = Math.max(from.far, Math.hypot(dx, dy));
      if (windowing) this.dragWindow(from.window, dx, dy);
      else if (!touch) point(event);
      else if (from.far > TAP_PIXELS) this.cut(pane, from.index - this.slicesOf(pane, dy));
    };
    const stop = (event) => {
      if (touch && from.far <= TAP_PIXELS && event.type === "pointerup") point(event);
    };
    this.hold(canvas, start, move, stop);
    if (!touch && !windowing) point(start);
  }

  // Follows one pointer until it is lifted.
  hold(canvas, start, move, stop) {
    canvas.setPointerCapture(start.pointerId);
    canvas.addEventListener("pointermove", move);
    const end = (event) => {
      canvas.removeEventListener("pointermove", move);
      for (const kind of ["pointerup", "pointercancel"]) canvas.removeEventListener(kind, end);
      stop(event);
    };
    for (const kind of ["pointerup", "pointercancel"]) canvas.addEventListener(kind, end);
  }

  measure(pane, start) {
    const from = this.place(pane, start);
    const to = (event) => {
      this.ruler = { pane, from, to: this.place(pane, event).map((one) => clamp(one, 0, 1)), slice: this.at[pane.axis] };
      this.draw();
    };
    to(start);
    this.hold(pane.canvas, start, to, to);
  }

  slicesOf(pane, pixels) {
    const step = clamp(pane.canvas.clientHeight / this.meta.shape[pane.axis], 3, 12);
    return Math.round(pixels / step);
  }

  dragWindow([low, high], dx, dy) {
    const unit = (this.meta.values.at(-1) - this.meta.values[0]) / 1000;
    const speed = Math.min(unit, (this.meta.window[1] - this.meta.window[0]) / 250);
    this.setWindow((low + high) / 2 + dy * speed, high - low + dx * speed);
  }

  key(event) {
    if (event.ctrlKey || event.metaKey || event.altKey) return;
    const slider = event.target.closest(".pane input");
    const pane = this.panes.find((one) => one.slider === slider);
    const pages = { PageUp: 10, PageDown: -10 }[event.key];
    const preset = this.root.querySelectorAll("[data-window]")[Number(event.key) - 1];
    const other = { l: ".outlines", x: ".crosshair", m: ".measuring", r: ".reset" }[event.key.toLowerCase()];
    if (pane && pages) this.cut(pane, this.at[pane.axis] + pages);
    else if (pane && event.key === "e") this.enlarge(pane);
    else if (event.key === "[" || event.key === "]") this.setOpacity(this.opacity + (event.key === "]" ? 0.1 : -0.1));
    else if (event.key === "o" && this.layers.length) this.setLayer(this.layer < 0 ? this.lastLayer : -1);
    else if (preset) preset.click();
    else if (other && this.find(other)) this.find(other).click();
    else return;
    event.preventDefault();
  }

  // Controls ---------------------------------------------------------------------------------------------------------
  cut(pane, index) {
    const kept = clamp(index, 0, this.meta.shape[pane.axis] - 1);
    const moved = kept !== this.at[pane.axis];
    this.at[pane.axis] = kept;
    if (moved) this.draw();
    return moved;
  }

  on(selector, kind, act) { this.root.querySelectorAll(selector).forEach((one) => one.addEventListener(kind, () => act(one))); }

  connectControls() {
    this.on("[data-show]", "click", (one) => this.show(one.dataset.show));
    this.on("[data-layer]", "click", (one) => this.setLayer(Number(one.dataset.layer)));
    this.on("[data-window]", "click", (one) => {
      const [low, high] = JSON.parse(one.dataset.window);
      this.setWindow((low + high) / 2, high - low);
    });
    this.on(".opacity", "input", (one) => this.setOpacity(Number(one.value)));
    this.on(".outlines", "click", (one) => { this.outlines = one.checked; this.draw(); });
    this.on(".crosshair", "click", (one) => { this.crosshair = one.checked; this.draw(); });
    this.on(".rings", "click", (one) => { this.rings = one.checked; this.draw(); });
    this.on(".measuring", "click", (one) => { this.measuring = one.checked; });
    this.on(".level, .width", "input", () => this.setWindow(Number(this.find(".level").value), Number(this.find(".width").value)));
    this.on(".reset", "click", () => this.reset());
    const ticks = [...this.root.querySelectorAll(".structures td input")];
    const tick = (one) => this.hidden[one.checked ? "delete" : "add"](Number(one.value));
    this.on(".structures td input", "click", (one) => { tick(one); this.draw(); });
    this.on(".structures .every", "click", (every) => {
      for (const one of ticks) { one.checked = every.checked; tick(one); }
      this.draw();
    });
    this.on(".structures .goto[value]", "click", (one) => this.goTo(Number(one.value)));
    this.on("[data-mark]", "click", (one) => this.goToMark(this.meta.marks[Number(one.dataset.mark)]));
  }

  show(which) {
    this.shown = which;
    this.pressed("[data-show]", (one) => one.dataset.show === which);
    this.find(".panes").classList.toggle("one", which !== "all");
    this.panes.forEach((pane) => { pane.figure.hidden = which !== "all" && pane.figure.dataset.plane !== which; });
    this.draw();
  }

  enlarge(pane) {
    if (this.panes.length === 1) return;
    this.show(this.shown === "all" ? pane.figure.dataset.plane : "all");
    pane.slider.focus({ preventScroll: true });
  }

  setLayer(index) {
    this.layer = index;
    if (index >= 0) this.lastLayer = index;
    this.draw();
  }

  setOpacity(value) {
    this.opacity = clamp(Math.round(value * 20) / 20, 0, 1);
    this.draw();
  }

  setWindow(level, width) {
    const least = (this.meta.window[1] - this.meta.window[0]) / 500;
    const half = Math.max(width, least) / 2;
    this.window = [level - half, level + half];
    this.draw();
  }

  reset() {
    this.at = [...this.meta.centre];
    this.window = [...this.meta.window];
    this.ruler = null;
    this.setOpacity(OPACITY);
  }

  goToMark(mark) {
    this.at = mark.at.map((one, axis) => clamp(Math.round(one), 0, this.meta.shape[axis] - 1));
    this.draw();
  }

  // Through the middle of the largest area of a structure in each direction.
  goTo(code) {
    const data = this.layers[Math.max(this.layer, 0)].codes, { shape } = this.meta;
    const counts = shape.map((n) => new Uint32Array(n));
    for (let at = data.indexOf(code); at >= 0; at = data.indexOf(code, at + 1)) {
      const inSlice = at % this.strides[2];
      counts[0][inSlice % shape[0]] += 1;
      counts[1][Math.floor(inSlice / shape[0])] += 1;
      counts[2][Math.floor(at / this.strides[2])] += 1;
    }
    const largest = counts.map((one) => one.reduce((best, n) => Math.max(best, n), 0));
    if (largest[0]) this.at = counts.map((one, axis) => one.indexOf(largest[axis]));
    this.draw();
  }
}

async function open(root) {
  const meta = JSON.parse(root.querySelector("script.meta").textContent);
  const data = (name) => root.querySelector(`script[data-part="${name}"]`).textContent.trim();
  const image = await unpack(data("image"), meta.shape, true);
  const codes = meta.layers.map((layer, index) => unpack(data(index), meta.shape, layer.kind === "heat"));
  const layers = (await Promise.all(codes)).map((one, index) => ({ ...meta.layers[index], codes: one }));
  root.viewer = new Viewer(root, meta, image, layers);
}

const seen = new IntersectionObserver((entries) => {
  for (const { isIntersecting, target } of entries) if (isIntersecting) {
    seen.unobserve(target);
    open(target).catch((error) => {
      const note = target.querySelector(".cannot");
      note.textContent = `Only these fixed slices can be shown: this browser cannot unpack the others (${error.message}).`;
      note.hidden = false;
    });
  }
}, { rootMargin: "300px" });
for (const frame of document.querySelectorAll(".viewer-frame")) seen.observe(frame);
