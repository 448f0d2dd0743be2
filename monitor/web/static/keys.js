// Keys: one letter is one act, except where somebody types.

const OFF = "trapwatch.keys.off";

export const TABLE = [
  ["1 – 9", "say this species, on to the next"],
  ["Shift + 1 – 9", "gather several species; Enter says them"],
  ["Enter", "accept the first suggestion, or what is gathered"],
  ["B", "blank: no animal"], ["U", "unknown"], ["R", "say the same as last time"],
  ["letters", "species that have a letter of their own (Species page)"],
  ["/", "find a species by any name"], ["G", "the next label is for the whole event"],
  ["E", "number, sex, age, behaviour; several species"],
  ["Z", "undo, as often as you like"], ["← →", "frame before, frame after"], ["F", "flag for a second look"],
  ["+ − 0", "closer, farther, whole frame"], ["[ ]", "darker, brighter"], ["{ }", "less, more contrast"],
  ["Esc", "drop what is gathered, close what is open"],
  ["\\", "picture as it was taken"], ["L", "where the model looked"], ["V", "show a hidden frame"],
  ["H or ?", "this list"],
];

// Letters that do something already: a species cannot have them.
export const TAKEN = new Set("burzgfelvh");

// The name of the act that a key stands for: a name, or "choice 3", "stage 3", "letter x", or null.
export function actOf(event) {
  if (event.ctrlKey || event.metaKey || event.altKey) {
    if (!event.getModifierState?.("AltGraph")) return null; // [ ] { } \ need AltGr on many keyboards
  }
  if (/^[1-9]$/.test(event.key)) return `choice ${event.key}`;
  const named = {
    Enter: "accept", Escape: "leave", ArrowLeft: "before", ArrowRight: "after", "/": "search", "?": "help", "+": "closer",
    "=": "closer", "-": "farther", 0: "whole", "[": "darker", "]": "brighter", "{": "flatter", "}": "stronger",
    "\\": "plain", b: "blank", u: "unknown", r: "repeat", z: "undo", g: "event", f: "flag", e: "edit", l: "look",
    v: "reveal", h: "help",
  };
  const key = event.key.length === 1 ? event.key.toLowerCase() : event.key;
  if (named[key]) return named[key];
  // By place, after all that is written on keys: on some keyboards "/" is Shift + 7, digits need Shift.
  const [, digit] = /^Digit([1-9])$/.exec(event.code) ?? [];
  if (digit) return `${event.shiftKey ? "stage" : "choice"} ${digit}`;
  return key.length === 1 && key !== " " ? `letter ${key}` : null;
}

const WRITING = "input:not([type=checkbox]):not([type=radio]), select, textarea, [contenteditable], dialog";
const HELD = new Set(["before", "after", "closer", "farther", "darker", "brighter", "flatter", "stronger"]);

// `act(name)` returns true where it did something.
export function listen(act) {
  document.addEventListener("keydown", (event) => {
    if (event.defaultPrevented || event.isComposing || event.target.closest?.(WRITING)) return;
    if (document.querySelector("dialog[open]")) return;
    const name = actOf(event);
    if (name === null || (keysAreOff() && name !== "help")) return;
    if (event.repeat && !HELD.has(name)) return event.preventDefault(); // a key that is leant on says one thing
    // Enter on a button or link is that button's.
    if (name === "accept" && event.target.closest?.("button, a, summary")) return;
    if (act(name, event)) event.preventDefault();
  });
}

// Speech input and some screen readers send letters: they can be turned off (WCAG 2.1.4).
export const keysAreOff = () => localStorage.getItem(OFF) === "yes";
export const turnKeys = (on) => (on ? localStorage.removeItem(OFF) : localStorage.setItem(OFF, "yes"));
