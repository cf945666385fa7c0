"use strict";
// The page of `evenkeel lab`: the verdicts, then a section for each experiment.

const lab = object(JSON.parse(document.getElementById("results").textContent));
const experiments = list(lab.experiments).map(object).map((experiment) =>
  ({ ...experiment, id: String(experiment.id), title: String(experiment.title ?? experiment.id) }));

// Verdicts -------------------------------------------------------------------------------------

const kAnswers = ["confirmed", "refuted", "depends"];

// What became of an experiment: an answer, or why there is none.
function outcomeOf({ verdict, errors }) {
  const { answer } = object(verdict);
  if (kAnswers.includes(answer)) return answer;
  return list(errors).length > 0 ? "failed" : "incomplete";
}

// What takes weight from a verdict, and must not be missed beside it.
function doubtsAbout({ verdict }) {
  const { number, warnings } = object(verdict);
  const near = list(warnings).some((text) => String(text).startsWith("Within noise"));
  return [near ? "within noise" : null, object(number).count === 1 ? "one seed" : null].filter(Boolean);
}

// The badge, and what the reader should doubt: "refuted (within noise)".
function badge(experiment) {
  const outcome = outcomeOf(experiment);
  const doubts = doubtsAbout(experiment);
  return [element("span", { class: `badge ${outcome}` }, outcome),
    ...(doubts.length > 0 ? [" ", element("span", { class: "doubt" }, `(${doubts.join(", ")})`)] : [])];
}

function dependsOn({ verdict }) {
  const { answer, depends_on: condition } = object(verdict);
  return answer === "depends" && condition ? `on ${condition}` : null;
}

// The deciding number with its interval.
function numberOf({ verdict }) {
  const { number, format } = object(verdict);
  const { mean: value, low, high } = object(number);
  return withInterval(value, low, high, formatOf(format));
}

// "accuracy of BatchNorm minus none · 5 seeds"
function whatItIs({ verdict }) {
  const { count } = object(verdict.number);
  const seeds = count === 1 ? "one seed only" : Number.isFinite(count) ? plural(count, "seed") : null;
  return [verdict.number_is, seeds].filter(Boolean).map(String).join(" · ");
}

const progressOf = ({ measured, trials }) =>
  `${asCount(measured)} of ${plural(trials, "trial")} measured`;

function decisionCell(experiment) {
  const { verdict, errors } = experiment;
  if (!verdict) {
    return [progressOf(experiment),
      ...list(errors).slice(0, 1).map((error) => element("small", { class: "bad" }, String(error)))];
  }
  return [element("span", { class: "number" }, numberOf(experiment)),
    element("small", {}, whatItIs(experiment))];
}

function timeCell({ seconds, reused }) {
  return [asDuration(seconds),
    reused > 0 ? element("small", {}, `${asCount(reused)} trials from before`) : null,
  ].filter(Boolean);
}

function verdictTable() {
  const rows = experiments.map((experiment) => [
    [element("a", { href: `#${encodeURIComponent(experiment.id)}` }, experiment.title),
      element("small", {}, String(experiment.claim ?? ""))],
    [...badge(experiment), element("small", {}, dependsOn(experiment) ?? "")],
    decisionCell(experiment),
    timeCell(experiment),
  ]);
  const holder = table("Claims and verdicts", ["Claim", "Verdict", "What decided it", "Time"], rows);
  holder.classList.add("verdicts");
  return holder;
}

function countSentence() {
  const counts = [...kAnswers, "incomplete", "failed"]
    .map((name) => [experiments.filter((experiment) => outcomeOf(experiment) === name).length, name])
    .filter(([count]) => count > 0)
    .map(([count, name]) => `${asCount(count)} ${name === "depends" && count > 1 ? "depend" : name}`);
  return `${plural(experiments.length, "claim")}: ${inWords(counts)}.`;
}

function banners() {
  const open = experiments.filter((experiment) => !experiment.verdict).map(({ id }) => id);
  return [
    [lab.interrupted === true, "Interrupted: this page shows what had been measured until then. The same " +
      "command goes on from there."],
    [lab.mode === "quick", "Quick run: one or two seeds and few steps. It shows that everything works, and " +
      "not what the norms do; only a full run settles a claim."],
    [open.length > 0, `Without a verdict: ${inWords(open)}.`],
  ].filter(([shown]) => shown).map(([, text]) => element("p", { class: "banner" }, text));
}

