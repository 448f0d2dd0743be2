// One row of the browse page: a line of a table, on a phone a card. Roles are written out, because
// browsers forget those of a table that is laid out otherwise.

import { element } from "./api.js";
import { percent } from "./line.js";

const td = (name, ...inside) => element("td", { class: name, role: "cell" }, ...inside);

function picture(row) {
  if (row.isCovered) return element("span", { class: "cover" }, "hidden");
  if (!row.hasPicture) return element("span", { class: "cover" }, "unreadable");
  const image = element("img", { loading: "lazy", decoding: "async", alt: "", width: 96, height: 72 });
  image.addEventListener("error", () => image.replaceWith(element("span", { class: "cover" }, "no picture")));
  image.src = `/api/v1/media/${row.media_id}/thumb.jpg`;
  return image;
}

export function rowElement(row, place, id) {
  const link = element("a", { href: `/media/${id}`, class: "open" }, `#${id}`);
  const head = element("th", { class: "id", scope: "row", role: "rowheader" }, link);
  const made = element("tr", { role: "row", "aria-rowindex": String(place + 2), "data-place": String(place), class: row === null ? "coming" : null });
  if (row === null || row.isGone) {
    made.append(td("thumb"), head, element("td", { class: "words", role: "cell", colspan: "7" }, row === null ? "…" : "no longer fits the filter"));
    return made;
  }
  made.append(
    td("thumb", picture(row)), head, td("time", element("span", {}, row.day), " ", element("span", {}, row.time)), td("deployment", row.deployment),
    td("species", row.flagged ? element("span", { class: "flag" }, "⚑", element("span", { class: "hidden-text" }, "flagged ")) : null,
      row.species || element("span", { class: "quiet" }, "–")),
    td("probability number", row.probability === null ? "" : percent(row.probability)),
    td("by", row.said), td("status", row.status),
    element("td", { class: "path", role: "cell", title: row.path }, element("span", {}, row.path || "withheld")));
  return made;
}
