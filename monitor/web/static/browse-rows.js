// The rows of the browse page: which are in the document, which are kept, and the filter as an
// address. Decisions and data, without a page.

export const PAGE = 100; // rows asked for at once
export const MOST_ROWS = 100_000; // in one list; a date leads further back
const KEPT_PAGES = 30; // around what is in view; the others are asked for again when they come into view
const SPARE_ROWS = 12; // in the document above and below what is in view

// What the filter is made of, as the API calls it.
export const FIELDS = ["species", "deployment", "since", "until", "min_probability", "max_probability", "source", "status",
  "model_version", "labelled_by", "path", "sha256", "event_id", "unreviewed", "flagged"];

export function filterOf(search) {
  const given = new URLSearchParams(search);
  return Object.fromEntries(FIELDS.filter((name) => given.get(name)).map((name) => [name, given.get(name)]));
}

export const queryOf = (filter, more = {}) => {
  const kept = Object.entries({ ...filter, ...more }).filter(([, value]) => value !== null && value !== undefined && value !== "");
  return new URLSearchParams(kept).toString();
};

// People say 90 %, the API 0.9.
export const asPercent = (text) => (text ? String(Math.round(Number(text) * 1000) / 10) : "");
export const fromPercent = (text) => (text.trim() ? String(Math.round(Number(text) * 10) / 1000) : "");

// Which rows are to be in the document. `offset`: how far the list is scrolled past its top, pixels.
export function windowOf({ offset, viewHeight, rowHeight, count }) {
  const first = Math.floor(Math.max(0, offset) / rowHeight) - SPARE_ROWS;
  const last = Math.ceil((Math.max(0, offset) + viewHeight) / rowHeight) + SPARE_ROWS;
  const from = Math.min(Math.max(0, first), Math.max(0, count - 1));
  return { from, to: Math.max(from, Math.min(count, last)) };
}

// All that is listed so far: of every page where it begins and the ids, of pages near the view the
// rows too. Going back to a page gives the same ids again, whatever was labelled meanwhile.
export class Rows {
  constructor(pages = []) {
    this.pages = pages; // { cursor, start, ids }
    this.byId = new Map(); // id -> row, or { media_id, isGone }
    this.known = new Set(pages.flatMap((page) => page.ids));
  }

  get count() {
    const last = this.pages.at(-1);
    return last ? last.start + last.ids.length : 0;
  }

  add(cursor, rows) {
    const fresh = rows.filter((row) => !this.known.has(row.media_id));
    if (!fresh.length) return;
    this.pages.push({ cursor, start: this.count, ids: fresh.map((row) => row.media_id) });
    for (const row of fresh) {
      this.known.add(row.media_id);
      this.byId.set(row.media_id, row);
    }
  }

  // A page asked for once more; what no longer fits the filter says so.
  fill(page, rows) {
    const now = new Map(rows.map((row) => [row.media_id, row]));
    for (const id of page.ids) this.byId.set(id, now.get(id) ?? { media_id: id, isGone: true });
  }

  idAt(place) {
    const page = this.pages[this.#pageAt(place)];
    return page?.ids[place - page.start];
  }

  rowAt(place) {
    return this.byId.get(this.idAt(place)) ?? null;
  }

  // The pages of these places whose rows are not here.
  missing(from, to) {
    if (from >= to) return [];
    const pages = this.pages.slice(this.#pageAt(from), this.#pageAt(to - 1) + 1);
    return pages.filter((page) => page.ids.some((id) => !this.byId.has(id)));
  }

  // Keep memory bounded: forget rows far from these places.
  forget(from, to) {
    const [first, last] = [this.#pageAt(from) - KEPT_PAGES / 2, this.#pageAt(Math.max(from, to - 1)) + KEPT_PAGES / 2];
    if (this.byId.size <= KEPT_PAGES * PAGE) return;
    this.pages.forEach((page, number) => {
      if (number < first || number > last) for (const id of page.ids) this.byId.delete(id);
    });
  }

  // The page that place is on, by halving.
  #pageAt(place) {
    let [low, high] = [0, this.pages.length - 1];
    while (low < high) {
      const middle = Math.ceil((low + high) / 2);
      if (this.pages[middle].start <= place) low = middle;
      else high = middle - 1;
    }
    return Math.max(low, 0);
  }
}

// Only what a row shows: a hundred thousand whole frames would not fit a tablet.
export const rowOf = (frame) => ({
  media_id: frame.media_id, day: frame.captured_local.slice(0, 10), time: frame.captured_local.slice(11, 19), deployment: frame.deployment,
  species: speciesOf(frame), probability: frame.source === "label" ? null : frame.probability, said: saidBy(frame),
  status: statusOf(frame), path: frame.path, isCovered: frame.hidden && !frame.revealed,
  hasPicture: frame.status !== "rejected", flagged: frame.flagged,
});

export function speciesOf(frame) {
  const said = frame.observations.map(({ species, count }) => (count > 1 ? `${species} × ${count}` : species));
  return said.length ? said.join(", ") : frame.species ?? "";
}

export function saidBy(frame) {
  if (frame.source === "label") return `label by ${frame.labelled_by ?? "somebody"}`;
  return frame.source === "prediction" ? `model ${frame.model_version}` : "nobody yet";
}

const statusOf = (frame) => (frame.rejected_reason ? `${frame.status}: ${frame.rejected_reason}` : frame.status);
