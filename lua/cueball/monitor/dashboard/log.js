// What happened: the records of the program's log, the newest first, with a filter.
import { attribute, byId, h, keyed, setText } from "./dom.js";
import { clock, number, plain } from "./format.js";

const KEPT_MAX = 2000;
const SHOWN_MAX = 200;
const LEVELS = ["debug", "info", "warn", "error"];
const SIGNS = { debug: "·", info: "○", warn: "▲", error: "✕" };

export class Log {
  constructor() {
    this.records = []; // the newest last
    this.count = 0;
    this.pool = null;
    this.filter = byId("log-filter");
    this.level = byId("log-level");
    this.all = byId("log-all");
    for (const node of [this.filter, this.level, this.all]) node.addEventListener("input", () => this.show(this.pool));
  }

  add(record) {
    this.count += 1;
    this.records.push({ ...record, number: this.count });
    if (this.records.length > KEPT_MAX) this.records.splice(0, this.records.length - KEPT_MAX);
  }

  matches(record, wanted, least) {
    if (LEVELS.indexOf(record.level) < least) return false;
    if (!this.all.checked && this.pool && record.pool && record.pool !== this.pool) return false;
    if (!wanted) return true;
    return [record.message, record.backend, record.event, record.cause, record.pool].some((text) => text && String(text).toLowerCase().includes(wanted));
  }

  show(pool) {
    this.pool = pool;
    const wanted = this.filter.value.trim().toLowerCase();
    const least = Number(this.level.value);
    const list = [];
    let matching = 0;
    for (let index = this.records.length - 1; index >= 0; index -= 1) {
      if (!this.matches(this.records[index], wanted, least)) continue;
      matching += 1;
      if (list.length < SHOWN_MAX) list.push(this.records[index]);
    }
    const hidden = matching > list.length ? `, the last ${list.length} are shown` : "";
    setText(byId("log-count"), this.records.length === 0 ? "none yet" : `${number(matching)} of ${number(this.records.length)}${hidden}`);
    keyed(byId("log"), list, (one) => one.number, (one) => this.create(one), (node) => {
      attribute(node.querySelector(".in"), "hidden", !this.all.checked);
    });
  }

  create(record) {
    const level = LEVELS.includes(record.level) ? record.level : "info";
    const held = record.fields && record.fields.held_back > 0 ? ` (and ${record.fields.held_back} alike)` : "";
    return h("li", { "data-level": level },
      h("time", {}, clock(record.time_s)), h("span", { class: "sign", title: level, role: "img", "aria-label": level }, SIGNS[level]),
      h("span", { class: "in quiet" }, plain(record.pool || "", 60)),
      h("span", { class: "what" }, plain(record.message || record.event || "", 500) + held));
  }
}
