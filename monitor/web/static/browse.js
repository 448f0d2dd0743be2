// The browse page: every frame, filtered by any column; as many as one cares to scroll.

import { element, get, offerDeployments } from "./api.js";
import { FIELDS, MOST_ROWS, PAGE, Rows, asPercent, filterOf, fromPercent, queryOf, rowOf, windowOf } from "./browse-rows.js";
import { rowElement } from "./browse-view.js";
import { speciesBox } from "./species.js";

const AHEAD_PIXELS = 1500; // so far below the window the next rows are asked for
const KEPT = "browse-place";
const PERCENTS = ["min_probability", "max_probability"];
const byId = (id) => document.getElementById(id);
const [form, list, body, above, below, end] = ["filter", "list", "rows", "above", "below", "end"].map(byId);
let filter = filterOf(location.search);
let rows = new Rows();
let next = null; // the cursor of what comes after the last row
let phase = "idle"; // idle, loading, stopped, failed, done
let asking = null;
let drawn = { from: 0, to: 0 };
const refilling = new Set();

// --- Reading ---

async function search() {
  asking?.abort();
  asking = null;
  [rows, next, phase] = [new Rows(), null, "idle"];
  draw(true);
  await more();
}

const isNear = () => end.getBoundingClientRect().top < innerHeight + AHEAD_PIXELS;

// Ask on until there is enough below the window. Pages may be empty while the station searches
// back in time: then it says how far it got.
async function more() {
  if (asking || phase === "done" || phase === "stopped" || phase === "failed") return;
  const mine = asking = new AbortController();
  phase = "loading";
  byId("state").textContent = "Looking …";
  list.setAttribute("aria-busy", "true");
  try {
    while (mine === asking && phase === "loading" && isNear()) await readOn(mine);
    if (mine === asking && phase === "loading") phase = "idle";
  } catch (error) {
    if (mine !== asking) return; // another filter took its place
    phase = error.name === "AbortError" ? "stopped" : "failed";
    byId("problem").textContent = phase === "failed" ? error.message : "";
  } finally {
    if (mine === asking) {
      asking = null;
      list.removeAttribute("aria-busy");
      tell();
    }
  }
}

async function readOn(mine) {
  const cursor = next;
  const page = await get(`/sightings?${queryOf(filter, { limit: PAGE, cursor })}`, { signal: mine.signal });
  if (mine !== asking) return;
  rows.add(cursor, page.sightings.map(rowOf));
  next = page.next;
  if (next === null || rows.count >= MOST_ROWS) phase = "done";
  offer("people", page.sightings.map((frame) => frame.labelled_by));
  draw();
  tell(page.sightings.length < PAGE ? page.reached : null);
}

function tell(reached = null) {
  const count = rows.count.toLocaleString("en");
  const isSearching = phase === "loading" && next !== null && reached !== null;
  byId("count").textContent = phase === "done" && next === null ? `${count} ${rows.count === 1 ? "frame" : "frames"}` : `${count} frames so far`;
  byId("state").textContent = {
    loading: isSearching ? `Searching back … reached ${reached.slice(0, 10)}.` : "Looking …",
    stopped: "Stopped; there may be more.",
    failed: "The list stops here:",
    done: doneWords(),
    idle: "",
  }[phase];
  byId("stop").hidden = !isSearching;
  byId("on").hidden = phase !== "stopped";
  byId("again").hidden = phase !== "failed";
  if (phase !== "failed") byId("problem").textContent = "";
  list.hidden = rows.count === 0;
}

function doneWords() {
  if (next !== null) return `A list ends after ${MOST_ROWS.toLocaleString("en")} frames. Jump to an earlier date to go on.`;
  if (rows.count) return "That is all.";
  return Object.keys(filter).length ? "No frame is like that. Ask for less in the filter." : "There are no frames yet. They appear here once the station has taken some in.";
}

// --- Showing ---

const rowHeight = () => parseFloat(getComputedStyle(list).getPropertyValue("--row"));

// Only rows in and near the window are in the document; the rest is room.
function draw(anew = false) {
  const height = rowHeight();
  const offset = -list.getBoundingClientRect().top;
  const { from, to } = windowOf({ offset, viewHeight: innerHeight, rowHeight: height, count: rows.count });
  const focused = document.activeElement?.closest?.("#rows tr");
  const place = focused ? Number(focused.dataset.place) : null;
  if (anew) body.replaceChildren();
  for (const made of [...body.children]) {
    const at = Number(made.dataset.place);
    if (at < from || at >= to || (made.classList.contains("coming") && rows.rowAt(at))) made.remove();
  }
  let after = body.firstElementChild;
  for (let at = from; at < to; at += 1) {
    if (after && Number(after.dataset.place) === at) after = after.nextElementSibling;
    else body.insertBefore(rowElement(rows.rowAt(at), at, rows.idAt(at)), after);
  }
  room(above, from * height);
  room(below, (rows.count - to) * height);
  drawn = { from, to };
  if (place !== null && !document.activeElement?.closest?.("#rows tr") && to > from) stand(Math.min(Math.max(place, from), to - 1));
  list.setAttribute("aria-rowcount", phase === "done" && next === null ? String(rows.count + 1) : "-1");
  refill();
}

function room(part, pixels) {
  part.hidden = pixels <= 0;
  part.querySelector("td").style.height = `${pixels}px`;
}

function stand(place) {
  const link = body.querySelector(`[data-place="${place}"] a`);
  link?.focus({ preventScroll: true });
  return link;
}

