// The numbered species: a button each, kept from frame to frame so that the focus stays.

import { element } from "./api.js";
import { CHOICES, percent } from "./line.js";

const FROM = { opinion: "somebody's word", model: "model", recent: "used lately", list: "common here" };

export class Choices {
  #buttons = []; #shown = [];

  // `onchoose(species)` is called for a click.
  constructor(list, { onchoose }) {
    for (let number = 1; number <= CHOICES; number += 1) {
      const parts = {
        name: element("span", { class: "name" }), from: element("span", { class: "from" }),
        fill: element("span", { class: "fill" }),
      };
      const button = element("button", { type: "button", onclick: () => onchoose(this.#shown[number - 1].species) },
        element("kbd", {}, String(number)), parts.name, parts.from,
        element("span", { class: "bar", "aria-hidden": "true" }, parts.fill));
      const item = element("li", {}, button);
      list.append(item);
      this.#buttons.push({ item, button, ...parts });
    }
  }

  get all() { return this.#shown; }
  at(number) { return this.#shown[number - 1]?.species ?? null; }

  set(choices) { this.#shown = choices; }

  show({ staged, mayLabel }) {
    this.#buttons.forEach(({ item, button, name, from, fill }, place) => {
      const choice = this.#shown[place];
      item.hidden = !choice;
      if (!choice) return;
      const likely = choice.probability !== null;
      name.textContent = choice.species;
      from.textContent = likely ? percent(choice.probability) : FROM[choice.source];
      fill.style.width = likely ? `${choice.probability * 100}%` : "0";
      item.className = choice.source;
      button.disabled = !mayLabel;
      button.setAttribute("aria-pressed", String(staged.includes(choice.species)));
    });
  }
}
