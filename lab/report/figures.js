"use strict";
// Figures, and showing the page. Everything is drawn anew from the results whenever something changes,
// so that there is one way from data to picture.

const figures = [];  // {canvas, chart, holder, isHidden, draw: (canvas) => Chart or null without data}

// A titled panel; `describe` is the chart in words for those who do not see it.
function panel(title, describe, draw, isHidden = () => false) {
  const canvas = element("canvas", { role: "img", "aria-label": describe });
  const holder = element("div", { class: "panel" }, element("h4", {}, ...[title].flat()),
    element("div", { class: "canvas" }, canvas, element("p", { class: "empty" }, "no data")));
  figures.push({ canvas, draw, holder, isHidden });
  return holder;
}

// Panels under one heading, with a caption that says what one sees.
function figure(title, controls, panels, captions, kind) {
  return element("section", { class: "figure" },
    element("div", { class: "figure-head" }, element("h3", {}, title), ...controls),
    element("div", { class: `panels ${kind}` }, ...panels),
    ...captions.filter(Boolean).map((text) => element("p", { class: "caption" }, text)));
}

function draw() {
  for (const figure of figures) {
    figure.chart?.destroy();
    figure.holder.hidden = figure.isHidden();
    // A chart takes its size from the page: show the canvas before drawing, hide it if nothing came.
    figure.holder.classList.remove("no-data");
    figure.chart = figure.holder.hidden ? null : figure.draw(figure.canvas);
    figure.holder.classList.toggle("no-data", figure.chart === null);
  }
  document.documentElement.dataset.charts = figures.filter(({ chart }) => chart !== null).length;
}

function showPage(nodes) {
  document.getElementById("report").replaceChildren(...nodes);
  addEventListener("DOMContentLoaded", draw);
  matchMedia("(prefers-color-scheme: dark)").addEventListener("change", draw);
  // Paper is light.
  for (const [event, on] of [["beforeprint", true], ["afterprint", false]]) {
    addEventListener(event, () => {
      document.documentElement.classList.toggle("light", on);
      draw();
    });
  }
}
