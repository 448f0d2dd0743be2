// The species list: found by any name; changed by administrators, every change a recorded act.

import { element, get, post } from "./api.js";
import { askIn } from "./dialogs.js";

const filter = document.getElementById("filter");
const rows = () => [...document.querySelectorAll("#list tbody tr")];
const species = (row) => JSON.parse(row.dataset.species);
const plain = (text) => text.normalize("NFD").replace(/\p{M}/gu, "").toLowerCase();

function show() {
  const wanted = plain(filter.value.trim()).split(/\s+/);
  let count = 0;
  for (const row of rows()) {
    const { name, scientific_name: scientific, names, aliases, group } = species(row);
    const all = plain([name, scientific, group, ...Object.values(names), ...aliases].join(" "));
    row.hidden = !wanted.every((word) => all.includes(word));
    count += row.hidden ? 0 : 1;
  }
  const total = rows().length;
  document.getElementById("shown").textContent = filter.value.trim() ? `${count} of ${total} species` : `${total} species`;
}

// The list as the server renders it now.
async function renew() {
  const answer = await fetch("/species", { credentials: "same-origin" });
  const fresh = new DOMParser().parseFromString(await answer.text(), "text/html").getElementById("list");
  if (!answer.ok || !fresh) return location.reload();
  document.getElementById("list").replaceWith(document.importNode(fresh, true));
  document.querySelector(".flush").hidden = rows().length === 0;
  show();
  const history = document.getElementById("history");
  if (history.open) tellHistory();
}

const ask = (id, fill, act) => askIn(id, fill, act, renew);

const lines = (text) => text.split("\n").map((line) => line.trim()).filter(Boolean);

function byLanguage(text) {
  return Object.fromEntries(lines(text).map((line) => {
    const [language, ...name] = line.split("=");
    if (!language.trim() || !name.join("=").trim()) throw new Error(`“${line}” is not like de=Rotfuchs.`);
    return [language.trim(), name.join("=").trim()];
  }));
}

async function save(fields) {
  const known = rows().some((row) => species(row).name === fields.name.value);
  await post("/species", {
    name: fields.name.value, scientific_name: fields.scientific_name.value || null,
    taxon_key: fields.taxon_key.value || null, names: byLanguage(fields.names.value),
    aliases: lines(fields.aliases.value), group: known ? fields.group.value : fields.group.value || null,
    hotkey: known ? fields.hotkey.value : fields.hotkey.value || null,
  });
  return `${fields.name.value} is saved.`;
}

function fillIn(fields, one) {
  fields.name.value = one.name;
  fields.scientific_name.value = one.scientific_name ?? "";
  fields.taxon_key.value = one.taxon_key ?? "";
  fields.names.value = Object.entries(one.names).map(([language, name]) => `${language}=${name}`).join("\n");
  fields.group.value = one.group ?? "";
  fields.hotkey.value = one.hotkey ?? "";
}

function mergeInto(one) {
  return (fields, dialog) => {
    dialog.querySelector("h2").textContent = `Merge ${one.name} into another species`;
    const others = rows().map(species).filter((other) => other.name !== one.name);
    fields.into.replaceChildren(element("option", { value: "" }, "Choose …"),
      ...others.map((other) => element("option", { value: other.name }, other.name)));
    const what = document.getElementById("merge-what");
    const frames = one.labels === 1 ? "1 labelled frame counts" : `${one.labels.toLocaleString("en")} labelled frames count`;
    const tell = () => {
      what.textContent = fields.into.value
        ? `${frames} as ${fields.into.value} from now on, and so does every answer of the model that says ${one.name}.` : "";
    };
    fields.into.onchange = tell;
    tell();
  };
}

async function importList(fields) {
  const file = fields.file.files[0];
  if (file.size > 2 ** 20) throw new Error("The file is larger than 1 MiB. Cut it into parts.");
  const told = await post("/species/import", new Blob([file], { type: "text/csv" }));
  document.getElementById("report").replaceChildren(...[
    element("p", {}, `${told.added} new species, ${told.completed} completed.`),
    told.faults.length ? element("p", { class: "bad" }, "These lines were left out; put them right and import the file again:") : null,
    element("ul", { class: "faults" }, ...told.faults.map((fault) => element("li", {}, fault))),
  ].filter(Boolean));
  return told.faults.length ? null : `${told.added} new species, ${told.completed} completed.`;
}

const ACTS = {
  add: () => ask("edit", (fields, dialog) => {
    dialog.querySelector("h2").textContent = "Add a species";
    fields.name.readOnly = fields.scientific_name.autofocus = false;
  }, save),
  complete: (one) => ask("edit", (fields, dialog) => {
    dialog.querySelector("h2").textContent = `Complete ${one.name}`;
    fillIn(fields, one);
    fields.name.readOnly = fields.scientific_name.autofocus = true;
  }, save),
  rename: (one) => ask("rename", (fields, dialog) => {
    dialog.querySelector("h2").textContent = `Rename ${one.name}`;
    fields.new.value = one.name;
  }, async (fields) => {
    await post("/species/rename", { old: one.name, new: fields.new.value });
    return `${one.name} is now called ${fields.new.value}.`;
  }),
  merge: (one) => ask("merge", mergeInto(one), async (fields) => {
    await post("/species/merge", { source: one.name, into: fields.into.value });
    return `${one.name} is ${fields.into.value} from now on.`;
  }),
  import: () => ask("import", () => document.getElementById("report").replaceChildren(), importList),
};

document.addEventListener("click", (event) => {
  const button = event.target.closest("[data-act]");
  if (!button) return;
  const row = button.closest("tr");
  ACTS[button.dataset.act](row ? species(row) : null);
});

async function tellHistory() {
  const box = document.getElementById("acts");
  try {
    const { acts } = await get("/species/history");
    box.replaceChildren(acts.length
      ? element("ul", {}, ...acts.map((act) => element("li", {},
        element("time", { datetime: act.at, class: "quiet" }, new Date(act.at).toLocaleString()), " ",
        `${act.by} ${act.what}`)))
      : element("p", { class: "quiet" }, "Nothing was changed yet."));
  } catch (error) {
    box.replaceChildren(element("p", { class: "bad" }, error.message));
  }
}

document.getElementById("history").addEventListener("toggle", (event) => { if (event.target.open) tellHistory(); });
filter.addEventListener("input", show);
show();
