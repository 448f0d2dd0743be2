// The grid: many unlabelled frames, selected together and labelled with one key.

import { element, mayReview, offerDeployments, post, say, visitor } from "./api.js";
import { askName } from "./frame.js";
import * as choice from "./grid-choice.js";
import { GridFrames } from "./grid-frames.js";
import { GridLabels } from "./grid-labels.js";
import { pointing } from "./grid-pointer.js";
import * as view from "./grid-view.js";
import { keysAreOff } from "./keys.js";
import { remembered } from "./line.js";
import { speciesBox } from "./species.js";

const LOOK_AGAIN_SECONDS = 15; // coming back to the page after longer, it asks what others labelled
const HOLD_MS = 4 * 60_000; // groups are ours for ten minutes at a time
const byId = (id) => document.getElementById(id);
const [form, groups, notice] = [byId("which"), byId("groups"), byId("notice")];
const parameters = new URLSearchParams(location.search);
const frames = new GridFrames();
const labels = new GridLabels({ taken: (ids) => frames.taken(ids), heard: { sent, skipped, refused, undone, changed } });
const boxes = new Map(); // id -> its element
let order = []; // ids, as they are shown
let sizes = []; // frames of each group
let selection = choice.NOTHING;
let bandBase = choice.NOTHING;
let waiting = labels.waiting(); // id -> species, not at the station yet
let here = null; // the id that has the keyboard
let loading = null;
let species = parameters.get("species") ?? "";

// The same list as on the review page.
const recentKept = () => `trapwatch.recent.${visitor.name}`;
function recent() {
  try {
    return JSON.parse(localStorage.getItem(recentKept())) ?? [];
  } catch {
    return []; // unreadable: it fills again
  }
}

const isOpen = (id) => frames.frames.get(id).source !== "label" && !waiting.has(id);
const openIds = () => order.filter(isOpen);
const chosenFrames = () => order.filter((id) => selection.chosen.has(id)).map((id) => frames.frames.get(id));

// --- Which frames ---

function query() {
  const { deployment, min_probability } = form.elements;
  return { species, deployment: deployment.value.trim(), min_probability: min_probability.value };
}

async function load(cursor = null) {
  loading?.abort();
  const mine = loading = new AbortController();
  groups.setAttribute("aria-busy", "true");
  notice.textContent = "Looking for unlabelled frames …";
  const batch = { frames: new Map(), alike: [], next: cursor };
  const isAlike = form.elements.order.value === "alike";
  await frames.release();
  if (mine !== loading) return;
  const tell = (reached) => {
    byId("stop").hidden = false;
    notice.textContent = `Searching back … reached ${reached?.slice(0, 10) ?? "the oldest frames"}, ${batch.frames.size} found.`;
  };
  let problem = null;
  try {
    const count = Number(form.elements.count.value);
    if (isAlike) await frames.fillAlike(batch, count);
    else await frames.fill(batch, query(), count, { signal: mine.signal, tell });
  } catch (error) {
    if (mine !== loading) return; // another search took its place
    if (error.name !== "AbortError") problem = error.message;
  }
  if (mine !== loading) return;
  frames.show(batch);
  draw(cursor, problem);
}

function draw(cursor, problem) {
  byId("stop").hidden = true;
  groups.removeAttribute("aria-busy");
  selection = choice.NOTHING;
  waiting = labels.waiting();
  groups.replaceChildren();
  boxes.clear();
  const found = choice.grouped([...frames.frames.values()], form.elements.order.value, frames.alike);
  found.forEach((group, place) => groups.append(view.groupBox(group, place, selectGroup, mayReview)));
  order = found.flatMap((group) => group.frames.map((frame) => frame.media_id));
  sizes = found.map((group) => group.frames.length);
  for (const box of groups.querySelectorAll(".cell")) boxes.set(Number(box.dataset.id), box);
  paint(order);
  stand(order[0] ?? null, false);
  byId("next").hidden = frames.next === null;
  byId("first").hidden = cursor === null;
  notice.replaceChildren(...noticeOf(cursor, problem));
  scrollTo({ top: 0, behavior: "instant" });
}

