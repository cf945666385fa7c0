"use strict";
// Runs in the report, after it is drawn, under test: reads off what a person would see and posts it to
// the page around it. See browser.h.

const violations = [];
addEventListener("securitypolicyviolation", (event) => violations.push(event.effectiveDirective));

// Whether some point of the line shows the line's color on the canvas, within two pixels. Lines drawn
// later may cover single points, not all of them.
function isPainted(chart, index) {
  const { data } = chart.getDatasetMeta(index);
  const { borderColor } = chart.data.datasets[index];
  const wanted = [1, 3, 5].map((i) => parseInt(borderColor.slice(i, i + 2), 16));
  const scale = chart.currentDevicePixelRatio;
  const pixels = chart.canvas.getContext("2d");
  return data.some(({ x, y, skip }) => {
    if (skip) return false;
    const box = pixels.getImageData(Math.round(x * scale) - 2, Math.round(y * scale) - 2, 5, 5).data;
    for (let i = 0; i < box.length; i += 4) {
      const distance = wanted.reduce((sum, value, k) => sum + Math.abs(value - box[i + k]), 0);
      // Opaque but for the smoothing of edges, and of this color rather than another line's.
      if (box[i + 3] > 200 && distance < 30) return true;
    }
    return false;
  });
}

function describe(canvas) {
  const chart = Chart.getChart(canvas);
  const { x, y } = chart.scales;
  return {
    label: canvas.getAttribute("aria-label"),
    width: canvas.getBoundingClientRect().width,
    x: {
      title: x.options.title.text, type: x.type, min: x.min, max: x.max,
      ticks: x.ticks.map((tick) => [tick.label].flat().join(" ")),
    },
    y: { type: y.type, min: y.min, max: y.max, ticks: y.ticks.map((tick) => tick.label) },
    series: chart.data.datasets.map(({ label, data, borderColor, borderDash, showLine, fill }, index) => ({
      label, color: borderColor, dash: borderDash, line: showLine !== false, fill,
      points: data.map((point) => [point.x, point.y]),
      painted: isPainted(chart, index),
    })),
  };
}

addEventListener("load", () => {
  // Reports of the policy come as tasks of their own.
  setTimeout(() => {
    const canvases = [...document.querySelectorAll("canvas")];
    const texts = (selector) => [...document.querySelectorAll(selector)].map((node) => node.innerText);
    parent.postMessage({
      index: page_index,
      charts: Number(document.documentElement.dataset.charts),
      errors: Number(document.documentElement.dataset.errors),
      violations,
      requests: performance.getEntriesByType("resource").map((entry) => entry.name),
      links: [...document.querySelectorAll("[src], [href]")].map((node) => node.src ?? node.href),
      overflow: document.documentElement.scrollWidth - innerWidth,
      background: getComputedStyle(document.body).backgroundColor,
      tags: [...new Set([...document.querySelectorAll("body *")].map((node) => node.localName))],
      headings: texts("h1, h2, h3, h4"),
      verdicts: texts(".verdict"),
      banners: texts(".banner"),
      legends: [...document.querySelectorAll(".keys")].map((keys) =>
        [...keys.children].map((key) => key.innerText)),
      badges: texts(".verdicts .badge"),
      targets: [...document.querySelectorAll("a")].map((link) =>
        document.getElementById(decodeURIComponent(link.hash.slice(1)))?.innerText.split("\n")[0]),
      tables: [...document.querySelectorAll("table")].map((table) =>
        [...table.rows].map((row) => [...row.cells].map((cell) => cell.innerText))),
      text: document.body.innerText,
      empty: document.querySelectorAll(".no-data").length,
      drawn: canvases.filter((canvas) => Chart.getChart(canvas)).map(describe),
    }, "*");
  }, 50);
});
