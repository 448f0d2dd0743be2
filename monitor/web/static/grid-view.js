// How the grid looks: groups of thumbnails in boxes of fixed size, so that nothing moves while
// pictures arrive.

import { element } from "./api.js";
import { suggestionOf } from "./grid-choice.js";
import { clockOf, percent } from "./line.js";

export function picture(frame, size) {
  if (frame.hidden && !frame.revealed) return element("span", { class: "cover" }, "hidden: may show a person");
  const image = element("img", { loading: "lazy", decoding: "async", alt: "", draggable: "false" });
  image.addEventListener("error", () => image.replaceWith(element("span", { class: "cover" }, "no picture")));
  image.src = `/api/v1/media/${frame.media_id}/${size}.jpg`;
  return image;
}

export function saidOf(frame, waitingSpecies) {
  if (waitingSpecies) return `${waitingSpecies} (being saved)`;
  if (frame.source === "label") return `${frame.species}, by ${frame.labelled_by ?? "somebody"}`;
  if (frame.source === "none") return "no suggestion";
  return `${frame.species} ${percent(frame.probability ?? 0)}`;
}

export const whenAndWhere = (frame) => {
  const { day, time } = clockOf(frame.captured_local);
  return `${day} ${time}`;
};

export function cell(frame) {
  return element("div", { class: "cell", role: "option", "aria-selected": "false", tabindex: "-1", id: `frame-${frame.media_id}`, "data-id": String(frame.media_id) },
    element("span", { class: "box" }, picture(frame, "thumb"), element("span", { class: "tick", "aria-hidden": "true" }, "✓")),
    element("span", { class: "said-of" }),
    element("span", { class: "when" }, whenAndWhere(frame)));
}

// `onall(ids)` selects a whole group.
export function groupBox(group, place, onall, mayLabel) {
  const ids = group.frames.map((frame) => frame.media_id);
  const heading = `group-${place}`;
  const confirm = mayLabel ? element("button", { type: "button", onclick: () => onall(ids) }, `Select these ${ids.length}`) : null;
  return element("section", { class: "group", "aria-labelledby": heading },
    element("header", {}, element("h2", { id: heading }, group.title), confirm),
    element("div", { class: "cells", role: "listbox", "aria-multiselectable": "true", "aria-labelledby": heading, "aria-orientation": "horizontal" },
      ...group.frames.map(cell)));
}

// Bring one box up to date: what is said of the frame, and whether it can still be selected.
export function show(box, frame, waitingSpecies, isChosen) {
  const isDone = frame.source === "label" || Boolean(waitingSpecies);
  box.querySelector(".said-of").textContent = saidOf(frame, waitingSpecies);
  box.classList.toggle("done", frame.source === "label" && !waitingSpecies);
  box.classList.toggle("waiting", Boolean(waitingSpecies));
  box.classList.toggle("unsure", !isDone && (suggestionOf(frame) === null || frame.probability < 0.5));
  box.setAttribute("aria-disabled", String(isDone));
  box.setAttribute("aria-selected", String(isChosen));
}

// One frame in large, to be sure of a small animal. `turn(by)` gives the frame before or after.
export function look(frame, turn, onclose) {
  const place = element("div", { class: "large" });
  const words = element("p", { role: "status" });
  const dialog = element("dialog", { class: "look", "aria-label": "One frame in large" }, place, words,
    element("form", { method: "dialog" },
      element("button", { type: "button", onclick: () => step(-1) }, "← before"),
      element("button", { type: "button", onclick: () => step(1) }, "after →"),
      element("button", { class: "main" }, "Close")));
  let shown = frame;
  const step = (by) => { shown = turn(shown, by) ?? shown; draw(); };
  const draw = () => {
    place.replaceChildren(picture(shown, "screen"));
    const link = element("a", { href: `/media/${shown.media_id}` }, "all about this frame");
    words.replaceChildren(`${saidOf(shown)}, ${whenAndWhere(shown)}, ${shown.deployment} · `, link);
  };
  dialog.addEventListener("keydown", (event) => {
    if (event.key === "ArrowLeft" || event.key === "ArrowRight") step(event.key === "ArrowLeft" ? -1 : 1);
    if (event.key === "o") dialog.close();
  });
  dialog.addEventListener("close", () => { dialog.remove(); onclose(shown); });
  document.body.append(dialog);
  draw();
  dialog.showModal();
}

// Resolves to the name to use: the known one, the new one as it was typed, or null.
export function askWhichName(typed, nearest, words) {
  return new Promise((resolve) => {
    const dialog = element("dialog", { "aria-labelledby": "which-name" },
      element("form", { method: "dialog" },
        element("h2", { id: "which-name" }, "Which species do you mean?"),
        element("p", {}, words),
        element("p", { class: "buttons" },
          element("button", { class: "main", value: "nearest" }, `I mean ${nearest}`),
          element("button", { value: "typed" }, `${typed} is another species`),
          element("button", { value: "" }, "Do not label"))));
    dialog.addEventListener("close", () => {
      dialog.remove();
      resolve(dialog.returnValue === "nearest" ? nearest : dialog.returnValue === "typed" ? typed : null);
    });
    document.body.append(dialog);
    dialog.showModal();
  });
}

// True if a label from before this page is to be withdrawn: not by a key pressed once too often.
export function askWhetherOlder() {
  return new Promise((resolve) => {
    const dialog = element("dialog", { "aria-labelledby": "older" },
      element("form", { method: "dialog" },
        element("h2", { id: "older" }, "Withdraw your last label?"),
        element("p", {}, "Nothing labelled on this page is left to undo. Your last label was given before, or elsewhere."),
        element("p", { class: "buttons" },
          element("button", { class: "main", value: "yes" }, "Withdraw it"),
          element("button", { value: "" }, "Keep it"))));
    dialog.addEventListener("close", () => { dialog.remove(); resolve(dialog.returnValue === "yes"); });
    document.body.append(dialog);
    dialog.showModal();
  });
}
