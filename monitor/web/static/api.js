// Asking the station: JSON in, JSON out, errors in words.

const meta = (name) => document.querySelector(`meta[name="${name}"]`)?.content ?? "";

export const visitor = { name: meta("visitor"), role: meta("role") };
export const mayReview = ["reviewer", "admin"].includes(visitor.role);

const PATIENCE_MS = 30_000; // a slow station on a bad line still answers well within this

export class Refused extends Error {
  constructor(status, words, body) {
    super(words);
    this.status = status; // 0: the station could not be reached
    this.body = body;
  }
}

export async function ask(path, { method = "GET", body, signal, keepalive } = {}) {
  const request = { method, body, signal, keepalive };
  let answer = await send(path, request);
  // A new login (in another tab, after the old one ran out) has a new token: ask for it, once.
  if (answer.status === 403 && method !== "GET" && await renewToken()) answer = await send(path, request);
  if (answer.status === 401) logIn();
  const said = await answer.json().catch(() => ({}));
  if (!answer.ok) throw new Refused(answer.status, said.error ?? `The station answered ${answer.status}.`, said);
  return said;
}

async function send(path, { method, body, signal, keepalive }) {
  const headers = { Accept: "application/json" };
  if (method !== "GET") headers["X-CSRF-Token"] = meta("csrf-token");
  const isFile = body instanceof Blob; // a file goes as it is, under its own type
  if (body !== undefined) headers["Content-Type"] = isFile ? body.type : "application/json";
  try {
    return await fetch(`/api/v1${path}`, {
      method, headers, keepalive, credentials: "same-origin",
      signal: signal ?? AbortSignal.timeout(PATIENCE_MS),
      body: body === undefined || isFile ? body : JSON.stringify(body),
    });
  } catch (error) {
    if (error.name === "AbortError") throw error;
    throw new Refused(0, "The station cannot be reached.");
  }
}

async function renewToken() {
  const kept = document.querySelector('meta[name="csrf-token"]');
  const answer = await send("/me", { method: "GET" });
  const { csrf } = answer.ok ? await answer.json().catch(() => ({})) : {};
  if (!kept || !csrf || csrf === kept.content) return false;
  kept.content = csrf;
  return true;
}

function logIn() {
  document.dispatchEvent(new Event("login")); // whoever warns of unsent work knows that it is kept
  location.assign(`/login?next=${encodeURIComponent(location.pathname + location.search)}`);
}

export const get = (path, options) => ask(path, options);
export const post = (path, body) => ask(path, { method: "POST", body });
export const put = (path, body) => ask(path, { method: "PUT", body });

let quiet;
export function say(words, seconds = 5) {
  const box = document.getElementById("said");
  box.textContent = words;
  clearTimeout(quiet);
  quiet = setTimeout(() => { box.textContent = ""; }, seconds * 1000);
}

export function element(tag, attributes = {}, ...children) {
  const made = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) {
    if (value === undefined || value === null || value === false) continue;
    if (name.startsWith("on")) made.addEventListener(name.slice(2), value);
    else if (name in made && typeof value !== "string") made[name] = value;
    else made.setAttribute(name, value === true ? "" : value);
  }
  made.append(...children.filter((child) => child !== null && child !== undefined));
  return made;
}

// Fills a <datalist> with the names of all deployments.
export async function offerDeployments(list) {
  const { deployments } = await get("/deployments").catch(() => ({ deployments: [] }));
  list?.replaceChildren(...deployments.map(({ name }) => new Option(name)));
}
