// Accuracy for cost: one small chart a task with exits, and the same as a table.
import { make, ms, quality, scaled, shown } from "./dom.js";

const WIDTH = 300, HEIGHT = 150, LEFT = 38, BOTTOM = 26, TOP = 14, RIGHT = 16;

/** A figure with the curve of one task. */
export function curve(task, colour) {
  const points = task.exits.map((exit) => ({ ...exit, quality: quality(exit.metrics) }));
  const measured = points.filter((point) => point.quality);
  const name = measured.length ? measured[0].quality[0] : "not measured";
  return make("figure", { "--c": colour },
    make("figcaption", {}, task.name, make("small", {}, name)),
    measured.length > 1 ? chart(task, measured, name) : null,
    make("details", { open: measured.length < 2 }, make("summary", {}, "The same as a table"), table(points, name)),
  );
}

function chart(task, points, name) {
  const values = points.map((point) => point.quality[1]);
  const [low, high] = range(values);
  const most = Math.max(...points.map((point) => point.flops));
  const x = (flops) => LEFT + (flops / most) * (WIDTH - LEFT - RIGHT);
  const y = (value) => TOP + (1 - (value - low) / (high - low)) * (HEIGHT - TOP - BOTTOM);
  const at = points.map((point) => [x(point.flops), y(point.quality[1])]);
  const svg = make("svg:svg", {
    class: "curve", viewBox: `0 0 ${WIDTH} ${HEIGHT}`, role: "img",
    "aria-label": `${task.name}: ${points.map((p) => `${p.name} ${name} ${shown(p.quality[1])} for ${scaled(p.flops)}FLOPs`).join("; ")}`,
  });
  svg.append(
    make("svg:path", { class: "axis", d: `M${LEFT} ${TOP}V${HEIGHT - BOTTOM}H${WIDTH - RIGHT}`, fill: "none" }),
    make("svg:text", { x: LEFT - 6, y: y(high) + 4, "text-anchor": "end" }, shown(high).slice(0, 5)),
    make("svg:text", { x: LEFT - 6, y: y(low) + 4, "text-anchor": "end" }, shown(low).slice(0, 5)),
    make("svg:text", { x: LEFT, y: HEIGHT - 8 }, "0"),
    make("svg:text", { x: WIDTH - RIGHT, y: HEIGHT - 8, "text-anchor": "end" }, `${scaled(most)}FLOPs`),
    make("svg:path", { class: "line", d: `M${at.map((pair) => pair.map((v) => v.toFixed(1)).join(" ")).join("L")}` }),
    ...points.map((point, place) =>
      make("svg:circle", { cx: at[place][0].toFixed(1), cy: at[place][1].toFixed(1), r: 4.5 },
        make("svg:title", {}, `${point.name}: ${name} ${shown(point.quality[1])}, ${scaled(point.flops)}FLOPs`))),
  );
  return svg;
}

/** A range that shows differences without making noise look like mountains. */
function range(values) {
  const low = Math.min(...values), high = Math.max(...values);
  const room = Math.max((high - low) * 0.25, Math.abs(high) * 0.02, 1e-9);
  const unit = low >= 0 && high <= 1;
  return [unit ? Math.max(0, low - room) : low - room, unit ? Math.min(1, high + room) : high + room];
}

function table(points, name) {
  return make("table", {},
    make("thead", {}, make("tr", {}, ...["exit", name, "FLOPs", "ms"].map((text) => make("th", { scope: "col" }, text)))),
    make("tbody", {}, ...points.map((point) => make("tr", {},
      make("th", { scope: "row" }, point.name),
      make("td", {}, point.quality ? shown(point.quality[1]) : "–"),
      make("td", {}, scaled(point.flops)),
      make("td", {}, point.ms === null ? "–" : ms(point.ms).replace(" ms", ""))))));
}
