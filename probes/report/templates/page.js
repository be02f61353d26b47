(function () {
  const read = (id) => JSON.parse(document.getElementById(id).textContent);
  const data = read("charts-data"), names = read("names-data");
  const form = document.getElementById("filters");
  // More marks than this are drawn as a picture: as elements they would make the page slow.
  const MOST_ELEMENTS = 3000;
  const MODELS = ["model", "model_a", "model_b"], LAYERS = ["layer", "layer_a", "layer_b"];
  const chosen = () => chosenBy(form, names);

  // Tables stand here column by column, texts that repeat as codes.
  const tables = {};
  for (const [name, columns] of Object.entries(data.tables)) {
    const heads = Object.keys(columns);
    const lists = heads.map(function (column) {
      const values = columns[column];
      return Array.isArray(values) ? values : values.codes.map((code) => values.texts[code]);
    });
    tables[name] = lists[0].map(function (_, i) {
      return Object.fromEntries(heads.map((column, j) => [column, lists[j][i]]));
    });
  }

  function isShown(row, filter) {
    if (row.question !== undefined && !filter.question[row.question]) return false;
    if (!filter.has(row)) return false;
    if (!MODELS.every((column) => row[column] === undefined || filter.model(row[column]))) return false;
    return LAYERS.every(function (column) {
      const layer = row[column];
      return layer === undefined || layer === null || (layer >= filter.lowest && layer <= filter.highest);
    });
  }

  function rowsOf(figure, filter) {
    const where = Object.entries(figure.where);
    return tables[figure.table].filter(function (row) {
      return where.every(([name, value]) => row[name] === value) && isShown(row, filter);
    });
  }

  // A picture knows no variables of the page: it is drawn with their values.
  function withColours(spec) {
    const style = getComputedStyle(document.documentElement);
    const text = JSON.stringify(spec).replace(/var\((--[a-z0-9-]+)\)/g, (_, name) => style.getPropertyValue(name).trim());
    return JSON.parse(text);
  }

  const dark = matchMedia("(prefers-color-scheme: dark)");
  async function draw(figure, filter) {
    const rows = rowsOf(figure, filter), host = document.getElementById(figure.id);
    const isPicture = tables[figure.table].length > MOST_ELEMENTS;
    const whole = {...figure.spec, config: data.config, datasets: {rows: rows}};
    if (figure.result) figure.result.finalize();
    figure.isPicture = isPicture;
    figure.rows = rows;
    figure.result = await vegaEmbed(host, isPicture ? withColours(whole) : whole, {
      mode: "vega-lite", actions: false, ast: true, logLevel: 1, defaultStyle: false,
      renderer: isPicture ? "canvas" : "svg", tooltip: {theme: dark.matches ? "dark" : "light"},
    });
    quiet(host);
  }

  // Of marks that there are none of a screen reader would be told all the same.
  function quiet(host) {
    host.querySelectorAll('g[role="graphics-symbol"]:empty').forEach((mark) => mark.removeAttribute("role"));
  }

  async function update(figure, filter) {
    if (!figure.result) return;
    // A map of 100,000 points is not drawn again because a classifier was chosen.
    const rows = rowsOf(figure, filter);
    if (rows.length === figure.rows.length && rows.every((row, i) => row === figure.rows[i])) return;
    figure.rows = rows;
    figure.result.view.data("rows", rows);
    await figure.result.view.runAsync();
    quiet(document.getElementById(figure.id));
  }

  function hideRows(filter) {
    const number = (text) => text.split(" ").map(Number);
    document.querySelectorAll("[data-question], [data-models], [data-layer], [data-label]").forEach(function (part) {
      const of = part.dataset;
      let shown = of.question === undefined || filter.question[Number(of.question)];
      if (of.models !== undefined) shown = shown && number(of.models).every((i) => filter.models.has(i));
      if (of.layer !== undefined) {
        shown = shown && Number(of.layer) >= filter.lowest && Number(of.layer) <= filter.highest;
      }
      shown = shown && filter.has({dataset: of.dataset, label: of.label, classifier: of.classifier});
      part.hidden = !shown;
    });
  }

  function say(filter) {
    const n = filter.question.filter(Boolean).length, of = filter.question.length;
    const parts = [`${filter.models.size} of ${filter.nModels} models`];
    if (of > 1) parts.push(`${n} of ${of} questions`);
    if (Number.isFinite(filter.lowest)) parts.push(`layers ${filter.lowest} to ${filter.highest}`);
    document.getElementById("filter-state").textContent = "Shown: " + parts.join(", ");
  }

  let wanted = 0;
  async function apply() {
    const mine = ++wanted, filter = chosen();
    hideRows(filter);
    say(filter);
    // What was hidden has no width until now.
    dispatchEvent(new Event("resize"));
    for (const figure of data.figures) {
      if (mine !== wanted) return;
      await update(figure, filter);
    }
    document.body.dataset.filtered = String(mine);
  }

  form.addEventListener("submit", (event) => event.preventDefault());
  form.addEventListener("input", apply);
  form.addEventListener("reset", () => setTimeout(apply));
  dark.addEventListener("change", async function () {
    for (const figure of data.figures) if (figure.isPicture) await draw(figure, chosen());
  });
  // One after the other, so that the page answers in between.
  (async function () {
    say(chosen());
    for (const figure of data.figures) {
      await draw(figure, chosen());
      await new Promise((resolve) => setTimeout(resolve));
    }
    if (wanted) await apply();
    document.body.dataset.drawn = String(data.figures.length);
  })();

  // A column head sorts its table: numbers by value (data-sort where the text is rounded), text by name.
  document.querySelectorAll("th button").forEach(function (button) {
    button.addEventListener("click", function () {
      const head = button.parentElement, table = head.closest("table"), body = table.tBodies[0];
      const column = head.cellIndex;
      const ascending = head.getAttribute("aria-sort") === "descending" ||
        (!head.hasAttribute("aria-sort") && !head.classList.contains("num"));
      head.parentElement.querySelectorAll("[aria-sort]").forEach((other) => other.removeAttribute("aria-sort"));
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
      keyed.forEach((pair) => body.appendChild(pair[1]));
    });
  });
  // Print everything, not only what is unfolded.
  addEventListener("beforeprint", function () {
    document.querySelectorAll("details").forEach(function (part) { part.open = true; });
  });
})();