function summary() {
  if (experiments.length === 0) return [...banners(), element("p", {}, "No experiment has been run.")];
  return [
    ...banners(),
    element("p", { class: "headline" }, countSentence()),
    verdictTable(),
    element("p", { class: "caption" }, "Each verdict follows from a rule that was fixed before the run and " +
      "stands in the experiment's section. Refuted means that the rule's condition was not shown under any " +
      "of the conditions, not that the opposite was. Brackets hold the 95% percentile bootstrap interval " +
      "over seeds. With few seeds it covers less than that: of normal values about 84% with five seeds and " +
      "50% with two; a single seed has none. Trials from an earlier run count with the time that they took then."),
  ];
}

// Arms -----------------------------------------------------------------------------------------

// An arm's final trials, one for each seed.
const trialsOf = (experiment, arm) => list(experiment.seeds).map((seed, i) => ({
  seed, status: String(list(arm.statuses)[i] ?? "not_started").replaceAll("_", " "),
  value: (name) => list(object(arm.values)[name])[i],
}));

// "5 done", or "4 done" and "1 diverged" below each other.
function statusCounts(trials) {
  const statuses = trials.map(({ status }) => status);
  return unique(statuses).map((status) =>
    element("span", { class: status === "done" ? "status" : "status bad" },
      `${asCount(statuses.filter((each) => each === status).length)} ${status}`));
}

function rateCell({ rate, rates }) {
  const candidates = list(rates).map(asPlain);
  if (candidates.length === 0) return kDash;
  if (candidates.length === 1) return candidates[0];
  return [Number.isFinite(rate) ? asPlain(rate) : "not chosen",
    element("small", {}, `of ${candidates.join(", ")}`)];
}

function armsTable(experiment) {
  const arms = list(experiment.arms).map(object);
  const columns = list(experiment.columns).map(object);
  const withRates = arms.some(({ rates }) => list(rates).length > 0);
  const withSteps = arms.some(({ steps }) => steps > 0);
  const rows = arms.map((arm) => {
    const trials = trialsOf(experiment, arm);
    return [
      [swatch(arm.norm), String(arm.name)],
      ...(withSteps ? [asCount(arm.steps)] : []),
      ...(withRates ? [rateCell(arm)] : []),
      ...columns.map(({ value, format }) =>
        meanAndSeeds(trials, (trial) => trial.value(value), formatOf(format).text)),
      statusCounts(trials),
    ];
  });
  const holder = table(`${experiment.title}: arms`, ["Arm", ...(withSteps ? ["Steps"] : []),
    ...(withRates ? ["Learning rate"] : []), ...columns.map(({ title }) => String(title)), "Trials"], rows);
  holder.classList.add("arms");
  return holder;
}

// A long table is closed until somebody asks, or prints.
const kOpenRows = 16;

function armsSection(experiment) {
  const arms = list(experiment.arms).map(object);
  if (arms.length === 0) return null;
  const [seeds, others] = [list(experiment.seeds), list(experiment.tuning_seeds)];
  const caption = "The mean over the seeds that finished, and below it each seed's value" +
    `${seeds.length > 1 ? ` (seeds ${seeds.join(", ")})` : ""}.`;
  const choice = "A learning rate was chosen among its candidates on held-out images" +
    `${others.length > 0 ? `, with other seeds (${others.join(", ")})` : ""}.`;
  const chosen = arms.some(({ rates }) => list(rates).length > 1);
  const details = element("details", arms.length <= kOpenRows ? { open: "" } : {},
    element("summary", {}, `Every arm (${asCount(arms.length)})`), armsTable(experiment),
    element("p", { class: "caption" }, chosen ? `${caption} ${choice}` : caption));
  addEventListener("beforeprint", () => { details.open = true; });
  return details;
}

// Sections -------------------------------------------------------------------------------------

function effort(experiment) {
  const { trials, diverged, reused, seconds, trial_seconds: inAll, seeds } = experiment;
  return [
    plural(list(seeds).length, "seed"),
    trials > 0 ? progressOf(experiment) : null,
    diverged > 0 ? `${asCount(diverged)} diverged` : null,
    reused > 0 ? `${asCount(reused)} from an earlier run` : null,
    `took ${asDuration(seconds)} (${asDuration(inAll)} of trials)`,
  ].filter(Boolean).join(" · ");
}

// "seeds 1 to 5", "seeds 1, 3 and 7"
function seedsInWords(seeds) {
  const inRow = seeds.every((seed, i) => seed === seeds[0] + i);
  const names = seeds.length > 2 && inRow ? `${seeds[0]} to ${last(seeds)}` : inWords(seeds);
  return `seed${seeds.length === 1 ? "" : "s"} ${names}`;
}

