// The labels given in the grid: on their way through the outbox, and how they are undone.

import { ask, visitor } from "./api.js";
import { chunks, stillToSend } from "./grid-choice.js";
import { newRequest, Outbox } from "./outbox.js";

const MOST_IN_ONE_ACT = 500; // media, as the station takes them
const UNDO_KEPT = "grid-undo";
const MOST_UNDONE = 100;

// `taken(ids)` tells which of these somebody labelled meanwhile: Map of id -> by whom.
// `heard`: { sent(entry, ids), skipped(entry, ids), refused(entry, refused), undone(ids), changed() }
export class GridLabels {
  #outbox; #taken; #heard;

  constructor({ taken, heard }) {
    [this.#taken, this.#heard] = [taken, heard];
    this.#outbox = new Outbox(localStorage, (path, options) => this.#ask(path, options), () => visitor.name);
    this.#outbox.addEventListener("sent", ({ detail }) => this.#sent(detail));
    this.#outbox.addEventListener("refused", ({ detail }) => this.#refused(detail.entry));
    this.#outbox.addEventListener("change", () => heard.changed());
    addEventListener("online", () => this.#outbox.hurry());
  }

  // What a page before this one left unsent, and what was refused while nobody was there to hear.
  start() {
    for (const entry of this.#outbox.refused()) if (entry.about?.grid) this.#refused(entry);
    this.#outbox.flush();
  }

  // Frames whose label is not at the station yet: id -> species.
  waiting() {
    const found = new Map();
    for (const entry of this.#outbox.unsent()) {
      if (entry.kind === "label") for (const id of entry.body.media_ids) found.set(id, entry.body.observations[0].species);
    }
    return found;
  }

  get ofOthers() { return this.#outbox.foreign().length; }
  get lastsLonger() { return this.#outbox.lastsLonger; }
  hurry() { this.#outbox.hurry(); }

  // One act for the person (undone at once), several for the station: species -> media ids.
  say(labels) {
    const parts = [];
    for (const [species, all] of labels) {
      for (const ids of chunks(all, MOST_IN_ONE_ACT)) parts.push({ request: newRequest(), act: null, ids, species });
    }
    this.#keep([...this.#undoable(), { parts }].slice(-MOST_UNDONE));
    for (const { request, ids, species } of parts) {
      this.#outbox.put({
        kind: "label", method: "POST", path: "/labels", request, about: { grid: true, species },
        body: { media_ids: ids, observations: [{ species }], scope: "frame", request, insist: false, exact: false },
      });
    }
  }

  // True if there was something of this page to undo.
  undo() {
    const acts = this.#undoable();
    const last = acts.pop();
    if (!last) return false;
    this.#keep(acts);
    for (const { request, act, ids } of last.parts) {
      if (this.#outbox.take(request)) this.#heard.undone(ids);
      else if (act !== null || this.#outbox.entries().some((entry) => entry.request === request)) {
        this.#outbox.put({
          kind: "undo", method: "POST", path: "/labels/undo", of: request, about: { grid: true, ids },
          body: { act_id: act, media_id: null },
        });
      }
    }
    return true;
  }

  // A refused label, put right: under another name, or as the new species that it is.
  correct(entry, changes) { this.#outbox.again(entry, { body: { ...entry.body, ...changes } }); }
  drop(entry) { this.#outbox.drop(entry); }

  // Before a label goes out, whatever somebody else labelled meanwhile is taken out of it.
  async #ask(path, options) {
    const entry = this.#outbox.entries().find((one) => one.kind === "label" && one.request === options.body.request);
    if (path !== "/labels" || !entry?.about?.grid) return ask(path, options);
    const all = options.body.media_ids;
    const ids = stillToSend(all, await this.#taken(all), visitor.name, entry.tries > 1);
    const skipped = all.filter((id) => !ids.includes(id));
    if (skipped.length) this.#heard.skipped(entry, skipped);
    if (!ids.length) return { act_id: null, media_ids: [], new_species: [] };
    try {
      return await ask(path, { ...options, body: { ...options.body, media_ids: ids } });
    } catch (error) {
      // It had arrived, its answer was lost, and somebody corrected some of it: all is said.
      const hadArrived = error.status === 409 && entry.tries > 1 && !error.body?.nearest;
      if (!hadArrived) throw error;
      return { act_id: null, media_ids: ids, new_species: [] };
    }
  }

  #sent({ entry, answer }) {
    if (!entry.about?.grid) return;
    if (entry.kind === "undo") return this.#heard.undone(answer.media_ids ?? entry.about.ids);
    const acts = this.#undoable();
    for (const act of acts) for (const part of act.parts) if (part.request === entry.request) part.act = answer.act_id;
    this.#keep(acts);
    return this.#heard.sent(entry, answer.media_ids);
  }

  #refused(entry) {
    const kept = this.#outbox.refused().find((one) => one.request === entry.request);
    if (kept?.about?.grid) this.#heard.refused(kept, kept.refused);
  }

  #undoable() {
    try {
      return JSON.parse(sessionStorage.getItem(UNDO_KEPT)) ?? [];
    } catch {
      return []; // unreadable: the station still knows the last act
    }
  }

  #keep(acts) { sessionStorage.setItem(UNDO_KEPT, JSON.stringify(acts)); }
}
