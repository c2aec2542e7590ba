// What is drawn of a slice beside its pixels, on every page that shows one.
"use strict";
const SVG = "http://www.w3.org/2000/svg";

function drawOutlines(drawing, rows, columns, marks) {
  drawing.setAttribute("viewBox", `0 0 ${columns} ${rows}`);
  drawing.replaceChildren(...marks.map((mark) => {
    const path = document.createElementNS(SVG, "path");
    path.setAttribute("d", mark.path);
    path.setAttribute("stroke", mark.colour);
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
