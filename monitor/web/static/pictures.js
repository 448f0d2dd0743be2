// Pictures ahead of time: fetched and decoded before they are asked for, so that showing one is
// only a matter of painting.

const AT_ONCE = 2; // a small station makes pictures one after the other
const KEPT = 24; // decoded pictures are big: a screen of 1600 × 1200 is 8 MB

const FILM_AHEAD = 10;

export const screenOf = (frame) => `/api/v1/media/${frame.media_id}/screen.jpg`;
export const thumbOf = (frame) => `/api/v1/media/${frame.media_id}/thumb.jpg`;
export const isCovered = (frame) => frame.hidden && !frame.revealed;

export class Pictures {
  #made = new Map(); // media id -> {image, ready}, the longest unused first
  #films = new Set();
  #wanted = [];
  #loading = 0;

  // The picture of a frame: {image, ready}; `ready` fulfils when it can be painted at once.
  of(frame) {
    const kept = this.#made.get(frame.media_id) ?? this.#begin(frame);
    this.#made.delete(frame.media_id);
    this.#made.set(frame.media_id, kept);
    return kept;
  }

  // Make these ready, the first soonest; what was wanted before and is not now is not begun.
  want(frames) {
    this.#wanted = frames.filter((frame) => !isCovered(frame) && !this.#made.has(frame.media_id));
    this.#more();
  }

  // The film of a frame that comes soon; the browser keeps them.
  wantFilm(frame) {
    for (const one of (frame?.film ?? []).slice(0, FILM_AHEAD)) {
      if (isCovered(one) || this.#films.has(one.media_id)) continue;
      this.#films.add(one.media_id);
      new Image().src = thumbOf(one);
    }
  }

  #more() {
    while (this.#loading < AT_ONCE && this.#wanted.length) {
      const frame = this.#wanted.shift();
      if (!this.#made.has(frame.media_id)) this.of(frame);
    }
  }

  #begin(frame) {
    const image = new Image();
    image.decoding = "async";
    image.draggable = false;
    image.src = screenOf(frame);
    this.#loading += 1;
    const ready = image.decode().finally(() => {
      this.#loading -= 1;
      this.#more();
    });
    ready.catch(() => this.#made.delete(frame.media_id)); // asked for again when it is shown
    this.#made.set(frame.media_id, { image, ready });
    for (const oldest of this.#made.keys()) {
      if (this.#made.size <= KEPT) break;
      this.#made.delete(oldest);
    }
    return this.#made.get(frame.media_id);
  }
}
