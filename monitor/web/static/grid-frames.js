// The frames of the grid: fetched batch by batch, and looked at again for what others labelled.

import { ask, get, post } from "./api.js";

const FRESH_SECONDS = 60; // what was read so long ago counts as known
const MOST_PAGES = 20; // of one look again: what it does not reach is asked for one by one
const AT_ONCE = 6; // requests

export class GridFrames {
  #read = new Map(); // id -> { at: ms, by: who labelled it, or null }, as the station said last

  constructor() {
    this.frames = new Map(); // id -> frame; of labelled ones, `before` is what it was
    this.next = null;
    this.alike = []; // the groups among them: [{ id, species, probability, ids }]
  }

  // Fill a batch: { frames: Map, next: where to begin }. `tell(reached)` is called while the
  // station searches back in time. What was found before an error or a stop stays in the batch.
  async fill(batch, query, count, { signal, tell }) {
    do {
      const limit = Math.min(500, count - batch.frames.size);
      const page = await get(`/sightings?${filled({ ...query, unreviewed: "true", limit, cursor: batch.next })}`, { signal });
      for (const frame of page.sightings) batch.frames.set(frame.media_id, frame);
      this.#see(page.sightings);
      batch.next = page.next;
      if (page.next && batch.frames.size < count) tell(page.reached);
    } while (batch.next !== null && batch.frames.size < count);
  }

  // Fill a batch with groups of look-alikes, which are ours for ten minutes. Its `next` is where to
  // begin: the groups that were passed over.
  async fillAlike(batch, count) {
    const passed = batch.next ?? [];
    const { groups } = await post("/review/groups/take", { frames: Math.min(500, count), passed: passed.slice(-1000) });
    for (const { id, species, probability, frames } of groups) {
      for (const frame of frames) batch.frames.set(frame.media_id, frame);
      this.#see(frames);
      batch.alike.push({ id, species, probability, ids: frames.map((frame) => frame.media_id) });
    }
    batch.next = groups.length ? [...passed, ...groups.map((group) => group.id)] : null;
  }

  show(batch) {
    this.frames = batch.frames;
    this.next = batch.next;
    this.alike = batch.alike;
  }

  // Keep the groups for us, or give them back to others.
  hold() { return this.#held("/review/groups/hold"); }
  release() { return this.#held("/review/release"); }

  async #held(path) {
    const media_ids = this.alike.flatMap((group) => group.ids).slice(0, 500);
    if (media_ids.length) await ask(path, { method: "POST", body: { media_ids }, keepalive: true }).catch(() => {}); // they lapse by themselves
  }

  // Who labelled these meanwhile, at the last look or, where that is too long ago, by now.
  async taken(ids, freshSeconds = FRESH_SECONDS) {
    const since = Date.now() - freshSeconds * 1000;
    const old = ids.filter((id) => (this.#read.get(id)?.at ?? 0) < since);
    if (old.length) await this.#lookAgain(old);
    return new Map(ids.map((id) => [id, this.#read.get(id).by]).filter(([, by]) => by !== null));
  }

  labelled(id, species, by) {
    const frame = this.frames.get(id);
    this.#read.set(id, { at: Date.now(), by });
    if (frame && frame.source !== "label") this.#put({ ...frame, source: "label", species, labelled_by: by });
  }

  // Unlabelled again, after an undo.
  reopen(id) {
    const frame = this.frames.get(id);
    this.#read.delete(id);
    if (frame?.before) this.frames.set(id, frame.before);
  }

  // One walk over the time of these frames finds most of them still unlabelled; only those it
  // does not find are asked for one by one.
  async #lookAgain(ids) {
    const start = Date.now();
    const times = ids.map((id) => this.frames.get(id)?.captured_at).filter(Boolean).sort();
    if (times.length) await this.#walk(times[0], new Date(Date.parse(times.at(-1)) + 1).toISOString());
    const left = ids.filter((id) => (this.#read.get(id)?.at ?? 0) < start);
    for (let place = 0; place < left.length; place += AT_ONCE) {
      const part = left.slice(place, place + AT_ONCE);
      this.#see(await Promise.all(part.map((id) => get(`/sightings/${id}`))));
    }
  }

  async #walk(since, until) {
    let cursor = null;
    for (let pages = 0; pages < MOST_PAGES; pages += 1) {
      const page = await get(`/sightings?${filled({ unreviewed: "true", since, until, limit: 500, cursor })}`);
      this.#see(page.sightings);
      cursor = page.next;
      if (cursor === null) return;
    }
  }

  #see(frames) {
    for (const frame of frames) {
      const labelled = frame.source === "label";
      this.#read.set(frame.media_id, { at: Date.now(), by: labelled ? frame.labelled_by ?? "somebody" : null });
      if (labelled && this.frames.get(frame.media_id)?.source !== "label") this.#put(frame);
    }
  }

  #put(frame) {
    const before = this.frames.get(frame.media_id);
    if (before) this.frames.set(frame.media_id, { ...frame, before });
  }
}

export function filled(query) {
  const kept = Object.entries(query).filter(([, value]) => value !== null && value !== undefined && value !== "");
  return new URLSearchParams(kept).toString();
}
