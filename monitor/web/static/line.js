// The decisions of reviewing, as functions of plain values: which frame comes next, which number
// stands for which species, what a frame is said to be.

export const CHOICES = 9;
const KEPT_BEHIND = 200; // frames that one can still go back to

// A line is {frames, at}: the frames one walks along, and where one stands. `at` may be one past
// the last frame: then there is nothing (more) to see yet.
export const EMPTY = Object.freeze({ frames: [], at: 0 });

export const current = (line) => line.frames[line.at] ?? null;
export const coming = (line) => line.frames.slice(line.at + 1);

export function extended(line, frames) {
  const there = new Set(line.frames.map((frame) => frame.media_id));
  const fresh = frames.filter((frame) => !there.has(frame.media_id));
  const cut = Math.max(0, line.at - KEPT_BEHIND);
  return { frames: [...line.frames.slice(cut), ...fresh], at: line.at - cut };
}

export function stepped(line, by) {
  const at = Math.min(Math.max(line.at + by, 0), line.frames.length);
  return { ...line, at };
}

// Show `frame` now, whether it is in the line already or not; what came after it still comes.
export function turnedTo(line, frame) {
  const there = line.frames.findIndex((one) => one.media_id === frame.media_id);
  if (there >= 0 && there <= line.at) return { ...line, at: there };
  const frames = line.frames.filter((one) => one.media_id !== frame.media_id);
  const at = Math.min(line.at + (frames.length > line.at ? 1 : 0), frames.length);
  return { frames: [...frames.slice(0, at), frame, ...frames.slice(at)], at };
}

// Frames still to come that have just been labelled with their event need not come any more.
export function without(line, mediaIds) {
  const gone = new Set(mediaIds);
  const frames = line.frames.filter((frame, place) => place <= line.at || !gone.has(frame.media_id));
  return { ...line, frames };
}

export function replaced(line, frame) {
  return { ...line, frames: line.frames.map((one) => (one.media_id === frame.media_id ? frame : one)) };
}

// A frame of the film strip comes with the little that the strip shows: enough to begin with, until
// the station has told all of it.
export function ofFilm(strip, beside) {
  const likely = strip.source === "prediction" && strip.species && strip.species !== "unknown";
  return {
    path: "", alternatives: likely ? [[strip.species, strip.probability]] : [], statements: [], disagreement: false,
    observations: [], labelled_by: null, model_version: null, novelty: null, box: null, dimensions: null,
    revealed: false, deployment: beside.deployment, event_id: beside.event_id, film: beside.film, ...strip, isPart: true,
  };
}

// What the server is told we still hold: all that is not labelled yet, or whose label has not
// arrived there.
export function holding(line, isDone, unsent) {
  const ids = line.frames.filter((frame) => !isDone(frame)).map((frame) => frame.media_id);
  return [...new Set([...ids, ...unsent])];
}

// The numbered choices: what people disagree about, what the model thinks, what this person said
// lately, what the station sees most; always nine where so many species are known.
export function numbered(frame, recent, list) {
  const found = new Map();
  const offer = (species, source, probability = null) => {
    const name = species.toLowerCase();
    if (!found.has(name) && name !== "unknown" && found.size < CHOICES) {
      found.set(name, { species, source, probability });
    }
  };
  const likely = new Map(frame.alternatives.map(([species, p]) => [species.toLowerCase(), p]));
  if (frame.disagreement) {
    for (const one of frame.statements ?? []) {
      for (const species of one.species) offer(species, "opinion", likely.get(species.toLowerCase()) ?? null);
    }
  }
  if (frame.doubt) { // what the training suggests, and what was said: one of them will be right
    offer(frame.doubt.suggested, "model", frame.doubt.probability);
    offer(frame.doubt.label, "opinion", likely.get(frame.doubt.label.toLowerCase()) ?? null);
  }
  for (const [species, probability] of frame.alternatives) offer(species, "model", probability);
  for (const species of recent) offer(species, "recent");
  const common = [...list].sort((a, b) => b.labels - a.labels || a.name.localeCompare(b.name));
  for (const { name } of common) offer(name, "list");
  return [...found.values()];
}

// What Enter says: what is staged, else the first of what the model (or a person) thinks. What
// only fills the numbers up is never said by a mere Enter.
export function accepted(staged, choices) {
  if (staged.length) return staged.map((species) => ({ species }));
  const top = choices[0];
  return top && (top.source === "model" || top.source === "opinion") ? [{ species: top.species }] : null;
}

export function remembered(recent, names) {
  const usual = names.filter((name) => !["blank", "unknown"].includes(name.toLowerCase()));
  return [...new Set([...usual, ...recent])].slice(0, 12);
}

export const percent = (probability) => `${Math.round(probability * 100)} %`;

export function inWords(observations) {
  return observations.map(({ species, count }) => (count > 1 ? `${count} ${species}` : species)).join(" and ");
}

export function bestWord(frame) {
  if (frame.source === "label") {
    const said = frame.observations?.length ? inWords(frame.observations) : frame.species;
    return `${frame.labelled_by ?? "somebody"} says ${said}`;
  }
  if (frame.source === "prediction") {
    const best = frame.alternatives?.[0];
    const unsure = frame.species === "unknown" && best;
    if (unsure) return `the model is not sure, perhaps ${best[0]} ${percent(best[1])}`;
    if (frame.species === "unknown") return "the model is not sure";
    return `the model says ${frame.species} ${percent(frame.probability ?? 0)}`;
  }
  return "nobody and no model has said anything yet";
}

// No frame comes although some have no label: others hold them. Only where all of those are asked for.
export function withOthers({ wanted, waiting, alike }) {
  const isAll = wanted && ["informative", "newest"].includes(wanted.queue) && !wanted.species && !wanted.deployment;
  return isAll ? Math.max(0, waiting - alike) : 0;
}

// Frames an hour, once there is enough to tell.
export function pace(done, sinceMs, nowMs) {
  const hours = (nowMs - sinceMs) / 3_600_000;
  return done >= 5 && hours > 1 / 60 ? Math.round(done / hours) : null;
}

// Wall clock at the camera: it is shown as written, whatever zone this browser is in.
export function clockOf(captured_local) {
  const read = /^(\S+?)T(\d\d:\d\d)(:\d\d)?/.exec(captured_local);
  const [, day, time, seconds = ""] = read ?? [null, captured_local, ""];
  return { day, time, seconds };
}
