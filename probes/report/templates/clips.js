(function () {
  const POLL_MS = 700, TYPING_MS = 120;
  const names = JSON.parse(document.getElementById("names-data").textContent);
  const filters = document.getElementById("filters"), find = document.getElementById("find");
  const isShell = document.body.dataset.isShell !== undefined;
  // Columns behind the first, and which of them are numbers.
  const COLUMNS = {
    utterances: [["true"], ["taken"], ["wrong", true], ["p", true], ["group"], ["place"]],
    suspects: [["label"], ["suggested"], ["margin", true], ["pLabel", true], ["pSuggested", true], ["place"]],
  };
  const pages = {utterances: 1, suspects: 1}, asking = {};
  let isTouched = false, nListed = 0, hasSuspects = false;

  function element(tag, attributes, ...children) {
    const made = document.createElement(tag);
    for (const [name, value] of Object.entries(attributes)) made.setAttribute(name, value);
    made.append(...children);
    return made;
  }

  // Everything that is shown is text: nothing from the results is read as markup.
  const text = (tag, content, attributes = {}) => element(tag, attributes, String(content));

  async function ask(address, signal) {
    const response = await fetch(address, {signal: signal});
    const found = await response.json();
    if (!response.ok) throw new Error(found.error);
    return found;
  }

  function said(error) {
    return error instanceof TypeError ? "fs serve has ended, or cannot be reached." : error.message;
  }

  // Which fits: what the filters of the whole page let through.
  function choice() {
    const filter = chosenBy(filters, names), query = new URLSearchParams();
    const numbers = filter.question.flatMap((shown, i) => shown ? [i] : []);
    if (numbers.length < names.questions.length) query.set("questions", numbers.join(","));
    if (filter.models.size < filter.nModels) query.set("models", Array.from(filter.models).join(","));
    if (Number.isFinite(filter.lowest)) query.set("lowest", Math.max(0, Math.ceil(filter.lowest)));
    if (Number.isFinite(filter.highest)) query.set("highest", Math.max(0, Math.floor(filter.highest)));
    query.set("layers", find.elements.namedItem("layers").value);
    return query;
  }

  function rowsWanted() {
    const query = new URLSearchParams();
    for (const name of ["answer", "order"]) query.set(name, find.elements.namedItem(name).value);
    for (const name of ["class", "taken", "text"]) {
      const value = find.elements.namedItem(name).value;
      if (value !== "") query.set(name, value);
    }
    return query;
  }

  async function list(name) {
    const table = document.getElementById(name), query = choice();
    for (const [key, value] of rowsWanted()) query.set(key, value);
    query.set("page", pages[name]);
    if (asking[name]) asking[name].abort();
    const mine = asking[name] = new AbortController();
    table.setAttribute("aria-busy", "true");
    let found;
    try {
      found = await ask(`${name}?${query}`, mine.signal);
    } catch (error) {
      if (error.name === "AbortError") return;
      table.caption.textContent = said(error);
      table.removeAttribute("aria-busy");
      return;
    }
    pages[name] = found.page;
    table.caption.textContent = name === "utterances" ? counted(found) : suspected(found);
    table.tBodies[0].replaceChildren(...found.rows.map((row) => line(name, row)));
    table.removeAttribute("aria-busy");
    pager(name, found);
    if (found.classes) offer(found.classes);
    if (name === "utterances") document.body.dataset.listed = String(++nListed);
    else document.body.dataset.suspected = String(found.waits ? -1 : found.n);
  }

  function counted(found) {
    const shown = `${found.n.toLocaleString("en")} of ${found.nTested.toLocaleString("en")} test clips`;
    return found.nTested ? shown : "No fit is chosen: choose more models, layers or questions above.";
  }

  function suspected(found) {
    if (found.waits) return "Not known yet: the predictions are being read.";
    const clips = `${found.n.toLocaleString("en")} ${found.n === 1 ? "clip" : "clips"}.`;
    return [clips, ...found.reasons].join(" ");
  }

  function line(name, row) {
    const button = text("button", "▸", {type: "button", "aria-expanded": "false", "aria-label": `Hear and see ${row.id}`});
    const head = element("th", {scope: "row"}, button, text("bdi", row.id));
    if (row.of) head.append(text("span", ` ${row.of}`, {class: "note"}));
    const cells = COLUMNS[name].map(([column, isNumber]) => text("td", row[column], isNumber ? {class: "num"} : {}));
    const made = element("tr", {}, head, ...cells);
    button.addEventListener("click", () => unfold(made, button, row));
    return made;
  }

  async function unfold(made, button, row) {
    isTouched = true;
    const isOpen = button.getAttribute("aria-expanded") === "true";
    button.setAttribute("aria-expanded", String(!isOpen));
    button.textContent = isOpen ? "▸" : "▾";
    if (isOpen) {
      made.nextElementSibling.remove();
      return;
    }
    const cell = text("td", "Reading …", {colspan: made.cells.length, "aria-live": "polite"});
    made.after(element("tr", {class: "detail"}, cell));
    const query = choice();
    query.set("asked", row.asked);
    query.set("utterance", row.utterance);
    try {
      const found = await ask(`utterance?${query}`);
      cell.replaceChildren(element("div", {class: "both"}, sound(found), answers(found)));
    } catch (error) {
      cell.textContent = said(error);
    }
  }

  function sound(found) {
    if (found.noSound) return text("p", found.noSound, {class: "note"});
    const clip = found.clip;
    const picture = element("div", {class: "picture"}, element("img", {src: clip.picture, alt: clip.alt}));
    if (clip.model_limit) {
      const limit = element("i", {}, text("span", `model: up to ${clip.model_limit_text}`));
      limit.style.bottom = `${clip.model_limit}%`;
      picture.append(limit);
    }
    const axes = [["top", clip.top], ["zero", "0"], ["first", clip.first], ["last", clip.last]];
    const marks = axes.map(([name, value]) => text("span", value, {class: name}));
    return element("figure", {class: "clip"},
      text("figcaption", found.id, {class: "hidden"}),
      element("div", {class: "spectrogram"}, picture, ...marks),
      element("audio", {controls: "", preload: "none", src: clip.audio, "aria-label": `Play ${found.id}`}),
      ...clip.notes.map((note) => text("p", note, {class: "note"})));
  }

  function answers(found) {
    const heads = ["Model", "Layer", "Answer", "p of label"].map((head) => text("th", head, {scope: "col"}));
    const rows = found.answers.map((of) => element("tr", {title: of.how},
      text("th", of.model, {scope: "row"}), text("td", of.layers), text("td", of.said, of.right ? {} : {class: "miss"}),
      text("td", of.p, {class: "num"})));
    const table = element("table", {}, text("caption", `What the chosen fits said of ${found.id}`),
      element("thead", {}, element("tr", {}, ...heads)), element("tbody", {}, ...rows));
    return element("div", {class: "scroll", tabindex: "0"}, table);
  }

  function pager(name, found) {
    const nav = document.querySelector(`.pager[data-of="${name}"]`);
    const step = function (label, page) {
      const button = text("button", label, {type: "button"});
      button.disabled = page < 1 || page > found.nPages;
      button.addEventListener("click", function () {
        isTouched = true;
        pages[name] = page;
        list(name);
      });
      return button;
    };
    const buttons = [step("Previous", found.page - 1), text("span", `page ${found.page} of ${found.nPages}`), step("Next", found.page + 1)];
    const at = Array.from(nav.children).indexOf(document.activeElement);
    nav.replaceChildren(...(found.nPages > 1 ? buttons : []));
    // Who pages by key goes on paging.
    if (at >= 0 && nav.children[at]) nav.children[at].focus();
  }

  function offer(classes) {
    for (const name of ["class", "taken"]) {
      const select = find.elements.namedItem(name), value = select.value;
      const options = classes.asIs.map((of, i) => text("option", classes.shown[i], {value: of}));
      select.replaceChildren(text("option", "any", {value: ""}), ...options);
      if (value !== "" && !classes.asIs.includes(value)) select.append(text("option", value, {value: value}));
      select.value = value;
    }
  }

  // What is looked for stands in the address, so that the page can be made anew without losing it.
  function remember() {
    const kept = rowsWanted();
    kept.set("layers", find.elements.namedItem("layers").value);
    history.replaceState(null, "", `#${kept}`);
  }

  function recall() {
    for (const [name, value] of new URLSearchParams(location.hash.slice(1))) {
      const field = find.elements.namedItem(name);
      if (!(field instanceof HTMLElement)) continue;
      if (["class", "taken"].includes(name)) field.append(text("option", value, {value: value}));
      field.value = value;
    }
  }

  function listAll() {
    pages.utterances = pages.suspects = 1;
    list("utterances");
    list("suspects");
  }

  let typing;
  function changed() {
    isTouched = true;
    clearTimeout(typing);
    typing = setTimeout(function () {
      remember();
      listAll();
    }, TYPING_MS);
  }

  async function follow() {
    let state;
    try {
      state = await ask("state");
    } catch (error) {
      document.getElementById("reading").textContent = said(error);
      return;
    }
    const isRead = state.nRead === state.nBatches;
    document.getElementById("reading").textContent = isRead ? "" : `Predictions are being read: ${state.nRead} of ${state.nBatches}. What is chosen meanwhile may take a little longer.`;
    if (state.hasSuspects && !hasSuspects) list("suspects");
    hasSuspects = state.hasSuspects;
    if (isShell) made(state);
    const isMaking = !hasSuspects || (isShell && !state.isReady);
    if (!isRead || (isMaking && !state.failure)) setTimeout(follow, POLL_MS);
  }

  function made(state) {
    const bar = document.getElementById("made"), status = document.getElementById("making");
    if (state.failure) {
      status.textContent = `There will be no report: ${state.failure}.`;
      bar.hidden = true;
    } else if (!state.isReady) {
      const steps = state.total ? `: ${state.stage}, ${state.done} of ${state.total}` : "";
      status.textContent = `The report is being made${steps}. Clips can be looked at meanwhile.`;
      if (state.total) {
        bar.max = state.total;
        bar.value = state.done;
      }
    } else if (isTouched) {
      status.textContent = "The report is ready.";
      bar.hidden = true;
      document.getElementById("show").hidden = false;
    } else {
      location.reload();
    }
  }

  find.addEventListener("submit", (event) => event.preventDefault());
  find.addEventListener("input", changed);
  find.addEventListener("reset", () => setTimeout(changed));
  filters.addEventListener("submit", (event) => event.preventDefault());
  filters.addEventListener("input", changed);
  filters.addEventListener("reset", () => setTimeout(changed));
  if (isShell) document.getElementById("show").addEventListener("click", () => location.reload());
  recall();
  listAll();
  follow();
})();
