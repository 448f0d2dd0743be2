// One sitting at the review page: the line of frames, what was said of them, what can be undone.
// It knows the station and the storage, and nothing of how things look; "change" tells that a frame
// is to be drawn anew, "progress" that only the figures around it are.

import { ask, get, post, put, visitor } from "./api.js";
import {
  EMPTY, coming, current, extended, holding, inWords, ofFilm, remembered, replaced, stepped, turnedTo, without,
} from "./line.js";
import { newRequest } from "./outbox.js";

export const AHEAD = 12; // frames known ahead of the one that is shown
const ASK_FOR = 4; // not for every single one
const LEASE_MS = 10 * 60_000; // how long the station keeps frames for us
const UNDOABLE = 200;
const HELD_AT_MOST = 250;

const read = (storage, key, otherwise) => {
  try { return JSON.parse(storage.getItem(key)) ?? otherwise; } catch { return otherwise; }
};

export class Session extends EventTarget {
  line = EMPTY;
  said = new Map(); // media id -> observations, said here and shown before the station knows
  staged = [];
  wholeEvent = false;
  waiting = null; // frames without a label, as the station counted them
  alike = 0; // of them, those never asked about: they look like others of their event
  problem = null; // why no frames come, in words
  done = read(sessionStorage, "trapwatch.done", []); // [{request, act_id, media_id, media_ids, entry}]
  counted = read(sessionStorage, "trapwatch.counted", { done: 0, since: null });
  last = read(localStorage, "trapwatch.last", null); // observations
  #asking = null; #renewed = 0; #dry = false; #kept = new Set();

