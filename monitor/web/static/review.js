// The review page: one frame after the other, a key for each answer. This file ties the parts
// together; what they decide is in line.js and session.js.

import { ask, mayReview, offerDeployments, say, visitor } from "./api.js";
import { askName } from "./frame.js";
import { Choices } from "./choices.js";
import { announced, showFacts } from "./facts.js";
import { TAKEN, listen } from "./keys.js";
import { accepted, bestWord, coming, inWords, numbered, pace, withOthers } from "./line.js";
import { Look } from "./look.js";
import { Editor } from "./observations.js";
import { Outbox } from "./outbox.js";
import { asked, showKeys, showRefused, showUnsent, tell } from "./panels.js";
import { Pictures } from "./pictures.js";
import { Session } from "./session.js";
import { forgetSpecies, loadSpecies, speciesBox } from "./species.js";
import { Strip } from "./strip.js";
import { Viewer } from "./viewer.js";

const DECODED_AHEAD = 6;
const RENEW_MS = 4 * 60_000;
const AWAY_MS = 20 * 60_000; // nobody here for so long: the frames are left to others
const LOOK_AGAIN_MS = 20_000;

const at = (id) => document.getElementById(id);
const page = at("review");
const given = page.dataset.media ? Number(page.dataset.media) : null;

const outbox = new Outbox(localStorage, ask, () => visitor.name);
const session = new Session(outbox, given === null ? wantedNow() : null);
const pictures = new Pictures();
const viewer = new Viewer(at("stage"), { onlight: showLight, onreveal: () => act("reveal"), mayReveal: mayReview });
const look = new Look(viewer.overlay, at("look-panel"));
const strip = new Strip(at("film"), (media_id) => session.turnTo(media_id).catch(tell));
const choices = new Choices(at("choices"), { onchoose: (species) => speak([{ species }]) });
const editor = new Editor(at("editor"), (observations) => speak(observations, { exact: true }));
const search = speciesBox({ label: "Other species", hint: "/", onchoose: ({ name }) => {
  search.input.blur();
  speak([{ species: name }]);
} });

let species = [];
let shown = null; // media id of the frame that is drawn
let drawnPart = false; // it was drawn with the little that is known of it from the film
let began = null; // when the key that led to this frame was pressed
let active = Date.now();

// ---- drawing

function draw() {
  const frame = session.frame && session.seen(session.frame);
  page.classList.toggle("empty", !frame);
  if (!frame) return drawNothing();
  const isNew = frame.media_id !== shown;
  // Numbers do not change under somebody's fingers, except when it turns out that people disagree.
  if (isNew || drawnPart || frame.disagreement) choices.set(numbered(frame, session.recent, species));
  drawnPart = frame.isPart;
  at("stage").dataset.words = "";
  if (isNew) {
    shown = frame.media_id;
    look.off();
    editor.close();
  }
  const seen = viewer.show(frame, pictures, altOf(frame));
  if (isNew) measure(seen, frame.media_id);
  choices.show({ staged: session.staged, mayLabel: mayReview });
  strip.show(frame, session.seen);
  showFacts(at("facts"), frame);
  drawState(frame);
  drawProgress();
  if (isNew) announce(announced(frame, session.line.at + 1));
  prefetch();
}

function prefetch() {
  const next = coming(session.line);
  pictures.want(next.slice(0, DECODED_AHEAD));
  for (const frame of next.slice(0, 2)) pictures.wantFilm(frame);
}

function drawNothing() {
  shown = null;
  at("facts").replaceChildren();
  strip.clear();
  look.off();
  const skipped = session.line.frames.filter((frame) => !session.said.has(frame.media_id)).length;
  const words = session.problem
    ?? (session.isAsking || session.waiting === null ? "Fetching frames …" : skipped
      ? `That was all for now; ${skipped} you left without a label. ← goes back to them.`
      : withOthers(session) ? `Others have the last ${withOthers(session)} frames before them. What they leave comes here by itself.`
      : session.alike ? `The last ${session.alike} frames look like others of their event. The grid shows them together: order “Look-alikes”.`
      : "All done here. New frames appear by themselves when cameras send some.");
  if (at("stage").dataset.words !== words) announce(words);
  at("stage").dataset.words = words;
  viewer.clear(words);
  drawProgress();
}

function drawState(frame) {
  const film = frame.film?.length ?? 1;
  press("event", session.wholeEvent);
  press("flag", frame.flagged);
  press("look", look.isOn);
  at("whole").textContent = session.wholeEvent ? `Next label: all ${film} frames of this event` : "";
  const staged = session.staged.length ? session.staged.join(" + ") : null;
  const top = accepted(session.staged, choices.all);
  button("accept").querySelector(".what").textContent = staged ?? (top ? inWords(top) : "– no suggestion");
  button("accept").disabled = !mayReview || !top;
  button("repeat").querySelector(".what").textContent = session.last ? inWords(session.last) : "";
  button("undo").querySelector(".what").textContent = session.done.at(-1)?.entry.about.words ?? "";
  button("repeat").disabled = !mayReview || !session.last;
}

