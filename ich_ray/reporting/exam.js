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
  const index = Math.max(0, Math.min(slices.length - 1, i));
  const slice = slices[index];
  place.value = index + 1;
  document.getElementById("shown").textContent = `${index + 1} of ${slices.length}`;
  for (const view of document.querySelectorAll(".views .slice")) {
    const image = view.querySelector("img");
    image.src = slice.pictures[view.dataset.window];
    image.alt = `Slice ${index + 1}, ${view.dataset.window} window.`;
    drawOutlines(view.querySelector("svg"), slice.longest, slice.longest, slice.marks);
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
  const steps = { ArrowUp: -1, ArrowLeft: -1, ArrowDown: 1, ArrowRight: 1, PageUp: -5, PageDown: 5 };
  if (event.ctrlKey || event.altKey || event.metaKey) return;
  if (event.key in steps) show(here() + steps[event.key]);
  else if (event.key === "Home") show(0);
  else if (event.key === "End") show(slices.length - 1);
  else if (event.key === "m" || event.key === "M") showMarks(!marks.checked);
  else return;
  event.preventDefault();
});
document.querySelector(".views").addEventListener("wheel", (event) => {
  event.preventDefault();
  show(here() + Math.sign(event.deltaY));
}, { passive: false });

const asked = /^#slice=(\d+)$/.exec(location.hash);
show(asked ? Number(asked[1]) - 1 : here());
