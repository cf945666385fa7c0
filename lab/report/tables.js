"use strict";
// The parts of the page that are text: headline, tables, origin. Everything from the results goes in
// as text nodes, never as markup.

function element(tag, attributes = {}, ...children) {
  const node = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) node.setAttribute(name, value);
  node.append(...children.filter((child) => child !== null && child !== undefined));
  return node;
}

const swatch = (norm) => element("span", { class: "swatch", style: `background: ${normColorName(norm)}` });

// A table in a box of its own that scrolls where the page is narrow; the first column heads its row.
function table(caption, columns, rows) {
  const head = element("tr", {}, ...columns.map((name) => element("th", { scope: "col" }, name)));
  const body = rows.map(([first, ...cells]) =>
    element("tr", {}, element("th", { scope: "row" }, ...[first].flat()),
      ...cells.map((cell) => element("td", {}, ...[cell].flat()))));
  return element("div", { class: "scroll", role: "region", "aria-label": caption, tabindex: "0" },
    element("table", {}, element("caption", {}, caption),
      element("thead", {}, head), element("tbody", {}, ...body)));
}

// The mean, and below it every seed's value where there is more than one seed. Seeds that did not finish
// are shown but left out of the mean, unless none finished.
function meanAndSeeds(arms, valueOf, format) {
  const values = arms.map(valueOf);
  const done = arms.filter((arm) => arm.status === "done");
  const known = finite((done.length > 0 ? done : arms).map(valueOf));
  const head = known.length === 0 ? kDash : format(mean(known));
  return arms.length < 2 ? head : [head, element("small", {}, values.map(format).join("  "))];
}

function statusOf(arm) {
  if (arm.status === "failed") return `failed: ${arm.error ?? "unknown error"}`;
  if (arm.status !== "diverged") return String(arm.status ?? "unknown");
  return Number.isFinite(arm.diverged_at_step)
    ? `diverged at step ${asCount(arm.diverged_at_step)}` : "diverged";
}

function statusCell(arms) {
  const texts = arms.map(statusOf);
  if (texts.length === 0) return kDash;
  const lines = unique(texts).length === 1
    ? [texts[0]] : arms.map((arm, i) => `seed ${arm.seed}: ${texts[i]}`);
  return lines.map((line) =>
    element("span", { class: line.endsWith("done") ? "status" : "status bad" }, line));
}

function finalTable(results, network) {
  const rows = results.norms
    .map((norm) => [norm, results.armsOf(network, norm)])
    .filter(([, arms]) => arms.length > 0)
    .map(([norm, arms]) => [
      [swatch(norm), normName(norm)],
      meanAndSeeds(arms, testAccuracy, asFinePercent),
      meanAndSeeds(arms, heldOutAccuracy, asFinePercent),
      meanAndSeeds(arms, finalLoss, asLoss),
      meanAndSeeds(arms, (arm) => arm.seconds, asSeconds),
      asCount(last(finite(arms.map((arm) => arm.parameters)))),
      arms.map((arm) => arm.seed).join(", "),
      statusCell(arms),
    ]);
  return table(`${network}: final results`,
    ["Norm", "Test accuracy", "Held-out accuracy", "Training loss", "Seconds", "Parameters", "Seeds",
      "Status"], rows);
}

const kStatistics = [
  ["moving_average", "accuracy", "moving average"],
  ["exact", "exact", "exact"],
  ["batch", "batch", "batch"],
];

// Test accuracy by the statistics that BatchNorm normalizes with.
function statisticsTable(arms, caption) {
  return table(caption, ["Statistics", "Test accuracy"],
    kStatistics.map(([, key, name]) =>
      [name, meanAndSeeds(arms, (arm) => object(arm.test)[key], asFinePercent)]));
}

// The headline ---------------------------------------------------------------------------------

