// What pages that show slices have in common: pixels, outlines, facts, and turning.
"use strict";
const SVG = "http://www.w3.org/2000/svg";
const KEPT_PICTURES = 32;
const WHEEL_PIXELS = 40;
const STEPS = { ArrowUp: -1, ArrowLeft: -1, ArrowDown: 1, ArrowRight: 1, PageUp: -5, PageDown: 5 };

// Pixels: one byte a pixel on the scale of display.SCALE_HU, from which a window is painted.

const scratch = document.createElement("canvas").getContext("2d", { willReadFrequently: true });

async function levelsOfPicture(uri) {
  const image = new Image();
  image.src = uri;
  await image.decode();
  const { naturalWidth: columns, naturalHeight: rows } = image;
  Object.assign(scratch.canvas, { width: columns, height: rows });
  scratch.drawImage(image, 0, 0);
  const rgba = scratch.getImageData(0, 0, columns, rows).data;
  const levels = new Uint8Array(rows * columns);
  for (let at = 0; at < levels.length; at += 1) levels[at] = rgba[4 * at];
  return { rows, columns, levels };
}

// Keeps the last few; what could not be decoded is tried anew when it is asked again.
function keptPictures(decode) {
  const kept = new Map();
  return (i) => {
    const picture = kept.get(i) ?? decode(i);
    kept.delete(i);
    kept.set(i, picture);
    picture.catch(() => { if (kept.get(i) === picture) kept.delete(i); });
    if (kept.size > KEPT_PICTURES) kept.delete(kept.keys().next().value);
    return picture;
  };
}

const greyTable = (greys) =>
  Uint32Array.from(greys, (grey) => (0xff000000 | (grey * 0x010101)) >>> 0);

function paint(canvas, { rows, columns, levels }, table) {
  if (canvas.width !== columns || canvas.height !== rows) {
    Object.assign(canvas, { width: columns, height: rows });
  }
  const picture = new ImageData(columns, rows);
  const pixels = new Uint32Array(picture.data.buffer);
  for (let at = 0; at < levels.length; at += 1) pixels[at] = table[levels[at]];
  canvas.getContext("2d").putImageData(picture, 0, 0);
}

// Outlines and facts. A box is left, top, width and height in pixels of the slice.

function drawOutlines(drawing, box, marks) {
  drawing.setAttribute("viewBox", box.join(" "));
  drawing.replaceChildren(...marks.map((mark) => {
    const path = document.createElementNS(SVG, "path");
    path.setAttribute("d", mark.path);
    path.setAttribute("stroke", mark.colour);
    if (mark.dash) path.setAttribute("stroke-dasharray", mark.dash);
    return path;
  }));
}

function listFacts(list, facts) {
  list.replaceChildren(...facts.map(([name, value]) => {
    const row = document.createElement("div");
    const term = document.createElement("dt");
    const said = document.createElement("dd");
    term.textContent = name;
    said.textContent = value;
    row.append(term, said);
    return row;
  }));
}

// Turning.

const within = (i, count) => Math.max(0, Math.min(count - 1, i));

// Where a key leads from slice `here` of `count`; undefined where it leads nowhere.
function placeOfKey(key, here, count) {
  if (key === "Home") return 0;
  if (key === "End") return count - 1;
  return key in STEPS ? within(here + STEPS[key], count) : undefined;
}

// A notch of a wheel is one slice; the many small steps of a touchpad add up to one.
function turnByWheel(element, turn, wanted = () => true) {
  let turned = 0;
  element.addEventListener("wheel", (event) => {
    if (event.ctrlKey || !event.deltaY || !wanted()) return;
    event.preventDefault();
    if (Math.sign(event.deltaY) !== Math.sign(turned)) turned = 0;
    turned += event.deltaMode === WheelEvent.DOM_DELTA_PIXEL
      ? event.deltaY : Math.sign(event.deltaY) * WHEEL_PIXELS;
    if (Math.abs(turned) < WHEEL_PIXELS) return;
    turned = 0;
    turn(Math.sign(event.deltaY));
  }, { passive: false });
}
