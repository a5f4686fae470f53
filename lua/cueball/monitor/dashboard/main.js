// The page: takes what comes from the program, and shows it. Everything is drawn anew from the last snapshot; nothing is kept but history.
import { Backends } from "./backends.js";
import { Claims } from "./claims.js";
import { attribute, byId, reckonFrom, setText } from "./dom.js";
import { clock, counting, duration, plain } from "./format.js";
import { History } from "./history.js";
import { startKeys } from "./keys.js";
import { Log } from "./log.js";
import { Notices } from "./notice.js";
import { Pools } from "./pools.js";
import { Signals, showRates } from "./signals.js";
import { Slots } from "./slots.js";
import { condition, signalsOf } from "./state.js";
import { Stream, token } from "./stream.js";
import { Theme } from "./theme.js";
import { WhatIf } from "./whatif.js";

const TICK_MS = 500;
const OLD_MS = 7000; // a snapshot comes each second; a stream in which nothing comes is cut before
const HISTORIES_MAX = 2000;

class Page {
  constructor() {
    this.snapshot = null;
    this.before = null;        // the snapshot before that
    this.histories = new Map(); // by the name of the pool
    this.conditions = new Map();
    this.isPaused = false;
    this.link = { kind: "connecting" };
    this.isTrying = false; // again, while there is no connection
    this.isSilent = false; // there is one, and no snapshots come
    this.theme = new Theme();
    this.pools = new Pools(() => this.draw());
    this.parts = [new Slots(), new Backends(() => this.draw()), new Claims(), new WhatIf()];
    this.signals = new Signals();
    this.log = new Log();
    this.stream = new Stream({
      snapshot: (table) => this.take(table), record: (record) => this.hear(record), link: (state) => this.linked(state),
      choose: (table) => this.pools.current(table.pools || [])?.name ?? null,
    });
    this.notices = new Notices(() => this.stream.again(), (text) => { token.set(text); this.stream.again(); });
  }

  start() {
    byId("pause").addEventListener("click", () => this.pause());
    startKeys({ pause: () => this.pause(), theme: () => this.theme.next(), pools: this.pools, retry: () => this.stream.again() });
    document.addEventListener("visibilitychange", () => this.draw());
    setInterval(() => this.tick(), TICK_MS);
    this.stream.run();
  }

  // ------------------------------------------------------------------ what comes --
  take(table) {
    if (!table || !Array.isArray(table.pools)) return;
    this.noticeRestart(table);
    this.before = this.snapshot;
    this.snapshot = table;
    this.came = { at: performance.now(), ms: Date.now() };
    this.forgetGone(table.pools);
    for (const pool of table.pools) {
      if (!this.histories.has(pool.name) && this.histories.size < HISTORIES_MAX) this.histories.set(pool.name, new History());
      this.histories.get(pool.name)?.add(table.time_s, signalsOf(pool));
      this.noticeBackends(pool);
    }
    this.drawSoon();
  }

  // A page may be open for months, and pools come and go: what is kept is bounded.
  forgetGone(pools) {
    if (this.histories.size < HISTORIES_MAX) return;
    const there = new Set(pools.map((pool) => pool.name));
    for (const name of this.histories.keys()) if (!there.has(name)) this.histories.delete(name);
  }

  hear(record) {
    this.log.add(record);
    this.drawSoon();
  }

  linked(state) {
    if (state.kind === this.link.kind && state.kind === "open") return;
    // While it is tried again the page says what it said before: that it has no connection.
    this.isTrying = state.kind === "connecting" && state.failures > 0;
    if (this.isTrying) return void this.showLink();
    if (state.kind === "cut" && this.link.kind !== "cut") this.notices.say("No connection to the program");
    if (state.kind === "open" && this.link.kind === "cut") this.notices.say("Connected to the program again");
    this.link = state;
    this.tick();
  }

  // How the connection is, and how old what is shown is, where that is not a second at most.
  showLink() {
    const { kind } = this.link;
    const isCut = kind === "cut" || kind === "locked";
    const { snapshot, came } = this.shown();
    // A computer that was asleep had no performance.now() meanwhile; a clock that was set has another Date.now().
    const ageMs = snapshot ? Math.max(performance.now() - came.at, Date.now() - came.ms) : 0;
    const isSilent = !isCut && !this.isPaused && ageMs > OLD_MS;
    if (isSilent && !this.isSilent) this.notices.say("The program tells nothing new");
    this.isSilent = isSilent;
    attribute(byId("link"), "data-kind", isSilent ? "cut" : kind);
    setText(byId("link-text"), this.isTrying ? "connecting" : isSilent ? "nothing new" : WORDS_OF_LINK[kind]);
    attribute(document.body, "data-stale", isCut || isSilent);
    this.notices.link(this.link, snapshot && { isPaused: this.isPaused, isSilent, timeS: snapshot.time_s, ageMs });
  }

  noticeRestart(table) {
    const then = this.snapshot && this.snapshot.process;
    const now = table.process;
    if (!then || !now) return;
    const began = (process, timeS) => process.started_s ?? timeS - process.age_s;
    const moved = Math.abs(began(now, table.time_s) - began(then, this.snapshot.time_s));
    if (then.pid === now.pid && !(moved > 3)) return;
    const began_s = began(now, table.time_s);
    const mark = Number.isFinite(began_s) ? Math.max(began_s, this.snapshot.time_s + 0.001) : table.time_s;
    for (const history of this.histories.values()) history.mark(mark);
    this.snapshot = null;
    this.conditions.clear();
    const when = Number.isFinite(began_s) ? ` at ${clock(began_s)}` : "";
    const pids = `pid ${plain(then.pid, 20)}, now ${plain(now.pid, 20)}`;
    const text = isOther(then, now) ? `Another worker answers: ${plain(now.role, 40)} (${pids}). What is shown is its own.`
      : `The process was started anew${when} (${pids}). Its counts began at 0.`;
    this.notices.set("restart", { kind: "new", text });
    this.notices.say(text);
  }

