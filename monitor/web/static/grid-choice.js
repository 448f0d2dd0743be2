// What is selected in the grid and what is said of it: decisions, without a page.

export const NOTHING = Object.freeze({ chosen: new Set(), base: new Set(), anchor: null });

// A selection is `chosen`; `anchor` is where a range starts, `base` what was selected besides it.
export const only = (id) => ({ chosen: new Set([id]), base: new Set(), anchor: id });

export function toggled(selection, id) {
  const chosen = new Set(selection.chosen);
  if (!chosen.delete(id)) chosen.add(id);
  const base = new Set(chosen);
  base.delete(id);
  return { chosen, base, anchor: id };
}

export function extended(selection, order, id) {
  const anchor = order.includes(selection.anchor) ? selection.anchor : id;
  const [from, to] = [order.indexOf(anchor), order.indexOf(id)].sort((a, b) => a - b);
  const chosen = new Set([...selection.base, ...order.slice(from, to + 1)]);
  return { chosen, base: selection.base, anchor };
}

export function added(selection, ids) {
  const chosen = new Set([...selection.chosen, ...ids]);
  return { chosen, base: new Set(chosen), anchor: ids[0] ?? selection.anchor };
}

export function without(selection, ids) {
  const gone = new Set(ids);
  const left = (set) => new Set([...set].filter((id) => !gone.has(id)));
  return { chosen: left(selection.chosen), base: left(selection.base), anchor: selection.anchor };
}

export const touches = (box, band) =>
  box.left < band.right && box.right > band.left && box.top < band.bottom && box.bottom > band.top;

export const bandOf = (start, end) => ({
  left: Math.min(start.x, end.x), right: Math.max(start.x, end.x),
  top: Math.min(start.y, end.y), bottom: Math.max(start.y, end.y),
});

// Where a key leads to from frame `index` of groups that are each laid out in `columns`.
export function placeAfter(key, index, sizes, columns) {
  const last = sizes.reduce((sum, size) => sum + size, 0) - 1;
  if (key === "ArrowLeft") return Math.max(0, index - 1);
  if (key === "ArrowRight") return Math.min(last, index + 1);
  if (key === "Home") return 0;
  if (key === "End") return last;
  const rows = rowsOf(sizes, columns);
  const at = rows.findIndex((row) => index < row.start + row.size);
  const by = { ArrowUp: -1, ArrowDown: 1, PageUp: -4, PageDown: 4 }[key] ?? 0;
  const to = rows[Math.min(rows.length - 1, Math.max(0, at + by))];
  return to.start + Math.min(index - rows[at].start, to.size - 1);
}

function rowsOf(sizes, columns) {
  const rows = [];
  let start = 0;
  for (const size of sizes) {
    for (let place = 0; place < size; place += columns) {
      rows.push({ start: start + place, size: Math.min(columns, size - place) });
    }
    start += size;
  }
  return rows;
}

// What the model says of a frame; null where it says nothing that can be confirmed.
export const suggestionOf = (frame) =>
  frame.source === "prediction" && frame.species !== "unknown" ? frame.species : null;

// `alike`: the groups that the station found, where they are asked for: [{ id, species, probability, ids }].
export function grouped(frames, order, alike = []) {
  if (order === "alike") return gathered(new Map(frames.map((frame) => [frame.media_id, frame])), alike);
  if (order === "newest") return frames.length ? [{ title: "Newest first", frames }] : [];
  const keyOf = order === "deployment" ? (frame) => frame.deployment : (frame) => suggestionOf(frame) ?? "";
  const groups = new Map();
  for (const frame of frames) {
    const key = keyOf(frame);
    if (!groups.has(key)) groups.set(key, []);
    groups.get(key).push(frame);
  }
  const found = [...groups].map(([key, of]) => ({ title: key || "No suggestion of the model", key, frames: of }));
  if (order === "deployment") return found.sort((a, b) => a.title.localeCompare(b.title));
  for (const group of found) group.frames.sort((a, b) => (b.probability ?? 0) - (a.probability ?? 0));
  // Where one key press confirms the most comes first: the frames expected to be right.
  const right = (group) => (group.key ? group.frames.reduce((sum, frame) => sum + frame.probability, 0) : -1);
  return found.sort((a, b) => right(b) - right(a));
}

function gathered(frames, alike) {
  return alike.map(({ species, probability, ids }) => {
    const of = ids.map((id) => frames.get(id)).filter(Boolean);
    const places = [...new Set(of.map((frame) => frame.deployment))].sort().join(", ");
    const guess = species && species !== "unknown" ? `the model says ${species} ${Math.round(probability * 100)} %` : "the model has no suggestion";
    return { title: `${of.length} look-alikes at ${places}: ${guess}`, frames: of };
  });
}

// The labels by which the model's word is confirmed: species -> media ids; and who is left out.
export function asTheModelSays(frames) {
  const labels = new Map();
  let silent = 0;
  for (const frame of frames) {
    const species = suggestionOf(frame);
    if (species === null) silent += 1;
    else labels.set(species, [...(labels.get(species) ?? []), frame.media_id]);
  }
  return { labels, silent };
}

// What the keys 1-9 stand for: most often predicted first, then recently used, then what the model
// thought of besides. Blank and unknown have keys of their own.
export function numbered(frames, recent, most = 9) {
  const predicted = oftenest(frames.map(suggestionOf).filter(Boolean));
  const besides = oftenest(frames.flatMap((frame) => frame.alternatives.map(([species]) => species)));
  const names = new Set([...predicted, ...recent, ...besides]);
  names.delete("blank");
  names.delete("unknown");
  return [...names].slice(0, most);
}

function oftenest(names) {
  const often = new Map();
  for (const name of names) often.set(name, (often.get(name) ?? 0) + 1);
  return [...often].sort((a, b) => b[1] - a[1]).map(([name]) => name);
}

export function chunks(list, size) {
  const parts = [];
  for (let start = 0; start < list.length; start += size) parts.push(list.slice(start, start + size));
  return parts;
}

// Which frames of an act are still to be sent. `by` says who labelled each of them by now. An act
// that was sent before but not answered may have arrived: then its label is our own.
export function stillToSend(ids, by, me, tried) {
  return ids.filter((id) => !by.has(id) || (tried && by.get(id) === me));
}
