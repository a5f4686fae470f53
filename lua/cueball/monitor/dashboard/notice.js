// What stands above everything: that what is shown is old, that the process is another one, that a token is wanted. And what is told to those who listen.
import { attribute, byId, h, keyed, setText, until } from "./dom.js";
import { clock, counting, plain } from "./format.js";

const LASTING = new Set(["paused", "silent"]); // as long as it is so
const HEARD_MAX = 3; // changes that are read out at once

export class Notices {
  constructor(retry, takeToken) {
    this.shown = new Map();
    this.retry = retry;
    this.takeToken = takeToken;
    this.heard = []; // the first of what changed
    this.unheard = 0; // how many more
  }

  set(key, notice) {
    if (notice) this.shown.set(key, { key, ...notice });
    else if (!this.shown.delete(key)) return;
    this.draw();
  }

  draw() {
    keyed(byId("notices"), [...this.shown.values()], (one) => one.key, (one) => this.create(one), (node, one) => {
      attribute(node, "data-kind", one.kind);
      setText(node.querySelector(".text"), one.text);
      const next = node.querySelector(".next");
      const now = performance.now();
      if (next) until(next, one.retryAt ? one.retryAt - now : null, now);
      setText(node.querySelector(".age"), one.ageMs > 0 ? `That was ${counting(one.ageMs)} ago.` : "");
    });
  }

  create(one) {
    const node = h("div", { class: "notice", role: one.kind === "bad" ? "alert" : "status" }, h("span", { class: "text" }),
      h("span", { class: "age", "aria-live": "off" })); // what counts up is not read out each second
    if (one.key === "link") {
      const button = h("button", { type: "button" }, "Try now");
      button.addEventListener("click", this.retry);
      node.append(h("span", { class: "next", "data-before": "again", "aria-live": "off" }), button);
    } else if (one.key === "token") {
      node.append(this.tokenForm());
    } else if (!LASTING.has(one.key)) {
      const button = h("button", { type: "button", "aria-label": "Close this notice" }, "Close");
      button.addEventListener("click", () => this.set(one.key, null));
      node.append(button);
    }
    return node;
  }

  tokenForm() {
    const field = h("input", { type: "password", "aria-label": "Token", autocomplete: "off" });
    const form = h("form", { class: "token" }, field, h("button", {}, "Enter"));
    form.addEventListener("submit", (event) => {
      event.preventDefault();
      if (field.value) this.takeToken(field.value);
      field.value = "";
    });
    return form;
  }

  // How the connection is, and what is shown without one: shown = { isPaused, isSilent: snapshots no longer come, timeS, ageMs }, or null.
  link({ kind, message, retryAt, status }, shown) {
    const old = shown ? ` Shown is how it was at ${clock(shown.timeS)}.` : "";
    const say = (key, isSo, text, more) => this.set(key, isSo ? { kind: "bad", text: text + old, ageMs: shown?.ageMs, ...more } : null);
    say("paused", shown?.isPaused, "The page is paused.", { kind: "new" });
    say("link", kind === "cut", `No connection to the program: ${plain(message, 200)}.`, { retryAt });
    say("silent", shown?.isSilent, "The program answers, but tells nothing new.");
    say("token", kind === "locked", status === 403 ? `The program refuses: ${plain(message, 200)}. A token may help.` : "The program wants its token.");
  }

  // To screen readers: what is worth an interruption, and not more often than each 3 s.
  say(text) {
    if (this.heard.length < HEARD_MAX) this.heard.push(text);
    else this.unheard += 1;
    this.timer ??= setTimeout(() => {
      setText(byId("live"), this.heard.join(". ") + (this.unheard > 0 ? `. And ${this.unheard} more changes` : ""));
      this.heard = [];
      this.unheard = 0;
      this.timer = null;
    }, 3000);
  }
}
