"use strict";
// What a form of filters lets through; `names`: models and questions, each in the order of its number.
function chosenBy(form, names) {
  const boxes = (name) => Array.from(form.querySelectorAll(`input[name="${name}"]`));
  const number = function (name, otherwise) {
    const input = form.elements.namedItem(name);
    return input === null || input.value === "" ? otherwise : Number(input.value);
  };
  const models = new Set(boxes("model").filter((b) => b.checked).map((b) => Number(b.value)));
  const values = {};
  for (const name of ["dataset", "label", "classifier", "split"]) {
    const all = boxes(name);
    if (all.length) values[name] = new Set(all.filter((b) => b.checked).map((b) => b.value));
  }
  const has = (row) => Object.entries(values).every(([n, of]) => row[n] === undefined || of.has(row[n]));
  const numbers = new Map(names.models.map((name, i) => [name, i]));
  return {
    models: models,
    nModels: boxes("model").length,
    lowest: number("lowest", -Infinity),
    highest: number("highest", Infinity),
    question: names.questions.map(has),
    has: has,
    model: (name) => !numbers.has(name) || models.has(numbers.get(name)),
  };
}
