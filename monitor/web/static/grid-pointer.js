// Mouse, pen and fingers in the grid: clicks, a frame drawn around thumbnails, holding, tapping.

import { element } from "./api.js";
import { bandOf, touches } from "./grid-choice.js";

const HOLD_MS = 450;
const SLIP_PIXELS = 8; // less is a click with an unsteady hand
const EDGE_PIXELS = 48; // this near the edge of the window it scrolls

// `on`: { pick(id, event), tap(id), toggle(id), hold(id), look(id), bandStart(event), band(ids), empty() }
export function pointing(area, on) {
  let press = null;

  const idAt = (event) => {
    const box = event.target.closest?.(".cell");
    return box ? Number(box.dataset.id) : null;
  };

  area.addEventListener("pointerdown", (event) => {
    if (event.button !== 0 || event.target.closest("button, a, h2")) return;
    press = { id: idAt(event), x: event.clientX, y: event.clientY, kind: event.pointerType, band: null };
    if (press.kind === "touch") press.timer = setTimeout(() => held(press), HOLD_MS);
  });

  addEventListener("pointermove", (event) => {
    if (!press) return;
    const isFar = Math.hypot(event.clientX - press.x, event.clientY - press.y) > SLIP_PIXELS;
    if (press.kind === "touch") {
      if (isFar) forget();
    } else if (press.band) {
      press.band.move(event);
    } else if (isFar) {
      press.band = startBand(area, press, event, on);
    }
  });

  addEventListener("pointerup", (event) => {
    if (!press) return;
    const { id, kind, band, isHeld } = press;
    forget();
    if (band || isHeld) return;
    if (id === null) on.empty();
    else if (kind === "touch") on.tap(id);
    else on.pick(id, event);
  });

  addEventListener("pointercancel", forget);
  addEventListener("blur", forget);
  area.addEventListener("dblclick", (event) => { if (idAt(event) !== null) on.look(idAt(event)); });
  // Screen readers click without pointing.
  area.addEventListener("click", (event) => {
    if (event.detail === 0 && idAt(event) !== null) on.toggle(idAt(event));
  });
  area.addEventListener("contextmenu", (event) => { if (press?.kind === "touch" || press?.isHeld) event.preventDefault(); });

  function held(of) {
    if (of.id === null) return;
    of.isHeld = true;
    on.hold(of.id);
  }

  function forget() {
    clearTimeout(press?.timer);
    press?.band?.end();
    press = null;
  }
}

// A frame drawn with the mouse. Places are those of the document, so that it may scroll meanwhile.
function startBand(area, press, event, on) {
  const start = { x: press.x + scrollX, y: press.y + scrollY };
  const boxes = [...area.querySelectorAll(".cell")].map((box) => {
    const { left, right, top, bottom } = box.getBoundingClientRect();
    return { id: Number(box.dataset.id), left: left + scrollX, right: right + scrollX, top: top + scrollY, bottom: bottom + scrollY };
  });
  const drawn = element("div", { class: "band" });
  document.body.append(drawn);
  document.body.classList.add("drawing");
  getSelection()?.removeAllRanges();
  on.bandStart(event);
  let last = event;

  function move(now) {
    last = now;
    const band = bandOf(start, { x: now.clientX + scrollX, y: now.clientY + scrollY });
    drawn.style.left = `${band.left}px`;
    drawn.style.top = `${band.top}px`;
    drawn.style.width = `${band.right - band.left}px`;
    drawn.style.height = `${band.bottom - band.top}px`;
    on.band(boxes.filter((box) => touches(box, band)).map((box) => box.id));
  }

  const scrolling = setInterval(() => {
    const by = last.clientY < EDGE_PIXELS ? -20 : last.clientY > innerHeight - EDGE_PIXELS ? 20 : 0;
    if (by) {
      scrollBy({ top: by, behavior: "instant" });
      move(last);
    }
  }, 30);

  move(event);
  return {
    move,
    end() {
      clearInterval(scrolling);
      drawn.remove();
      document.body.classList.remove("drawing");
    },
  };
}
