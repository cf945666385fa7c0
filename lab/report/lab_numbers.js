"use strict";
// Numbers of the lab as text. The formats are those of lab/figure.h.

// Very small and very large numbers with a power of ten.
function asPlain(value) {
  const size = Math.abs(value);
  if (!(size > 0) || (size >= 1e-3 && size < 1e7)) return asDecimal(value);
  return `${value < 0 ? "-" : ""}${asExponent(size, 1)}`;
}

function asSigned(value) {
  const digits = value !== 0 && Math.abs(value) < 0.1 ? 2 : 1;
  return formatter({
    signDisplay: "exceptZero", minimumFractionDigits: 1, maximumFractionDigits: digits,
  })(value);
}

const asRatio = formatter({ maximumSignificantDigits: 3 });

// By format: a number in a text, in an interval after its unit was named, and at a tick.
const kFormats = {
  count: { text: asCount, bare: asCount, tick: asCount },
  decimal: { text: asPlain, bare: asPlain, tick: asPlain },
  percent: {
    text: asPercent,
    bare: (value) => asPercent(value).replace("%", ""),
    tick: asShortPercent,
  },
  points: {
    text: (value) => (Number.isFinite(value) ? `${asSigned(100 * value)} points` : kDash),
    bare: (value) => asSigned(100 * value),
    tick: (value) => asSigned(100 * value),
  },
  power: { text: asPlain, bare: asPlain, tick: asPower },
  ratio: {
    text: (value) => (Number.isFinite(value) ? `${asRatio(value)}x` : kDash),
    bare: asRatio,
    tick: (value) => `${asDecimal(value)}x`,
  },
};
const formatOf = (name) => kFormats[name] ?? kFormats.decimal;

// "+1.2 points [+0.8, +1.6]"; the brackets only where there is an interval.
function withInterval(value, low, high, { text, bare }) {
  const known = Number.isFinite(low) && Number.isFinite(high);
  return known ? `${text(value)} [${bare(low)}, ${bare(high)}]` : text(value);
}

// "12 s", "5 min 12 s", "1 h 5 min"
function asDuration(seconds) {
  if (!Number.isFinite(seconds)) return kDash;
  if (seconds < 10) return `${asSeconds(seconds)} s`;
  const whole = Math.round(seconds);
  if (whole < 60) return `${whole} s`;
  if (whole < 3600) return `${Math.floor(whole / 60)} min ${whole % 60} s`;
  const minutes = Math.round(whole / 60);
  return `${Math.floor(minutes / 60)} h ${minutes % 60} min`;
}

const plural = (count, noun) => `${asCount(count)} ${noun}${count === 1 ? "" : "s"}`;
