// The page of a pipeline: asks the serve functions, shows answers, sends feedback. Text only, never markup.
"use strict";

const WHOLE = /^-?\d+$/;
const NUMBER = /^-?(\d+\.?\d*|\.\d+)([eE][-+]?\d+)?$/;

function element(name, text, parent) {
  const made = document.createElement(name);
  if (text !== undefined) made.textContent = text;
  if (parent) parent.append(made);
  return made;
}

function words(name) {
  const text = String(name).replaceAll("_", " ");
  return text.charAt(0).toUpperCase() + text.slice(1);
}

// A field as JSON text. Whole numbers stay text: beyond 2^53 a number here would lose digits.
function jsonOf(input) {
  const text = input.dataset.kind === "text" ? input.value : input.value.trim();
  if (text === "" && !(input.dataset.kind === "text" && input.required)) {
    if (input.required) throw new Error("is needed");
    return undefined;
  }
  switch (input.dataset.kind) {
    case "integer":
      if (!WHOLE.test(text)) throw new Error("must be a whole number");
      return BigInt(text).toString();
    case "number":
      if (!NUMBER.test(text)) throw new Error("must be a number");
      return JSON.stringify(Number(text));
    case "text":
      return JSON.stringify(text);
    default:
      try {
        JSON.parse(text);
      } catch (error) {
        throw new Error("must be JSON");
      }
      return text;
  }
}

function bodyOf(form) {
  const parts = [];
  for (const input of form.elements) {
    if (!input.name) continue;
    input.removeAttribute("aria-invalid");
    let value;
    try {
      value = jsonOf(input);
    } catch (error) {
      input.setAttribute("aria-invalid", "true");
      input.focus();
      throw new Error(`${words(input.name)} ${error.message}.`);
    }
    if (value !== undefined) parts.push(`${JSON.stringify(input.name)}:${value}`);
  }
  return `{${parts.join(",")}}`;
}

function isRecord(value) {
  return value !== null && typeof value === "object" && !Array.isArray(value);
}

function shown(value) {
  if (value === null || value === undefined) return "–";
  if (typeof value === "number" && !Number.isInteger(value)) return String(Number(value.toPrecision(6)));
  return typeof value === "object" ? JSON.stringify(value) : String(value);
}

function fillTable(rows, place) {
  const columns = [...new Set(rows.flatMap((row) => Object.keys(row)))];
  const table = element("table", undefined, element("div", undefined, place));
  table.parentElement.className = "wide";
  const head = element("tr", undefined, element("thead", undefined, table));
  for (const column of columns) element("th", words(column), head);
  const body = element("tbody", undefined, table);
  for (const row of rows) {
    const line = element("tr", undefined, body);
    for (const column of columns) {
      const cell = element("td", shown(row[column]), line);
      if (typeof row[column] === "number") cell.className = "number";
    }
  }
}

function showValue(value, place) {
  if (Array.isArray(value) && value.length > 0 && value.every(isRecord)) {
    fillTable(value, place);
  } else if (Array.isArray(value)) {
    if (value.length === 0) element("p", "Nothing.", place);
    const list = element("ol", undefined, place);
    for (const item of value) element("li", shown(item), list);
  } else if (isRecord(value)) {
    const list = element("dl", undefined, place);
    for (const [name, item] of Object.entries(value)) {
      element("dt", words(name), list);
      element("dd", shown(item), list);
    }
  } else {
    element("p", shown(value), place).className = "big";
  }
}

function showWhy(reply, spentMs, place) {
  const why = element("details", undefined, place);
  element("summary", "Why this answer", why);
  const list = element("dl", undefined, why);
  const facts = [
    ["Release", reply.release],
    ["Answered by", reply.fallback ? "the fallback, as the model failed or was late" : "the model"],
    ["Made from", document.body.dataset.madeFrom],
    ["Time", `${spentMs.toFixed(0)} ms from asking to answer`],
    ["Prediction", reply.prediction_id],
  ];
  for (const [name, fact] of facts) {
    element("dt", name, list);
    element("dd", fact, list);
  }
}

// The rows of one answer are found one by one, under the id with their number.
function saidOf(reply, count, value) {
  if (count < 2) return { prediction_id: reply.prediction_id, value };
  return Array.from({ length: count }, (_, row) => ({ prediction_id: `${reply.prediction_id}-${row}`, value }));
}

function showFeedback(reply, count, place) {
  const line = element("p", "Was this right? ", place);
  line.className = "feedback";
  for (const [sign, name, value] of [["👍", "Yes", 1], ["👎", "No", 0]]) {
    const button = element("button", `${sign} ${name}`, line);
    button.type = "button";
    button.addEventListener("click", async () => {
      const buttons = line.querySelectorAll("button");
      buttons.forEach((each) => (each.disabled = true));
      try {
        const sent = await fetch("/feedback", {
          method: "POST",
          headers: { "content-type": "application/json" },
          body: JSON.stringify(saidOf(reply, count, value)),
        });
        if (!sent.ok) throw new Error(`${sent.status}`);
        line.textContent = "Thank you.";
      } catch (error) {
        buttons.forEach((each) => (each.disabled = false));
        line.append(" That did not arrive; try again.");
      }
    });
  }
}

function showTrouble(message, place) {
  const line = element("p", message, place);
  line.className = "trouble";
  line.setAttribute("role", "alert");
}

async function ask(form, place) {
  place.replaceChildren();
  place.hidden = false;
  let body;
  try {
    body = bodyOf(form);
  } catch (error) {
    showTrouble(error.message, place);
    return;
  }
  const button = form.querySelector("button");
  button.disabled = true;
  try {
    const started = performance.now();
    const headers = { "content-type": "application/json", "x-penstock-consumer": "page" };
    const response = await fetch(form.dataset.path, { method: "POST", headers, body });
    const reply = await response.json();
    const spentMs = performance.now() - started;
    if (!response.ok) {
      const { message, hint } = reply.error;
      showTrouble(hint ? `${message} ${words(hint)}.` : message, place);
      return;
    }
    showValue(reply.answer, place);
    showWhy(reply, spentMs, place);
    const isRows = form.elements.rows !== undefined && Array.isArray(reply.answer);
    if (document.body.dataset.feedback === "yes") showFeedback(reply, isRows ? reply.answer.length : 1, place);
  } catch (error) {
    showTrouble("The server did not answer; try again.", place);
  } finally {
    button.disabled = false;
  }
}

for (const form of document.forms) {
  const place = form.parentElement.querySelector(".answer");
  form.addEventListener("submit", (event) => {
    event.preventDefault();
    ask(form, place);
  });
}
