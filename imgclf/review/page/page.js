// The review page. What has been decided lives in `decisions` and `past`; the screen is drawn from them.

import { at, make, nameElement } from "./dom.js";
import { createPicker } from "./picker.js";
import { Refused, post } from "./server.js";
import { createStrip } from "./strip.js";

const data = JSON.parse(at("data").textContent);
const rows = data.rows.map(([path, label, suggested, confidence]) => ({ path, label, suggested, confidence }));
const SHOWN = 4000; // milliseconds that a note stays
const TINY = 128; // pixels; a picture of no more is enlarged as it is, not smoothed

const decisions = data.rows.map((row) => ({ action: row[4], name: row[5] })); // each is replaced, never changed
const past = []; // { index, before }
let saved = [...decisions];
let revision = data.revision; // of the file that `saved` is in
let overwrite = false; // the file was changed elsewhere, and the person has been told
let saving = false;

let filter = { kind: "all" };
let visible = rows.map((_, index) => index);
let current = decisions.findIndex(({ action }) => action === ""); // -1: none
if (current < 0 && rows.length) current = 0;

const same = (one, other) => one.action === other.action && one.name === other.name;
const unsaved = () => decisions.filter((decision, index) => !same(decision, saved[index])).length;
const decided = () => decisions.filter(({ action }) => action !== "").length;

// --- deciding ---------------------------------------------------------------------------------------------------

function decide(action, name = "") {
  if (current < 0) return;
  picker.close();
  const place = visible.indexOf(current);
  const atEnd = place === visible.length - 1;
  const was = decided();
  if (!same(decisions[current], { action, name })) {
    past.push({ index: current, before: decisions[current] });
    set(current, { action, name });
  }
  // among the undecided, the next one has moved up to the place of this one
  const gone = !visible.includes(current);
  current = visible[gone ? place : place + 1] ?? (gone ? visible[0] ?? -1 : current);
  draw();
  const left = rows.length - decided();
  if (left === 0 && (atEnd || was < rows.length)) say("Everything is decided: save, or end with Done");
  else if (atEnd) say(`That was the last one here; ${left} undecided`);
}

function relabel() {
  if (!at("relabel").disabled) decide("relabel", rows[current].suggested);
}

function choose(name) {
  if (current < 0 || name === undefined) return;
  if (name === rows[current].label) decide("keep");
  else decide("relabel", name);
}

function undo() {
  const step = past.pop();
  if (!step) return say("Nothing to undo");
  set(step.index, step.before);
  if (!visible.includes(step.index)) show({ kind: "all" });
  go(step.index);
}

function set(index, decision) {
  decisions[index] = decision;
  mark(index);
  if (filter.kind === "undecided") refilter();
}

function go(index) {
  if (index === undefined) return;
  current = index;
  draw();
}

const move = (by) => go(visible[visible.indexOf(current) + by]);

// --- which images are shown -------------------------------------------------------------------------------------

function matches(index) {
  if (filter.kind === "undecided") return decisions[index].action === "";
  return filter.kind === "all" || rows[index].label === filter.label;
}

function refilter() {
  visible = rows.map((_, index) => index).filter(matches);
  strip.filter(matches);
}

function show(wanted) {
  filter = wanted;
  at("filter").value = filter.kind === "label" ? `label ${filter.label}` : filter.kind;
  refilter();
  if (!visible.includes(current)) current = visible[0] ?? -1;
  draw();
}

function buildFilter() {
  const counts = new Map(data.classes.map((name) => [name, 0]));
  for (const { label } of rows) counts.set(label, (counts.get(label) ?? 0) + 1);
  const labels = [...counts].filter(([, count]) => count > 0);
  at("filter").append(
    make("option", { value: "all", textContent: `All images (${rows.length})` }),
    make("option", { value: "undecided", id: "undecided" }),
    make("optgroup", { label: "Labelled" },
      ...labels.map(([name, count]) => make("option", { value: `label ${name}`, textContent: `${name} (${count})` }))),
  );
  at("filter").addEventListener("change", ({ target }) => {
    target.blur(); // the keys are for deciding again
    show(target.value.startsWith("label ") ? { kind: "label", label: target.value.slice(6) } : { kind: target.value });
  });
}

