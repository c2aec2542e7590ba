"use strict";
const review = JSON.parse(document.getElementById("review").textContent);
const slices = review.slices;
const KEPT = `ich-ray review ${review.predictions} ${review.sample}`;
const element = (id) => document.getElementById(id);
const canvas = document.querySelector("#slice canvas");
const buttons = (what) => [...document.querySelectorAll(`[data-${what}]`)];

// Pixels: decoded when a slice comes near.

const NEAR = [1, 2, 3, -1];

async function pictureOf(i) {
  // The text of an element is whole once the next one has begun.
  while (document.readyState === "loading" && !element(`picture-${i + 1}`)) {
    await new Promise((resolve) => setTimeout(resolve, 5));
  }
  return element(`picture-${i}`).textContent;
}

const levelsOf = keptPictures(async (i) => levelsOfPicture(await pictureOf(i)));
const greys = review.windows.map((window) => greyTable(window.greys));

// State: decisions by the slice's key, and which of them to take back.

const decisions = new Map();
const taken = [];
const places = new Map(slices.map((slice, i) => [slice.key, i]));
let here = 0;
let painted = -1; // The slice whose picture is on the screen.
let chosenWindow = 0;

const warn = (text) => {
  element("warning").textContent = text;
  element("warning").hidden = !text;
};
const say = (text) => { element("said").textContent = text; };

function keep() {
  try {
    localStorage.setItem(KEPT, JSON.stringify({
      reader: element("reader").value, decisions: [...decisions.values()],
    }));
    warn("");
  } catch {
    warn("This browser keeps nothing for this page: export your decisions before you close it.");
  }
}

function recall() {
  try {
    const kept = JSON.parse(localStorage.getItem(KEPT) ?? "null");
    if (kept === null) return;
    element("reader").value = kept.reader;
    for (const decision of kept.decisions) decisions.set(decision.slice, decision);
  } catch {
    warn("Earlier decisions in this browser cannot be read; go on from an exported file.");
  }
}

// Display.

async function show(i) {
  here = within(i, slices.length);
  const slice = slices[here];
  // A corpus that holds one window shows only what lies within.
  const shown = slice.windows.includes(chosenWindow) ? chosenWindow : slice.windows[0];
  mark(here);
  element("place").textContent = `${here + 1} of ${slices.length}`;
  const asked = here;
  let picture;
  try {
    picture = await levelsOf(asked);
  } catch {
    if (asked === here) warn(`The picture of slice ${here + 1} cannot be shown: reload the page.`);
    return;
  }
  if (asked !== here) return;
  element("slice").style.setProperty("--shape", slice.columns / slice.rows);
  paint(canvas, picture, greys[shown]);
  painted = asked;
  const name = review.windows[shown].name;
  canvas.setAttribute("aria-label", `Slice ${here + 1} of ${slices.length}, ${name} window`);
  drawOutlines(document.querySelector("#slice svg"), [0, 0, slice.columns, slice.rows], slice.marks);
  listFacts(element("facts"), slice.facts);
  for (const button of buttons("window")) {
    const number = Number(button.dataset.window);
    button.setAttribute("aria-pressed", number === shown);
    button.disabled = !slice.windows.includes(number);
  }
  const drawn = `${slice.key} ${name}`;
  requestAnimationFrame(() => {
    document.body.dataset.shown = drawn;
    performance.mark(drawn);
  });
  for (const step of NEAR) if (slices[here + step]) levelsOf(here + step);
}

function mark(i) {
  const strip = element("strip");
  const said = decisions.get(slices[i].key)?.decision ?? "";
  strip.querySelector(".here")?.classList.remove("here");
  strip.children[i].className = `${said} here`;
  for (const button of buttons("verdict")) {
    button.setAttribute("aria-pressed", button.dataset.verdict === said);
  }
  element("counted").textContent = `${decisions.size} of ${slices.length} decided`;
  element("undo").disabled = !taken.length;
}

function markAll() {
  [...element("strip").children].forEach((tick, i) => {
    tick.className = decisions.get(slices[i].key)?.decision ?? "";
  });
  mark(here);
}

function nextUndecided(from) {
  for (let step = 1; step <= slices.length; step += 1) {
    const i = (from + step) % slices.length;
    if (!decisions.has(slices[i].key)) return i;
  }
  return -1;
}

// What a reader does.

function decide(verdict) {
  const reader = element("reader").value.trim();
  if (!reader) {
    element("reader").classList.add("missing");
    element("reader").focus();
    say("Write your name first: a decision names its reader.");
    return;
  }
  if (painted !== here) {
    say("This slice is not on the screen yet: decide when it is.");
    return;
  }
  const { key } = slices[here];
  taken.push([key, decisions.get(key)]);
  decisions.set(key, { slice: key, decision: verdict, reader, time: new Date().toISOString() });
  keep();
  mark(here);
  const next = nextUndecided(here);
  const left = slices.length - decisions.size;
  say(`Slice ${here + 1}: ${verdict}. ${left ? `${left} left.` : "All are decided: export them."}`);
  if (next >= 0) show(next);
}

function undo() {
  if (!taken.length) return say("There is nothing to take back.");
  const [key, before] = taken.pop();
  if (before) decisions.set(key, before);
  else decisions.delete(key);
  keep();
  const i = places.get(key);
  markAll();
  say(`Slice ${i + 1}: taken back.`);
  return show(i);
}

function turnWindow(step) {
  const usable = slices[here].windows;
  const at = Math.max(0, usable.indexOf(chosenWindow));
  chosenWindow = usable[(at + step + usable.length) % usable.length];
  say(`${review.windows[chosenWindow].name} window.`);
  show(here);
}

