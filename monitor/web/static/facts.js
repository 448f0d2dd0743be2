// What is known of a frame: where, when, who said what.

import { element } from "./api.js";
import { bestWord, clockOf, percent } from "./line.js";

const day = new Intl.DateTimeFormat(undefined, { weekday: "short", day: "numeric", month: "short", year: "numeric", timeZone: "UTC" });

export function whenInWords(frame) {
  const { day: date, time } = clockOf(frame.captured_local);
  const read = new Date(`${date}T00:00:00Z`);
  return Number.isNaN(read.valueOf()) ? frame.captured_local : `${day.format(read)}, ${time}`;
}

// What a screen reader is told when a frame comes.
export function announced(frame, number) {
  const words = bestWord(frame);
  const hidden = frame.hidden && !frame.revealed ? ", hidden" : "";
  const split = frame.disagreement ? "; people disagree" : "";
  return `Frame ${number}: ${frame.deployment}, ${clockOf(frame.captured_local).time}${hidden}, ${words}${split}`;
}

export function showFacts(place, frame) {
  const said = frame.statements ?? [];
  place.replaceChildren(
    element("p", { class: "where" }, element("strong", {}, frame.deployment), ` ${whenInWords(frame)}`,
      frame.flagged ? element("span", { class: "flag" }, "⚑ flagged") : null),
    frame.disagreement ? opinions(said) : element("p", {}, capital(bestWord(frame))),
    element("dl", {}, ...details(frame, said)),
  );
}

function opinions(said) {
  return element("div", { class: "opinions", role: "group", "aria-label": "People disagree" },
    element("p", {}, element("strong", {}, "People disagree")),
    element("ul", {}, ...said.map((one) => element("li", {},
      element("strong", {}, one.species.join(" and ")), ` says ${one.by}`,
      element("span", { class: "quiet" }, ` ${one.at.slice(0, 10)}`)))));
}

function details(frame, said) {
  const rows = [];
  const row = (name, value) => rows.push(element("dt", {}, name), element("dd", {}, value));
  if (frame.doubt) {
    const { label, suggested, probability, version } = frame.doubt;
    row("Looks wrong", `${version}, trained without this label, would say ${suggested} ${percent(probability)}, not ${label}`);
  }
  if (!frame.disagreement && said.length > 1) row("Said by", said.map((one) => `${one.by}: ${one.species.join(" and ")}`).join("; "));
  if (frame.source === "label" && frame.alternatives.length) {
    row("Model", `${frame.alternatives[0][0]} ${percent(frame.alternatives[0][1])}`);
  }
  const observed = frame.observations.map(observationInWords).filter(Boolean);
  if (observed.length) row("Observed", observed.join("; "));
  if (frame.model_version) row("Version", frame.model_version);
  if (frame.novelty !== null && frame.novelty !== undefined) row("New in the scene", frame.novelty.toFixed(2));
  if (frame.dimensions) row("Size", frame.dimensions.join(" × "));
  if (frame.path) row("File", frame.path.split("/").slice(-2).join("/"));
  return rows;
}

function observationInWords(observation) {
  const more = [observation.sex, observation.life_stage, observation.behaviour].filter(Boolean);
  return more.length ? `${observation.species}: ${more.join(", ")}` : "";
}

const capital = (words) => words[0].toUpperCase() + words.slice(1);
