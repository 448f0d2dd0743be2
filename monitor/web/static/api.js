// Asking the station: JSON in, JSON out, errors in words.

const meta = (name) => document.querySelector(`meta[name="${name}"]`)?.content ?? "";

export const visitor = { name: meta("visitor"), role: meta("role") };
export const mayReview = ["reviewer", "admin"].includes(visitor.role);
export const isAdmin = visitor.role === "admin";

export class Refused extends Error {
  constructor(status, words, body) {
    super(words);
    this.status = status; // 0: the station could not be reached
    this.body = body;
  }
}

export async function ask(path, { method = "GET", body, signal } = {}) {
  const headers = { Accept: "application/json" };
  if (method !== "GET") headers["X-CSRF-Token"] = meta("csrf-token");
  if (body !== undefined) headers["Content-Type"] = "application/json";
  let answer;
  try {
    answer = await fetch(`/api/v1${path}`, {
      method, headers, signal, credentials: "same-origin",
      body: body === undefined ? undefined : JSON.stringify(body),
    });
  } catch (error) {
    if (error.name === "AbortError") throw error;
    throw new Refused(0, "The station cannot be reached.");
  }
  if (answer.status === 401) location.assign(`/login?next=${encodeURIComponent(location.pathname + location.search)}`);
  const said = await answer.json().catch(() => ({}));
  if (!answer.ok) throw new Refused(answer.status, said.error ?? `The station answered ${answer.status}.`, said);
  return said;
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
