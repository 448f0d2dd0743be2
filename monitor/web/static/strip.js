// The event of a frame as a film: small pictures with their times, the current one marked.

import { element } from "./api.js";
import { bestWord, clockOf } from "./line.js";
import { isCovered, thumbOf } from "./pictures.js";

export class Strip {
  #list; #onchoose; #shown = ""; #buttons = new Map();

  constructor(list, onchoose) {
    this.#list = list;
    this.#onchoose = onchoose;
  }

  // `seen(frame)`: the frame with what was said of it a moment ago.
  show(frame, seen) {
    const film = frame.film?.length ? frame.film : [frame];
    const key = film.map((one) => `${one.media_id}${isCovered(one)}`).join();
    if (key !== this.#shown) this.#build(film, key);
    for (const one of film) this.#mark(seen(one), one.media_id === frame.media_id);
    this.#centre(this.#buttons.get(frame.media_id));
  }

  clear() {
    this.#shown = "";
    this.#buttons.clear();
    this.#list.replaceChildren();
  }

  #build(film, key) {
    this.#shown = key;
    this.#buttons = new Map(film.map((one) => [one.media_id, this.#button(one)]));
    this.#list.replaceChildren(...[...this.#buttons.values()].map((button) => element("li", {}, button)));
  }

  #button(frame) {
    const { time, seconds } = clockOf(frame.captured_local);
    const picture = isCovered(frame)
      ? element("span", { class: "covered", "aria-hidden": "true" }, "hidden")
      : element("img", { src: thumbOf(frame), alt: "", loading: "lazy", decoding: "async", width: 107, height: 80, onerror: (event) => { event.target.hidden = true; } });
    return element("button", { type: "button", onclick: () => this.#onchoose(frame.media_id) },
      picture, element("span", { class: "time" }, time, seconds), element("span", { class: "hidden-text" }), element("span", { class: "tick", "aria-hidden": "true" }, "✓"));
  }

  #mark(frame, isCurrent) {
    const button = this.#buttons.get(frame.media_id);
    button.toggleAttribute("aria-current", isCurrent);
    if (isCurrent) button.setAttribute("aria-current", "true");
    button.classList.toggle("labelled", frame.source === "label");
    button.title = bestWord(frame);
    button.querySelector(".hidden-text").textContent = `, ${bestWord(frame)}`;
  }

  // By hand: scrollIntoView would move the whole page on a phone.
  #centre(button) {
    if (!button) return;
    const left = button.offsetLeft - (this.#list.clientWidth - button.offsetWidth) / 2;
    this.#list.scrollTo({ left, behavior: "instant" });
  }
}
