// What comes from the program: snapshots and events, over one stream that is opened again whenever it is cut.
//
// It is fetch, not EventSource: that one cannot send a token, and gives up for good at the first answer that is an error.

const SILENCE_MS = 5000;        // a snapshot comes each second
const POLL_MS = 2000;           // where there is no stream to be had
const DELAYS_MS = [500, 1000, 2000, 4000, 8000];
const JITTER = 0.5;             // of a delay: pages that lost a program together do not come back together
const BUFFER_MAX = 64 * 1024 * 1024;
const NO_STREAM = new Set([404, 405, 406, 501, 503]);

const wait = (ms, signal) => new Promise((resolve) => {
  if (signal.aborted) return void resolve();
  const timer = setTimeout(resolve, ms);
  signal.addEventListener("abort", () => { clearTimeout(timer); resolve(); }, { once: true });
});

const urlOf = (path) => new URL(path, document.baseURI);

// ------------------------------------------------------------------- the token --
const KEY = "cueball-token";

export const token = {
  get() { try { return sessionStorage.getItem(KEY); } catch { return null; } },
  set(text) { try { sessionStorage.setItem(KEY, text); } catch { /* asked again next time */ } },
};

function headersOf(more) {
  const headers = { ...more };
  if (token.get()) headers.Authorization = `Bearer ${token.get()}`;
  return headers;
}

class Refused extends Error {
  constructor(status, message) {
    super(message);
    this.status = status;
  }
}

async function ask(path, accept, signal, more) {
  const answer = await fetch(urlOf(path), { headers: headersOf({ Accept: accept, ...more }), signal, cache: "no-store", redirect: "error" });
  if (answer.ok) return answer;
  const text = (await answer.text()).slice(0, 2000);
  let said = text;
  try { said = JSON.parse(text).error || text; } catch { /* not JSON: as it is */ }
  throw new Refused(answer.status, said || `the answer was ${answer.status}`);
}

export async function askJson(path, signal) {
  return (await ask(path, "application/json", signal)).json();
}

// -------------------------------------------------------- server-sent events --
// Reads the text of a stream as it comes: calls found({ event, data, id }) for each whole event.
export class EventReader {
  constructor(found) {
    this.found = found;
    this.rest = []; // of a line that has not ended: a long one comes in many pieces, and each is looked at once
    this.size = 0;
    this.begin();
  }

  begin() { this.event = ""; this.data = []; this.id = undefined; }

  read(text) {
    this.rest.push(text);
    this.size += text.length;
    if (this.size > BUFFER_MAX) throw new Error("an event that does not end");
    if (!/[\r\n]/.test(text) && !this.endsInReturn) return;
    const lines = this.rest.join("").split(/\r\n|\n|\r(?!$)/);
    const last = lines.pop();
    this.rest = [last];
    this.size = last.length;
    this.endsInReturn = last.endsWith("\r"); // a line feed may belong to it
    for (const line of lines) this.line(line);
  }

  line(line) {
    if (line === "") {
      if (this.data.length > 0) this.found({ event: this.event || "message", data: this.data.join("\n"), id: this.id });
      this.begin();
      return;
    }
    const colon = line.indexOf(":");
    const name = colon < 0 ? line : line.slice(0, colon);
    const value = colon < 0 ? "" : line.slice(colon + 1).replace(/^ /, "");
    if (name === "event") this.event = value;
    else if (name === "data") this.data.push(value);
    else if (name === "id") this.id = value;
  }
}

// ------------------------------------------------------------------ the stream --
// on.snapshot(table), on.record(table), on.link({ kind, message, retryAt }): kind is connecting, open, polling, cut or locked.
// on.choose(table) → the name of the pool that is wanted in detail: of the others snapshots need not have more than a line.
export class Stream {
  constructor(on) {
    this.on = on;
    this.pool = null;
    this.control = new AbortController();
    this.lastId = null;
    this.failures = 0;
    this.isStopped = false;
    this.waiting = new AbortController();
  }