function noticeOf(cursor, problem) {
  const again = element("button", { type: "button", onclick: () => load(cursor) }, "Try again");
  if (problem) return [`The frames could not be listed: ${problem} `, again];
  if (!order.length && frames.next !== null) return ["Stopped before any frame was found. “Next frames” searches on."];
  if (order.length) return mayReview ? [] : ["You may look at these frames. To label them, log in as somebody who may review."];
  if (form.elements.order.value === "alike") return [`No ${cursor ? "other " : ""}unlabelled frames look alike enough to be decided together.`];
  if (cursor !== null) return ["There are no more unlabelled frames like these. “Back to the first” shows those you passed over."];
  const isFiltered = Object.values(query()).some(Boolean);
  return [isFiltered ? "No unlabelled frame is like that. Ask for less above." : "Every frame is labelled. There is nothing to do here."];
}

function reload() {
  const shown = { ...query(), order: form.elements.order.value, count: form.elements.count.value, size: form.elements.size.value };
  const kept = new URLSearchParams(Object.entries(shown).filter(([, value]) => value));
  history.replaceState(null, "", `?${kept}`);
  groups.dataset.size = form.elements.size.value;
  fit();
}

// Groups of look-alikes are found among all frames: the filters are not for them.
function fit() {
  const isAlike = form.elements.order.value === "alike";
  for (const control of [form.elements.deployment, form.elements.min_probability, which.input]) control.disabled = isAlike;
}

// --- What is selected ---

function select(now) {
  const before = selection.chosen;
  selection = choice.without(now, [...now.chosen].filter((id) => !boxes.has(id) || !isOpen(id)));
  paint(order.filter((id) => before.has(id) !== selection.chosen.has(id)));
}

function paint(ids) {
  for (const id of ids) {
    const box = boxes.get(id);
    if (box) view.show(box, frames.frames.get(id), waiting.get(id), selection.chosen.has(id));
  }
  const open = openIds().length;
  byId("count").textContent = open || !order.length
    ? `${selection.chosen.size} of ${open} selected`
    : `All ${order.length} are labelled.${frames.next ? " N shows the next frames." : ""}`;
  offerNumbers();
}

function selectGroup(ids) {
  const open = ids.filter(isOpen);
  select(choice.added(choice.NOTHING, open));
  if (open.length) stand(open[0], true);
}

function selectGroupHere() {
  const boxesHere = [...(boxes.get(here)?.closest(".cells").querySelectorAll(".cell") ?? [])];
  const ids = boxesHere.map((box) => Number(box.dataset.id)).filter(isOpen);
  if (ids.length) select(choice.added(choice.NOTHING, ids));
}

// The keyboard stands at one frame: that one is the tab stop.
function stand(id, isFocused) {
  boxes.get(here)?.setAttribute("tabindex", "-1");
  here = id;
  boxes.get(here)?.setAttribute("tabindex", "0");
  if (!isFocused) return;
  boxes.get(here)?.focus({ preventScroll: true });
  boxes.get(here)?.scrollIntoView({ block: "nearest", behavior: "instant" });
}

function extend(id) {
  select(choice.extended(selection.anchor === null ? choice.only(here ?? id) : selection, openIds(), id));
}

const toggle = (id) => { if (isOpen(id)) select(choice.toggled(selection, id)); };

pointing(groups, {
  pick(id, event) {
    if (event.shiftKey) extend(id);
    else if (event.ctrlKey || event.metaKey) toggle(id);
    else select(choice.only(id));
    stand(id, true);
  },
  tap: (id) => (selection.chosen.size ? toggle(id) : look(id)),
  toggle,
  hold(id) {
    if (!selection.chosen.has(id)) toggle(id);
    navigator.vibrate?.(20);
  },
  look,
  bandStart(event) { bandBase = event.shiftKey || event.ctrlKey || event.metaKey ? selection : choice.NOTHING; },
  band: (ids) => select(choice.added(bandBase, ids)),
  empty: () => select(choice.NOTHING),
});

groups.addEventListener("focusin", (event) => {
  const box = event.target.closest(".cell");
  if (box) stand(Number(box.dataset.id), false);
});