  noticeBackends(pool) {
    for (const backend of pool.backends || []) {
      const key = `${pool.name}\n${backend.key}`;
      const { name, label } = condition(backend);
      const before = this.conditions.get(key);
      this.conditions.set(key, name);
      if (before && before !== name) this.notices.say(`${plain(pool.name, 40)}: ${plain(backend.name || backend.key, 60)} is ${label}`);
    }
    if (this.conditions.size > 20000) this.conditions.clear();
  }

  // --------------------------------------------------------------------- drawing --
  pause() {
    this.isPaused = !this.isPaused;
    attribute(byId("pause"), "aria-pressed", String(this.isPaused));
    setText(byId("pause"), this.isPaused ? "Go on" : "Pause");
    this.drawn = null;
    this.draw();
  }

  drawSoon() {
    if (this.isPaused || document.hidden || this.isDue) return;
    this.isDue = true;
    requestAnimationFrame(() => { this.isDue = false; this.draw(); });
  }

  shown() {
    const { snapshot, before, came } = this;
    return this.isPaused ? (this.drawn ??= { snapshot, before, came }) : { snapshot, before, came };
  }

  draw() {
    if (document.hidden) return;
    const shown = this.shown();
    if (!shown.snapshot) return;
    reckonFrom(shown.came.at);
    this.showProcess(shown.snapshot);
    this.pools.show(shown.snapshot.pools);
    const pool = this.pools.shown;
    byId("pool").hidden = !pool;
    byId("empty").hidden = Boolean(pool);
    setText(byId("empty"), "This process has no pools at present.");
    if (pool) this.stream.turnTo(pool.name);
    if (pool && !pool.is_brief) this.showPool(pool, shown);
    attribute(byId("pool"), "aria-busy", pool && pool.is_brief ? "true" : null);
    this.tick();
  }

  showProcess({ process = {}, version, time_s }) {
    const parts = [process.role, process.pid && `pid ${process.pid}`, process.host, process.age_s >= 0 && `up ${duration(process.age_s * 1000)}`,
      version && `cueball ${version}`].filter(Boolean).map((part) => plain(part, 60));
    setText(byId("process"), parts.join(" · "));
    attribute(byId("process"), "title", `as of ${clock(time_s)}`);
  }

  showPool(pool, { snapshot, before }) {
    setText(byId("pool-name"), plain(pool.name, 120));
    document.title = `${plain(pool.name, 60)} · cueball`;
    setText(byId("pool-state"), plain(pool.state, 30));
    attribute(byId("pool-state"), "data-condition", { running: "up", starting: "going_up", failed: "dead" }[pool.state] || "removed");
    byId("pool-paused").hidden = !pool.is_paused;
    const last = before && before.pools.find((one) => one.name === pool.name);
    showRates(last && last.stats, pool.stats || {}, before ? snapshot.time_s - before.time_s : 0);
    this.showProblems(pool);
    const history = this.histories.get(pool.name);
    if (history) this.signals.show(history, snapshot.time_s);
    for (const part of this.parts) part.show(pool);
    this.log.show(pool.name);
  }

  showProblems(pool) {
    const { resolver, stats = {} } = pool;
    const parts = [];
    if (resolver && resolver.is_failing) parts.push(`The resolver has failed for ${duration(resolver.since_ms)}: ${plain(resolver.message)}`);
    if (stats.overloaded > 0) parts.push("The pool is overloaded: claims wait longer than they should");
    if (pool.state === "failed") parts.push(`The pool has failed: claims are refused${pool.last_error ? `. The last error: ${plain(pool.last_error)}` : ""}`);
    byId("pool-problem").hidden = parts.length === 0;
    setText(byId("pool-problem"), parts.length > 0 ? `${parts.join(". ")}.` : "");
  }

  // Times go on between snapshots; where what is shown is old, they are those of the snapshot.
  tick() {
    if (document.hidden) return;
    this.showLink();
    const now = performance.now();
    const isOld = document.body.hasAttribute("data-stale") || this.isPaused;
    const then = isOld && this.shown().snapshot ? this.shown().came.at : now;
    for (const node of document.querySelectorAll("[data-since]")) setText(node, counting(then - node.dataset.since));
    for (const node of document.querySelectorAll("[data-until]")) {
      const isOwn = node.dataset.before === "again"; // the page's own clock
      setText(node, countdown(node.dataset.before, node.dataset.until - (isOwn ? now : then)));
    }
  }
}

// Workers of one server answer at one address.
const isOther = (then, now) => /^worker /.test(now.role || "") && then.role !== now.role;

const WORDS_OF_LINK = { open: "live", polling: "live, without events", cut: "no connection", locked: "locked", connecting: "connecting" };
const WORDS = { tried: "tried again", back: "back", again: "Trying again" };

function countdown(kind, ms) {
  if (kind === "bare") return counting(ms);
  const seconds = Math.ceil(Math.round(ms) / 1000);
  return seconds > 0 ? `${WORDS[kind]} in ${seconds < 60 ? `${seconds} s` : duration(seconds * 1000)}` : `${WORDS[kind]} now`;
}

new Page().start();
