// The report's exams, each with its slider; window and outlines hold for all of them.
"use strict";
const gallery = document.querySelector(".gallery");
const { windows, outlined } = JSON.parse(document.getElementById("gallery").textContent);
const tables = windows.map((window) => greyTable(window.greys));
const brain = windows.findIndex(({ name }) => name === "brain");
const view = { window: Math.max(0, brain), drawn: outlined.map(() => true) };
const opened = [];
const AHEAD = [1, -1, 2];

function change(how) {
  Object.assign(view, how);
  for (const redraw of opened) redraw();
}

const drawAll = () =>
  change({ drawn: view.drawn.map(() => !view.drawn.some(Boolean)) });

function open(article) {
  const find = (selector) => article.querySelector(selector);
  const all = (selector) => [...article.querySelectorAll(selector)];
  const exam = JSON.parse(find("script").textContent);
  const { slices } = exam;
  const [place, canvas, strips] = [find(".place"), find("canvas"), find(".strips")];
  const pictureOf = keptPictures((i) => levelsOfPicture(slices[i].picture));
  const shownWindow = () =>
    (exam.windows.includes(view.window) ? view.window : exam.windows[0]);
  let here = exam.first;

  async function show(i) {
    here = within(i, slices.length);
    const asked = here;
    const slice = slices[here];
    const window = shownWindow();
    const where = `Slice ${slice.number} of ${exam.of}`;
    place.value = here + 1;
    place.setAttribute("aria-valuetext",
      [where, ...outlined.map((one, k) => `${one.title}: ${slice.said[k]}`)].join("; "));
    let picture;
    try {
      picture = await pictureOf(asked);
    } catch {
      // The pictures of whoever cannot scroll are there still.
      gallery.classList.remove("scrolls");
      return;
    }
    if (asked !== here || window !== shownWindow()) return;
    paint(canvas, picture, tables[window]);
    canvas.setAttribute("aria-label", `${where}, ${windows[window].name} window`);
    const marks = outlined.map((one, k) => ({ ...one, path: slice.paths[k] }));
    drawOutlines(find(".slice svg"), exam.box,
      marks.filter((mark, k) => mark.path && view.drawn[k]));
    find("output").textContent = where;
    all(".said").forEach((said, k) => { said.textContent = slice.said[k]; });
    all("[data-outline]").forEach((box, k) => { box.checked = view.drawn[k]; });
    for (const button of all("[data-window]")) {
      button.setAttribute("aria-pressed", Number(button.dataset.window) === window);
    }
    for (const row of strips.children) {
      [...row.children].forEach((tick, at) => tick.classList.toggle("here", at === here));
    }
    article.dataset.shown = `${slice.number} ${windows[window].name}`;
    for (const step of AHEAD) if (slices[here + step]) pictureOf(here + step).catch(() => {});
  }

  const turn = (step) => show(here + step);
  const turnWindow = () => {
    const at = exam.windows.indexOf(shownWindow());
    change({ window: exam.windows[(at + 1) % exam.windows.length] });
  };

  strips.append(...outlined.map((one, k) => {
    const row = document.createElement("div");
    row.append(...slices.map((slice, at) => {
      const tick = document.createElement("i");
      if (slice.paths[k]) tick.style.background = one.colour;
      tick.addEventListener("click", () => show(at));
      return tick;
    }));
    return row;
  }));
  place.addEventListener("input", () => show(Number(place.value) - 1));
  find(".previous").addEventListener("click", () => turn(-1));
  find(".next").addEventListener("click", () => turn(1));
  all("[data-outline]").forEach((box, k) => box.addEventListener("change", () =>
    change({ drawn: view.drawn.map((on, at) => (at === k ? box.checked : on)) })));
  for (const button of all("[data-window]")) {
    button.addEventListener("click", () => change({ window: Number(button.dataset.window) }));
  }
  // Only of an exam that was clicked: else the wheel could not pass it on its way down the page.
  find(".slice").addEventListener("click", () => place.focus({ preventScroll: true }));
  turnByWheel(find(".slice"), turn, () => find(".scroller").contains(document.activeElement));
  find(".scroller").addEventListener("keydown", (event) => {
    if (event.ctrlKey || event.altKey || event.metaKey) return;
    const to = placeOfKey(event.key, here, slices.length);
    const key = event.key.toLowerCase();
    if (to !== undefined) show(to);
    else if (key === "m") drawAll();
    else if (key === "w") turnWindow();
    else if (key === "escape") document.activeElement.blur();
    else return;
    event.preventDefault();
  });

  opened.push(() => show(here));
  return show(here);
}

// An exam is read when it comes near the screen.
const near = new IntersectionObserver((entries) => {
  for (const { isIntersecting, target } of entries) {
    if (isIntersecting) {
      near.unobserve(target);
      open(target);
    }
  }
}, { rootMargin: "800px" });

gallery.classList.add("scrolls");
for (const article of gallery.querySelectorAll("article")) {
  if (article.querySelector(".scroller")) near.observe(article);
}