// --- drawing ----------------------------------------------------------------------------------------------------

const percent = (share) => (share > 0.999 && share < 1 ? "> 99.9 %" : `${(100 * share).toFixed(1)} %`);

function mark(index) {
  const { action, name } = decisions[index];
  const done = action === "relabel" ? `relabelled ${name}` : { "": "undecided", keep: "kept", exclude: "excluded" }[action];
  strip.mark(index, action, `${rows[index].path}, ${rows[index].label}, ${done}`);
}

function draw() {
  drawProgress();
  strip.point(current);
  for (const id of ["keep", "relabel", "exclude", "other", "previous", "next"]) at(id).disabled = current < 0;
  const row = rows[current] ?? { path: "", label: "", suggested: "", confidence: 0 };
  const { action, name } = decisions[current] ?? { action: "", name: "" };
  drawPicture();
  at("path").textContent = at("path").parentElement.title = row.path;
  at("place").textContent = current < 0 ? "" : `${visible.indexOf(current) + 1} / ${visible.length}`;
  at("label").textContent = at("label").title = at("keep-name").textContent = row.label;
  at("suggested").textContent = at("suggested").title = at("relabel-name").textContent = row.suggested;
  at("suggestion").hidden = row.suggested === "";
  at("confidence").textContent = row.confidence ? percent(row.confidence) : "";
  at("sure").style.width = `${100 * row.confidence}%`;
  at("keep").ariaPressed = String(action === "keep");
  at("relabel").ariaPressed = String(action === "relabel" && name === row.suggested);
  at("exclude").ariaPressed = String(action === "exclude");
  at("relabel").disabled ||= row.suggested === "" || row.suggested === row.label;
  at("previous").disabled ||= current === visible[0];
  at("next").disabled ||= current === visible.at(-1);
  picker.mark(row.label, row.suggested, name);
}

function drawPicture() {
  const index = current;
  const place = at("picture");
  if (place.dataset.index === String(index)) return;
  place.dataset.index = index;
  if (index < 0) {
    const text = filter.kind === "undecided" ? "Everything is decided." : "No images here.";
    return place.replaceChildren(make("p", { textContent: text }));
  }
  // a new element: the old one would show the last image, beside the names of this one, until this one has come
  const image = make("img", { decoding: "sync", fetchPriority: "high", alt: rows[index].path });
  image.addEventListener("load", () => {
    image.classList.toggle("tiny", Math.max(image.naturalWidth, image.naturalHeight) <= TINY);
    const next = visible[visible.indexOf(index) + 1];
    if (next !== undefined) new Image().src = `image/${next}`; // is there when it is wanted
  });
  image.addEventListener("error", () => image.replaceWith(make("p", { textContent: "This image cannot be read." })));
  image.src = `image/${index}`;
  place.replaceChildren(image);
}

function drawProgress() {
  const done = decided();
  const changes = unsaved();
  at("count").textContent = `${done} of ${rows.length} decided`;
  at("bar").style.width = `${(100 * done) / Math.max(1, rows.length)}%`;
  at("undecided").textContent = `Undecided (${rows.length - done})`;
  at("unsaved").textContent = changes || "";
  at("save").ariaLabel = changes ? `Save, ${changes} unsaved` : "Save";
  at("save").disabled = changes === 0;
  at("undo").disabled = past.length === 0;
  document.title = `${changes ? "• " : ""}${done}/${rows.length} · ${data.file}`;
}

let fading;

function say(text, bad = false) {
  clearTimeout(fading);
  at("status").classList.toggle("bad", bad);
  at("status").textContent = text;
  if (!bad) fading = setTimeout(() => { at("status").textContent = ""; }, SHOWN);
}

// --- saving -----------------------------------------------------------------------------------------------------