  async run() {
    while (!this.isStopped) {
      this.on.link({ kind: "connecting", failures: this.failures });
      let problem = null;
      try {
        if (await this.follow() === "polled") continue; // it was well, and the stream may be to be had now
        problem = new Error("the stream ended");
      } catch (error) {
        problem = error;
      }
      if (!this.isStopped) await this.pause(problem);
    }
  }

  stop() {
    this.isStopped = true;
    this.again();
  }

  // Tries at once, if it pauses.
  again() { this.waiting.abort(); }

  // Another pool is to be seen: the stream is opened anew, and goes on after the last event that came.
  turnTo(pool) {
    if (this.pool === null || pool === this.pool) return;
    this.pool = pool;
    if (this.isPolling) return void this.again();
    this.isTurning = true;
    this.control.abort();
  }

  path(name) { return this.pool === null ? name : `${name}?${new URLSearchParams({ pool: this.pool })}`; }

  async pause(problem) {
    if (this.isTurning) {
      this.isTurning = false;
      return;
    }
    const isLocked = problem.status === 401 || problem.status === 403;
    const delay = DELAYS_MS[Math.min(this.failures, DELAYS_MS.length - 1)] * (1 - JITTER * Math.random());
    this.failures += 1;
    this.waiting = new AbortController();
    const retryAt = isLocked ? null : performance.now() + delay;
    this.on.link({ kind: isLocked ? "locked" : "cut", message: wordsOf(problem), status: problem.status, retryAt });
    await wait(isLocked ? 2 ** 31 - 1 : delay, this.waiting.signal);
  }

  async follow() {
    try {
      if (this.pool === null) {
        const pool = this.on.choose(await askJson("snapshot?limit=1", AbortSignal.timeout(2 * SILENCE_MS)));
        if (pool !== null) this.pool = pool;
      }
      await this.listen();
      return "ended";
    } catch (error) {
      if (!NO_STREAM.has(error.status)) throw error;
      return this.poll();
    }
  }

  async listen() {
    const control = new AbortController();
    this.control = control;
    let heard = performance.now();
    const watch = setInterval(() => {
      if (performance.now() - heard > SILENCE_MS) control.abort(new Error("nothing came for 5 s"));
    }, 1000);
    try {
      const answer = await ask(this.path("events"), "text/event-stream", control.signal, this.lastId === null ? {} : { "Last-Event-ID": this.lastId });
      const text = new TextDecoder();
      const reader = new EventReader((event) => this.take(event));
      const body = answer.body.getReader();
      for (;;) {
        const { done, value } = await body.read();
        if (done || this.isStopped) return;
        heard = performance.now();
        reader.read(text.decode(value, { stream: true }));
      }
    } finally {
      clearInterval(watch);
      control.abort();
    }
  }

  take({ event, data, id }) {
    if (id !== undefined) this.lastId = id;
    if (event !== "snapshot" && event !== "record") return;
    const table = JSON.parse(data);
    if (event === "record") return void this.on.record(table);
    this.failures = 0; // not before: who is only let in and sent away would be asked again and again
    this.on.link({ kind: "open" });
    this.on.snapshot(table);
  }

  // Snapshots alone, and now and then the stream again.
  async poll() {
    this.isPolling = true;
    try {
      for (let turn = 0; turn < 15 && !this.isStopped; turn += 1) {
        this.waiting = new AbortController();
        const table = await askJson(this.pool === null ? "snapshot" : `snapshot?${new URLSearchParams({ focus: this.pool })}`, AbortSignal.timeout(SILENCE_MS));
        this.failures = 0;
        this.on.link({ kind: "polling" });
        this.on.snapshot(table);
        await wait(POLL_MS, this.waiting.signal);
      }
      return "polled";
    } finally {
      this.isPolling = false;
    }
  }
}

function wordsOf(problem) {
  if (problem instanceof Refused) return `${problem.status}: ${problem.message}`;
  if (problem instanceof SyntaxError) return "what came was not JSON";
  if (problem.name === "TimeoutError") return "no answer came in time";
  if (problem.name === "TypeError") return "the program does not answer";
  return problem.message;
}
