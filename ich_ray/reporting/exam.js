"use strict";
const slices = JSON.parse(document.getElementById("slices").textContent);
const place = document.getElementById("place");
const marks = document.getElementById("marks");
const strip = document.getElementById("strip");

slices.forEach((slice, i) => {
  const tick = document.createElement("i");
  tick.className = slice.label === null ? "" : slice.label ? "positive" : "negative";
  if (slice.marks.length) tick.classList.add("marked");
  tick.addEventListener("click", () => show(i));
  strip.append(tick);
});

function show(i) {
  const index = within(i, slices.length);
  const slice = slices[index];
  place.value = index + 1;
  document.getElementById("shown").textContent = `${index + 1} of ${slices.length}`;
  for (const view of document.querySelectorAll(".views .slice")) {
    const image = view.querySelector("img");
    image.src = slice.pictures[view.dataset.window];
    image.alt = `Slice ${index + 1}, ${view.dataset.window} window.`;
    drawOutlines(view.querySelector("svg"), [0, 0, slice.longest, slice.longest], slice.marks);
  }
  listFacts(document.getElementById("slice-facts"), slice.facts);
  [...strip.children].forEach((tick, at) => tick.classList.toggle("here", at === index));
  history.replaceState(null, "", `#slice=${index + 1}`);
}

const here = () => Number(place.value) - 1;
const showMarks = (on) => {
  marks.checked = on;
  document.body.classList.toggle("hide-marks", !on);
};

place.addEventListener("input", () => show(here()));
marks.addEventListener("change", () => showMarks(marks.checked));
document.getElementById("previous").addEventListener("click", () => show(here() - 1));
document.getElementById("next").addEventListener("click", () => show(here() + 1));
document.addEventListener("keydown", (event) => {
  if (event.ctrlKey || event.altKey || event.metaKey) return;
  const to = placeOfKey(event.key, here(), slices.length);
  if (to !== undefined) show(to);
  else if (event.key === "m" || event.key === "M") showMarks(!marks.checked);
  else return;
  event.preventDefault();
});
turnByWheel(document.querySelector(".views"), (step) => show(here() + step));

const asked = /^#slice=(\d+)$/.exec(location.hash);
show(asked ? Number(asked[1]) - 1 : here());
