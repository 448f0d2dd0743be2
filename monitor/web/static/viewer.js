// One frame, large: fitted into its place, zoomed and moved by wheel, keys, mouse, pen or fingers;
// brighter or with more contrast. Nothing of this touches the picture itself.

import { element, get } from "./api.js";
import { isCovered, screenOf } from "./pictures.js";

const MOST_ZOOM = 12;
const SHARP_ABOVE = 1.6; // zoomed in further than this, the original shows more than the screen size
const STEP = 1.4;
const FRESH = Object.freeze({ zoom: 1, x: 0, y: 0 });

// The picture fitted into the stage: offsets and size, CSS pixels.
export function fitted(stage, picture) {
  const scale = Math.min(stage.width / picture.width, stage.height / picture.height);
  const [width, height] = [picture.width * scale, picture.height * scale];
  return { width, height, left: (stage.width - width) / 2, top: (stage.height - height) / 2 };
}

// Zoom by `factor` so that the point (px, py) of the stage stays under the finger.
export function zoomedAt(view, factor, px, py, fit, stage) {
  const zoom = Math.min(Math.max(view.zoom * factor, 1), MOST_ZOOM);
  const ratio = zoom / view.zoom;
  const x = px - fit.left - (px - fit.left - view.x) * ratio;
  const y = py - fit.top - (py - fit.top - view.y) * ratio;
  return within({ zoom, x, y }, fit, stage);
}

// Moved so that no more than needed of the stage stays empty.
export function within(view, fit, stage) {
  const axis = (offset, start, length, room) => {
    const big = length * view.zoom;
    if (big <= room) return (room - big) / 2 - start;
    return Math.min(Math.max(offset, room - big - start), -start);
  };
  return {
    zoom: view.zoom,
    x: axis(view.x, fit.left, fit.width, stage.width),
    y: axis(view.y, fit.top, fit.height, stage.height),
  };
}

export class Viewer {
  #stage; #photo; #cover; #words; #overlay; #box; #frame = null; #image = null;
  #view = FRESH; #fit = null; #pointers = new Map(); #light = { brightness: 100, contrast: 100 }; #shown = 0;
  #tapped = null;

