"use strict";
// Tables: a click on a column title sorts, a second one turns the order round.
for (const table of document.querySelectorAll("table.sortable")) {
  const titles = [...table.tHead.rows[0].cells];
  titles.forEach((title, column) => title.querySelector("button").addEventListener("click", () => {
    const order = title.getAttribute("aria-sort") === "ascending" ? -1 : 1;
    titles.forEach((other) => other.removeAttribute("aria-sort"));
    title.setAttribute("aria-sort", order === 1 ? "ascending" : "descending");
    const key = (row) => row.cells[column].dataset.sort;
    const compare = (a, b) => {
      const x = key(a), y = key(b);
      if (x === "" || y === "") return (x === "") - (y === "");
      const numbers = [Number(x), Number(y)];
      return order * (numbers.some(Number.isNaN) ? x.localeCompare(y, undefined, { numeric: true }) : numbers[0] - numbers[1]);
    };
    const body = table.tBodies[0];
    [...body.rows].sort(compare).forEach((row) => body.append(row));
  }));
}
// Overlays: the buttons below the planes choose which layer is seen.
for (const view of document.querySelectorAll(".view")) {
  const buttons = view.querySelectorAll(".layers button");
  buttons.forEach((button) => button.addEventListener("click", () => {
    buttons.forEach((other) => other.setAttribute("aria-pressed", String(other === button)));
    view.querySelectorAll(".layer").forEach((layer) => layer.classList.toggle("shown", layer.dataset.name === button.dataset.layer));
  }));
}
// Plots: a click shows them large.
const dialog = document.getElementById("zoom");
for (const picture of document.querySelectorAll("img.zoom")) {
  picture.addEventListener("click", () => {
    const large = dialog.querySelector("img");
    large.src = picture.src;
    large.alt = picture.alt;
    dialog.showModal();
  });
}
dialog.addEventListener("click", () => dialog.close());
