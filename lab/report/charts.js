"use strict";
// Line charts over Chart.js: colors, series of an arm and its seeds, axes, and the chart itself.

// Colors ---------------------------------------------------------------------------------------

const kNamedNorms = ["none", "batch", "layer", "lrn", "instance", "group", "rms"];

// report.css owns every color, light and dark.
const normColorName = (norm) => `var(--norm-${kNamedNorms.includes(norm) ? norm : "other"})`;

function color(name) {
  return getComputedStyle(document.documentElement).getPropertyValue(`--${name}`).trim();
}
const normColor = (norm) => color(normColorName(norm).slice("var(--".length, -1));
const faded = (hex, alpha) => hex + Math.round(255 * alpha).toString(16).padStart(2, "0");

// Series: what a chart draws, {label, color, points, ...style} ---------------------------------

// The curves of one group of arms: a thin line for every seed and their mean in bold. A single seed is
// its own mean. The thin lines have no label: legend and tooltip leave them out.
function seedSeries(arms, pointsOf, style) {
  const drawn = arms.map((arm) => ({ arm, points: pointsOf(arm) })).filter(({ points }) => hasData(points));
  if (drawn.length === 0) return [];
  const diverged = ({ arm }) => arm.status === "diverged";
  if (drawn.length === 1) return [{ ...style, points: drawn[0].points, cross: diverged(drawn[0]) }];
  const thin = drawn.map((entry) => ({
    ...style, label: "", color: faded(style.color, 0.45), width: 1, points: entry.points,
    cross: diverged(entry),
  }));
  return [...thin, { ...style, points: meanCurve(drawn.map(({ points }) => points)) }];
}

// As a dataset of Chart.js; `options` are its own and have the last word.
function dataset({
  label, color, points, dash = [], width = 2.25, fill = false, fillColor, cross, options = {},
}) {
  const end = points.reduce((found, point, i) => (point.y === null ? found : i), -1);
  const dot = points.length === 1 ? 3 : points.length <= 16 && width > 1 ? 2 : 0;
  return {
    label, data: points, fill, borderColor: color, backgroundColor: fillColor ?? color,
    borderWidth: width, borderDash: dash, borderJoinStyle: "round",
    pointRadius: points.map((_, i) => (cross && i === end ? 6 : dot)),
    pointStyle: points.map((_, i) => (cross && i === end ? "crossRot" : "circle")),
    pointBorderWidth: cross ? 2 : 0,
    pointHitRadius: 0, pointHoverRadius: label ? 4 : 0,
    ...options,
  };
}

// The finite y values of all series, for limits that several charts share.
const yValues = (series) => finite(series.flatMap(({ points }) => points.map((point) => point.y)));

// A little room above and below the values, so that no line runs along the frame.
function paddedLimits(values) {
  if (values.length === 0) return {};
  const low = values.reduce((a, b) => Math.min(a, b));
  const high = values.reduce((a, b) => Math.max(a, b));
  const room = 0.05 * (high - low) || 1;
  return { min: low - room, max: high + room };
}

// Whole decades around the positive values, for a logarithmic axis.
function decadeLimits(values) {
  const exponents = values.filter((value) => value > 0).map(Math.log10);
  if (exponents.length === 0) return {};
  const low = Math.floor(exponents.reduce((a, b) => Math.min(a, b)));
  const high = Math.ceil(exponents.reduce((a, b) => Math.max(a, b)));
  return { min: 10 ** low, max: 10 ** Math.max(high, low + 1) };
}

// Axes -----------------------------------------------------------------------------------------

// Powers of ten, thinned to at most six; 2 and 5 times them where there are only one or two decades.
// Within a fraction of a decade, what Chart.js found.
function logarithmicTicks(axis) {
  const low = Math.floor(Math.log10(axis.min) + 1e-9);
  const high = Math.ceil(Math.log10(axis.max) - 1e-9);
  const stride = Math.ceil((high - low + 1) / 6);
  const digits = high - low <= 2 ? [1, 2, 5] : [1];
  const ticks = [];
  for (let exponent = low; exponent <= high; exponent += stride) {
    for (const digit of digits) ticks.push({ value: Number(`${digit}e${exponent}`) });
  }
  const shown = ticks.filter(({ value }) => value >= axis.min * 0.999 && value <= axis.max * 1.001);
  if (shown.length > 1) axis.ticks = shown;
}

// With `categories`, a tick for each of them, at 0, 1, ...; `format` names them.
function axis({
  title, format, log = false, categories = 0, rotation = 0, min, max, suggestedMin, suggestedMax, ticks = 6,
}) {
  const categoryTicks = (axis) => {
    axis.ticks = Array.from({ length: categories }, (_, value) => ({ value }));
  };
  return {
    type: log ? "logarithmic" : "linear", min, max, suggestedMin, suggestedMax,
    afterBuildTicks: categories > 0 ? categoryTicks : log ? logarithmicTicks : undefined,
    title: { display: Boolean(title), text: title, color: color("muted") },
    grid: { color: color("grid"), borderColor: color("frame"), tickColor: color("grid") },
    ticks: {
      color: color("muted"), callback: format, maxTicksLimit: ticks,
      autoSkip: categories === 0, minRotation: rotation, maxRotation: rotation,
      includeBounds: false, autoSkipPadding: 8,
    },
  };
}

// Charts ---------------------------------------------------------------------------------------

const chartOf = (canvas, options) =>
  (options.series.some(({ points }) => hasData(points)) ? lineChart(canvas, options) : null);

// A line chart of series on the canvas; x and y say {title, format, log, min, max, ...} as axis() takes
// them. x reaches from 0 to the last point, or as `x.limits` says. Tooltips write x and a point with
// `describe`, if it is given.
function lineChart(canvas, { series, x, y, legend = false }) {
  const xs = series.flatMap(({ points }) => points.map((point) => point.x));
  // A logarithmic axis cannot show zero: a gap in the line.
  const shown = y.log
    ? series.map((one) => ({
      ...one, points: one.points.map((point) => ({ ...point, y: point.y > 0 ? point.y : null })),
    }))
    : series;
  const end = xs.reduce((a, b) => Math.max(a, b), x.max ?? 0);
  const limits = x.limits ?? { min: 0, max: end > 0 ? end : undefined };
  const describeX = x.describe ?? ((value) => `${x.title} ${x.format(value)}`);
  const describeY = y.describe ?? ((point) => y.format(point.y));
  return new Chart(canvas, {
    type: "line",
    data: { datasets: shown.map(dataset) },
    options: {
      animation: false, maintainAspectRatio: false,
      interaction: { mode: "nearest", axis: "x", intersect: false },
      font: { family: getComputedStyle(document.body).fontFamily },
      layout: { padding: { top: 6, right: 10 } },
      scales: { x: axis({ ...x, ...limits, ticks: 5 }), y: axis(y) },
      plugins: {
        legend: {
          display: legend, position: "bottom", onClick: () => {},
          labels: {
            color: color("text"), boxWidth: 28, boxHeight: 0,
            filter: (item) => item.text !== "",
          },
        },
        tooltip: {
          filter: (item) => item.dataset.label !== "",
          callbacks: {
            title: (items) => (items.length > 0 ? describeX(items[0].parsed.x) : ""),
            label: (item) => ` ${item.dataset.label}: ${describeY(item.raw)}`,
          },
        },
      },
    },
  });
}
