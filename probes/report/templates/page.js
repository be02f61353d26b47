"use strict";
// A column head sorts its table: numbers by value (data-sort where the text is rounded), text by name.
document.querySelectorAll("th button").forEach(function (button) {
  button.addEventListener("click", function () {
    const head = button.parentElement, table = head.closest("table"), body = table.tBodies[0];
    const column = head.cellIndex;
    const ascending = head.getAttribute("aria-sort") === "descending" ||
      (!head.hasAttribute("aria-sort") && !head.classList.contains("num"));
    head.parentElement.querySelectorAll("[aria-sort]").forEach(function (other) { other.removeAttribute("aria-sort"); });
    head.setAttribute("aria-sort", ascending ? "ascending" : "descending");
    const isNumber = head.classList.contains("num");
    const keyed = Array.from(body.rows, function (row) {
      const cell = row.cells[column], text = cell.dataset.sort ?? cell.textContent.trim();
      return [isNumber ? (text === "" ? NaN : Number(text)) : text, row];
    });
    keyed.sort(function (a, b) {
      if (!isNumber) return (ascending ? 1 : -1) * a[0].localeCompare(b[0], undefined, {numeric: true});
      if (Number.isNaN(a[0]) || Number.isNaN(b[0])) return Number.isNaN(a[0]) - Number.isNaN(b[0]);
      return (ascending ? 1 : -1) * (a[0] - b[0]);
    });
    keyed.forEach(function (pair) { body.appendChild(pair[1]); });
  });
});
// Print everything, not only what is unfolded.
addEventListener("beforeprint", function () {
  document.querySelectorAll("details").forEach(function (part) { part.open = true; });
});
