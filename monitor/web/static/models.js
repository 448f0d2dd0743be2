// Promoting a model and rolling back: said in words, asked once more, done once.

import { post, say, visitor } from "./api.js";
import { askName } from "./frame.js";

const sure = document.getElementById("sure");
const yes = document.getElementById("sure-yes");
const problem = document.getElementById("sure-problem");

const ACTS = {
  promote: ({ version, live, state }) => ({
    title: `Make ${version} live?`,
    what: live
      ? `From now on ${version} (${state} so far) names the animals, in the place of ${live}, which is kept as retired.`
      : `From now on ${version} (${state} so far) names the animals.`,
    yes: `Make ${version} live`,
    path: `/models/${version}/promote`,
  }),
  rollback: ({ version, live }) => ({
    title: `Go back to ${version}?`,
    what: `${version}, which was live before, names the animals again. ${live} is kept, but counts as rejected from now on.`,
    yes: `Go back to ${version}`,
    path: "/models/rollback",
  }),
};

let act;
let facts;

async function ask(button) {
  if (!visitor.name && !(await askName())) return;
  facts = button.dataset;
  act = ACTS[facts.act](facts);
  document.getElementById("sure-title").textContent = act.title;
  document.getElementById("sure-what").textContent = act.what;
  yes.textContent = act.yes;
  yes.disabled = false;
  problem.textContent = "";
  sure.showModal();
}

async function doIt() {
  yes.disabled = true;
  try {
    const { live } = await post(act.path, facts.live ? { live: facts.live } : undefined);
    sure.close();
    say(`${live} is live.`);
    setTimeout(() => location.reload(), 800);
  } catch (error) {
    problem.textContent = error.message;
    yes.disabled = false;
  }
}

for (const button of document.querySelectorAll("[data-act]")) button.addEventListener("click", () => ask(button));
yes?.addEventListener("click", doIt);