function gapSentence(better, worse, images) {
  const { gap, error, clear } = compareAccuracies(better.accuracies, worse.accuracies, images);
  if (!(error > 0)) return `The gap is ${asPoints(gap)}.`;
  const ratio = asDecimal(Number((gap / error).toPrecision(2)));
  const gapText = `The gap of ${asPoints(gap)} is ${ratio} times its standard error`;
  return clear ? `${gapText}: well above noise.` : `${gapText}: within noise, no difference is shown.`;
}

function rankingSentences(ranked, images) {
  const [best, second] = ranked;
  const worst = last(ranked);
  const right = `${asPercent(mean(best.accuracies))} of the ${asCount(images)} test images right`;
  if (ranked.length === 1) return [`${best.name} gets ${right}; no other norm has a finished run.`];
  const lowest = inWords(ranked.slice(1)
    .filter((norm) => mean(norm.accuracies) === mean(worst.accuracies))
    .map((norm) => norm.name));
  const least = asPercent(mean(worst.accuracies));
  const sentences = [
    compareAccuracies(best.accuracies, worst.accuracies, images).clear
      ? `${best.name} does best with ${right}, ${lowest} worst with ${least}.`
      : `No norm stands out: from ${least} (${lowest}) to ${right} (${best.name}).`,
    gapSentence(best, worst, images),
  ];
  if (second !== worst) {
    const { gap, clear } = compareAccuracies(best.accuracies, second.accuracies, images);
    sentences.push(`Second is ${second.name} with ${asPercent(mean(second.accuracies))}, ` +
      `${asPoints(gap)} behind: ${clear ? "above noise" : "within noise"}.`);
  }
  return sentences;
}

// What the results of one network say, in sentences.
function verdict(results, network) {
  const ranked = results.norms
    .map((norm) => ({
      name: normName(norm),
      accuracies: finite(results.armsOf(network, norm).map(testAccuracy)),
    }))
    .filter((entry) => entry.accuracies.length > 0)
    .sort((a, b) => mean(b.accuracies) - mean(a.accuracies));
  const sentences = ranked.length === 0
    ? ["No run finished, so there is no test accuracy to compare."]
    : rankingSentences(ranked, results.data.test);
  const diverged = results.arms
    .filter((arm) => arm.network === network && arm.status === "diverged")
    .map((arm) => `${normName(arm.norm)} (seed ${arm.seed})`);
  if (diverged.length > 0) sentences.push(`Diverged: ${inWords(diverged)}.`);
  return sentences;
}

// Where the numbers come from ------------------------------------------------------------------

function facts(entries) {
  const known = entries.filter(([, value]) => value !== undefined && value !== null && value !== "");
  return element("dl", {}, ...known.flatMap(([name, value]) =>
    [element("dt", {}, name), element("dd", {}, value instanceof Node ? value : String(value))]));
}

// `note` says what running the command again gives.
function origin({ config, data, json, seeds }, note) {
  const versions = object(json.versions);
  const machine = object(json.machine);
  const counts = ["train", "held_out", "test"]
    .filter((key) => Number.isFinite(data[key]))
    .map((key) => `${asCount(data[key])} ${key.replace("_", "-")}`);
  return [
    element("pre", { tabindex: "0", "aria-label": "command" },
      element("code", {}, String(json.command ?? "unknown command"))),
    element("p", {}, note),
    facts([
      ["Data", [data.name, counts.join(", ")].filter(Boolean).join(": ")],
      ["Seeds", seeds.join(", ")],
      ["Arms at once", config.jobs],
      ["Started", asTime(json.started)],
      ["Finished", asTime(json.finished)],
      ["evenkeel", versions.evenkeel],
      ["libtorch", versions.libtorch],
      ["BLAS", versions.blas],
      ["Compiler", versions.compiler],
      ["Processor", machine.cpu],
      ["Cores", machine.cores],
      ["Memory", Number.isFinite(machine.memory_gib) ? `${asDecimal(machine.memory_gib)} GiB` : null],
      ["System", machine.os],
      ["SIMD target", machine.simd_target],
    ]),
  ];
}
