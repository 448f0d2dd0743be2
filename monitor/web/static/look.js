// Where the model looked: its class activation map over the picture, and in words.

import { element, get } from "./api.js";

// Cividis, eight of its colours: it reads the same with every kind of colour vision.
const PALETTE = [[0, 34, 78], [33, 60, 110], [76, 85, 108], [108, 110, 114], [140, 136, 120], [178, 165, 112], [219, 196, 91], [254, 232, 56]];

const ACROSS = ["left", "middle", "right"];
const DOWN = ["upper", "middle", "lower"];

// A map's value as a share of what is shown, 0-1: only what speaks for the species is coloured.
export function shares(map) {
  const most = Math.max(...map);
  return most > 0 ? map.map((value) => Math.max(value, 0) / most) : map.map(() => 0);
}

export function colourOf(share) {
  const place = share * (PALETTE.length - 1);
  const below = Math.min(Math.floor(place), PALETTE.length - 2);
  return PALETTE[below].map((low, channel) => Math.round(low + (PALETTE[below + 1][channel] - low) * (place - below)));
}

// "the upper left", "the middle" …: the ninth of the frame with most of the map's weight.
export function placeInWords(map, rows, columns) {
  const sums = new Array(9).fill(0);
  shares(map).forEach((share, number) => {
    const down = Math.floor((Math.floor(number / columns) * 3) / rows);
    const across = Math.floor(((number % columns) * 3) / columns);
    sums[down * 3 + across] += share;
  });
  const all = sums.reduce((a, b) => a + b, 0);
  if (all === 0) return null;
  const best = sums.indexOf(Math.max(...sums));
  if (sums[best] / all < 0.2) return "all over the frame";
  const [down, across] = [DOWN[Math.floor(best / 3)], ACROSS[best % 3]];
  return down === across ? "the middle" : `the ${down} ${across}`;
}

export class Look {
  #canvas; #words; #opacity; #panel; #asked = null;

  // `canvas` lies over the picture; `panel` is where the words and the slider go.
  constructor(canvas, panel) {
    this.#canvas = canvas;
    this.#panel = panel;
    this.#words = element("p", { role: "status" });
    this.#opacity = element("input", {
      type: "range", min: "0", max: "100", value: "60", oninput: () => this.#paintOpacity(),
    });
    panel.append(this.#words, element("label", {}, "How strong", this.#opacity));
    this.off();
  }

  get isOn() { return !this.#panel.hidden; }

  off() {
    this.#asked?.abort();
    this.#panel.hidden = true;
    this.#canvas.hidden = true;
    this.#words.textContent = "";
  }

  // Ask where the model sees `species` in this frame. A slow station needs a few seconds for it.
  async on(frame, species) {
    this.#asked?.abort();
    this.#asked = new AbortController();
    const { signal } = this.#asked;
    this.#panel.hidden = false;
    this.#canvas.hidden = true;
    this.#words.textContent = `Asking where the model sees ${species} …`;
    try {
      const look = await get(`/media/${frame.media_id}/look?species=${encodeURIComponent(species)}`, { signal });
      this.#paint(look);
      const place = placeInWords(look.map, look.rows, look.columns);
      this.#words.textContent = place
        ? `For ${look.species} the model looked mostly at ${place}.`
        : `Nothing in this frame speaks for ${look.species}.`;
    } catch (error) {
      if (error.name !== "AbortError") this.#words.textContent = error.message;
    }
  }

  #paint({ map, rows, columns }) {
    [this.#canvas.width, this.#canvas.height] = [columns, rows];
    const context = this.#canvas.getContext("2d");
    const pixels = context.createImageData(columns, rows);
    shares(map).forEach((share, number) => {
      const [red, green, blue] = colourOf(share);
      pixels.data.set([red, green, blue, Math.round(70 + 185 * share)], number * 4);
    });
    context.putImageData(pixels, 0, 0);
    this.#paintOpacity();
    this.#canvas.hidden = false;
  }

  #paintOpacity() { this.#canvas.style.opacity = String(this.#opacity.value / 100); }
}
