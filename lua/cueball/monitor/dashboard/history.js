// The signals of one pool over the last minutes: a ring of samples, one a snapshot.

export const SIGNALS = ["utilisation", "waiting", "claim_p99_ms", "churn_per_s"];
const SAMPLES_MAX = 1000;
const GAP_S = 3.5; // a longer pause between two samples is a gap

export class History {
  constructor() {
    this.times = new Float64Array(SAMPLES_MAX);
    this.values = Object.fromEntries(SIGNALS.map((name) => [name, new Float32Array(SAMPLES_MAX)]));
    this.count = 0;
    this.marks = []; // when the process began anew
  }

  // Times never go back: a sample that is not later than the last one is left out.
  add(timeS, signals) {
    if (this.count > 0 && timeS <= this.timeAt(this.length - 1)) return;
    const at = this.count % SAMPLES_MAX;
    this.times[at] = timeS;
    for (const name of SIGNALS) this.values[name][at] = signals[name];
    this.count += 1;
  }

  mark(timeS) {
    this.marks.push(timeS);
    if (this.marks.length > 20) this.marks.shift();
  }

  get length() { return Math.min(this.count, SAMPLES_MAX); }

  indexOf(index) { return (this.count - this.length + index) % SAMPLES_MAX; }

  timeAt(index) { return this.times[this.indexOf(index)]; }

  valueAt(name, index) { return this.values[name][this.indexOf(index)]; }

  // The samples from a time on: lists of runs, each of [time, value]; a new run begins after a gap.
  runs(name, fromS) {
    const runs = [];
    let run = null;
    let last = -Infinity;
    for (let index = 0; index < this.length; index += 1) {
      const time = this.timeAt(index);
      if (time < fromS) continue;
      const value = this.valueAt(name, index);
      if (!Number.isFinite(value)) {
        run = null;
        continue;
      }
      if (!run || time - last > GAP_S || this.marks.some((mark) => mark > last && mark <= time)) {
        run = [];
        runs.push(run);
      }
      run.push([time, value]);
      last = time;
    }
    return runs;
  }
}

// How often something happened in a second, from two counts. A count that fell began anew.
export function rate(before, after, name, seconds) {
  if (!before || !(seconds > 0)) return NaN;
  const now = after[name];
  const then = before[name];
  if (!Number.isFinite(now) || !Number.isFinite(then)) return NaN;
  return Math.max(0, now >= then ? now - then : now) / seconds;
}
