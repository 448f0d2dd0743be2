// The dashboard: figures that renew themselves, charts drawn when they come into view.

import { element, get } from "./api.js";
import { renewForEver } from "./live.js";

const REFRESH_SECONDS = 30;
const TRAINING_SECONDS = 5;
const LONGEST_RETRY_SECONDS = 60;

// Charts. Each drawing has a number: an answer that comes late, for an old choice, is dropped.
const choice = document.getElementById("choice");
const period = document.getElementById("period");
const species = document.getElementById("chart-species");
let drawing = 0;
const words = new Map();

function wanted(name) {
  const query = new URLSearchParams();
  if (period.value) {
    const since = new Date(`${choice.dataset.day}T00:00:00Z`);
    since.setUTCDate(since.getUTCDate() - Number(period.value) + 1);
    query.set("since", since.toISOString().slice(0, 10));
  }
  if (name === "activity" && species.value) query.set("species", species.value);
  return query.size ? `?${query}` : "";
}

async function draw(figure) {
  const number = drawing;
  const name = figure.dataset.chart;
  const address = `/api/v1/charts/${name}`;
  const query = wanted(name);
  for (const link of figure.querySelectorAll("[data-kind]")) link.href = `${address}.${link.dataset.kind}${query}`;
  const canvas = figure.querySelector(".canvas");
  canvas.setAttribute("aria-busy", "true");
  for (let pause = 2; ; pause = Math.min(pause * 2, LONGEST_RETRY_SECONDS)) {
    const picture = element("img", { alt: "", width: "800", height: "500" });
    const problem = await show(picture, `${address}.svg${query}`);
    if (number !== drawing) return;
    if (!problem) {
      picture.alt = await described(name, query);
      if (number !== drawing) return;
      canvas.replaceChildren(picture);
      canvas.classList.add("drawn");
      break;
    }
    tell(canvas, problem.words);
    if (!problem.again) break;
    await new Promise((resolve) => setTimeout(resolve, (problem.seconds || pause) * 1000));
    if (number !== drawing) return;
  }
  canvas.removeAttribute("aria-busy");
}

// Loads a picture. Returns null, or why there is none and whether it is worth asking again.
async function show(picture, address) {
  try {
    const answer = await fetch(address, { credentials: "same-origin" });
    if (answer.ok) {
      picture.src = address;
      await picture.decode();
      return null;
    }
    const said = await answer.json().catch(() => ({}));
    const again = answer.status === 503;
    const words = again ? "The log is being read for the first time. The chart comes by itself."
      : said.error ?? `The station answered ${answer.status}.`;
    return { words, again, seconds: Number(answer.headers.get("Retry-After")) };
  } catch {
    return { words: "The chart could not be fetched. It is tried again.", again: true };
  }
}

function tell(canvas, words) {
  canvas.classList.remove("drawn");
  canvas.replaceChildren(element("p", { class: "waiting quiet" }, words));
}

const inView = new IntersectionObserver((entries) => {
  for (const entry of entries) {
    if (!entry.isIntersecting) continue;
    inView.unobserve(entry.target);
    draw(entry.target);
  }
}, { rootMargin: "200px" });

function drawAll() {
  drawing += 1;
  words.clear();
  for (const figure of document.querySelectorAll("[data-chart]")) {
    if (!figure.querySelector("img")) tell(figure.querySelector(".canvas"), "Drawing …");
    inView.unobserve(figure);
    inView.observe(figure);
  }
}

// What a chart shows, in words; all charts of one choice are told at once.
async function described(name, query) {
  if (!words.has(query)) words.set(query, get(`/charts${query}`).catch(() => ({ charts: [] })));
  const { charts } = await words.get(query);
  return charts.find((chart) => chart.name === name)?.alt ?? "";
}

choice.hidden = false;
choice.addEventListener("submit", (event) => event.preventDefault());
period.addEventListener("change", drawAll);
species.addEventListener("change", drawAll);
drawAll();
renewForEver(() => (document.getElementById("training")?.dataset.running === "yes" ? TRAINING_SECONDS : REFRESH_SECONDS));