function look(id) {
  const turn = (frame, by) => frames.frames.get(order[order.indexOf(frame.media_id) + by]);
  view.look(frames.frames.get(id), turn, (frame) => stand(frame.media_id, true));
}

// --- What is said ---

async function label(said) {
  if (!mayReview) return say("To label, log in as somebody who may review.");
  const ids = [...said.values()].flat();
  if (!ids.length) return say("Select frames first: click them, or move with the arrows and press Space.");
  if (!visitor.name && !(await askName())) return;
  labels.say(said);
  changed();
  localStorage.setItem(recentKept(), JSON.stringify(remembered(recent(), [...said.keys()])));
  const last = order.findLastIndex((id) => ids.includes(id));
  select(choice.without(selection, ids));
  paint(ids);
  const open = order.slice(last + 1).find(isOpen) ?? openIds()[0];
  if (open !== undefined) stand(open, true);
}

const labelAll = (name) => label(new Map([[name, chosenFrames().map((frame) => frame.media_id)]]));

function agree() {
  const { labels: said, silent } = choice.asTheModelSays(chosenFrames());
  if (silent && !said.size) return say("The model has no suggestion for these. Press 1 to 9, B or / to label them.");
  if (silent) say(`${silent} of them stay selected: the model has no suggestion for these.`);
  return label(said);
}

async function undo() {
  if (!mayReview || labels.undo() || !(await view.askWhetherOlder())) return;
  try {
    undone((await post("/labels/undo", { act_id: null, media_id: null })).media_ids);
  } catch (error) {
    say(error.message);
  }
}

function offerNumbers() {
  const chosen = chosenFrames();
  const names = choice.numbered(chosen.length ? chosen : openIds().map((id) => frames.frames.get(id)), recent());
  const place = byId("numbered");
  const shown = [...place.children].map((button) => button.dataset.species);
  if (names.join("\n") === shown.join("\n")) return;
  place.replaceChildren(...names.map((name, number) =>
    element("button", { type: "button", "data-species": name, onclick: () => labelAll(name) },
      element("kbd", {}, String(number + 1)), ` ${name}`)));
}

// --- What the station answers ---

function changed() {
  waiting = labels.waiting();
  const parts = [];
  if (waiting.size) parts.push(`${waiting.size} not at the station yet; they are kept ${labels.lastsLonger ? "in this browser" : "until this page is closed"}.`);
  if (labels.ofOthers) parts.push(`${labels.ofOthers} labels of somebody else who used this browser wait until they are back.`);
  byId("sending").textContent = parts.join(" ");
}

function sent(entry, ids) {
  for (const id of ids) frames.labelled(id, entry.body.observations[0].species, visitor.name);
  changed();
  paint(entry.body.media_ids);
}

function skipped(entry, ids) {
  const by = [...new Set(ids.map((id) => frames.frames.get(id)?.labelled_by ?? "somebody else"))].join(", ");
  say(`${ids.length} labelled meanwhile by ${by}: left as ${ids.length === 1 ? "it is" : "they are"}.`, 10);
}

async function refused(entry, { words, nearest }) {
  const typed = entry.body.observations[0].species;
  const name = nearest ? await view.askWhichName(typed, nearest, words) : null;
  if (name) return labels.correct(entry, { observations: [{ species: name }], insist: name === typed });
  labels.drop(entry);
  changed();
  paint(entry.body.media_ids ?? []);
  return say(`Not saved: ${words}`, 10);
}

function undone(ids) {
  for (const id of ids) frames.reopen(id);
  changed();
  paint(ids);
  const there = ids.filter((id) => boxes.has(id));
  select(choice.added(choice.NOTHING, there));
  if (there.length) stand(there[0], true);
  say(`Undone for ${ids.length} ${ids.length === 1 ? "frame" : "frames"}.`);
}

async function lookAgain() {
  if (document.hidden || !order.length) return;
  try {
    const taken = await frames.taken(openIds(), LOOK_AGAIN_SECONDS);
    select(selection);
    paint([...taken.keys()]);
    if (taken.size) say(`${taken.size} labelled meanwhile by ${[...new Set(taken.values())].join(", ")}.`);
  } catch (error) {
    say(error.message);
  }
}

