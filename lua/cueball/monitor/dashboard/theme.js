// Dark or light: as the system has it, or as was chosen.
import { attribute, byId, setText } from "./dom.js";

const KEY = "cueball-theme";
const THEMES = ["system", "dark", "light"];

function stored() {
  try { return localStorage.getItem(KEY); } catch { return null; }
}

export class Theme {
  constructor() {
    this.set(THEMES.includes(stored()) ? stored() : "system");
    byId("theme").addEventListener("click", () => this.next());
  }

  set(name) {
    this.name = name;
    attribute(document.documentElement, "data-theme", name === "system" ? null : name);
    setText(byId("theme-name"), name);
    try { localStorage.setItem(KEY, name); } catch { /* it lasts as long as the page */ }
  }

  next() { this.set(THEMES[(THEMES.indexOf(this.name) + 1) % THEMES.length]); }
}
