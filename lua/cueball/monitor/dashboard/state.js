// What the states of slots and backends are called, and what is made of what a snapshot says.
import { duration, plain } from "./format.js";

export const SLOTS = [
  { state: "idle", label: "idle", help: "at rest" },
  { state: "busy", label: "leased", help: "lent to a claimer" },
  { state: "connecting", label: "connecting", help: "an attempt is under way" },
  { state: "backing_off", label: "backing off", help: "waits before its next attempt" },
  { state: "checking", label: "checking", help: "being checked" },
  { state: "closing", label: "closing", help: "being closed" },
];

const LABELS = Object.fromEntries(SLOTS.map((one) => [one.state, one.label]));
export const slotLabel = (state) => LABELS[state] || plain(state, 30);

// A backend's condition: its state, and where that is going.
const CONDITIONS = {
  up: { label: "up", sign: "●", rank: 6 },
  going_up: { label: "going up", sign: "▲", rank: 2 },
  going_down: { label: "going down", sign: "▼", rank: 1 },
  dead: { label: "dead", sign: "✕", rank: 0 },
  ejected: { label: "ejected", sign: "◆", rank: 0 },
  drained: { label: "drained", sign: "■", rank: 3 },
  standby: { label: "standby", sign: "○", rank: 5 },
  removed: { label: "removed", sign: "–", rank: 4 },
};

export function condition(backend) {
  const name = conditionName(backend);
  return { name, ...(CONDITIONS[name] || { label: plain(name, 30), sign: "?", rank: 3 }) };
}

function conditionName(backend) {
  const open = (backend.idle || 0) + (backend.busy || 0);
  if (backend.state === "dead") return open > 0 ? "going_up" : "dead";
  if (backend.state !== "up") return backend.state;
  if (backend.drained) return "drained";
  if (backend.error || backend.suspect > 0) return "going_down";
  return open === 0 && backend.connecting > 0 ? "going_up" : "up";
}

export const isUnhealthy = (backend) => condition(backend).rank < 4;

// Why it is as it is, in words. The program's own sentence begins with the state and ends with the time of the next attempt, which the page
// shows beside it: so where there is an error that comes first.
const BY_ERROR = new Set(["dead", "going_up", "going_down"]);

export function reason(backend, name) {
  const said = plain((BY_ERROR.has(name) && backend.error) || backend.reason || backend.error || "");
  if (name === "going_up" && backend.state === "dead") return `a connection is open and has to prove itself${said ? `; before: ${said}` : ""}`;
  if (said) return said;
  if (backend.suspect > 0) return `${backend.suspect} of its connections may be broken`;
  return "";
}

// How many connections it may have: what it takes, if that is known, else all of the pool's.
export function limitOf(backend, pool) {
  return backend.limit ?? backend.takes ?? pool.max_connections ?? (pool.options && pool.options.max_connections) ?? null;
}

const utilisationOf = (stats) => {
  const open = (stats.idle || 0) + (stats.busy || 0);
  return open > 0 ? stats.busy / open : 0;
};

export function signalsOf(pool) {
  const given = pool.signals || {};
  const stats = pool.stats || {};
  return {
    utilisation: given.utilisation ?? utilisationOf(stats),
    waiting: given.waiting ?? stats.waiting ?? 0,
    claim_p99_ms: given.claim_p99_ms ?? stats.wait_ms_p99 ?? 0,
    churn_per_s: given.churn_per_s ?? NaN,
  };
}

// How a slot is, as a sentence without its end.
export function slotSentence(connection, lease) {
  const parts = [`slot ${connection.slot} of ${plain(connection.backend, 80)}`, slotLabel(connection.state)];
  if (connection.since_ms !== undefined) parts[1] += ` for ${duration(connection.since_ms)}`;
  if (connection.suspect) parts.push("may be broken");
  if (connection.unproven) parts.push("has proven nothing yet");
  if (connection.closes_for) parts.push(`closes when it comes back (${plain(connection.closes_for, 30)})`);
  if (lease) parts.push(`lease ${plain(lease.id, 30)}${holder(lease) ? ` of ${holder(lease)}` : ""}${lease.is_overdue ? ", overdue" : ""}`);
  if (connection.next_attempt_ms !== undefined && connection.next_attempt_ms !== null) parts.push(`next attempt in ${duration(connection.next_attempt_ms)}`);
  if (connection.attempt > 1) parts.push(`attempt ${connection.attempt}`);
  if (connection.age_ms > 0) parts.push(`open for ${duration(connection.age_ms)}`);
  if (connection.uses > 0) parts.push(`lent ${connection.uses} times`);
  if (connection.error) parts.push(plain(connection.error, 160));
  return parts.join(" · ");
}

// Who holds a lease, or waits: as much as the program knows.
export function holder(one) {
  return [one.owner, one.task, one.site].filter((part) => part !== undefined && part !== null && part !== "").map((part) => plain(part, 120)).join(" · ");
}
