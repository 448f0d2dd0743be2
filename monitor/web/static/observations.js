// Everything that can be said of a frame: several species, how many of each, sex, age, behaviour.

import { element } from "./api.js";
import { speciesBox } from "./species.js";

const MOST = 20;
const SEXES = ["female", "male"];
const LIFE_STAGES = ["adult", "subadult", "juvenile"];
const BEHAVIOURS = ["foraging", "resting", "moving", "vigilant", "drinking", "grooming", "playing", "fighting"];

// What the form says, as the station wants it: what was left empty is left out.
export function spoken(rows) {
  return rows
    .map(({ species, count, sex, life_stage, behaviour }) => ({
      species: species.trim(),
      ...(count ? { count: Number(count) } : {}),
      ...(sex ? { sex } : {}),
      ...(life_stage ? { life_stage } : {}),
      ...(behaviour?.trim() ? { behaviour: behaviour.trim() } : {}),
    }))
    .filter((one) => one.species);
}

// The same species in two rows cannot be said in one label.
export function twice(observations) {
  const names = observations.map((one) => one.species.toLowerCase());
  return observations.find((one, place) => names.indexOf(one.species.toLowerCase()) < place)?.species ?? null;
}

export class Editor {
  #form; #rows; #onsave; #back = null; #words;

  constructor(form, onsave) {
    this.#form = form;
    this.#onsave = onsave;
    this.#rows = element("div", { class: "rows" });
    this.#words = element("p", { class: "bad", role: "alert" });
    form.append(
      element("h2", {}, "Observations"), this.#rows, this.#words,
      element("datalist", { id: "behaviours" }, ...BEHAVIOURS.map((value) => element("option", { value }))),
      element("p", { class: "acts" },
        element("button", { type: "button", onclick: () => this.#add({}).focus() }, "+ another species"),
        element("button", { class: "main" }, "Save and next"),
        element("button", { type: "button", onclick: () => this.close() }, "Cancel", element("kbd", {}, "Esc"))));
    form.addEventListener("submit", (event) => {
      event.preventDefault();
      this.#save();
    });
    form.addEventListener("keydown", (event) => {
      if (event.key !== "Escape" || event.defaultPrevented) return;
      event.stopPropagation();
      this.close();
    });
  }

  get isOpen() { return !this.#form.hidden; }

  // Begin with what is said of the frame now.
  open(observations) {
    this.#back = document.activeElement;
    this.#words.textContent = "";
    this.#rows.replaceChildren();
    for (const one of observations.length ? observations : [{}]) this.#add(one);
    this.#form.hidden = false;
    this.#rows.querySelector("input").focus();
  }

  close() {
    if (!this.isOpen) return;
    this.#form.hidden = true;
    if (this.#back?.isConnected && this.#back !== document.body) this.#back.focus();
  }

  #add(said) {
    const number = this.#rows.children.length + 1;
    const species = speciesBox({ label: "Species", keep: true, value: said.species ?? "", onchoose: () => {} });
    const row = element("fieldset", {}, element("legend", {}, `Species ${number}`), species,
      field("How many", "count", element("input", { type: "number", min: "1", max: "999999", inputmode: "numeric", value: String(said.count ?? "") })),
      field("Sex", "sex", select(SEXES, said.sex)),
      field("Life stage", "life_stage", select(LIFE_STAGES, said.life_stage)),
      field("Behaviour", "behaviour", element("input", { type: "text", list: "behaviours", maxlength: "200", value: said.behaviour ?? "" })),
      element("button", { type: "button", "aria-label": `Remove species ${number}`, onclick: () => this.#remove(row) }, "Remove"));
    species.input.dataset.name = "species";
    this.#rows.append(row);
    this.#form.classList.toggle("full", this.#rows.children.length >= MOST);
    return species.input;
  }

  #remove(row) {
    const next = row.nextElementSibling ?? row.previousElementSibling;
    row.remove();
    (next?.querySelector("input") ?? this.#add({})).focus();
  }

  #save() {
    const said = spoken([...this.#rows.children].map((row) => Object.fromEntries(
      [...row.querySelectorAll("[data-name]")].map((input) => [input.dataset.name, input.value]))));
    const double = twice(said);
    if (!said.length) this.#words.textContent = "A label needs at least one species.";
    else if (double) this.#words.textContent = `“${double}” is there twice: put its animals in one row.`;
    else {
      this.close();
      this.#onsave(said);
    }
  }
}

function field(label, name, input) {
  input.dataset.name = name;
  return element("label", {}, label, input);
}

function select(values, chosen) {
  const all = chosen && !values.includes(chosen) ? [...values, chosen] : values;
  const made = element("select", {}, element("option", { value: "" }, "not said"),
    ...all.map((value) => element("option", { value }, value)));
  made.value = chosen ?? "";
  return made;
}