// Rows that came into view again after they had been forgotten.
async function refill() {
  const { from, to } = drawn;
  rows.forget(from, to);
  const of = rows;
  for (const page of rows.missing(from, to)) {
    if (refilling.has(page)) continue;
    refilling.add(page);
    get(`/sightings?${queryOf(filter, { limit: PAGE, cursor: page.cursor })}`)
      .then((answer) => {
        of.fill(page, answer.sightings.map(rowOf));
        if (of === rows) draw();
      })
      .catch((error) => { byId("problem").textContent = error.message; })
      .finally(() => refilling.delete(page));
  }
}

let isDue = false;
function later() {
  if (isDue) return;
  isDue = true;
  requestAnimationFrame(() => {
    isDue = false;
    draw();
    if (isNear()) more(); // the observer below says nothing where the end left and came back within a frame
  });
}
addEventListener("scroll", later, { passive: true });
addEventListener("resize", () => { draw(); more(); });
new IntersectionObserver((seen) => { if (seen.some((one) => one.isIntersecting)) more(); }, { rootMargin: `${AHEAD_PIXELS}px` }).observe(end);

// --- The filter ---

function offer(id, values) {
  const known = new Set([...byId(id).children].map((option) => option.value));
  for (const value of new Set(values)) if (value && !known.has(value)) byId(id).append(element("option", { value }));
}

function readForm() {
  const read = {};
  for (const name of FIELDS) {
    const field = form.elements[name];
    if (!field) continue;
    const value = field.type === "checkbox" ? (field.checked ? "true" : "") : field.value.trim();
    const said = PERCENTS.includes(name) ? fromPercent(value) : value;
    if (said) read[name] = said;
  }
  if (filter.species) read.species = filter.species;
  return read;
}

function fillForm() {
  for (const name of FIELDS) {
    const field = form.elements[name];
    if (!field) continue;
    const value = filter[name] ?? "";
    if (field.type === "checkbox") field.checked = value === "true";
    else field.value = PERCENTS.includes(name) ? asPercent(value) : value;
    // An address may say 7d or a time, which a field for dates does not take.
    if (field.type === "date" && value && !field.value) Object.assign(field, { type: "text", value });
  }
  species.input.value = filter.species ?? "";
  if (FIELDS.slice(5).some((name) => filter[name] && !["unreviewed", "flagged"].includes(name))) byId("more").open = true;
  byId("csv").href = `/api/v1/sightings.csv?${queryOf(filter)}`;
}

function apply(changed) {
  filter = changed;
  const asked = queryOf(filter);
  if (asked !== location.search.slice(1)) history.pushState(null, "", asked ? `?${asked}` : location.pathname);
  fillForm();
  scrollTo({ top: 0, behavior: "instant" });
  search();
}

const species = speciesBox({ label: "Species", keep: true, value: filter.species ?? "", onchoose: ({ name }) => apply({ ...readForm(), species: name }) });
species.input.placeholder = "any";
species.input.addEventListener("change", () => {
  const { species: _, ...others } = readForm();
  if (!species.input.value.trim() && filter.species) apply(others);
});
byId("species").append(species);
form.addEventListener("change", (event) => { if (event.target.name && event.target.reportValidity()) apply(readForm()); });
form.addEventListener("submit", (event) => {
  event.preventDefault();
  apply(readForm());
});
byId("clear").addEventListener("click", () => apply({}));
byId("jump").addEventListener("change", (event) => {
  if (event.target.value) apply({ ...readForm(), until: event.target.value });
});
byId("stop").addEventListener("click", () => asking?.abort());
for (const id of ["on", "again"]) byId(id).addEventListener("click", () => { phase = "idle"; more(); });
addEventListener("popstate", () => {
  filter = filterOf(location.search);
  fillForm();
  search();
});

// --- Keys ---

document.addEventListener("keydown", (event) => {
  const at = event.target;
  if (event.defaultPrevented || event.altKey || event.ctrlKey || event.metaKey || at.closest("dialog, input, select, textarea")) return;
  const row = at.closest("#rows tr");
  const by = { ArrowDown: 1, ArrowUp: -1 }[event.key];
  if (event.key === "/") {
    byId("which").open = true;
    species.input.focus();
  } else if (row && by) {
    const place = Math.min(Math.max(0, Number(row.dataset.place) + by), rows.count - 1);
    stand(place)?.closest("tr").scrollIntoView({ block: "nearest", behavior: "instant" });
    draw();
  } else return;
  event.preventDefault();
});

// --- Coming back from a frame ---

addEventListener("pagehide", () => {
  const focused = document.activeElement?.closest?.("#rows tr")?.dataset.place ?? null;
  const place = { search: location.search, pages: rows.pages, next, isDone: phase === "done", y: scrollY, focused };
  try {
    sessionStorage.setItem(KEPT, JSON.stringify(place));
  } catch {
    sessionStorage.removeItem(KEPT); // too long a list for the browser: it begins at its top
  }
});

function comeBack() {
  const { type } = performance.getEntriesByType("navigation")[0] ?? {};
  const isBack = type === "back_forward" || type === "reload" || document.referrer.startsWith(`${location.origin}/media/`);
  const kept = isBack ? JSON.parse(sessionStorage.getItem(KEPT) ?? "null") : null;
  if (kept?.search !== location.search || !kept.pages.length) return false;
  [rows, next, phase] = [new Rows(kept.pages), kept.next, kept.isDone ? "done" : "idle"];
  list.hidden = false;
  room(below, rows.count * rowHeight());
  scrollTo({ top: kept.y, behavior: "instant" });
  draw();
  tell();
  if (kept.focused !== null) stand(Number(kept.focused));
  return true;
}

history.scrollRestoration = "manual";
byId("which").open = matchMedia("(min-width: 60rem)").matches;
fillForm();
offerDeployments(byId("deployments"));
if (!comeBack()) search();
