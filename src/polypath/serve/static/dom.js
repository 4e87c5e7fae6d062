// Elements from plain values: text is always text, so that no name of a task can become markup.
export const $ = (id) => document.getElementById(id);

/** An element with attributes and children; `--x` attributes are custom properties, functions are listeners. */
export function make(tag, attributes = {}, ...children) {
  const [name, space] = tag.startsWith("svg:") ? [tag.slice(4), "http://www.w3.org/2000/svg"] : [tag, null];
  const element = space ? document.createElementNS(space, name) : document.createElement(name);
  for (const [key, value] of Object.entries(attributes)) {
    if (value === false || value === null || value === undefined) continue;
    if (typeof value === "function") element.addEventListener(key, value);
    else if (key.startsWith("--")) element.style.setProperty(key, value);
    else element.setAttribute(key, value === true ? "" : value);
  }
  element.append(...children.flat().filter((child) => child !== null && child !== undefined && child !== ""));
  return element;
}

const UNITS = [[1e12, "T"], [1e9, "G"], [1e6, "M"], [1e3, "k"]];

/** "1.23 M" */
export function scaled(value) {
  for (const [size, letter] of UNITS) if (value >= size) return `${+(value / size).toPrecision(3)} ${letter}`;
  return String(+value.toPrecision(3));
}

/** "12.3 ms" */
export const ms = (value) => `${value < 10 ? value.toFixed(2) : value < 100 ? value.toFixed(1) : Math.round(value)} ms`;

/** The main metric of a task or exit, ["accuracy", 0.98], or null. */
export function quality(metrics) {
  const found = Object.entries(metrics);
  return found.length ? found[0] : null;
}

/** Metrics that lie between 0 and 1 read best as they are; others in four digits, large ones to the unit. */
export const shown = (value) => (value >= 0 && value <= 1 ? value.toFixed(3) : written(value, 4));

/** A number in so many digits, but never with digits rounded away before the decimal point: 547,775 and not 547800. */
export const written = (value, digits) => (Math.abs(value) >= 10 ** (digits - 1)
  ? Math.round(value).toLocaleString("en-US") : String(+value.toPrecision(digits)));
