// The picture of paths: point at a task to follow it, choose a component to see who uses it. By mouse and by keyboard.
import { $, make, scaled } from "./dom.js";

let found = null;
let svg = null;
const held = new Set(); // tasks that stay lit
let component = null;

/** Show a picture that the server drew. */
export function drawPicture(picture) {
  found = picture;
  held.clear();
  component = null;
  const map = $("map");
  map.innerHTML = picture.svg; // names in it are escaped by the server, and scripts are refused by its policy
  svg = map.querySelector("svg");
  const width = svg.viewBox.baseVal.width;
  svg.style.maxWidth = `${1.5 * width}px`; // a small network needs no large letters,
  svg.style.minWidth = `${0.72 * width}px`; // and the letters of a large one must be readable: it scrolls
  $("chips").replaceChildren(
    ...picture.tasks.map((name, place) =>
      make("button", {
        type: "button", "aria-pressed": "false", "data-chip": place, "--c": picture.colours[place],
        click: () => hold(place), pointerenter: () => light([place]), pointerleave: () => light(), focus: () => light([place]), blur: () => light(),
      }, make("i"), name)),
  );
  for (const part of svg.querySelectorAll("g.t")) {
    part.addEventListener("pointerenter", () => light([+part.dataset.task]));
    part.addEventListener("pointerleave", () => light());
    part.addEventListener("click", () => hold(+part.dataset.task));
  }
  for (const part of svg.querySelectorAll("[data-component]")) {
    const name = part.dataset.component;
    part.setAttribute("role", "button");
    part.setAttribute("tabindex", "0");
    part.setAttribute("aria-label", described(name));
    part.setAttribute("aria-pressed", "false");
    part.addEventListener("click", () => choose(name));
    part.addEventListener("keydown", (event) => {
      if (event.key === "Enter" || event.key === " ") {
        event.preventDefault();
        choose(name);
      }
    });
  }
  svg.setAttribute("role", "group");
  say();
  light();
}

/** Light tasks up for as long as they are pointed at; without any, those that are held. */
export function light(places = null) {
  if (!svg) return;
  const on = new Set(places ?? held);
  svg.classList.toggle("focus", on.size > 0);
  for (const part of svg.querySelectorAll("[data-task]")) {
    const lit = on.has(+part.dataset.task);
    part.classList.toggle("on", lit);
    for (const lane of part.querySelectorAll(".lane")) lane.classList.toggle("on", lit);
  }
}

/** The colour of a task, the same everywhere on the page. */
export const colourOf = (task) => (found ? found.colours[found.tasks.indexOf(task)] : undefined);

/** Where a task stands in the picture, -1 where it is not shown. */
export const placeOf = (task) => (found ? found.tasks.indexOf(task) : -1);

function hold(place) {
  if (!held.delete(place)) held.add(place);
  component = null;
  marked();
}

function choose(name) {
  component = component === name ? null : name;
  held.clear();
  if (component) for (const task of found.components[name].tasks) held.add(found.tasks.indexOf(task));
  marked();
}

function marked() {
  for (const chip of $("chips").children) chip.setAttribute("aria-pressed", String(held.has(+chip.dataset.chip)));
  for (const part of svg.querySelectorAll("[data-component]")) {
    const chosen = part.dataset.component === component;
    part.classList.toggle("chosen", chosen);
    part.setAttribute("aria-pressed", String(chosen));
  }
  light();
  say();
}

const described = (name) => {
  const { tasks, parameters, kind } = found.components[name];
  const who = tasks.length ? `used by ${tasks.join(", ")}` : "not used";
  return `${name}: ${kind}, ${scaled(parameters)} parameters, ${who}`;
};

function say() {
  if (component) {
    const { tasks, parameters, kind } = found.components[component];
    $("component").replaceChildren(
      make("code", {}, component), ` · ${kind} · ${scaled(parameters)} parameters · `,
      tasks.length === 1 ? "used by " : `shared by ${tasks.length} tasks: `, make("b", {}, tasks.join(", ")),
    );
    return;
  }
  const names = [...held].map((place) => found.tasks[place]);
  if (names.length) {
    const common = Object.values(found.components).filter((part) => names.every((name) => part.tasks.includes(name)));
    const size = common.reduce((sum, part) => sum + part.parameters, 0);
    const words = names.length === 1 ? "uses" : "have in common";
    $("component").replaceChildren(make("b", {}, names.join(", ")), ` ${words} ${common.length} components, ${scaled(size)} parameters.`);
    return;
  }
  $("component").textContent = `${Object.keys(found.components).length} components.`;
}

document.addEventListener("keydown", (event) => {
  if (event.key === "Escape" && svg) {
    held.clear();
    component = null;
    marked();
  }
});
