// What is prepared, and what an operator can do about it.

import { ask } from "./api.js";
import { duration, make } from "./dom.js";

/** A branch that is this old waits for something: resolving takes a few seconds. */
const OLD_MS = 10_000;

const element = (id) => document.getElementById(id);

export class InDoubt {
  constructor() {
    element("resolve").addEventListener("close", () => this.resolve());
  }

  update(found) {
    // Nobody's click is to meet another row than he aimed at.
    if (element("resolve").open) return;
    const rows = found.shards.flatMap((shard) => {
      if (shard.error) return [this.unknown(shard)];
      return shard.branches.map((branch) => ({ ...branch, shard: shard.shard }));
    });
    rows.sort((one, other) => (other.age_ms ?? Infinity) - (one.age_ms ?? Infinity));
    const old = rows.filter((row) => row.error || row.age_ms >= OLD_MS).length;
    element("doubt-count").hidden = old === 0;
    element("doubt-count").textContent = old;
    element("no-doubts").hidden = rows.length > 0;
    element("doubts").replaceChildren(...rows.map((row) => this.row(row)));
  }

  unknown(shard) {
    return { shard: shard.shard, error: shard.error.message };
  }

  row(row) {
    if (row.error) {
      return make("tr", { className: "bad" },
        make("td", { textContent: row.shard }),
        make("td", { textContent: `cannot be asked: ${row.error}`, colSpan: 4 }));
    }
    const button = make("button", { type: "button", textContent: "Resolve now…" });
    button.addEventListener("click", () => this.confirm(row.gid));
    return make("tr", {},
      make("td", { textContent: row.shard }),
      make("td", { textContent: duration(row.age_ms), className: row.age_ms >= OLD_MS ? "short bad" : "short" }),
      make("td", {}, make("code", { textContent: row.gid })),
      make("td", { textContent: row.waits_for }),
      make("td", {}, button));
  }

  confirm(gid) {
    element("resolve-gid").textContent = gid;
    element("because").value = "";
    element("resolve").returnValue = "cancel";
    element("resolve").showModal();
  }

  async resolve() {
    if (element("resolve").returnValue !== "resolve") return;
    const gid = element("resolve-gid").textContent;
    let said;
    try {
      said = (await ask("/v1/in-doubt/resolve", { gid, because: element("because").value })).resolution;
    } catch (error) {
      said = error.message;
    }
    const told = make("p", { role: "status", id: "resolved", textContent: `${gid}: ${said}` });
    element("resolved")?.remove();
    element("in-doubt").prepend(told);
  }
}
