// What was said here and has not reached the station yet. Nothing in it is lost: it lies in this
// browser's storage until the station has answered, over reloads and power cuts.
//
// Each entry has a storage key of its own, so that two tabs never overwrite each other's; both may
// send the same entry, which by its request number says nothing twice.

const PREFIX = "trapwatch.out.";
const FIRST_PAUSE_MS = 1000;
const LONGEST_PAUSE_MS = 60_000;

// Not crypto.randomUUID: browsers have that over https only, and a station may speak plain http.
export function newRequest() {
  const bytes = crypto.getRandomValues(new Uint8Array(16));
  bytes[6] = (bytes[6] & 0x0f) | 0x40;
  bytes[8] = (bytes[8] & 0x3f) | 0x80;
  const hex = [...bytes].map((byte) => byte.toString(16).padStart(2, "0")).join("");
  return hex.replace(/^(.{8})(.{4})(.{4})(.{4})/, "$1-$2-$3-$4-");
}

// Whether the same may be tried again later, or must be put right by a person.
export const isTemporary = (status) => status === 0 || status === 401 || status === 429 || status >= 500;

export const nextPause = (pauseMs) => Math.min(Math.max(pauseMs * 2, FIRST_PAUSE_MS), LONGEST_PAUSE_MS);

export class Outbox extends EventTarget {
  #storage; #ask; #by; #sending = null; #round = null; #pauseMs = 0; #timer = null; #unkept = new Map();

  // `ask(path, {method, body})` as in api.js; `by()`: under whose name things are said now.
  constructor(storage, ask, by) {
    super();
    [this.#storage, this.#ask, this.#by] = [storage, ask, by];
  }

  // An entry: {kind, method, path, body, request, about}. `about` is what people are shown of it.
  put(entry) {
    const request = entry.body.request ?? newRequest();
    // After all that is there, even if somebody has put the tablet's clock back meanwhile.
    const last = Number(this.entries().at(-1)?.key.slice(PREFIX.length).split(".")[0] ?? 0);
    const order = String(Math.max(Date.now(), last + 1)).padStart(15, "0");
    this.#write(`${PREFIX}${order}.${request}`, { ...entry, request, by: this.#by(), tries: 0 });
    this.flush();
    return request;
  }

  entries() {
    const keys = [...Object.keys(this.#storage), ...this.#unkept.keys()].filter((key) => key.startsWith(PREFIX));
    return [...new Set(keys)].sort().map((key) => this.#read(key)).filter(Boolean);
  }

  unsent() { return this.entries().filter((entry) => !entry.refused && entry.by === this.#by()); }

  // What people are told of: an entry and the undo of it together change nothing.
  waiting() {
    const unsent = this.unsent();
    const undone = new Set(unsent.map((entry) => entry.of).filter(Boolean));
    return unsent.filter((entry) => !undone.has(entry.request) && !(entry.of && unsent.some((one) => one.request === entry.of)));
  }

  refused() { return this.entries().filter((entry) => entry.refused && entry.by === this.#by()); }
  foreign() { return this.entries().filter((entry) => entry.by !== this.#by()); }
  get lastsLonger() { return this.#unkept.size === 0; }

  has(request) { return this.entries().some((entry) => entry.request === request); }

  // Take back what has not been sent. False where it is on its way, has arrived, or may have: a
  // try that was not answered can have reached the station all the same.
  take(request) {
    const entry = this.entries().find((one) => one.request === request);
    if (!entry || entry.request === this.#sending || (entry.tries > 0 && !entry.refused)) return false;
    this.#remove(entry.key);
    return true;
  }

  // Put right what was refused, or say under one's own name what somebody else left here.
  again(entry, changes = {}) {
    this.#write(entry.key, { ...entry, ...changes, refused: null, tries: 0, by: this.#by(), corrected: true });
    this.flush();
  }

  drop(entry) { this.#remove(entry.key); }

  // Send all there is, in order; fulfils when it is sent, or when the station does not answer.
  flush() {
    if (this.#timer !== null) return Promise.resolve();
    this.#round ??= this.#sendAll().finally(() => { this.#round = null; });
    return this.#round;
  }

  async #sendAll() {
    for (let entry = this.unsent()[0]; entry; entry = this.unsent()[0]) {
      this.#sending = entry.request;
      const went = await this.#send(entry).finally(() => { this.#sending = null; });
      if (!went) return;
    }
  }

  // Do not wait for the next try: the station may be back.
  hurry() {
    clearTimeout(this.#timer);
    this.#timer = null;
    this.flush();
  }

  async #send(entry) {
    if (entry.kind === "undo" && !entry.body.act_id) {
      this.#remove(entry.key); // what it would undo said nothing; without a number it would undo another act
      return true;
    }
    this.#write(entry.key, { ...entry, tries: entry.tries + 1 });
    try {
      const answer = await this.#ask(entry.path, { method: entry.method, body: entry.body });
      this.#arrived(entry, answer);
    } catch (error) {
      if (isTemporary(error.status ?? 0)) return this.#later();
      this.#turnedDown(entry, error);
    }
    this.#pauseMs = 0;
    return true;
  }

  #arrived(entry, answer) {
    // An undo that was asked for while its label was on the way learns now what to undo.
    for (const other of this.entries().filter((one) => one.of === entry.request)) {
      this.#write(other.key, { ...other, body: { ...other.body, act_id: answer.act_id ?? null } });
    }
    this.#remove(entry.key);
    this.#tell("sent", { entry, answer });
  }

  #turnedDown(entry, error) {
    // Tried before, the answer lost: then it had been undone already.
    if (entry.kind === "undo" && entry.tries > 0) return this.#arrived(entry, {});
    const undoing = this.entries().find((one) => one.of === entry.request);
    if (undoing) {
      this.#remove(undoing.key); // refused or undone: it is not said either way
      return this.#remove(entry.key);
    }
    const refused = { status: error.status, words: error.message, nearest: error.body?.nearest ?? null };
    this.#write(entry.key, { ...entry, refused });
    return this.#tell("refused", { entry, refused });
  }

  #later() {
    this.#pauseMs = nextPause(this.#pauseMs);
    this.#timer = setTimeout(() => this.hurry(), this.#pauseMs);
    this.#tell("change", {});
    return false;
  }

  #read(key) {
    if (this.#unkept.has(key)) return { ...this.#unkept.get(key), key };
    try {
      return { ...JSON.parse(this.#storage.getItem(key)), key };
    } catch {
      return null; // not ours
    }
  }

  #write(key, entry) {
    const { key: _, ...kept } = entry;
    try {
      this.#storage.setItem(key, JSON.stringify(kept));
      this.#unkept.delete(key);
    } catch {
      this.#unkept.set(key, kept); // storage is full or forbidden: at least for as long as the page lives
    }
    this.#tell("change", {});
  }

  #remove(key) {
    this.#storage.removeItem(key);
    this.#unkept.delete(key);
    this.#tell("change", {});
  }

  #tell(type, detail) { this.dispatchEvent(new CustomEvent(type, { detail })); }
}
