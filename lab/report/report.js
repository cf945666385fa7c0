"use strict";
// The page of `evenkeel compare`: sections, figures with their captions, and the controls, which change
// `view` and draw everything anew.

const results = new Results(JSON.parse(document.getElementById("results").textContent));
const view = { x: "steps", hiddenNorms: new Set(), layer: {} };

// One series for every norm that is shown and every seed of it.
const normSeries = (network, pointsOf) => results.norms
  .filter((norm) => !view.hiddenNorms.has(norm))
  .flatMap((norm) => seedSeries(results.armsOf(network, norm), pointsOf,
    { label: normName(norm), color: normColor(norm) }));

const steps = (network) =>
  ({ title: "step", format: asCount, max: results.setting(network, "steps") });

// Controls -------------------------------------------------------------------------------------

// Buttons of which one is pressed; `group` keeps copies of the same control on the page alike.
function choice(group, label, options, isPressed, onPress) {
  const buttons = options.map(([value, ...content]) => {
    const button = element("button", { type: "button", "data-group": group, "data-value": value }, ...content);
    button.addEventListener("click", () => {
      onPress(value);
      refresh();
      draw();
    });
    return button;
  });
  const refresh = () => {
    for (const button of document.querySelectorAll(`button[data-group="${group}"]`)) {
      button.setAttribute("aria-pressed", isPressed(button.dataset.value));
    }
  };
  addEventListener("DOMContentLoaded", refresh);
  return element("div", { class: "choice", role: "group", "aria-label": label }, ...buttons);
}

function normLegend() {
  return choice("norm", "Norms shown",
    results.norms.map((norm) => [norm, swatch(norm), normName(norm)]),
    (norm) => !view.hiddenNorms.has(norm),
    (norm) => {
      if (!view.hiddenNorms.delete(norm)) view.hiddenNorms.add(norm);
    });
}

const xChoice = () => choice("x", "Horizontal axis", [["steps", "steps"], ["seconds", "seconds"]],
  (value) => view.x === value, (value) => { view.x = value; });

function layerSelect(network, layers) {
  const options = layers.map((layer, i) => element("option", { value: i }, layer));
  const select = element("select", {}, ...options);
  select.value = view.layer[network];
  select.addEventListener("change", () => {
    view.layer[network] = Number(select.value);
    draw();
  });
  return element("label", {}, "Layer ", select);
}

// The figures of one network -------------------------------------------------------------------

function learningFigure(network) {
  const over = (record) => (view.x === "steps" ? record.step : record.seconds);
  const x = () => (view.x === "steps" ? steps(network) : { title: "seconds", format: asDecimal });
  const jobs = results.config.jobs;
  const loss = panel("Training loss", `${network}: training loss of every norm over training`, (canvas) => {
    const series = normSeries(network, (arm) => curve(arm.train, (record) => record.loss, over));
    // Losses that span more than two decades flatten to nothing on a linear axis.
    const values = yValues(series).filter((value) => value > 0).sort((a, b) => a - b);
    const log = last(values) > 100 * values[0];
    return chartOf(canvas, { series, x: x(), y: { format: log ? asPower : asDecimal, log } });
  });
  const accuracy = panel("Held-out accuracy", `${network}: held-out accuracy of every norm over training`,
    (canvas) => chartOf(canvas, {
      series: normSeries(network, (arm) => curve(arm.eval, (record) => record.accuracy, over)),
      x: x(), y: { format: asShortPercent },
    }));
  return figure("Learning curves", [xChoice()], [loss, accuracy], [
    "Training loss: cross-entropy on the training batches, averaged since the point before. Held-out " +
    `accuracy: the share of the ${asCount(results.data.held_out)} held-out images classified right by the ` +
    "network as it would be used, BatchNorm with its moving average. A curve that falls or rises earlier " +
    "learns in fewer steps; switch to seconds to see whether it also learns in less time. The comparison " +
    "of Ioffe & Szegedy 2015, Figure 1(a).",
    "Seconds count training steps alone, without evaluation" + (jobs > 1
      ? `; ${asCount(jobs)} arms shared the machine, so read them as relative.` : ".") +
    (results.seeds.length > 1 ? " Thin lines are single seeds, bold ones their mean for as long as every " +
      "seed has a value." : "") +
    (results.arms.some((arm) => arm.status === "diverged")
      ? " A cross marks the last value before the loss stopped being a number." : ""),
  ], "two");
}

// The probe's values of one layer, e.g. probeCurve(arm, 0, (record) => record.saturated).
const probeCurve = (arm, layer, valuesOf) => curve(arm.probe, (record) => list(valuesOf(record))[layer]);
const bandCurve = (arm, layer, i) => probeCurve(arm, layer, (record) =>
  list(record.bands).map((band) => list(band)[i]));

// The first seed that has bands and did not diverge.
const bandArm = (network, norm) => steadyArms(results.armsOf(network, norm)
  .filter((arm) => list(arm.probe).some((record) => list(object(record).bands).length > 0)))[0];

// Inputs beyond which the activation's slope counts as lost, as docs/results-format.md defines it:
// sigmoid(±ln 19) = 0.95 and 0.05.
const kSlopeLost = { sigmoid: [-Math.log(19), Math.log(19)], relu: [0] };

