// The page: who is asking, what the system holds, and a question to every task.
import { curve } from "./charts.js";
import { $, make, ms, quality, scaled, shown, written } from "./dom.js";
import { colourOf, drawPicture, light, placeOf } from "./picture.js";

const WORDS = { image: "Image", table: "Row", text: "Text" };
let system = null;
let kind = null;
let files = [];
let asked = 0; // of several questions only the last may show its answers

async function api(path, options = {}) {
  const token = sessionStorage.getItem("polypath-token");
  const headers = { ...options.headers, ...(token ? { Authorization: `Bearer ${token}` } : {}) };
  const said = await fetch(path, { ...options, headers });
  const body = await said.json().catch(() => ({}));
  if (said.ok) return body;
  const error = new Error(body.error?.message ?? `The server answered ${said.status}.`);
  error.status = said.status;
  throw error;
}

// ---- the system ------------------------------------------------------------------------------------------------

async function open() {
  try {
    const [about, picture] = await Promise.all([api("/v1/tasks"), api("/v1/picture")]);
    system = about;
    $("login").hidden = true;
    $("status").hidden = true;
    $("main").hidden = false;
    describe();
    if (about.tasks.length) drawPicture(picture);
    tasksTable();
    curves();
    inputs();
  } catch (error) {
    if (error.status === 401) askForToken(error);
    else problem(`The system cannot be read: ${error.message}`);
  }
}

function askForToken(error) {
  const had = sessionStorage.getItem("polypath-token");
  sessionStorage.removeItem("polypath-token");
  $("facts").textContent = "Who may ask what is decided by access groups.";
  $("main").hidden = true;
  $("login").hidden = false;
  if (had) $("login-note").replaceChildren(make("span", { class: "bad" }, `${error.message}. Try another.`));
  $("token").focus();
}

$("login").addEventListener("submit", (event) => {
  event.preventDefault();
  sessionStorage.setItem("polypath-token", $("token").value.trim());
  $("token").value = "";
  open();
});

function problem(text) {
  $("status").hidden = false;
  $("status").className = "status bad";
  $("status").textContent = text;
}

