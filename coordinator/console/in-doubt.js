// What is prepared, and what an operator can do about it.

import { button, isActing } from "./actions.js";
import { duration, make } from "./dom.js";

/** A branch that is this old waits for something: resolving takes a few seconds. */
const OLD_MS = 10_000;

const element = (id) => document.getElementById(id);

export class InDoubt {
  update(found) {
    if (isActing()) return;
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
    return make("tr", {},
      make("td", { textContent: row.shard }),
      make("td", { textContent: duration(row.age_ms), className: row.age_ms >= OLD_MS ? "short bad" : "short" }),
      make("td", {}, make("code", { textContent: row.gid })),
      make("td", { textContent: row.waits_for }),
      make("td", {}, button("Resolve now…", {
        title: "Resolve now?",
        does: "The shard asks the branch's home what was decided, and commits or rolls back accordingly. "
          + "It can never decide against its home. Without an answer nothing happens.",
        subject: row.gid,
        verb: "Resolve",
        path: "/v1/in-doubt/resolve",
        body: { gid: row.gid },
        said: (answer) => answer.resolution,
        page: "in-doubt",
      })));
  }
}