function bandsFigure(network, layers) {
  const { activation } = results.network(network);
  const edges = kSlopeLost[activation] ?? [];
  // Arms that diverged would flatten all others; they may leave the panel.
  const limits = () => {
    const arms = results.norms.map((norm) => bandArm(network, norm)).filter(Boolean);
    return paddedLimits(steadyArms(arms).flatMap((arm) =>
      [0, 1, 2].flatMap((i) => finite(bandCurve(arm, view.layer[network], i).map((point) => point.y)))));
  };
  const panels = results.norms.map((norm) => panel([swatch(norm), normName(norm)],
    `${network}, ${normName(norm)}: 15th, 50th and 85th percentile of the activation's inputs over training`,
    (canvas) => {
      const arm = bandArm(network, norm);
      if (arm === undefined) return null;
      const [low, middle, high] = [0, 1, 2].map((i) => bandCurve(arm, view.layer[network], i));
      const hue = normColor(norm);
      const end = low.reduce((most, point) => Math.max(most, point.x), results.setting(network, "steps") ?? 0);
      const edgeSeries = edges.map((y) => ({
        label: "", color: color("muted"), width: 1, dash: [4, 4], points: [{ x: 0, y }, { x: end, y }],
      }));
      const edge = { color: faded(hue, 0.6), width: 1 };
      return hasData(middle) ? lineChart(canvas, {
        series: [
          { ...edge, label: "15th percentile", points: low },
          { ...edge, label: "85th percentile", points: high, fill: "-1", fillColor: faded(hue, 0.25) },
          { label: "median", color: hue, points: middle },
          ...edgeSeries,
        ],
        x: steps(network), y: { format: asDecimal, ...limits() },
      }) : null;
    }, () => view.hiddenNorms.has(norm)));
  const diverged = results.arms.some((arm) => arm.network === network && arm.status === "diverged");
  const edgeText = {
    sigmoid: " Beyond ±2.94 (dashed, where in view) a sigmoid is within 0.05 of its end and nearly flat.",
    relu: " Below 0 (dashed) a ReLU passes nothing on.",
  }[activation] ?? "";
  return figure("What a hidden layer receives",
    layers.length > 1 ? [layerSelect(network, layers)] : [], panels, [
      "Inputs of the layer's activation function for one fixed held-out batch, all units together, first " +
      `seed${diverged ? " that did not diverge" : ""}. The line is the median, the band reaches from the ` +
      "15th to the 85th percentile. A steady band gives the next layer a steady target; a band that " +
      `shrinks to a line no longer tells anything apart.${edgeText} All panels share one scale` +
      `${diverged ? ", set by the arms that did not diverge" : ""}. After Ioffe & Szegedy 2015, ` +
      "Figure 1(b, c).",
    ], "small");
}

// One panel for every layer, one line for every norm and seed.
function layerFigure(network, layers, title, valuesOf, yOf, caption) {
  const series = (layer) => normSeries(network, (arm) => probeCurve(arm, layer, valuesOf));
  const panels = layers.map((name, layer) => panel(name, `${network}, ${name}: ${title} over training`,
    (canvas) => chartOf(canvas, { series: series(layer), x: steps(network), y: yOf() })));
  return figure(title, [], panels, [caption], "small");
}

// The probe's values of all layers of the arms that did not diverge: what sets one scale for all layers.
function probeValues(network, layers, valuesOf) {
  const arms = steadyArms(results.arms.filter((arm) => arm.network === network));
  return arms.flatMap((arm) => layers.flatMap((_, layer) =>
    finite(probeCurve(arm, layer, valuesOf).map((point) => point.y))));
}

function saturatedFigure(network, layers) {
  const saturated = (record) => record.saturated;
  // From 0 to the next 10% above all values.
  const most = probeValues(network, layers, saturated).reduce((a, b) => Math.max(a, b), 0);
  const max = Math.min(1, Math.floor(10 * most + 1) / 10);
  return layerFigure(network, layers, "Saturated fraction", saturated,
    () => ({ format: asShortPercent, min: 0, max }),
    "The share of those inputs at which the activation's slope is lost, layer by layer from first to " +
    "last, on one scale: " + (results.network(network).activation === "relu"
      ? "a ReLU whose input is 0 or less. About half is usual; near 100% the layer is dead."
      : "a sigmoid whose output is below 0.05 or above 0.95. No gradient to speak of passes there."));
}

function gradientFigure(network, layers) {
  const norms = (record) => record.gradient_norm;
  const limits = decadeLimits(probeValues(network, layers, norms));
  return layerFigure(network, layers, "Gradient norm", norms,
    () => ({ format: asPower, log: true, ...limits }),
    "L2 norm of the loss's gradient for each layer's weight matrix, on the same batch; one logarithmic " +
    "scale for all layers. Where the first layers lie decades below the last, the gradient vanishes on " +
    "its way back.");
}

