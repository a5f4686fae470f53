// A chart of one signal: a line over the last minutes, its scale, and a cross that reads values, by pointer or by arrow keys.
import { attribute, h, setText, svg } from "./dom.js";
import { clock, duration } from "./format.js";

const HEIGHT = 100;

// The top of a scale: 1, 2 or 5 times a power of ten.
export function ceiling(value, least) {
  if (!(value > least)) return least;
  const power = 10 ** Math.floor(Math.log10(value));
  for (const step of [1, 2, 5, 10]) if (value <= step * power * 1.000001) return step * power;
  return value;
}

export class Chart {
  // options: { name, title, help, unit(value) → text, least: the least top of the scale, most: a fixed one }
  constructor(options) {
    this.options = options;
    this.value = h("output", { class: "value" });
    this.top = h("span", { class: "scale top" });
    this.read = h("span", { class: "read quiet" });
    this.line = svg("path", { class: "line" });
    this.area = svg("path", { class: "area" });
    this.marks = svg("path", { class: "mark" });
    this.cross = svg("path", { class: "cross" });
    this.picture = svg("svg", { viewBox: `0 0 1000 ${HEIGHT}`, preserveAspectRatio: "none", role: "img", tabindex: "0" },
      svg("path", { class: "grid", d: `M0 ${HEIGHT / 2}H1000M0 .5H1000` }), this.area, this.line, this.marks, this.cross);
    this.node = h("figure", { class: "card chart", "data-signal": options.name },
      h("figcaption", { title: options.help }, h("span", {}, options.title), this.read), this.value, h("div", { class: "plot" }, this.top, this.picture));
    this.at = null; // the time that is read
    this.watch();
  }

  watch() {
    this.picture.addEventListener("pointermove", (event) => {
      const box = this.picture.getBoundingClientRect();
      this.point(this.from + ((event.clientX - box.left) / box.width) * this.spanS);
    });
    this.picture.addEventListener("pointerleave", () => this.point(null));
    this.picture.addEventListener("blur", () => this.point(null));
    this.picture.addEventListener("keydown", (event) => {
      const step = { ArrowLeft: -1, ArrowRight: 1 }[event.key];
      if (!step) return;
      event.preventDefault();
      this.point((this.at ?? this.now) + step * (this.spanS / 60));
    });
  }

  point(time) {
    this.at = time === null || !this.shown ? null : Math.min(this.now, Math.max(this.from, time));
    this.draw();
  }

  show(history, nowS, spanS) {
    this.shown = history;
    this.now = nowS;
    this.spanS = spanS;
    this.from = nowS - spanS;
    this.draw();
  }

  draw() {
    if (!this.shown) return;
    const runs = this.shown.runs(this.options.name, this.from);
    const flat = runs.flat();
    const most = flat.reduce((sum, [, value]) => Math.max(sum, value), 0);
    const top = this.options.most ?? ceiling(most, this.options.least);
    const last = flat.length > 0 ? flat[flat.length - 1][1] : NaN;
    const x = (time) => (((time - this.from) / this.spanS) * 1000).toFixed(1);
    const y = (value) => (HEIGHT - 1 - (Math.min(value, top) / top) * (HEIGHT - 4)).toFixed(1);
    const pathOf = (run) => run.map(([time, value], index) => `${index ? "L" : "M"}${x(time)} ${y(value)}`).join("");
    attribute(this.line, "d", runs.map(pathOf).join(""));
    attribute(this.area, "d", runs.map((run) => `${pathOf(run)}L${x(run[run.length - 1][0])} ${HEIGHT}L${x(run[0][0])} ${HEIGHT}Z`).join(""));
    attribute(this.marks, "d", this.shown.marks.filter((time) => time >= this.from).map((time) => `M${x(time)} 0V${HEIGHT}`).join(""));
    setText(this.value, Number.isFinite(last) ? this.options.unit(last) : "–");
    setText(this.top, this.options.unit(top));
    const said = `now ${this.value.textContent}, at most ${this.options.unit(most)}`;
    attribute(this.picture, "aria-label", `${this.options.title}, last ${duration(this.spanS * 1000)}: ${said}`);
    this.readAt(flat, x, most);
  }

  readAt(flat, x, most) {
    if (this.at === null || flat.length === 0) {
      attribute(this.cross, "d", "");
      setText(this.read, flat.length > 0 ? `most ${this.options.unit(most)}` : "");
      return;
    }
    let near = flat[0];
    for (const sample of flat) if (Math.abs(sample[0] - this.at) < Math.abs(near[0] - this.at)) near = sample;
    attribute(this.cross, "d", `M${x(near[0])} 0V${HEIGHT}`);
    setText(this.read, `${clock(near[0])}: ${this.options.unit(near[1])}`);
  }
}
