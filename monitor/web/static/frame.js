// What every page has: light or dark, and who you are.

import { element, put, say, visitor } from "./api.js";

const kept = localStorage.getItem("theme");
if (kept) document.documentElement.dataset.theme = kept;

document.getElementById("theme")?.addEventListener("click", () => {
  const dark = matchMedia("(prefers-color-scheme: dark)").matches;
  const now = document.documentElement.dataset.theme ?? (dark ? "dark" : "light");
  const next = now === "dark" ? "light" : "dark";
  document.documentElement.dataset.theme = next;
  localStorage.setItem("theme", next);
});

// Where no password is set, a browser says once under which name its labels are recorded.
export function askName() {
  return new Promise((resolve) => {
    const name = element("input", { required: true, maxlength: "80", value: visitor.name, autocomplete: "name" });
    const dialog = element("dialog", { "aria-labelledby": "who-title" },
      element("form", { method: "dialog" },
        element("h2", { id: "who-title" }, "Who are you?"),
        element("p", {}, "Your labels are recorded under this name."),
        element("label", {}, "Name", name),
        element("p", {}, element("button", { class: "main" }, "That is me"))));
    dialog.addEventListener("close", async () => {
      dialog.remove();
      if (!name.value.trim()) return resolve(null);
      try {
        const me = await put("/me", { name: name.value });
        visitor.name = me.name;
        const button = document.getElementById("who");
        if (button) button.textContent = me.name;
        resolve(me.name);
      } catch (error) {
        say(error.message);
        resolve(null);
      }
    });
    document.body.append(dialog);
    dialog.showModal();
    name.select();
  });
}

document.getElementById("who")?.addEventListener("click", () => askName());
