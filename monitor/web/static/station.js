// The station: what people say of silent cameras; the rest of the page renews itself.

import { post } from "./api.js";
import { askIn } from "./dialogs.js";
import { renew, renewForEver } from "./live.js";

const REFRESH_SECONDS = 30;

// The button that was pressed is gone then: whoever works by keyboard goes on at the heading.
async function shown() {
  await renew({ evenInUse: true });
  document.getElementById("outages-title").focus();
}

function fillIn(fields, { start, end, reason, note }) {
  fields.start.value = fields.start.defaultValue = start;
  fields.end.value = fields.end.defaultValue = end;
  fields.reason.value = reason ?? "";
  fields.note.value = note ?? "";
}

function checked({ start, end }) {
  if (end.value && end.value <= start.value) throw new Error("It would end before it starts.");
}

// A time that nobody touched is not sent: the station knows it to the second.
const changed = (field) => (field.value === field.defaultValue ? {} : { [field.name]: field.value || null });

const ACTS = {
  confirm: (one) => askIn("confirm", (fields, dialog) => {
    dialog.querySelector("h2").textContent = `${one.deployment} did not watch`;
    fillIn(fields, one);
  }, async (fields) => {
    checked(fields);
    const body = { reason: fields.reason.value, note: fields.note.value, ...changed(fields.start), ...changed(fields.end) };
    await post(`/outages/${one.id}/confirm`, body);
    return `${one.deployment} did not watch: ${fields.reason.value}.`;
  }, shown),
  dismiss: (one) => askIn("dismiss", (fields, dialog) => {
    dialog.querySelector("h2").textContent = `${one.deployment} did watch`;
    fields.note.value = one.note ?? "";
  }, async (fields) => {
    await post(`/outages/${one.id}/dismiss`, { note: fields.note.value });
    return `${one.deployment} watched: its days count.`;
  }, shown),
  add: () => askIn("add", () => {}, async (fields) => {
    checked(fields);
    const { deployment, start, end, reason, note } = fields;
    await post("/outages", {
      deployment: deployment.value, start: start.value, end: end.value || null, reason: reason.value, note: note.value || null,
    });
    return `${deployment.value} did not watch: ${reason.value}.`;
  }, shown),
};

document.addEventListener("click", (event) => {
  const button = event.target.closest("[data-act]");
  const outage = button?.closest("[data-outage]")?.dataset.outage;
  if (button) ACTS[button.dataset.act](outage && JSON.parse(outage));
});
renewForEver(() => REFRESH_SECONDS);
