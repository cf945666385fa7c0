"use strict";
// The figures of an experiment, from their description in results.json: series, intervals, axes, legend.

const kDashes = [[], [8, 4], [2, 3], [8, 3, 2, 3]];
// Dots of a series with a dash have another shape: what Chart.js and the legend call it.
const kShapes = [["circle", "●"], ["triangle", "▲"], ["rect", "■"], ["rectRot", "◆"]];
const dashOf = (series) => (Number.isInteger(series.dash) && series.dash > 0 ? series.dash % 4 : 0);

const number = (value) => (Number.isFinite(value) ? value : null);
// A logarithmic axis has no place for zero.
const fits = (value, axis) => Number.isFinite(value) && (axis.log !== true || value > 0);

const pointsOf = (series, x) => list(series.points)
  .map(list)
  .filter(([at]) => fits(at, x))
  .map(([at, y, low, high]) => ({ x: at, y: number(y), low: number(low), high: number(high) }));

// Drawing order, from the top: means, their intervals, single seeds, bands.
const kOrder = { mean: 0, whisker: 1, seed: 2, band: 3 };

function dots(series, points, hue) {
  const seed = series.thin === true;
  const radius = seed ? 3.5 : 4.5;
  return {
    label: String(series.label ?? ""), color: seed ? faded(hue, 0.75) : hue, points,
    options: {
      showLine: false, order: seed ? kOrder.seed : kOrder.mean, clip: 10,
      pointStyle: kShapes[dashOf(series)][0], pointRadius: radius, pointHoverRadius: radius,
      pointBackgroundColor: seed ? "transparent" : hue, pointBorderWidth: 1.25,
    },
  };
}

function line(series, points, hue) {
  const seed = series.thin === true;
  return {
    label: String(series.label ?? ""), color: seed ? faded(hue, 0.45) : hue, points,
    dash: kDashes[dashOf(series)], width: seed ? 1 : 2.25,
    options: { order: seed ? kOrder.seed : kOrder.mean },
  };
}

// From low to high of every dot, with a cap at both ends.
const whiskers = (points, hue) => ({
  label: "", color: hue, width: 1.5,
  points: points.flatMap(({ x, low, high }) => [{ x, y: low }, { x, y: high }, { x, y: null }]),
  options: {
    order: kOrder.whisker, clip: 10, pointStyle: "line", pointRadius: 5, pointHoverRadius: 5,
    pointBorderWidth: 1.5,
  },
});

// The area between low and high of a line.
function band(points, hue) {
  const edge = (key, fill) => ({
    label: "", color: faded(hue, 0), width: 0, fill, fillColor: faded(hue, 0.2),
    points: points.map((point) => ({ x: point.x, y: point[key] })),
    options: { order: kOrder.band, pointRadius: 0 },
  });
  return [edge("low", false), edge("high", "-1")];
}

// A series of results.json as what lineChart() draws: itself, and the intervals around it.
function drawnSeries(series, x) {
  const points = pointsOf(series, x);
  const hue = normColor(series.color);
  const known = points.filter(({ low, high }) => low !== null && high !== null);
  const isDots = series.style === "dots";
  const around = known.length === 0 ? [] : isDots ? [whiskers(known, hue)] : band(points, hue);
  return [(isDots ? dots : line)(series, points, hue), ...around];
}

// Axes -----------------------------------------------------------------------------------------

// A long name over several lines of the axis.
function wrapped(text, width) {
  const lines = [];
  for (const word of text.split(" ")) {
    const longer = `${last(lines) ?? ""} ${word}`;
    if (lines.length > 0 && longer.length <= width) lines[lines.length - 1] = longer;
    else lines.push(word);
  }
  return lines;
}

const kLetterWidth = 6.5;  // pixels, about
const kLineHeight = 15;
const kScaleWidth = 70;  // of the y axis beside the categories

// Names lie where their words fit side by side, and stand upright where they do not.
function categoryAxis(x, width) {
  const names = x.categories.map(String);
  const name = (value) => names[Math.round(value)] ?? "";
  const room = (width - kScaleWidth) / names.length;
  const longestWord = Math.max(...names.flatMap((each) => each.split(" ").map((word) => word.length)));
  const lies = longestWord * kLetterWidth <= room;
  const letters = lies ? room / kLetterWidth : room > 2 * kLineHeight ? 16 : Infinity;
  return {
    title: x.title, categories: names.length, rotation: lies ? 0 : 90,
    limits: { min: -0.5, max: names.length - 0.5 },
    format: (value) => wrapped(name(value), letters), describe: name,
  };
}