/** Save what has changed; whether everything that was decided when this began is in the file now. */
async function save() {
  if (saving) return false;
  if (unsaved() === 0) {
    say(`Saved already in ${data.file}`);
    return true;
  }
  saving = true;
  const sent = [...decisions];
  const list = sent.map(({ action, name }) => [action, name]);
  try {
    ({ revision } = await post("save", data.token, { revision, overwrite, decisions: list }));
    saved = sent;
    overwrite = false;
    say(`Saved in ${data.file}`);
    return true;
  } catch (error) {
    sayNotSaved(error);
    return false;
  } finally {
    saving = false;
    drawProgress();
  }
}

function sayNotSaved(error) {
  if (!(error instanceof Refused)) {
    return say("Not saved: imgclf review has ended or cannot be reached. The decisions are on this page only.", true);
  }
  overwrite = error.status === 409;
  say(overwrite ? `Not saved: ${error.message} Save again to replace what it holds by what you see.` : error.message, true);
}

async function finish() {
  if (unsaved() > 0 && !(await save())) return;
  await post("stop", data.token, {}).catch(() => {}); // it may have ended already, and everything is saved
  document.removeEventListener("keydown", onKey);
  document.title = `Saved · ${data.file}`;
  document.body.className = "over";
  document.body.replaceChildren(
    make("h1", { textContent: "Saved" }),
    make("p", {}, `${decided()} of ${rows.length} decided in `, nameElement(data.file), "."),
    make("p", { textContent: "The review has ended; this page can be closed." }),
  );
}

// --- keys and buttons -------------------------------------------------------------------------------------------

const help = () => at("help").showModal();
const [forward, back] = [() => move(1), () => move(-1)];

const KEYS = {
  k: () => decide("keep"), r: relabel, x: () => decide("exclude"), u: undo, s: save,
  j: forward, ArrowRight: forward, ArrowDown: forward, ArrowLeft: back, ArrowUp: back,
  "/": () => picker.open(), "?": help, Escape: () => picker.close(),
};
const REPEATED = new Set(["u", "j", "ArrowRight", "ArrowDown", "ArrowLeft", "ArrowUp"]); // a key held down must not decide

const BUTTONS = {
  keep: KEYS.k, relabel, exclude: KEYS.x, other: () => picker.toggle(), previous: back, next: forward,
  undo, save, done: finish, "open-help": help,
};

/** What a key means, on whichever keyboard. */
function keyOf({ code, key, shiftKey }) {
  const digit = /^(?:Digit|Numpad)([1-9])$/.exec(code);
  if (digit && !shiftKey) return digit[1]; // French keyboards have the digits on Shift
  const letter = /^Key([A-Z])$/.exec(code);
  if (letter && key > "\x7f") return letter[1].toLowerCase(); // Greek, Cyrillic, ...
  return key.length === 1 ? key.toLowerCase() : key;
}

function onKey(event) {
  if (at("help").open || event.isComposing) return;
  const key = keyOf(event);
  const typing = event.target.matches("input, select");
  let act = /^[1-9]$/.test(key) ? () => choose(picker.nth(key)) : KEYS[key];
  if (event.ctrlKey || event.metaKey) act = !event.shiftKey && { z: typing ? undefined : undo, s: save }[key];
  else if (typing) return;
  if (event.altKey) return;
  if (act || key === "Enter") {
    if (act) event.preventDefault();
    if (!event.repeat || REPEATED.has(key)) act?.();
    else event.preventDefault(); // Enter, held down on a button, must not decide either
  }
}

const picker = createPicker(data.classes, choose);
const strip = createStrip(rows.length, go);
rows.forEach((_, index) => mark(index));
at("file").textContent = data.file;
buildFilter();
for (const [id, act] of Object.entries(BUTTONS)) at(id).addEventListener("click", act);
document.addEventListener("keydown", onKey);
window.addEventListener("beforeunload", (event) => {
  if (unsaved() > 0) event.preventDefault();
});
draw();