const WORD = ["no", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten", "eleven", "twelve"];

function describe() {
  const count = system.tasks.length;
  $("count").textContent = WORD[count] ?? count;
  if (count === 1) $("count").nextSibling.textContent = " task";
  const metric = system.isolation ? `${system.isolation} isolation` : null;
  $("facts").replaceChildren(...[system.method, metric, `state ${system.generation}`].filter(Boolean).map((text) => make("span", {}, text)));
  $("version").textContent = system.polypath;
  document.title = `${count} tasks · ${system.method} · polypath`;
}

function tasksTable() {
  const lower = (name) => /mse|mae|rmse|loss|error/.test(name);
  const row = (task) => {
    const main = quality(task.metrics);
    const also = main && lower(main[0]) && "r2" in task.metrics ? `, ${shown(task.metrics.r2)} r2` : "";
    const unit = main && main[1] >= 0 && main[1] <= 1 && !lower(main[0]);
    const place = placeOf(task.name);
    return make("tr", { pointerenter: () => light(place < 0 ? null : [place]), pointerleave: () => light() },
      make("th", { scope: "row", "--c": colourOf(task.name) }, make("i"), task.name),
      make("td", { class: "left" }, answers(task)),
      make("td", {}, unit ? make("meter", { min: 0, max: 1, value: main[1], "aria-hidden": "true" }) : null, main ? `${shown(main[1])} ${main[0]}${also}` : "–"),
      make("td", {}, scaled(task.parameters)), make("td", {}, scaled(task.added_parameters)), make("td", {}, scaled(task.flops)),
      make("td", {}, String(Math.max(1, task.exits.length))));
  };
  const heads = ["task", "answers", "quality", "parameters", "added", "FLOPs", "exits"];
  $("tasks").replaceChildren(
    make("thead", {}, make("tr", {}, ...heads.map((text, place) => make("th", { scope: "col", class: place === 1 ? "left" : null }, text)))),
    make("tbody", {}, ...system.tasks.map(row)));
}

function answers(task) {
  const { kind: what, labels, size } = task.target;
  if (what === "regression") return size === 1 ? "a number" : `${size} numbers`;
  const some = labels.slice(0, 3).join(", ") + (labels.length > 3 ? ` … (${labels.length})` : "");
  return what === "multilabel" ? `any of ${some}` : some;
}

function curves() {
  const several = system.tasks.filter((task) => task.exits.length > 1);
  $("curves").hidden = several.length === 0;
  $("panels").replaceChildren(...several.map((task) => curve(task, colourOf(task.name))));
}

// ---- the question ----------------------------------------------------------------------------------------------

function inputs() {
  const kinds = Object.keys(WORDS).filter((one) => system.tasks.some((task) => task.inputs.kind === one));
  $("kinds").replaceChildren(...(kinds.length > 1 ? kinds.map(tab) : []));
  const several = system.tasks.filter((task) => task.exits.length > 1);
  $("early-label").hidden = !system.tasks.some((task) => task.early);
  $("budget-label").hidden = several.length === 0;
  const costs = [...new Set(several.flatMap((task) => task.exits.map((exit) => exit.flops)))].sort((a, b) => a - b);
  $("budget").replaceChildren(make("option", { value: "" }, "all it takes"), ...costs.map((flops) => make("option", { value: flops }, `${scaled(flops)}FLOPs`)));
  const tables = system.tasks.filter((task) => task.inputs.kind === "table");
  const shapes = new Map(tables.map((task) => [JSON.stringify(task.inputs.columns), task]));
  $("which-label").hidden = shapes.size < 2;
  $("which").replaceChildren(...[...shapes.values()].map((task) => make("option", { value: task.name }, task.name)));
  if (tables.length) columns();
  const sizes = new Set(system.tasks.filter((task) => task.inputs.kind === "image").map(({ inputs: of }) => `${of.width} × ${of.height}${of.channels === 1 ? " grey" : ""}`));
  $("wanted").textContent = sizes.size ? `The tasks see ${[...sizes].join(", ")} pixels.` : "";
  if (kinds.length) pick(kinds.includes(kind) ? kind : kinds[0]);
}

function tab(one, place, all) {
  return make("button", {
    type: "button", role: "tab", id: `tab-${one}`, "aria-controls": `${one}-input`, click: () => pick(one),
    keydown: (event) => {
      const step = { ArrowRight: 1, ArrowLeft: -1 }[event.key];
      if (!step) return;
      const next = all[(place + step + all.length) % all.length];
      pick(next);
      $(`tab-${next}`).focus();
    },
  }, WORDS[one]);
}

function pick(one) {
  kind = one;
  for (const name of Object.keys(WORDS)) {
    $(`${name}-input`).hidden = name !== one;
    const button = $(`tab-${name}`);
    if (!button) continue;
    button.setAttribute("aria-selected", String(name === one));
    button.tabIndex = name === one ? 0 : -1;
    $(`${name}-input`).setAttribute("aria-labelledby", `tab-${name}`);
  }
  $("go").textContent = system.tasks.length === 1 ? "Ask" : "Ask every task";
}

function columns() {
  const task = system.tasks.find((one) => one.name === $("which").value);
  const start = (value) => +value.toPrecision(3);
  const categories = task.inputs.categories ?? {}, gaps = task.inputs.missing === "mean";
  const field = (name, place) => (name in categories
    ? make("select", { "data-column": name }, ...categories[name].map((value) => make("option", { value }, value === "" ? "(nothing)" : value)))
    : make("input", { type: "number", step: "any", required: !gaps, placeholder: gaps ? "none: the mean" : "", "data-column": name, value: start(task.inputs.mean[place] ?? 0) }));
  $("columns").replaceChildren(...task.inputs.columns.map((name, place) => make("label", {}, name, field(name, place))));
}
$("which").addEventListener("change", columns);

function take(list) {
  files = [...list].filter((file) => file.type.startsWith("image/"));
  if (!files.length) return tell("This is no image.", true);
  $("preview").replaceChildren(...files.slice(0, 4).map((file) => {
    const image = make("img", { alt: "", src: URL.createObjectURL(file) });
    image.addEventListener("load", () => {
      image.classList.toggle("tiny", image.naturalWidth <= 64);
      URL.revokeObjectURL(image.src);
    });
    return image;
  }));
  ask();
}

$("file").addEventListener("change", (event) => event.target.files.length && take(event.target.files));
const drop = $("drop");
for (const name of ["dragenter", "dragover"]) drop.addEventListener(name, (event) => { event.preventDefault(); drop.classList.add("over"); });
for (const name of ["dragleave", "drop"]) drop.addEventListener(name, () => drop.classList.remove("over"));
drop.addEventListener("drop", (event) => { event.preventDefault(); take(event.dataTransfer.files); });
addEventListener("dragover", (event) => event.preventDefault());
addEventListener("drop", (event) => event.preventDefault()); // a file beside the field must not replace the page
addEventListener("paste", (event) => { if (kind === "image" && event.clipboardData.files.length) take(event.clipboardData.files); });

$("question").addEventListener("submit", (event) => {
  event.preventDefault();
  ask();
});

/** The body of the question, the same for all tasks or for one. */
function question() {
  const budget = $("budget").value;
  const options = { ...(budget ? { budget: { flops: +budget } } : {}), ...($("early").checked ? { early: true } : {}) };
  if (kind === "image") {
    if (!files.length) throw new Error("Choose an image first.");
    const form = new FormData();
    for (const file of files) form.append("files", file);
    form.append("fit", $("fit").checked);
    if (options.budget) form.append("budget", JSON.stringify(options.budget));
    if (options.early) form.append("early", "true");
    return { suffix: "/files", options: { method: "POST", body: form } };
  }
  let input = $("text").value;
  if (kind === "table") {
    input = {};
    for (const field of $("columns").querySelectorAll("input, select")) {
      const number = field.tagName === "INPUT";
      const empty = number && field.value === "";
      if (empty && (field.required || field.validity.badInput)) throw new Error(`${field.dataset.column}: a number is required.`);
      input[field.dataset.column] = empty ? null : number ? field.valueAsNumber : field.value;
    }
  }
  const body = JSON.stringify({ inputs: [input], ...options });
  return { suffix: "", options: { method: "POST", body, headers: { "Content-Type": "application/json" } } };
}

async function ask() {
  const mine = ++asked;
  $("go").disabled = true;
  tell("Asking …");
  try {
    const { suffix, options } = question();
    const said = await api(`/v1/predict${suffix}`, options);
    if (mine !== asked) return;
    show(said);
    const count = said.predictions.length;
    const total = make("b", {}, ms(said.ms));
    if (count === 1) return $("outcome").replaceChildren("Answered in ", total, ".");
    $("outcome").replaceChildren(`${count} tasks answered together in `, total, "; timing each alone …");
    // One after the other, so that none waits for another; twice, because the first time reads the task from disk.
    const best = async (path) => {
      const times = [];
      for (let turn = 0; turn < 2 && mine === asked; turn++) times.push((await api(path + suffix, options)).ms);
      return Math.min(...times);
    };
    total.textContent = ms(Math.min(said.ms, await best("/v1/predict")));
    let alone = 0;
    for (const { task } of said.predictions) {
      const time = await best(`/v1/tasks/${encodeURIComponent(task)}/predict`);
      if (mine !== asked) return;
      alone += time;
      document.querySelector(`[data-time="${CSS.escape(task)}"]`).textContent = ms(time);
    }
    $("outcome").replaceChildren(`${count} tasks answered together in `, total, "; one by one in ", make("b", {}, ms(alone)), ".");
  } catch (error) {
    if (mine !== asked) return;
    if (error.status === 401) return askForToken(error);
    tell(error.message, true);
  } finally {
    if (mine === asked) $("go").disabled = false;
  }
}

function tell(text, bad = false) {
  $("outcome").replaceChildren(make("span", { class: bad ? "bad" : null }, text));
  if (bad) $("answers").replaceChildren();
}

// ---- the answers -----------------------------------------------------------------------------------------------

function show(said) {
  const given = said.predictions.map(({ task, answers: all }) => make("li", { class: "answer", "--c": colourOf(task), "data-answer": task },
    make("header", {}, make("h3", {}, task), make("span", { class: "time", "data-time": task, title: "this task alone, without decoding" }, "…")),
    ...all.slice(0, 6).map((one, place) => make("div", { class: place ? "more" : null }, ...answer(one))),
    all.length > 6 ? make("p", { class: "note" }, `and ${all.length - 6} more`) : null));
  const without = said.skipped.map(({ task, reason }) => make("li", { class: "answer skipped", "--c": colourOf(task) }, make("h3", {}, task), reason));
  $("answers").replaceChildren(...given, ...without);
}

function answer(one) {
  const exit = one.exit ? make("small", {}, ` at ${one.exit}`) : null;
  if (one.values) return [make("p", { class: "said" }, one.values.map((value) => written(value, 5)).join(one.values.length > 1 ? "; " : ""), exit)];
  const head = one.labels ? one.labels.join(", ") || "none" : one.label;
  const sure = one.labels ? null : make("small", {}, ` ${(100 * one.probability).toFixed(1)} %`);
  const top = Object.entries(one.probabilities).sort((a, b) => b[1] - a[1]).slice(0, 4);
  return [
    make("p", { class: "said" }, head, sure, exit),
    make("ul", { class: "bars", "aria-label": "Probabilities" }, ...top.map(([label, share]) => {
      const bar = make("b");
      bar.style.width = `${(100 * share).toFixed(1)}%`;
      return make("li", {}, make("span", { title: label }, label), make("i", { "aria-hidden": "true" }, bar), make("em", {}, `${(100 * share).toFixed(1)} %`));
    })),
  ];
}

open();
