// The four signals of a pool, as charts, and its rates in words.
import { Chart } from "./chart.js";
import { attribute, byId, h, keyed, setText } from "./dom.js";
import { duration, number, percent } from "./format.js";
import { rate } from "./history.js";

const CHARTS = [
  { name: "utilisation", title: "Utilisation", help: "leased connections, of those that are open", unit: percent, most: 1 },
  { name: "waiting", title: "Waiting", help: "claims in the queue", unit: number, least: 4 },
  { name: "claim_p99_ms", title: "Claim p99", help: "of 100 claims, 99 waited no longer", unit: duration, least: 1 },
  { name: "churn_per_s", title: "Churn", help: "connections opened and closed in a second", unit: (value) => `${number(value)}/s`, least: 1 },
];
const SPANS = [[60, "1 min"], [300, "5 min"], [900, "15 min"]];

export class Signals {
  constructor() {
    this.charts = CHARTS.map((options) => new Chart(options));
    byId("signals").append(...this.charts.map((chart) => chart.node));
    this.spanS = 300;
    for (const [seconds, label] of SPANS) {
      const button = h("button", { type: "button", "aria-pressed": String(seconds === this.spanS) }, label);
      button.addEventListener("click", () => this.choose(seconds));
      byId("spans").append(button);
    }
  }

  choose(seconds) {
    this.spanS = seconds;
    [...byId("spans").children].forEach((button, index) => attribute(button, "aria-pressed", String(SPANS[index][0] === seconds)));
    if (this.shown) this.show(...this.shown);
  }

  show(history, nowS) {
    this.shown = [history, nowS];
    // A page that was just opened has little to show: its charts grow into the time that was chosen.
    const age = history.length > 0 ? nowS - history.timeAt(0) : 0;
    const spanS = Math.min(this.spanS, Math.max(SPANS[0][0], age));
    for (const chart of this.charts) chart.show(history, nowS, spanS);
  }
}

const RATES = [
  ["claims", "claims", false], ["granted", "granted", false], ["claim_timeouts", "timed out", true], ["claims_refused", "refused", true],
  ["opened", "opened", false], ["open_failures", "attempts failed", true], ["lost", "lost", true],
];

// Rates of the last second or so: those of what goes wrong only where it does.
export function showRates(before, after, seconds) {
  const list = [];
  for (const [name, label, isBad] of RATES) {
    const value = rate(before, after, name, seconds);
    if (Number.isFinite(value) && (!isBad || value > 0)) list.push({ name, label, isBad, value });
  }
  keyed(byId("pool-rates"), list, (one) => one.name, () => h("span", {}, h("b"), " ", h("span")), (node, one) => {
    attribute(node, "class", one.isBad ? "bad" : null);
    setText(node.firstChild, `${number(one.value)}/s`);
    setText(node.lastChild, one.label);
  });
}