  // `stage`: where the picture goes. `onlight(light)` is told brightness and contrast, in percent.
  constructor(stage, { onlight, onreveal, mayReveal }) {
    this.#stage = stage;
    this.onlight = onlight;
    this.mayReveal = mayReveal;
    this.#overlay = element("canvas", { class: "overlay", width: 28, height: 28, hidden: true, "aria-hidden": "true" });
    this.#box = element("div", { class: "box", hidden: true });
    this.#photo = element("div", { class: "photo" }, this.#overlay, this.#box);
    this.#words = element("p");
    this.#cover = element("div", { class: "cover", hidden: true }, this.#words);
    this.reveal = element("button", { type: "button", class: "main", onclick: onreveal }, "Show it", element("kbd", {}, "V"));
    this.#cover.append(this.reveal);
    stage.append(this.#photo, this.#cover);
    new ResizeObserver(() => this.#lay()).observe(stage);
    this.#listen();
  }

  get overlay() { return this.#overlay; }

  // Show a frame. Returns a promise of true when it can be seen, false where it cannot.
  async show(frame, pictures, alt) {
    this.#shown += 1;
    const turn = this.#shown;
    const same = this.#frame?.media_id === frame.media_id;
    this.#frame = frame;
    if (!same) this.#view = FRESH;
    if (isCovered(frame)) return this.#hide(this.mayReveal
      ? "This frame is hidden: it may show a person or a vehicle. It can be labelled unseen."
      : "This frame is hidden: it may show a person or a vehicle.", this.mayReveal);
    const { image, ready } = pictures.of(frame);
    image.alt = alt;
    delete image.dataset.sharp;
    if (!image.complete) this.#stage.classList.add("loading");
    try {
      if (!image.complete || !image.naturalWidth) await ready;
    } catch {
      if (turn === this.#shown) this.#hide(await reasonOf(frame), false);
      return false;
    } finally {
      if (turn === this.#shown) this.#stage.classList.remove("loading");
    }
    if (turn !== this.#shown) return false;
    this.#put(image);
    this.#showBox(frame.box);
    return true;
  }

  clear(words) {
    this.#shown += 1;
    this.#frame = null;
    this.#hide(words, false);
  }

  zoom(factor, px = this.#stage.clientWidth / 2, py = this.#stage.clientHeight / 2) {
    if (!this.#fit) return;
    this.#view = factor === 0 ? FRESH : zoomedAt(this.#view, factor, px, py, this.#fit, this.#size());
    this.#place();
    if (this.#view.zoom > SHARP_ABOVE) this.#sharpen();
  }

  closer() { this.zoom(STEP); }
  farther() { this.zoom(1 / STEP); }
  whole() { this.zoom(0); }

  // Change brightness or contrast by so many percent, or set it.
  light(name, change, { set = false } = {}) {
    const value = set ? change : this.#light[name] + change;
    this.#light = { ...this.#light, [name]: Math.min(Math.max(value, 25), 400) };
    this.#paintLight();
  }

  plainLight() {
    this.#light = { brightness: 100, contrast: 100 };
    this.#paintLight();
  }

  #paintLight() {
    const { brightness, contrast } = this.#light;
    if (this.#image) this.#image.style.filter = brightness === 100 && contrast === 100 ? "" : `brightness(${brightness}%) contrast(${contrast}%)`;
    this.onlight(this.#light);
  }

  #put(image) {
    this.#cover.hidden = true;
    this.#photo.hidden = false;
    if (this.#image !== image) {
      if (this.#image) this.#image.replaceWith(image);
      else this.#photo.prepend(image);
      this.#image = image;
    }
    this.#paintLight();
    this.#lay();
  }

  #hide(words, mayReveal) {
    this.#words.textContent = words;
    this.reveal.hidden = !mayReveal;
    this.#cover.hidden = false;
    this.#photo.hidden = true;
    this.#fit = null;
    return false;
  }

  #showBox(box) {
    this.#box.hidden = !box;
    if (!box) return;
    const [left, top, width, height] = box.map((share) => `${share * 100}%`);
    Object.assign(this.#box.style, { left, top, width, height });
  }

  #size() { return { width: this.#stage.clientWidth, height: this.#stage.clientHeight }; }

  #lay() {
    if (!this.#image?.naturalWidth || this.#photo.hidden) return;
    this.#fit = fitted(this.#size(), { width: this.#image.naturalWidth, height: this.#image.naturalHeight });
    const { left, top, width, height } = this.#fit;
    Object.assign(this.#photo.style, { left: `${left}px`, top: `${top}px`, width: `${width}px`, height: `${height}px` });
    this.#view = this.#view.zoom === 1 ? FRESH : within(this.#view, this.#fit, this.#size());
    this.#place();
  }

  #place() {
    const { zoom, x, y } = this.#view;
    this.#photo.style.transform = zoom === 1 ? "" : `translate(${x}px, ${y}px) scale(${zoom})`;
    this.#stage.classList.toggle("zoomed", zoom > 1);
  }

  // The original, once it has come and if this browser can draw it (not every camera writes JPEG).
  async #sharpen() {
    const [image, frame] = [this.#image, this.#frame];
    if (!frame || image.dataset.sharp) return;
    image.dataset.sharp = "asked";
    const original = new Image();
    original.src = `/api/v1/media/${frame.media_id}/original`;
    try {
      await original.decode();
    } catch {
      return; // the screen size goes on being shown
    }
    if (this.#image !== image || original.naturalWidth <= image.naturalWidth) return;
    original.alt = image.alt;
    original.draggable = false;
    original.dataset.sharp = "shown";
    this.#put(original);
  }

  #listen() {
    const stage = this.#stage;
    const at = (event) => {
      const { left, top } = stage.getBoundingClientRect();
      return { x: event.clientX - left, y: event.clientY - top };
    };
    stage.addEventListener("wheel", (event) => {
      event.preventDefault();
      const { x, y } = at(event);
      this.zoom(Math.exp(-event.deltaY * (event.ctrlKey ? 0.01 : 0.002)), x, y);
    }, { passive: false });
    stage.addEventListener("pointerdown", (event) => {
      if (event.target.closest("button, input") || event.button > 0) return;
      stage.setPointerCapture(event.pointerId);
      this.#pointers.set(event.pointerId, at(event));
      if (this.#pointers.size === 1) this.#tap(event, at(event));
    });
    stage.addEventListener("pointermove", (event) => {
      if (this.#pointers.has(event.pointerId)) this.#drag(event.pointerId, at(event));
    });
    for (const type of ["pointerup", "pointercancel"]) {
      stage.addEventListener(type, (event) => this.#pointers.delete(event.pointerId));
    }
  }

  // Two taps in the same place: close up there, or back to the whole.
  #tap(event, { x, y }) {
    const before = this.#tapped;
    this.#tapped = { at: event.timeStamp, x, y };
    if (!before || event.timeStamp - before.at > 350 || Math.hypot(x - before.x, y - before.y) > 30) return;
    this.#tapped = null;
    this.zoom(this.#view.zoom > 1 ? 0 : 3, x, y);
  }

  #drag(pointerId, now) {
    const before = this.#pointers.get(pointerId);
    const other = [...this.#pointers].find(([id]) => id !== pointerId)?.[1];
    this.#pointers.set(pointerId, now);
    if (!this.#fit) return;
    if (other) {
      const apart = (point) => Math.hypot(point.x - other.x, point.y - other.y);
      this.zoom(apart(now) / Math.max(apart(before), 1), (now.x + other.x) / 2, (now.y + other.y) / 2);
    } else {
      const { zoom, x, y } = this.#view;
      this.#view = within({ zoom, x: x + now.x - before.x, y: y + now.y - before.y }, this.#fit, this.#size());
      this.#place();
    }
  }
}

async function reasonOf(frame) {
  try {
    await get(screenOf(frame).replace("/api/v1", ""));
    return "The picture cannot be shown.";
  } catch (error) {
    return `The picture cannot be shown: ${error.message}`;
  }
}