function statisticsFigure(network, norm, arms) {
  const style = {
    moving_average: { color: "stat-moving", dash: [] },
    exact: { color: "stat-exact", dash: [8, 4] },
    batch: { color: "stat-batch", dash: [2, 3] },
  };
  const chart = panel("Held-out accuracy", `${network}, ${normName(norm)}: held-out accuracy by statistics`,
    (canvas) => chartOf(canvas, {
      series: kStatistics.flatMap(([key, , name]) =>
        seedSeries(arms, (arm) => curve(arm.batch_norm_eval, (record) => record[key]),
          { label: name, color: color(style[key].color), dash: style[key].dash })),
      x: steps(network), y: { format: asShortPercent }, legend: true,
    }));
  const caption = `${network}, ${normName(norm)}: test accuracy by statistics`;
  const images = results.config.exact_images;
  return figure(`${normName(norm)} under three kinds of statistics`, [],
    [chart, statisticsTable(arms, caption)], [
      "The same weights, normalized in evaluation by the moving average kept in training, by exact " +
      `statistics of ${Number.isFinite(images) ? `${asCount(images)} ` : ""}training images at the present ` +
      "weights, and by those of the evaluated batch. " +
      "Where the lines part, the statistics cost accuracy, not the weights.",
    ], "two");
}

// "what the network is · 5,000 steps of 60 images · learning rate 0.1", as far as it is known
function training(network) {
  const [steps, images, rate] = ["steps", "batch_size", "lr"].map((key) => results.setting(network, key));
  return [
    results.network(network).title,
    Number.isFinite(steps) ? `${asCount(steps)} steps of ${asCount(images)} images` : null,
    Number.isFinite(rate) ? `learning rate ${rate}` : null,
  ].filter(Boolean).join(" · ");
}

function networkSection(network) {
  const layers = results.layers(network);
  view.layer[network] = Math.max(0, layers.length - 1);
  const withStatistics = results.norms
    .map((norm) => [norm, results.armsOf(network, norm)])
    .filter(([, arms]) => arms.some((arm) => list(arm.batch_norm_eval).length > 0));
  const unfinished = results.arms.some((arm) => arm.network === network && arm.status !== "done");
  return element("section", { class: "network" },
    element("h2", {}, network),
    element("p", { class: "subtitle" }, training(network)),
    finalTable(results, network),
    unfinished ? element("p", { class: "caption" }, "Means are over the seeds that finished.") : null,
    learningFigure(network),
    bandsFigure(network, layers),
    saturatedFigure(network, layers),
    gradientFigure(network, layers),
    ...withStatistics.map(([norm, arms]) => statisticsFigure(network, norm, arms)));
}

// The whole page -------------------------------------------------------------------------------

// Whether InstanceNorm stands nowhere in a network: its arms then train as many parameters as those
// without normalization.
function lacksInstanceNorm(network) {
  const parameters = (norm) => results.armsOf(network, norm)[0]?.parameters;
  return Number.isFinite(parameters("none")) && parameters("instance") === parameters("none");
}

function banners() {
  const oneSeed = results.arms.length > 0 && results.seeds.length < 2;
  return [
    [results.json.interrupted, "Interrupted: this page shows what had been measured until then."],
    [results.json.quick, "Quick run: few steps on little data. It shows that everything works, not what " +
      "the norms can do."],
    [oneSeed, "One seed only: how much the numbers change with another seed is not measured."],
    ...results.networks.map((network) => [lacksInstanceNorm(network),
      `${network}: InstanceNorm stands on convolutions alone. This network has none, so that arm is the same ` +
      "as the one without normalization."]),
  ].filter(([shown]) => shown === true).map(([, text]) => element("p", { class: "banner" }, text));
}

function summary() {
  const verdicts = results.networks.map((network) => {
    const [headline, ...details] = verdict(results, network);
    return element("div", { class: "verdict" }, element("h3", {}, network),
      element("p", { class: "headline" }, headline),
      details.length > 0 ? element("p", {}, details.join(" ")) : null);
  });
  return element("section", {}, element("h2", {}, "In short"), ...banners(), ...verdicts,
    element("p", { class: "caption" }, "Noise here is the standard error of an accuracy p on n test " +
      "images, √(p(1−p)/n), of both norms together, and the spread of the seeds where there are several. A " +
      `gap counts from ${kNoiseFactor} standard errors on, as best and worst are picked after the fact.`));
}

function page() {
  const subtitle = [
    results.data.name,
    `${results.norms.length} norms, ${results.seeds.length} ${results.seeds.length === 1 ? "seed" : "seeds"}`,
    asTime(results.json.started),
  ].filter(Boolean).map(String);
  return [
    element("header", {}, element("h1", {}, "What normalization does to training"),
      element("p", { class: "subtitle" }, subtitle.join(" · "))),
    summary(),
    results.norms.length > 0 ? element("div", { class: "legend" }, normLegend()) : null,
    ...results.networks.map(networkSection),
    element("section", { class: "origin" }, element("h2", {}, "How this was made"), ...origin(results,
      "Run this command again to reproduce the page. A seed fixes the initial weights and the order of " +
      "the batches, which all norms of one network share; seconds depend on the machine. results.json " +
      "beside this page holds every number drawn here.")),
  ].filter(Boolean);
}

showPage(page());
