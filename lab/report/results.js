"use strict";
// Reading results.json: tolerant access, names, numbers as text, and statistics over seeds.

const list = (value) => (Array.isArray(value) ? value : []);
const object = (value) => (value !== null && typeof value === "object" ? value : {});
const finite = (values) => values.filter(Number.isFinite);
const unique = (values) => [...new Set(values)];
const mean = (values) => values.reduce((sum, value) => sum + value, 0) / values.length;
const last = (values) => values[values.length - 1];

const variance = (values) => {
  const center = mean(values);
  return values.reduce((sum, value) => sum + (value - center) ** 2, 0) / (values.length - 1);
};

const kNormNames = {
  none: "no normalization", batch: "BatchNorm", layer: "LayerNorm", lrn: "LRN",
  instance: "InstanceNorm", group: "GroupNorm", rms: "RMSNorm",
};
const normName = (norm) => kNormNames[norm] ?? String(norm);

// Numbers as text ------------------------------------------------------------------------------

const kDash = "–";

const formatter = (options) => {
  const format = new Intl.NumberFormat("en-US", options);
  return (value) => (Number.isFinite(value) ? format.format(value) : kDash);
};
const asCount = formatter({ maximumFractionDigits: 0 });
const asPercent = formatter({ style: "percent", minimumFractionDigits: 1, maximumFractionDigits: 1 });
const asFinePercent = formatter({ style: "percent", minimumFractionDigits: 2, maximumFractionDigits: 2 });
const asShortPercent = formatter({ style: "percent", maximumFractionDigits: 2 });
const asDecimal = formatter({ maximumSignificantDigits: 4 });
const asLoss = formatter({ minimumFractionDigits: 4, maximumFractionDigits: 4 });
const asSeconds = formatter({ minimumFractionDigits: 1, maximumFractionDigits: 1 });
// A difference of accuracies, in percentage points.
const asPoints = (value) =>
  `${formatter({ maximumFractionDigits: value < 0.01 ? 2 : 1 })(100 * value)} points`;

// 1.2·10⁻⁷; a mantissa of 1 is left out.
function asExponent(value, digits) {
  const [mantissa, exponent] = value.toExponential(digits).split("e").map(Number);
  const raised = [...String(exponent)].map((c) => (c === "-" ? "⁻" : "⁰¹²³⁴⁵⁶⁷⁸⁹"[c])).join("");
  return `${mantissa === 1 ? "" : `${mantissa}·`}10${raised}`;
}

// 0.01, 50, but 10⁻³ and 3·10⁵: ticks of a logarithmic axis.
const asPower = (value) => {
  if (!(value > 0) || (value >= 0.01 && value < 1e5)) return asDecimal(value);
  return asExponent(value, 0);
};

// "2024-01-31 10:00 UTC" from ISO 8601; other text as it is.
const asTime = (text) =>
  String(text ?? "").replace(/^(\d{4}-\d\d-\d\d)T(\d\d:\d\d):[\d.]+Z$/, "$1 $2 UTC");

const inWords = (names) =>
  names.length < 2 ? names.join("") : `${names.slice(0, -1).join(", ")} and ${last(names)}`;

// Arms -----------------------------------------------------------------------------------------

class Results {
  constructor(json) {
    this.json = object(json);
    this.config = object(this.json.config);
    this.data = object(this.json.data);
    this.arms = list(this.json.arms).map(object).map((arm) =>
      ({ ...arm, network: String(arm.network), norm: String(arm.norm) }));
    const names = (configured, key) =>
      unique([...list(configured).map(String), ...this.arms.map((arm) => arm[key])]);
    this.networks = names(this.config.networks, "network");
    this.norms = names(this.config.norms, "norm");
    this.seeds = unique([...list(this.config.seeds), ...this.arms.map((arm) => arm.seed)]);
  }

  network(name) {
    return object(object(this.json.networks)[name]);
  }

  // What a network was trained with: steps, batch_size or lr.
  setting(network, key) {
    return object(this.config[key])[network];
  }

  // The hidden layers' names; numbered where the results do not name them.
  layers(network) {
    const probes = this.arms
      .filter((arm) => arm.network === network)
      .flatMap((arm) => list(arm.probe).map(object));
    const widths = probes.flatMap((probe) =>
      [probe.bands, probe.saturated, probe.gradient_norm].map((values) => list(values).length));
    const names = list(this.network(network).layers).map(String);
    const count = widths.reduce((most, width) => Math.max(most, width), names.length);
    return Array.from({ length: count }, (_, i) => names[i] ?? `layer ${i + 1}`);
  }

  armsOf(network, norm) {
    return this.arms
      .filter((arm) => arm.network === network && arm.norm === norm)
      .sort((a, b) => a.seed - b.seed);
  }
}

// The arms of `arms` that did not diverge, or all if every one did.
function steadyArms(arms) {
  const steady = arms.filter((arm) => arm.status !== "diverged");
  return steady.length > 0 ? steady : arms;
}

const testAccuracy = (arm) => object(arm.test).accuracy;
const finalLoss = (arm) => last(finite(list(arm.train).map((point) => object(point).loss)));
const heldOutAccuracy = (arm) => last(finite(list(arm.eval).map((point) => object(point).accuracy)));

// Curves: arrays of {step, x, y} ---------------------------------------------------------------

// A curve from the records of an arm; y that is not a number is a gap in the line.
const curve = (records, yOf, xOf = (record) => record.step) =>
  list(records)
    .map(object)
    .map((record) => {
      const y = yOf(record);
      return { step: record.step, x: xOf(record), y: Number.isFinite(y) ? y : null };
    })
    .filter((point) => Number.isFinite(point.x));

const hasData = (points) => points.some((point) => point.y !== null);

// The mean of the curves at every step at which all of them have a value.
function meanCurve(curves) {
  const bySteps = curves.map((points) =>
    new Map(points.filter((point) => point.y !== null).map((point) => [point.step, point])));
  return [...bySteps[0].keys()]
    .filter((step) => bySteps.every((byStep) => byStep.has(step)))
    .map((step) => {
      const points = bySteps.map((byStep) => byStep.get(step));
      return { step, x: mean(points.map((p) => p.x)), y: mean(points.map((p) => p.y)) };
    });
}

// Is a difference more than noise? -------------------------------------------------------------

// Variance of a mean test accuracy. All seeds answer the same n images, so their part, p(1-p)/n, does
// not shrink with more seeds; the part that initial weights and batch order add does.
function accuracyVariance(accuracies, images) {
  const p = mean(accuracies);
  const fromImages = images > 0 ? (p * (1 - p)) / images : 0;
  const fromSeeds = accuracies.length > 1 ? variance(accuracies) / accuracies.length : 0;
  return fromImages + fromSeeds;
}

// Three standard errors rather than two: best and worst are picked among several norms after the fact,
// which alone makes gaps of two common.
const kNoiseFactor = 3;

function compareAccuracies(better, worse, images) {
  const error = Math.sqrt(accuracyVariance(better, images) + accuracyVariance(worse, images));
  const gap = mean(better) - mean(worse);
  return { gap, error, clear: gap > kNoiseFactor * error };
}
