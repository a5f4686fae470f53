// What the planner would do: asked for, never done.
import { attribute, byId, h, keyed } from "./dom.js";
import { duration, inOrder, plain, plural } from "./format.js";
import { askJson } from "./stream.js";

const CHOICES_MAX = 200;

export class WhatIf {
  constructor() {
    this.form = byId("whatif");
    this.answer = byId("whatif-answer");
    this.pool = null;
    this.form.addEventListener("submit", (event) => {
      event.preventDefault();
      this.ask();
    });
  }

  show(pool) {
    if (this.pool !== pool.name) {
      this.pool = pool.name;
      this.form.reset();
      this.answer.replaceChildren();
    }
    const list = (pool.backends || []).filter((one) => one.state !== "removed").sort((a, b) => inOrder(a.key, b.key)).slice(0, CHOICES_MAX);
    keyed(byId("whatif-remove"), list, (one) => one.key, (one) => {
      return h("label", {}, h("input", { type: "checkbox", name: "remove", value: one.key }), ` ${plain(one.name || one.key, 60)}`);
    }, () => {});
    attribute(byId("whatif-max"), "placeholder", pool.options && pool.options.max_connections);
    const spares = pool.options && pool.options.spares;
    attribute(byId("whatif-spares"), "placeholder", spares === undefined || spares === false ? "off" : spares);
  }

  query() {
    const query = new URLSearchParams({ pool: this.pool });
    for (const box of this.form.querySelectorAll('input[name="remove"]:checked')) query.append("remove", box.value);
    for (const key of byId("whatif-add").value.split(/[\s,]+/).filter(Boolean)) query.append("add", key);
    if (byId("whatif-max").value !== "") query.set("max_connections", byId("whatif-max").value);
    if (byId("whatif-spares").value !== "") query.set("spares", byId("whatif-spares").value);
    return query;
  }

  async ask() {
    const asked = this.pool;
    attribute(this.answer, "aria-busy", "true");
    try {
      const plan = await askJson(`plan?${this.query()}`, AbortSignal.timeout(10000));
      if (asked === this.pool) this.tell(plan);
    } catch (error) {
      if (asked === this.pool) this.answer.replaceChildren(h("p", { class: "problem" }, plain(error.message, 500)));
    }
    attribute(this.answer, "aria-busy", null);
  }

  tell(plan) {
    const before = plan.before || {};
    const after = plan.after || {};
    const keys = [...new Set([...Object.keys(before), ...Object.keys(after)])].sort(inOrder);
    const settles = Number.isFinite(plan.settle_ms) && plan.settle_ms > 0 ? `, settled after about ${duration(plan.settle_ms)}` : "";
    const rows = keys.map((key) => {
      const [was, becomes] = [before[key] || 0, after[key] || 0];
      const difference = becomes - was;
      return h("tr", { role: "row", "data-change": Math.sign(difference) },
        h("th", { role: "rowheader", scope: "row" }, plain(key, 80)), h("td", { role: "cell", class: "number" }, was),
        h("td", { role: "cell", class: "number" }, becomes),
        h("td", { role: "cell", class: "number" }, difference === 0 ? "=" : `${difference > 0 ? "+" : "−"}${Math.abs(difference)}`));
    });
    const heads = ["Backend", "Now", "Then", ""].map((text, index) => {
      return h("th", { role: "columnheader", scope: "col", class: index ? "number" : null }, text);
    });
    this.answer.replaceChildren(
      h("p", { class: "plan" }, `${plural(plan.opens || 0, "connection")} opened, ${plan.closes || 0} closed${settles}.`),
      h("table", { class: "rows small plain", role: "table", "aria-label": "The plan" },
        h("thead", { role: "rowgroup" }, h("tr", { role: "row" }, ...heads)), h("tbody", { role: "rowgroup" }, ...rows.slice(0, 300))));
    if (rows.length > 300) this.answer.append(h("p", { class: "line quiet" }, `… ${rows.length - 300} more backends`));
  }
}