function pickWindow(number) {
  if (!slices[here].windows.includes(number)) return;
  chosenWindow = number;
  show(here);
}

function showContour(on) {
  element("contour").checked = on;
  document.body.classList.toggle("hide-contour", !on);
}

function goToUndecided() {
  const next = nextUndecided(here);
  if (next < 0) say("All are decided: export them.");
  else show(next);
}

// Files.

const ordered = () => slices.map((slice) => decisions.get(slice.key)).filter(Boolean);
const HEAD = { format: review.format, predictions: review.predictions, sample: review.sample };

function asCsv() {
  const quoted = (text) => (/[",\r\n]/.test(text) ? `"${text.replaceAll('"', '""')}"` : text);
  const rows = ordered().map((decision) => {
    const row = { ...HEAD, ...decision };
    return review.columns.map((name) => quoted(row[name])).join(",");
  });
  return [review.columns.join(","), ...rows, ""].join("\r\n");
}

function download(text, kind, type) {
  if (!decisions.size) return say("There is nothing to export yet.");
  const link = document.createElement("a");
  link.href = URL.createObjectURL(new Blob([text], { type }));
  link.download = `review-${review.name}-${review.predictions.slice(0, 8)}.${kind}`;
  link.click();
  setTimeout(() => URL.revokeObjectURL(link.href), 10000);
  return say(`${decisions.size} decisions exported.`);
}

function adopt(text) {
  const file = JSON.parse(text);
  for (const [name, value] of Object.entries(HEAD)) {
    if (file[name] !== value) throw new Error(`it is of ${name} ${file[name]}, this page of ${value}`);
  }
  for (const one of file.decisions) {
    if (!places.has(one.slice)) throw new Error(`slice ${one.slice} is not on this page`);
    if (!review.verdicts.includes(one.decision)) throw new Error(`${one.decision} is no decision`);
    if (!one.reader || !Date.parse(one.time)) throw new Error("a decision lacks reader or time");
  }
  // Of two decisions on one slice the later one holds.
  const newer = file.decisions.filter(({ slice, time }) =>
    !decisions.has(slice) || Date.parse(time) > Date.parse(decisions.get(slice).time));
  for (const { slice, decision, reader, time } of newer) {
    decisions.set(slice, { slice, decision, reader, time });
  }
  return newer.length;
}

async function load(input) {
  const [file] = input.files;
  if (!file) return;
  try {
    const count = adopt(await file.text());
    taken.length = 0;
    keep();
    markAll();
    say(`${count} decisions taken over from the file.`);
    const next = nextUndecided(here - 1);
    show(next < 0 ? here : next);
  } catch (error) {
    say(`The file was not taken over: ${error.message}.`);
  }
  input.value = "";
}

function startOver() {
  const left = "They are removed from this browser: export them first. Remove them?";
  if (decisions.size && !confirm(`${decisions.size} decisions of this reader. ${left}`)) return;
  decisions.clear();
  taken.length = 0;
  element("reader").value = "";
  keep();
  markAll();
  show(0);
  element("reader").focus();
  say("The next reader sees no decision of the one before. Write your name, then press Enter.");
}

// Keys and clicks.

const KEYS = {
  a: () => decide("accept"), r: () => decide("reject"), u: () => decide("unsure"),
  w: () => turnWindow(1), W: () => turnWindow(-1), c: () => showContour(!element("contour").checked),
  z: undo, Backspace: undo, n: goToUndecided,
  "?": () => element("help").showModal(),
};

document.addEventListener("keydown", (event) => {
  if (event.ctrlKey || event.altKey || event.metaKey || element("help").open) return;
  if (event.target === element("reader")) {
    if (event.key === "Enter" || event.key === "Escape") element("stage").focus();
    return;
  }
  // A held key must not decide slice after slice.
  const to = placeOfKey(event.key, here, slices.length);
  const action = KEYS[event.key] ?? KEYS[event.key.toLowerCase()];
  const digit = /^[1-9]$/.test(event.key) ? Number(event.key) : 0;
  if (to === undefined && !action && !digit) return;
  event.preventDefault();
  if (to !== undefined) {
    show(to);
    return;
  }
  if (event.repeat) return;
  if (digit) pickWindow(digit - 1);
  else action();
});

for (const button of buttons("verdict")) {
  button.addEventListener("click", () => decide(button.dataset.verdict));
}
for (const button of buttons("window")) {
  button.addEventListener("click", () => pickWindow(Number(button.dataset.window)));
}
element("contour").addEventListener("change", (event) => showContour(event.target.checked));
element("previous").addEventListener("click", () => show(here - 1));
element("next").addEventListener("click", () => show(here + 1));
element("undo").addEventListener("click", undo);
element("help-button").addEventListener("click", KEYS["?"]);
element("reader").addEventListener("input", (event) => {
  event.target.classList.remove("missing");
  keep();
});
element("export-json").addEventListener("click", () =>
  download(`${JSON.stringify({ ...HEAD, decisions: ordered() }, null, 1)}\n`, "json", "application/json"));
element("export-csv").addEventListener("click", () => download(asCsv(), "csv", "text/csv"));
element("start-over").addEventListener("click", startOver);
element("import").addEventListener("change", (event) => load(event.target));
turnByWheel(element("stage"), (step) => show(here + step));

element("strip").append(...slices.map((_, i) => {
  const tick = document.createElement("i");
  tick.addEventListener("click", () => show(i));
  return tick;
}));
element("strip").classList.toggle("few", slices.length <= 200);
recall();
markAll();
if (!element("reader").value) {
  element("reader").focus();
  say("Write your name, then press Enter. The question mark key shows all keys.");
}
show(Math.max(0, nextUndecided(-1)));
