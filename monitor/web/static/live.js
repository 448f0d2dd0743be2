// Figures that renew themselves. The server renders the page; the same page, asked again, has them
// as they are now: one wording. What carries data-live (and an id) is put in the place of the old.

export async function renew({ evenInUse = false } = {}) {
  const stale = document.getElementById("stale");
  try {
    const answer = await fetch(location.pathname, { credentials: "same-origin", headers: { Accept: "text/html" } });
    if (answer.redirected) return location.reload();
    if (!answer.ok) throw new Error(`the station answered ${answer.status}`);
    const fresh = new DOMParser().parseFromString(await answer.text(), "text/html");
    for (const old of document.querySelectorAll("[data-live]")) replace(old, fresh.getElementById(old.id), evenInUse);
    stale.textContent = "";
  } catch {
    stale.textContent = "The station cannot be reached: these figures are old. It is asked again.";
  }
}

function replace(old, fresh, evenInUse) {
  if (!fresh || (!evenInUse && old.contains(document.activeElement))) return;
  for (const details of old.parentElement.querySelectorAll("details[open]")) {
    const same = details.id === fresh.id ? fresh : fresh.querySelector(`#${CSS.escape(details.id)}`);
    if (same) same.open = true;
  }
  if (old.outerHTML !== fresh.outerHTML) old.replaceWith(document.importNode(fresh, true));
}

export function renewForEver(pauseSeconds) {
  setTimeout(async () => {
    if (!document.hidden) await renew();
    renewForEver(pauseSeconds);
  }, pauseSeconds() * 1000);
}

document.addEventListener("visibilitychange", () => { if (!document.hidden) renew(); });
