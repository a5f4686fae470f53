// The list of pools, where there are several. Which one is shown stands in the page's address, so that it can be passed on.
import { attribute, byId, h, keyed, more, setText } from "./dom.js";
import { inOrder, number, percent, plain } from "./format.js";
import { isUnhealthy, signalsOf } from "./state.js";

const SHOWN_MAX = 200;
const FILTER_FROM = 9;

function backendsOf({ backends, stats = {} }) {
  if (backends) return [backends.filter(isUnhealthy).length, backends.length];
  return [(stats.dead_backends || 0) + (stats.ejected_backends || 0), stats.backends];
}

function problemOf(pool) {
  if (pool.state === "failed") return "failed";
  if (pool.is_paused) return "paused";
  const [count, all] = backendsOf(pool);
  if (count > 0) return `${count} of ${all} backends`;
  if (pool.resolver && pool.resolver.is_failing) return "resolver";
  return pool.state === "running" ? "" : pool.state;
}

export class Pools {
  constructor(chosen) {
    this.onChoose = chosen;
    this.filter = byId("pool-filter");
    this.filter.addEventListener("input", () => this.show(this.list || []));
    addEventListener("hashchange", () => this.onChoose());
  }

  get wanted() { return new URLSearchParams(location.hash.slice(1)).get("pool"); }

  // The one that is to be shown: that of the address, or the first.
  current(list) { return list.find((pool) => pool.name === this.wanted) || this.sorted(list)[0] || null; }

  sorted(list) { return [...list].sort((a, b) => inOrder(a.name, b.name)); }

  choose(name) { location.hash = new URLSearchParams({ pool: name }).toString(); }

  step(by) {
    const list = this.sorted(this.list || []);
    const at = list.findIndex((pool) => pool === this.shown);
    const next = list[(at + by + list.length) % list.length];
    if (next) this.choose(next.name);
  }

  show(list) {
    this.list = list;
    this.shown = this.current(list);
    byId("pools").hidden = list.length < 2;
    attribute(byId("frame"), "data-pools", list.length < 2 ? null : "several");
    this.filter.hidden = list.length < FILTER_FROM;
    const text = this.filter.value.trim().toLowerCase();
    const found = this.sorted(list).filter((pool) => !text || pool.name.toLowerCase().includes(text));
    keyed(byId("pool-list"), found.slice(0, SHOWN_MAX), (pool) => pool.name, (pool) => this.create(pool.name), (node, pool) => this.fill(node, pool));
    more(byId("pool-more"), found.length - SHOWN_MAX, "pools: filter them");
  }

  create(name) {
    const button = h("button", { type: "button" },
      h("span", { class: "name" }, plain(name, 80)), h("span", { class: "quiet facts" }), h("span", { class: "problem" }));
    button.addEventListener("click", () => this.choose(name));
    return h("li", {}, button);
  }

  fill(node, pool) {
    const [, facts, problem] = node.firstChild.children;
    const signals = signalsOf(pool);
    attribute(node.firstChild, "aria-current", pool === this.shown ? "true" : null);
    setText(facts, `${percent(signals.utilisation)} leased${signals.waiting > 0 ? `, ${number(signals.waiting)} wait` : ""}`);
    setText(problem, plain(problemOf(pool), 60));
  }
}