function drawProgress() {
  const { done, since } = session.counted;
  const each = pace(done, since, Date.now());
  const parts = [`${done} done`, each && `${each} an hour`, session.waiting !== null && `${session.waiting} waiting`];
  at("progress").textContent = parts.filter(Boolean).join(" · ");
  showUnsent(at("unsent"), outbox);
  showRefused(at("refused"), outbox, { onback: putBack });
}

function showLight({ brightness, contrast }) {
  at("brightness").value = String(brightness);
  at("contrast").value = String(contrast);
  at("light").classList.toggle("changed", brightness !== 100 || contrast !== 100);
}

const altOf = (frame) => `${frame.deployment}, ${frame.captured_local.replace("T", " ")}: ${bestWord(frame)}`;
const button = (name) => document.querySelector(`[data-act="${name}"]`);
const press = (name, on) => button(name).setAttribute("aria-pressed", String(Boolean(on)));
const announce = (words) => { at("heard").textContent = words; };

// From the key to the next picture's paint: two frames later it is certainly on the screen.
function measure(seen, media_id) {
  const start = began;
  began = null;
  if (start === null) return;
  seen.then(() => requestAnimationFrame(() => requestAnimationFrame(() => {
    performance.measure("review:next", { start, end: performance.now(), detail: { media_id } });
  })));
}

// ---- acting

async function speak(observations, options = {}) {
  if (!session.frame || !mayReview) return;
  if (!visitor.name && !(await askName())) return;
  const words = session.label(observations, options);
  const comes = session.frame ? announced(session.seen(session.frame), session.line.at + 1) : "";
  announce(`Labelled ${words}. ${comes}`);
}

const ACTS = {
  accept: () => {
    const top = accepted(session.staged, choices.all);
    if (top) speak(top);
    else say("The model says nothing of this frame: choose a species.");
  },
  blank: () => speak([{ species: "blank" }]),
  unknown: () => speak([{ species: "unknown" }]),
  repeat: () => session.last && speak(session.last, { exact: true }),
  before: () => session.go(-1),
  after: () => session.go(1),
  undo: () => undo(),
  event: () => {
    session.wholeEvent = !session.wholeEvent;
    drawState(session.seen(session.frame));
    announce(session.wholeEvent ? at("whole").textContent : "Only this frame");
  },
  flag: async () => (visitor.name || await askName()) && say(session.flag() ? "Flagged for a second look" : "Flag taken away", 3),
  edit: () => (editor.isOpen ? editor.close() : editor.open(session.seen(session.frame).observations)),
  search: () => search.input.focus(),
  reveal: () => reveal(),
  look: () => toggleLook(),
  help: () => { showKeys(species); },
  leave: () => {
    session.staged = [];
    look.off();
    draw();
  },
  closer: () => viewer.closer(), farther: () => viewer.farther(), whole: () => viewer.whole(),
  darker: () => viewer.light("brightness", -15), brighter: () => viewer.light("brightness", 15),
  flatter: () => viewer.light("contrast", -15), stronger: () => viewer.light("contrast", 15),
  plain: () => viewer.plainLight(),
};
const LABELS = new Set(["accept", "blank", "unknown", "repeat", "undo", "event", "flag", "edit", "search", "reveal"]);
const STEPS = new Set(["accept", "blank", "unknown", "repeat", "before", "after", "choice", "letter"]);
const WITHOUT_FRAME = new Set(["before", "after", "undo", "help"]);

// Do what a key or button stands for. Returns whether there was something to do.
function act(name, event = null) {
  active = Date.now();
  const [kind, which] = name.split(" ");
  if (!session.frame && !WITHOUT_FRAME.has(kind)) return false;
  if (!mayReview && LABELS.has(kind)) return false;
  session.freshen().catch(tell);
  began = STEPS.has(kind) ? event?.timeStamp ?? null : null;
  if (kind === "choice" || kind === "stage") return numberedChoice(kind, choices.at(which));
  if (kind === "letter") {
    const row = species.find((one) => one.hotkey?.toLowerCase() === which && !TAKEN.has(which));
    if (row && mayReview) speak([{ species: row.name }]);
    return Boolean(row);
  }
  Promise.resolve(ACTS[kind]?.()).catch(tell);
  return kind in ACTS;
}

