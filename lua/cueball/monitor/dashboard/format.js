// Numbers and times as people read them.

export function duration(ms) {
  if (!Number.isFinite(ms)) return "";
  if (ms < 0) ms = 0;
  if (ms < 10) return `${trim(ms, ms < 1 ? 2 : 1)} ms`;
  if (ms < 1000) return `${Math.round(ms)} ms`;
  if (ms < 10000) return `${(ms / 1000).toFixed(1)} s`;
  const s = Math.floor(ms / 1000);
  if (s < 60) return `${s} s`;
  if (s < 3600) return two(Math.floor(s / 60), "min", s % 60, "s");
  if (s < 86400) return two(Math.floor(s / 3600), "h", Math.floor(s / 60) % 60, "min");
  return two(Math.floor(s / 86400), "d", Math.floor(s / 3600) % 24, "h");
}

// For what counts up or down while somebody looks: a digit less moves.
export function counting(ms) {
  if (ms >= 60000 || ms < 1000) return duration(Math.round(ms));
  const seconds = Math.max(0, ms / 1000);
  return `${seconds < 10 ? seconds.toFixed(1) : Math.floor(seconds)} s`;
}

function two(a, unit, b, small) {
  return b ? `${a} ${unit} ${b} ${small}` : `${a} ${unit}`;
}

function trim(value, digits) {
  return String(Number(value.toFixed(digits)));
}

export function number(value) {
  if (!Number.isFinite(value)) return "";
  const size = Math.abs(value);
  if (size >= 1e6) return `${trim(value / 1e6, 1)} M`;
  if (size >= 1e4) return `${trim(value / 1e3, 1)} k`;
  return trim(value, size < 10 ? 1 : 0);
}

export function percent(share) {
  return Number.isFinite(share) ? `${trim(share * 100, share > 0 && share < 0.1 ? 1 : 0)} %` : "";
}

// The time of day by the clock of whoever looks, from seconds since 1970.
export function clock(timeS) {
  const date = new Date(timeS * 1000);
  return [date.getHours(), date.getMinutes(), date.getSeconds()].map((part) => String(part).padStart(2, "0")).join(":");
}

export function plural(count, one, many) {
  return `${count} ${count === 1 ? one : many || one + "s"}`;
}

// 10.0.0.9 before 10.0.0.10.
const collator = new Intl.Collator("en", { numeric: true });
export const inOrder = (a, b) => collator.compare(a, b);

// Control characters and those that turn the direction of writing are shown, not obeyed; long texts are cut.
const UNSEEN = /[\u0000-\u001f\u007f-\u009f\u200b-\u200f\u2028-\u202e\u2060-\u2069\ufeff]/g;

export function plain(text, limit = 300) {
  if (text === null || text === undefined) return "";
  const shown = String(text).replace(UNSEEN, (one) => `\\u${one.charCodeAt(0).toString(16).padStart(4, "0")}`);
  return shown.length > limit ? `${shown.slice(0, limit)}…` : shown;
}