// "15 arms of 250 to 16,000 steps"; arms without training have none.
function armsInWords(arms) {
  const steps = finite(arms.map((arm) => arm.steps));
  const [least, most] = [Math.min(...steps), Math.max(...steps)];
  const count = plural(arms.length, "arm");
  if (steps.length === 0 || most === 0) return count;
  if (least === most) return `${count} of ${plural(most, "step")}`;
  return `${count} of ${least === 0 ? "up" : asCount(least)} to ${plural(most, "step")}`;
}

// What this run does of the protocol, which is written for the full run.
function thisRun(experiment) {
  const { measured, trials } = experiment;
  const [arms, seeds] = [list(experiment.arms).map(object), list(experiment.seeds)];
  const tuning = arms.some(({ rates }) => list(rates).length > 1) ? list(experiment.tuning_seeds) : [];
  const parts = [
    arms.length > 0 ? armsInWords(arms) : null,
    seeds.length > 0 ? seedsInWords(seeds) : null,
    tuning.length > 0 ? `learning rates chosen on ${seedsInWords(tuning)}` : null,
  ].filter(Boolean);
  if (parts.length === 0) return null;
  const missing = measured < trials ? `; so far ${progressOf(experiment)}` : "";
  const prefix = lab.mode === "quick" ? "The protocol is that of the full run. " : "";
  return `${prefix}This run: ${parts.join(", ")}${missing}.`;
}

function protocolText(experiment) {
  const paragraphs = [experiment.protocol, thisRun(experiment)].filter(Boolean);
  return paragraphs.length === 0 ? null
    : element("div", {}, ...paragraphs.map((text) => element("p", {}, String(text))));
}

function found(experiment) {
  const { verdict, errors } = experiment;
  if (!verdict) {
    return element("div", { class: "verdict" }, element("h3", {}, "No verdict"),
      element("p", {}, `The rule needs every trial: ${progressOf(experiment)}` +
        (list(errors).length > 0 ? `, ${asCount(errors.length)} of them failed.` : ".")),
      ...list(errors).map((error) => element("p", { class: "bad" }, String(error))));
  }
  return element("div", { class: "verdict" }, element("h3", {}, "What was found"),
    element("p", { class: "headline" }, `${numberOf(experiment)}: ${whatItIs(experiment)}`),
    ...String(verdict.found ?? "").split("\n").filter((text) => text.trim())
      .map((paragraph) => element("p", {}, paragraph)));
}

function section(experiment) {
  const { verdict, rule, source, claim, refutation, command } = experiment;
  const dl = (entries) => {
    const node = facts(entries);
    node.classList.add("about");
    return node;
  };
  return element("section", { class: "experiment", id: experiment.id },
    element("h2", {}, experiment.title, " ", ...badge(experiment)),
    element("p", { class: "claim" }, String(claim ?? "")),
    element("p", { class: "subtitle" }, effort(experiment)),
    dl([
      ["Claimed by", source], ["Protocol", protocolText(experiment)], ["Rule, fixed before the run", rule],
    ]),
    found(experiment),
    ...list(object(verdict).warnings).map((text) => element("p", { class: "banner" }, String(text))),
    ...list(experiment.figures).map(object).map((json) => labFigure(experiment, json)),
    armsSection(experiment),
    dl([
      ["Would have refuted it", refutation],
      ["Run it again", command ? element("code", {}, String(command)) : null],
    ]));
}

// The whole page -------------------------------------------------------------------------------

function page() {
  const data = object(lab.data);
  const subtitle = [data.name, lab.mode ? `${lab.mode} run` : null, asTime(lab.started)]
    .filter(Boolean).map(String);
  const seeds = unique(experiments.flatMap((experiment) => list(experiment.seeds)));
  return [
    element("header", {}, element("h1", {}, "Claims about normalization, tested"),
      element("p", { class: "subtitle" }, subtitle.join(" · "))),
    element("section", {}, ...summary()),
    ...experiments.map(section),
    element("section", { class: "origin" }, element("h2", {}, "How this was made"),
      ...origin({ json: lab, data, config: { jobs: lab.jobs }, seeds },
        "Run this command again to reproduce the page; trials that were measured before are not measured " +
        "again. A seed fixes the initial weights and the order of the batches, which the arms of an " +
        "experiment share; seconds depend on the machine. results.json beside this page holds every " +
        "number drawn here and each trial's own.")),
  ];
}

showPage(page());
