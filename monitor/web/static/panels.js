// What lies around the frame: labels on their way, refused ones, the list of keys, questions.

import { element, say, visitor } from "./api.js";
import { clockOf, inWords } from "./line.js";
import { TABLE, keysAreOff, turnKeys } from "./keys.js";

const plural = (count, word) => `${count} ${word}${count === 1 ? "" : "s"}`;

// "3 labels not sent yet", with a button to try now; empty when all has arrived.
export function showUnsent(place, outbox) {
  const count = outbox.waiting().length;
  const foreign = outbox.foreign();
  const words = count ? `${plural(count, "label")} not sent yet` : "";
  const known = place.dataset.words;
  const now = `${words}|${foreign.length}|${outbox.lastsLonger}`;
  if (known === now) return; // a screen reader is not told the same again
  place.dataset.words = now;
  place.replaceChildren();
  if (count) {
    place.append(element("span", { class: "warn" }, words),
      element("button", { type: "button", onclick: () => outbox.hurry() }, "Try now"));
  }
  if (count && !outbox.lastsLonger) place.append(element("span", { class: "bad" }, "This browser keeps nothing: leave the page open until they are sent."));
  if (foreign.length) place.append(...left(foreign, outbox));
}

// Somebody else said things here that never got away: not ours to say silently under our name.
function left(foreign, outbox) {
  const names = [...new Set(foreign.map((entry) => entry.by))].join(", ");
  return [
    element("span", { class: "warn" }, `${plural(foreign.length, "label")} of ${names} not sent: they go when ${names} is back`),
    element("button", { type: "button", onclick: () => foreign.forEach((entry) => outbox.again(entry)) }, `Send as ${visitor.name || "mine"}`),
  ];
}

// Each label that the station refused, with ways to put it right.
export function showRefused(place, outbox, { onback }) {
  const entries = outbox.refused();
  place.hidden = entries.length === 0;
  place.replaceChildren(element("h2", {}, `${plural(entries.length, "label")} not taken`),
    ...entries.map((entry) => refusal(entry, outbox, onback)));
}

function refusal(entry, outbox, onback) {
  const { about, refused } = entry;
  const ways = [];
  const way = (words, act, main = false) => ways.push(element("button", { type: "button", class: main ? "main" : null, onclick: act }, words));
  if (entry.kind === "label" && refused.nearest) {
    way(`It is ${refused.nearest}`, () => outbox.again(entry, corrected(entry, refused.nearest)), true);
    way("Add it as a new species", () => outbox.again(entry, { body: { ...entry.body, insist: true } }));
  } else {
    way("Try again", () => outbox.again(entry));
  }
  way("Back to the frame", () => {
    outbox.drop(entry);
    onback(entry);
  });
  const where = about.deployment ? ` · ${about.deployment} ${clockOf(about.captured_local).time}` : "";
  return element("div", { class: "refusal" },
    element("p", {}, element("strong", {}, `“${about.words}”`), where),
    element("p", { class: "bad" }, refused.nearest ? `Did you mean ${refused.nearest}?` : refused.words),
    element("p", { class: "acts" }, ...ways));
}

// The name that nobody knows, replaced by the known one it looks like. The station says which of
// the names it means only in its words, so all that no list has are candidates; there is just one
// in nearly every label.
function corrected(entry, nearest) {
  const wrong = entry.body.observations.find((one) => entry.refused.words.includes(`'${one.species}'`)) ?? entry.body.observations[0];
  const observations = entry.body.observations.map((one) => (one === wrong ? { ...one, species: nearest } : one));
  return { body: { ...entry.body, observations }, about: { ...entry.about, words: inWords(observations) } };
}

export function showKeys(species) {
  const own = species.filter((row) => row.hotkey).map((row) => [row.hotkey.toUpperCase(), row.name]);
  const rows = [...TABLE, ...own].map(([key, words]) => element("tr", {}, element("th", { scope: "row" }, element("kbd", {}, key)), element("td", {}, words)));
  const single = element("input", { type: "checkbox", checked: !keysAreOff(), onchange: () => turnKeys(single.checked) });
  return open("Keys", element("div", { class: "scroll keys" }, element("table", {}, element("tbody", {}, ...rows))),
    element("label", { class: "check" }, single, "Single keys do things (turn off for speech input)"));
}

// True if the person says yes.
export function asked(title, words, yes) {
  return new Promise((resolve) => {
    const dialog = open(title, element("p", {}, words),
      element("button", { class: "main", value: "yes" }, yes));
    dialog.addEventListener("close", () => resolve(dialog.returnValue === "yes"));
  });
}

function open(title, ...content) {
  const dialog = element("dialog", { "aria-label": title, class: "panel" },
    element("form", { method: "dialog" }, element("h2", {}, title), ...content,
      element("button", { value: "" }, "Close")));
  dialog.addEventListener("close", () => dialog.remove());
  document.body.append(dialog);
  dialog.showModal();
  return dialog;
}

export const tell = (error) => say(error.message ?? String(error), 8);