// --- Keys and buttons ---

const KEYS = {
  Enter: agree, b: () => labelAll("blank"), u: () => labelAll("unknown"), z: undo, n: next, g: selectGroupHere,
  o: () => { if (here !== null) look(here); },
  "/": () => other.input.focus(),
  Escape: () => select(choice.NOTHING),
  " ": () => { if (here !== null) toggle(here); },
};
const MOVES = ["ArrowLeft", "ArrowRight", "ArrowUp", "ArrowDown", "Home", "End", "PageUp", "PageDown"];

function next() { if (frames.next !== null) load(frames.next); }

function move(event) {
  const columns = getComputedStyle(groups.querySelector(".cells")).gridTemplateColumns.split(" ").length;
  const id = order[choice.placeAfter(event.key, Math.max(0, order.indexOf(here)), sizes, columns)];
  if (event.shiftKey) extend(id);
  stand(id, true);
  return true;
}

document.addEventListener("keydown", (event) => {
  const at = event.target;
  if (event.defaultPrevented || event.altKey || at.closest("dialog")) return;
  if (at.closest("input, select, textarea")) {
    if (event.key === "Escape") stand(here, true);
    return;
  }
  if (["Enter", " "].includes(event.key) && at.closest("a, button, summary")) return;
  if (act(event, at)) event.preventDefault();
});

function act(event, at) {
  const isControl = event.ctrlKey || event.metaKey;
  const key = event.key.length === 1 ? event.key.toLowerCase() : event.key;
  if (isControl && key === "a") select(choice.added(choice.NOTHING, openIds()));
  else if (isControl || (key.length === 1 && key !== " " && keysAreOff())) return false;
  else if (MOVES.includes(key)) return order.length > 0 && (at.closest(".cell") !== null || key.startsWith("Arrow")) && move(event);
  else if (event.repeat) return true; // a key that is leant on says one thing
  else if (KEYS[key]) KEYS[key]();
  else return pressNumber(event);
  return true;
}

// By place too: on some keyboards digits need Shift.
function pressNumber(event) {
  const [, digit] = /^(?:Digit|Numpad)([1-9])$/.exec(event.code) ?? [];
  const button = byId("numbered").children[(/^[1-9]$/.test(event.key) ? event.key : digit) - 1];
  button?.click();
  return button !== undefined;
}

const other = speciesBox({ label: "Another species", onchoose: ({ name }) => { stand(here, true); labelAll(name); } });
other.input.placeholder = "another species  ( / )";
const which = speciesBox({ label: "Species", keep: true, value: species, onchoose: ({ name }) => { species = name; refilter(); } });
which.input.placeholder = "any";
which.input.addEventListener("change", () => { if (!which.input.value.trim() && species) { species = ""; refilter(); } });
byId("other").append(other);
byId("which-species").append(which);

function refilter() {
  reload();
  load();
}

for (const name of ["order", "deployment", "min_probability", "count", "size"]) {
  if (parameters.has(name)) form.elements[name].value = parameters.get(name);
  form.elements[name].addEventListener("change", name === "size" ? reload : refilter);
}
form.addEventListener("submit", (event) => event.preventDefault());
for (const [id, act] of Object.entries({ agree, undo, next, blank: KEYS.b, unknown: KEYS.u, none: KEYS.Escape })) {
  byId(id).addEventListener("click", act);
}
byId("first").addEventListener("click", () => load());
byId("stop").addEventListener("click", () => loading?.abort());
document.addEventListener("visibilitychange", lookAgain);
addEventListener("focus", lookAgain);
byId("filters").open = matchMedia("(min-width: 48rem)").matches;
byId("labelling").hidden = !mayReview;
form.elements.order.querySelector("[value=alike]").disabled = !mayReview;
groups.dataset.size = form.elements.size.value;
addEventListener("pagehide", () => frames.release());
addEventListener("pageshow", (event) => { if (event.persisted) frames.hold(); });
setInterval(() => { if (!document.hidden) frames.hold(); }, HOLD_MS);
fit();
labels.start();
offerDeployments(byId("deployments"));
changed();
load();