// From the first to the last point, and some room where dots stand there. An axis of steps starts at 0.
function limitsOf(xs, log, room) {
  const low = xs.reduce((a, b) => Math.min(a, b), Infinity);
  const high = xs.reduce((a, b) => Math.max(a, b), -Infinity);
  if (!(low < high)) return {};
  const margin = room ? 0.04 : 0;
  if (log) {
    const factor = (high / low) ** margin;
    return { min: low / factor, max: high * factor };
  }
  const start = low >= 0 && low < 0.25 * high ? 0 : low;
  const pad = margin * (high - start);
  return { min: start === 0 ? 0 : start - pad, max: high + pad };
}

function xAxis(x, series, width) {
  if (list(x.categories).length > 0) return categoryAxis(x, width);
  const { text, tick } = formatOf(x.format);
  const xs = series.flatMap((one) => pointsOf(one, x).map((point) => point.x));
  const log = x.log === true;
  return {
    title: axisTitle(x), log, format: tick,
    limits: limitsOf(xs, log, series.some((one) => one.style === "dots")),
    describe: (value) => [x.title, text(value)].filter(Boolean).join(" "),
  };
}

function yAxis(y, limits) {
  const format = formatOf(y.format);
  return {
    title: axisTitle(y), log: y.log === true, format: format.tick, ...limits,
    describe: ({ y: value, low, high }) => withInterval(value, low, high, format),
  };
}

// Ticks of differences carry no unit: the title does.
function axisTitle({ title, format }) {
  const text = String(title ?? "");
  return format === "points" && !/points/i.test(text) ? `${text} (points)`.trim() : text;
}

// Limits of the y axis of `panel`: panels that measure the same thing show it on one scale.
function yLimits(panels, panel) {
  const y = object(panel.y);
  const sameAxis = (other) => ["title", "format", "log"].every((key) => object(other.y)[key] === y[key]);
  const values = (y.title ? panels.filter(sameAxis) : [panel])
    .flatMap((one) => list(one.series).map(object))
    .flatMap((series) => pointsOf(series, {}))
    .flatMap((point) => [point.y, point.low, point.high])
    .filter((value) => fits(value, y));
  const room = y.log === true ? 1.2 : 1;
  return {
    suggestedMin: values.reduce((a, b) => Math.min(a, b), Infinity) / room,
    suggestedMax: values.reduce((a, b) => Math.max(a, b), -Infinity) * room,
  };
}

// Figures --------------------------------------------------------------------------------------

function labChart(canvas, panels, panel) {
  const [x, y] = [object(panel.x), object(panel.y)];
  const series = list(panel.series).map(object);
  const drawn = series.flatMap((one) => drawnSeries(one, x));
  if (!drawn.some(({ points }) => points.some((point) => fits(point.y, y)))) return null;
  const holder = canvas.parentElement;
  const across = xAxis(x, series, holder.clientWidth);
  holder.classList.toggle("upright", across.rotation === 90);
  return lineChart(canvas, { series: drawn, x: across, y: yAxis(y, yLimits(panels, panel)) });
}

// Every label of the figure once, with the color, dashes or dots of the first series that bears it.
function legend(panels) {
  const labelled = panels.flatMap((one) => list(one.series).map(object)).filter((series) => series.label);
  const labels = labelled.map(({ label }) => label);
  const keys = labelled.filter(({ label }, i) => labels.indexOf(label) === i).map((series) => {
    const hue = `--key: ${normColorName(series.color)}`;
    const dash = dashOf(series);
    const key = series.style === "dots"
      ? element("span", { class: "key", style: hue }, kShapes[dash][1])
      : element("span", { class: `key dash-${dash}`, style: hue });
    return element("li", {}, key, String(series.label));
  });
  return keys.length > 0 ? element("ul", { class: "keys" }, ...keys) : null;
}

const kPanelKinds = { 1: "one", 2: "two", 4: "two" };

function labFigure(experiment, json) {
  const panels = list(json.panels).map(object);
  const drawn = panels.map((one) => {
    const title = String(one.title ?? "");
    const description = [experiment.id, json.title, title].filter(Boolean).join(": ");
    return panel(title, description, (canvas) => labChart(canvas, panels, one));
  });
  return figure(String(json.title ?? ""), [legend(panels)], drawn, [json.caption],
    kPanelKinds[panels.length] ?? "many");
}