  // `wanted`: {queue, species, deployment}, or null where one given frame is looked at.
  constructor(outbox, wanted) {
    super();
    [this.outbox, this.wanted] = [outbox, wanted];
    for (const entry of outbox.unsent()) if (entry.kind === "label") this.#remember(entry.about.media_ids, entry.body.observations);
    outbox.addEventListener("sent", ({ detail }) => this.#arrived(detail));
  }

  // A frame with what was said of it here.
  seen = (frame) => {
    const observations = this.said.get(frame.media_id);
    if (!observations) return frame;
    const species = observations[0].species;
    return { ...frame, source: "label", species, probability: null, labelled_by: visitor.name, observations, disagreement: false };
  };

  get frame() { return current(this.line); }
  get isAsking() { return this.#asking !== null; }
  get recent() { return read(localStorage, `trapwatch.recent.${visitor.name}`, []); }

  // ---- walking

  go(by) {
    const line = stepped(this.line, by);
    if (!this.wanted && line.at >= line.frames.length) return false;
    if (line.at === this.line.at) return false;
    this.#move(line);
    return true;
  }

  // Show one frame, wherever it is: in the line, in the film, or only at the station.
  async turnTo(media_id) {
    const near = this.line.frames.find((one) => one.media_id === media_id);
    const film = this.frame?.film?.find((one) => one.media_id === media_id);
    if (!near && !film) await this.outbox.flush(); // an undo that is on its way changes what the station says
    if (near) this.#move(turnedTo(this.line, near));
    else if (film) this.#move(turnedTo(this.line, ofFilm(film, this.frame)));
    if (!near && !film) await this.refresh(media_id);
  }

  // What the station knows of a frame now; it is shown if it is not in the line yet.
  async refresh(media_id) {
    const fresh = await get(`/sightings/${media_id}`);
    const there = this.line.frames.some((one) => one.media_id === media_id);
    if (there) this.line = replaced(this.line, fresh);
    else this.line = turnedTo(this.line, fresh);
    this.#tell("change");
  }

  // One given frame, and its event to walk along.
  async open(media_id) {
    const fresh = await get(`/sightings/${media_id}`);
    const film = fresh.film.map((one) => (one.media_id === media_id ? fresh : ofFilm(one, fresh)));
    this.line = turnedTo({ frames: film, at: film.length }, fresh);
    this.#tell("change");
  }

  // ---- saying

  // Returns the words of what was said.
  label(observations, { exact = false, insist = false } = {}) {
    const frame = this.frame;
    const media_ids = this.wholeEvent && frame.film?.length ? frame.film.map((one) => one.media_id) : [frame.media_id];
    const scope = this.wholeEvent ? "event" : "frame";
    const body = { media_ids: [frame.media_id], observations, scope, request: newRequest(), insist, exact };
    const words = inWords(observations);
    const about = { media_id: frame.media_id, media_ids, words, deployment: frame.deployment, captured_local: frame.captured_local };
    const entry = { kind: "label", method: "POST", path: "/labels", body, about };
    this.#keepDone([...this.done, { request: body.request, media_id: frame.media_id, media_ids, entry }]);
    this.#remember(media_ids, observations);
    this.#count(media_ids.length);
    this.last = observations;
    localStorage.setItem("trapwatch.last", JSON.stringify(observations));
    const recent = remembered(this.recent, observations.map((one) => one.species));
    localStorage.setItem(`trapwatch.recent.${visitor.name}`, JSON.stringify(recent));
    this.line = without(this.line, media_ids);
    this.wholeEvent = false;
    this.outbox.put(entry);
    if (!this.go(1)) this.#tell("change");
    return words;
  }

  // Take back the last label that still counts; returns the frame to look at, or null.
  async undo() {
    const last = this.done.at(-1) ?? this.#unsentBefore();
    if (!last) {
      const { media_ids } = await post("/labels/undo", { act_id: null, media_id: null });
      await this.#backTo(media_ids[0], media_ids);
      await this.refresh(media_ids[0]);
      return;
    }
    this.#keepDone(this.done.filter((one) => one.request !== last.request));
    this.#count(-last.media_ids.length);
    if (!this.outbox.take(last.request)) {
      // Another tab has sent it: sent again it says nothing new, and answers with its number.
      if (!last.act_id && !this.outbox.has(last.request)) this.outbox.put(last.entry);
      const body = { act_id: last.act_id ?? null, media_id: null };
      const of = last.act_id ? null : last.request;
      this.outbox.put({ kind: "undo", method: "POST", path: "/labels/undo", body, of, about: last.entry.about });
    }
    await this.#backTo(last.media_id, last.media_ids);
  }

  flag() {
    const frame = this.frame;
    const flagged = !frame.flagged;
    this.line = replaced(this.line, { ...frame, flagged });
    const about = { media_id: frame.media_id, media_ids: [frame.media_id], words: flagged ? "flag" : "no flag" };
    this.outbox.put({ kind: "flag", method: "PUT", path: `/flags/${frame.media_id}`, body: { flagged }, about });
    this.#tell("change");
    return flagged;
  }

  async reveal() {
    const frame = this.frame;
    await post("/reveals", { media_id: frame.media_id });
    this.line = replaced(this.line, { ...frame, revealed: true });
    await this.refresh(frame.media_id);
  }

  // What was refused is not said: the frame is as it was, and comes back to be put right.
  forget({ kind, request, about, body }, status) {
    if (kind !== "label") return;
    for (const id of about.media_ids) this.said.delete(id);
    this.#count(-about.media_ids.length);
    this.#keepDone(this.done.filter((one) => one.request !== request));
    if (status === 409) { // a name that is none is not offered again
      const wrong = body.observations.map((one) => one.species);
      const recent = this.recent.filter((name) => !wrong.includes(name));
      localStorage.setItem(`trapwatch.recent.${visitor.name}`, JSON.stringify(recent));
      this.last = null;
    }
    this.#tell("change");
  }

  // ---- the queue

  choose(wanted) {
    this.wanted = wanted;
    const here = this.line.frames.slice(0, this.line.at);
    this.line = { frames: here, at: here.length };
    this.#asking?.abort();
    [this.#asking, this.#dry] = [null, false];
    post("/review/release", this.#givenBack()).catch(() => {}); // they lapse by themselves
    this.#tell("change");
    return this.more();
  }

  held() {
    const unsent = this.outbox.unsent().flatMap((entry) => entry.about.media_ids);
    return holding(this.line, (frame) => this.said.has(frame.media_id), unsent).slice(-HELD_AT_MOST);
  }

  // Ask for frames until enough are ahead, and let the station know which we still hold.
  async more({ again = false } = {}) {
    if (!this.wanted || this.#asking) return;
    const missing = AHEAD - coming(this.line).length;
    if (missing < ASK_FOR && !again || missing <= 0 || (this.#dry && !again)) return;
    this.#asking = new AbortController();
    const { signal } = this.#asking;
    const timer = setTimeout(() => this.#asking?.abort(), 30_000);
    try {
      const body = { count: missing, holding: this.held(), ...this.wanted };
      const { frames, waiting, alike } = await ask("/review/next", { method: "POST", body, signal });
      if (signal.aborted) return;
      this.#keep(body.holding, frames);
      const before = this.frame;
      this.line = extended(this.line, frames);
      [this.waiting, this.alike, this.problem, this.#renewed] = [waiting, alike, null, Date.now()];
      this.#dry = frames.length < missing;
      this.#asking = null;
      this.#tell(before ? "progress" : "change");
    } catch (error) {
      if (signal.aborted && error.name === "AbortError") return;
      this.problem = error.message;
      this.#asking = null;
      this.#tell(this.frame ? "progress" : "change");
    } finally {
      clearTimeout(timer);
      if (this.#asking?.signal === signal) this.#asking = null;
    }
  }

  // Frames that were kept for us too long ago may be with somebody else by now.
  async freshen() {
    if (!this.wanted || this.#asking || Date.now() - this.#renewed < LEASE_MS * 0.9) return;
    this.line = { frames: this.line.frames.slice(0, this.line.at + 1), at: this.line.at };
    this.#dry = false;
    await this.more();
  }

  async renew() {
    if (!this.wanted || this.#asking || !this.held().length) return;
    const body = { count: 1, holding: this.held(), ...this.wanted };
    const { frames, waiting } = await post("/review/next", body);
    this.#keep(body.holding, frames);
    this.line = extended(this.line, frames);
    [this.waiting, this.#renewed] = [waiting, Date.now()];
    this.#tell("progress");
  }

  release() {
    if (!this.wanted) return;
    this.#renewed = 0; // should the browser bring this page back, nothing is ours any more
    ask("/review/release", { method: "POST", body: this.#givenBack(), keepalive: true }).catch(() => {});
  }

  // ---- inside

  #keep(holding, frames) {
    for (const id of holding) this.#kept.add(id);
    for (const frame of frames) this.#kept.add(frame.media_id);
  }

  // Also those that are labelled: their events were ours with them.
  #givenBack() {
    const media_ids = [...this.#kept].slice(-HELD_AT_MOST);
    this.#kept.clear();
    return { media_ids };
  }

  #move(line) {
    this.line = line;
    this.staged = [];
    this.#tell("change");
    this.more({ again: !this.frame });
    // A frame out of the film comes without what people said of it.
    if (this.frame?.isPart) this.refresh(this.frame.media_id).catch((error) => { this.problem = error.message; });
  }

  async #backTo(media_id, mediaIds) {
    for (const id of mediaIds) this.said.delete(id);
    this.wholeEvent = false;
    await this.turnTo(media_id);
  }

  #unsentBefore() {
    const entry = this.outbox.unsent().filter((one) => one.kind === "label").at(-1);
    return entry && { request: entry.request, ...entry.about, entry };
  }

  #arrived({ entry, answer }) {
    if (entry.kind === "label") {
      this.#remember(entry.about.media_ids, entry.body.observations);
      if (entry.corrected) {
        this.#keepDone([...this.done, { request: entry.request, ...entry.about, entry }]);
        this.#count(entry.about.media_ids.length);
      }
      this.#keepDone(this.done.map((one) => (one.request === entry.request ? { ...one, act_id: answer.act_id } : one)));
      if (this.waiting !== null) this.waiting = Math.max(0, this.waiting - answer.media_ids.length);
      this.dispatchEvent(new CustomEvent("arrived", { detail: answer }));
    }
    const back = entry.kind === "undo" && this.line.frames.some((one) => one.media_id === entry.about.media_id);
    if (back) this.refresh(entry.about.media_id).catch(() => {}); // shown as it was known before
    this.#tell("progress");
  }

  #remember(mediaIds, observations) {
    for (const id of mediaIds) this.said.set(id, observations);
  }

  #count(by) {
    this.counted = { done: Math.max(0, this.counted.done + by), since: this.counted.since ?? Date.now() };
    sessionStorage.setItem("trapwatch.counted", JSON.stringify(this.counted));
  }

  #keepDone(done) {
    this.done = done.slice(-UNDOABLE);
    sessionStorage.setItem("trapwatch.done", JSON.stringify(this.done));
  }

  #tell(type) { this.dispatchEvent(new Event(type)); }
}
