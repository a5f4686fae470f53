// A row for each backend: how it is and since when, what it has and may have, what is wrong and when it is tried again.
import { attribute, byId, h, keyed, more, setText, since, until } from "./dom.js";
import { duration, inOrder, percent, plain } from "./format.js";
import { condition, isUnhealthy, limitOf, reason } from "./state.js";

const ROWS_MAX = 300;
const QUIET = new Set(["up", "standby"]); // nothing has to be said of them

function cell(label, attributes, ...children) {
  return h("td", { role: "cell", "data-label": label, ...attributes }, ...children);
}

function newRow() {
  const node = h("tr", { role: "row" },
    h("th", { role: "rowheader", scope: "row" }, h("span", { class: "name" }), h("span", { class: "quiet address" })),
    cell("State", { class: "state" }, h("span", { class: "badge" }), h("span", { class: "quiet since" }), h("span", { class: "why" })),
    cell("Now / most / limit", { class: "counts" }, h("span", { class: "figures" }),
      h("span", { class: "meter", "aria-hidden": "true" }, h("i", { class: "busy" }), h("i", { class: "idle" }), h("i", { class: "trying" }))),
    cell("Leased", { class: "number" }), cell("Latency", { class: "number" }), cell("Success", { class: "number" }));
  node.parts = {
    name: node.querySelector(".name"), address: node.querySelector(".address"), badge: node.querySelector(".badge"), since: node.querySelector(".since"),
    why: node.querySelector(".why"), figures: node.querySelector(".figures"), meter: node.querySelector(".meter"), numbers: [...node.children].slice(3),
  };
  const reasonText = h("span", { class: "reason" });
  const next = h("span", { class: "next" });
  node.parts.why.append(reasonText, next);
  node.parts.reason = reasonText;
  node.parts.next = next;
  return node;
}

function addressOf(backend) {
  const place = backend.address && backend.port ? `${backend.address}:${backend.port}` : backend.key;
  return backend.name && backend.name !== place ? place : "";
}

const textsOf = (one) => [one.key, one.name, one.reason, one.error, condition(one).label];

export class Backends {
  constructor(changed) {
    this.filter = byId("backend-filter");
    this.only = byId("only-unhealthy");
    this.filter.addEventListener("input", changed);
    this.only.addEventListener("change", changed);
  }

  show(pool) {
    const all = pool.backends || [];
    const wanted = this.filter.value.trim().toLowerCase();
    const unhealthy = all.filter(isUnhealthy);
    const list = (this.only.checked ? unhealthy : all)
      .filter((one) => !wanted || textsOf(one).some((text) => text && String(text).toLowerCase().includes(wanted)))
      .sort((a, b) => inOrder(a.key, b.key));
    setText(byId("backends-count"), all.length === 0 ? "none is known" : `${all.length}${unhealthy.length > 0 ? `, ${unhealthy.length} unhealthy` : ""}`);
    keyed(byId("backend-rows"), list.slice(0, ROWS_MAX), (one) => one.key, newRow, (node, one) => this.fill(node, one, pool));
    more(byId("backends-more"), list.length - ROWS_MAX, "backends: filter them");
  }

  fill(node, backend, pool) {
    const { parts } = node;
    const where = condition(backend);
    attribute(node, "data-condition", where.name);
    attribute(parts.badge, "data-condition", where.name);
    setText(parts.name, plain(backend.name || backend.key, 120));
    setText(parts.address, plain(addressOf(backend), 120));
    setText(parts.badge, `${where.sign} ${where.label}`);
    since(parts.since, backend.since_ms);
    const why = QUIET.has(where.name) ? "" : reason(backend, where.name);
    setText(parts.reason, why);
    attribute(parts.why, "hidden", QUIET.has(where.name));
    until(parts.next, backend.next_attempt_ms >= 0 && !QUIET.has(where.name) ? backend.next_attempt_ms : null);
    parts.next.dataset.before = backend.state === "ejected" ? "back" : "tried";
    this.counts(parts, backend, pool);
    setText(parts.numbers[0], backend.busy);
    setText(parts.numbers[1], backend.latency_ms > 0 ? duration(backend.latency_ms) : "–");
    setText(parts.numbers[2], backend.success_rate !== undefined && backend.success_rate !== null ? percent(backend.success_rate) : "–");
  }

  counts(parts, backend, pool) {
    const now = (backend.idle || 0) + (backend.busy || 0);
    const most = backend.total_max || 0;
    const limit = limitOf(backend, pool);
    setText(parts.figures, `${now} / ${most} / ${limit ?? "–"}`);
    const whole = Math.max(limit ?? 0, backend.total || 0, most, 1);
    const widths = [backend.busy || 0, backend.idle || 0, backend.connecting || 0];
    [...parts.meter.children].forEach((bar, index) => bar.style.setProperty("width", `${((widths[index] / whole) * 100).toFixed(1)}%`));
  }
}
