// Finding a species by any of its names: the list of the station, and a box to type in.

import { element, get } from "./api.js";

const SHOWN = 8;
let asked = null;

// The list, asked for once a page. Without the station the box still takes any name.
export function loadSpecies() {
  asked ??= get("/species").then((answer) => answer.species).catch(() => { asked = null; return []; });
  return asked;
}

export function forgetSpecies() { asked = null; }

// As the station compares names: case, underscores and blanks do not matter; nor do accents while
// searching.
export const folded = (name) => name.replaceAll("_", " ").normalize("NFKD").replace(/\p{M}/gu, "")
  .toLowerCase().split(/\s+/).filter(Boolean).join(" ");

const namesOf = (row) => [row.name, row.scientific_name, ...Object.values(row.names ?? {}), ...(row.aliases ?? [])]
  .filter(Boolean);

// The rows that answer to what was typed, best first: [{row, by}], `by` the name that fitted.
export function searched(list, typed) {
  const wanted = folded(typed);
  if (!wanted) return [];
  const found = [];
  for (const row of list) {
    let best = null;
    for (const name of namesOf(row)) {
      const rank = rankOf(folded(name), wanted);
      if (rank !== null && (best === null || rank < best.rank)) best = { row, by: name, rank };
    }
    if (best) found.push(best);
  }
  return found.sort((a, b) => a.rank - b.rank || b.row.labels - a.row.labels || a.row.name.localeCompare(b.row.name));
}

function rankOf(name, wanted) {
  if (name === wanted) return 0;
  if (name.startsWith(wanted)) return 1;
  if (name.includes(` ${wanted}`)) return 2;
  return name.includes(wanted) ? 3 : null;
}

let boxes = 0;

// A text field that offers species. `onchoose({name, isNew})` is called with the station's own
// name, or with a new one. Options: `label` its visible name, `keep` leaves the chosen name in the
// field (in forms), `value` to start with; with `hint` (a key) the label is shown inside the field, to save room.
// Returns the element; `.input` is the field.
export function speciesBox({ onchoose, label, keep = false, value = "", hint = null }) {
  boxes += 1;
  const id = `species-${boxes}`;
  const list = element("ul", { id: `${id}-list`, class: "offers", role: "listbox", "aria-label": "Species", hidden: true });
  const input = element("input", {
    id, type: "text", role: "combobox", autocomplete: "off", autocapitalize: "none", spellcheck: "false",
    maxlength: "200", "aria-autocomplete": "list", "aria-expanded": "false", "aria-controls": list.id, value,
    placeholder: hint ? `${label} …` : null,
  });
  const box = element("div", { class: "species-box" },
    element("label", { for: id, class: hint ? "hidden-text" : null }, label), input,
    hint ? element("kbd", { "aria-hidden": "true" }, hint) : null, list);
  let offers = [];
  let marked = -1;
  let request = 0;

  function close() {
    list.hidden = true;
    offers = [];
    marked = -1;
    input.setAttribute("aria-expanded", "false");
    input.removeAttribute("aria-activedescendant");
  }

  function mark(place) {
    marked = place;
    [...list.children].forEach((child, number) => child.setAttribute("aria-selected", String(number === place)));
    const chosen = list.children[place];
    if (!chosen) return input.removeAttribute("aria-activedescendant");
    input.setAttribute("aria-activedescendant", chosen.id);
    list.scrollTop = Math.min(Math.max(list.scrollTop, chosen.offsetTop + chosen.offsetHeight - list.clientHeight), chosen.offsetTop);
  }

  function choose(offer) {
    close();
    input.value = keep ? offer.name : "";
    onchoose(offer);
  }

  async function offer() {
    request += 1;
    const mine = request;
    const known = await loadSpecies();
    if (mine !== request || document.activeElement !== input) return;
    const typed = input.value.trim().split(/\s+/).join(" ");
    const found = searched(known, typed);
    offers = found.slice(0, SHOWN).map(({ row, by }) => ({ name: row.name, by, isNew: false }));
    if (typed && found[0]?.rank !== 0) offers.push({ name: typed, isNew: true });
    list.replaceChildren(...offers.map((one, number) => option(one, `${id}-${number}`, () => choose(one))));
    list.hidden = offers.length === 0;
    input.setAttribute("aria-expanded", String(offers.length > 0));
    mark(offers.length ? 0 : -1);
  }

  input.addEventListener("input", offer);
  input.addEventListener("blur", close);
  input.addEventListener("keydown", (event) => {
    const steps = { ArrowDown: 1, ArrowUp: -1 };
    if (event.key in steps && offers.length) {
      event.preventDefault();
      mark((marked + steps[event.key] + offers.length) % offers.length);
    } else if (event.key === "Enter" && offers[marked]) {
      event.preventDefault();
      choose(offers[marked]);
    } else if (event.key === "Tab" && keep && offers[marked] && !offers[marked].isNew) {
      choose(offers[marked]); // and the focus goes on, as Tab does
    } else if (event.key === "Escape" && !list.hidden) {
      event.preventDefault();
      event.stopPropagation();
      close();
    }
  });
  box.input = input;
  return box;
}

function option(offer, id, choose) {
  const words = offer.isNew
    ? [`Add “${offer.name}” as a new species`]
    : [element("strong", {}, offer.name), offer.by === offer.name ? null : element("span", { class: "quiet" }, ` ${offer.by}`)];
  const made = element("li", { id, role: "option", class: offer.isNew ? "new" : null, "aria-selected": "false" }, ...words);
  made.addEventListener("pointerdown", (event) => event.preventDefault()); // keeps the field focused
  made.addEventListener("click", choose);
  return made;
}