function numberedChoice(kind, chosen) {
  if (!chosen || !mayReview) return false;
  if (kind === "choice") {
    speak([{ species: chosen }]);
    return true;
  }
  const staged = session.staged.includes(chosen);
  session.staged = staged ? session.staged.filter((one) => one !== chosen) : [...session.staged, chosen];
  draw();
  announce(session.staged.length ? `Gathered: ${session.staged.join(", ")}; Enter says it` : "Nothing gathered");
  return true;
}

async function undo() {
  await session.undo();
  say("Undone", 3);
}

async function reveal() {
  if (!viewer.reveal.offsetParent) return;
  const words = `It is recorded that ${visitor.name || "you"} looked at it. It may show a person.`;
  if (!(await asked("Show this hidden frame?", words, "Show it"))) return;
  if (!visitor.name && !(await askName())) return;
  await session.reveal();
}

async function toggleLook() {
  const frame = session.frame;
  if (look.isOn) look.off();
  else {
    const best = session.staged[0] ?? frame.alternatives[0]?.[0];
    if (best) look.on(frame, best);
    else say("The model says nothing of this frame.");
  }
  press("look", look.isOn);
}

function putBack(entry) {
  session.turnTo(entry.about.media_id).catch(tell);
}

// ---- the queue

function wantedNow() {
  const read = (id) => at(id)?.value.trim() || null;
  return { queue: read("queue") ?? "informative", species: read("of-species"), deployment: read("of-deployment") };
}

function chooseQueue() {
  const wanted = wantedNow();
  const kept = Object.entries(wanted).filter(([, value]) => value);
  history.replaceState(null, "", `?${new URLSearchParams(kept)}`);
  session.choose(wanted);
}

function fillQueue() {
  const query = new URLSearchParams(location.search);
  for (const [id, name] of [["queue", "queue"], ["of-species", "species"], ["of-deployment", "deployment"]]) {
    if (query.get(name)) at(id).value = query.get(name);
  }
  at("chooser").addEventListener("change", chooseQueue);
  at("chooser").addEventListener("submit", (event) => event.preventDefault());
}

// ---- the start

async function fetchSpecies() {
  const first = !species.length;
  species = await loadSpecies();
  at("known-species")?.replaceChildren(...species.map((row) => new Option(row.name)));
  if (first && session.frame) choices.set(numbered(session.seen(session.frame), session.recent, species));
  if (session.frame) draw();
}

function listenToAll() {
  session.addEventListener("change", draw);
  session.addEventListener("progress", () => {
    drawProgress();
    prefetch();
  });
  session.addEventListener("arrived", ({ detail }) => {
    if (!detail.new_species?.length) return;
    forgetSpecies();
    fetchSpecies();
  });
  outbox.addEventListener("change", drawProgress);
  outbox.addEventListener("refused", ({ detail }) => {
    session.forget(detail.entry, detail.refused.status);
    announce(`Not taken: ${detail.refused.words}`);
  });
  listen(act);
  for (const one of document.querySelectorAll("[data-act]")) {
    one.addEventListener("click", (event) => act(one.dataset.act, event));
  }
  // A click leaves no focus on the button: the next Enter is for the next frame.
  page.addEventListener("click", (event) => {
    if (event.detail > 0) event.target.closest("button")?.blur();
  });
  at("brightness").addEventListener("input", (event) => viewer.light("brightness", event.target.valueAsNumber, { set: true }));
  at("contrast").addEventListener("input", (event) => viewer.light("contrast", event.target.valueAsNumber, { set: true }));
}

function listenToTheWorld() {
  let leaving = false; // to log in: what is unsent lies in the storage
  document.addEventListener("login", () => { leaving = true; });
  addEventListener("beforeunload", (event) => { if (outbox.waiting().length && !leaving) event.preventDefault(); });
  addEventListener("pagehide", () => session.release());
  addEventListener("pageshow", (event) => { if (event.persisted) session.freshen().catch(tell); });
  addEventListener("online", () => {
    outbox.hurry();
    session.more({ again: true });
  });
  document.addEventListener("visibilitychange", () => { if (!document.hidden) session.freshen().catch(tell); });
  setInterval(() => { if (Date.now() - active < AWAY_MS) session.renew().catch(() => {}); }, RENEW_MS);
  setInterval(() => { if (!session.frame && !document.hidden) session.more({ again: true }); }, LOOK_AGAIN_MS);
}

at("search").append(search);
page.classList.toggle("viewing", !mayReview);
if (given === null) fillQueue();
session.wanted = given === null ? wantedNow() : null;
listenToAll();
listenToTheWorld();
draw();
fetchSpecies();
offerDeployments(at("known-deployments"));
outbox.flush();
if (given === null) session.more();
else session.open(given).catch((error) => { session.problem = error.message; draw(); });
