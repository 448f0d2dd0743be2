// A form in a dialog: filled in, sent, and what went wrong is told there, with nothing typed lost.

import { say, visitor } from "./api.js";
import { askName } from "./frame.js";

// `fill` and `act` get the form's fields and the dialog. What `act` returns is said, and closes it; null
// keeps it open. After either, `renew` shows what the station has now.
export async function askIn(id, fill, act, renew) {
  if (!visitor.name && !(await askName())) return;
  const dialog = document.getElementById(id);
  const form = dialog.querySelector("form");
  const problem = dialog.querySelector("[role=alert]");
  form.reset();
  problem.textContent = "";
  fill(form.elements, dialog);
  form.onsubmit = async (event) => {
    if (event.submitter?.value !== "yes") return;
    event.preventDefault();
    event.submitter.disabled = true;
    problem.textContent = "";
    try {
      const done = await act(form.elements, dialog);
      if (done) {
        dialog.close();
        say(done);
      }
      await renew();
    } catch (error) {
      problem.textContent = error.message;
    } finally {
      event.submitter.disabled = false;
    }
  };
  dialog.showModal();
}
