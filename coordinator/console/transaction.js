// One transaction: what is recorded of it, and what this coordinator did for it.

import { ask } from "./api.js";
import { draw, duration, make } from "./dom.js";

const element = (id) => document.getElementById(id);

const OUTCOMES = {
  committed: ["good", "Committed: every shard has it."],
  aborted: ["bad", "Aborted: no shard has it, and none ever will."],
  none_yet: ["quiet", "Nothing is recorded yet: it may still commit. Abort it to make sure."],
  too_old: ["quiet", "Older than what is kept: the outcome is unknown."],
};

export class Transaction {
  constructor() {
    element("search").addEventListener("submit", (event) => {
      event.preventDefault();
      location.hash = `#transaction/${encodeURIComponent(element("txid").value.trim().toLowerCase())}`;
    });
  }

  shown(hash) {
    const txid = decodeURIComponent(hash.split("/")[1] ?? "");
    if (!txid || txid === this.txid) return;
    this.txid = txid;
    element("txid").value = txid;
    this.look(txid);
  }

  async look(txid) {
    const place = element("found");
    try {
      const path = `/v1/transactions/${encodeURIComponent(txid)}`;
      const [status, stories] = await Promise.all([ask(path), ask(`${path}/story`)]);
      place.replaceChildren(...this.describe(status), ...stories.stories.flatMap((story) => this.story(story)));
      if (stories.stories.length === 0) {
        place.append(make("p", {
          className: "quiet",
          textContent: "This coordinator remembers nothing of it: another one ran it, or it is long ago.",
        }));
      }
    } catch (error) {
      place.replaceChildren(make("p", { className: "bad", textContent: error.message }));
    }
    this.txid = null;
  }

  describe(status) {
    const [className, text] = OUTCOMES[status.outcome] ?? ["quiet", status.outcome];
    const lines = [make("p", { className, id: "outcome", textContent: text })];
    if (status.error) {
      const { code, message, shard } = status.error;
      lines.push(make("p", { textContent: `${code}${shard ? ` on ${shard}` : ""}: ${message}` }));
    }
    return lines;
  }

  story(story) {
    const company = story.members === 1 ? "alone" : `with ${story.members - 1} others`;
    const begun = new Date(story.began_unix_us / 1000).toLocaleString();
    return [
      make("h2", { textContent: `Batch ${story.batch}` }),
      make("p", { className: "quiet", textContent: `Began ${begun}, ${company}; home is ${story.home}.` }),
      timeline(story),
    ];
  }
}

const LABEL = 190;
const WIDTH = 900;
const ROW = 26;

/** Bars for everything that took time, from admission to rest. */
function timeline(story) {
  const rows = [
    { label: "waited in its lane", from: -story.queued_us, to: 0, className: "quiet" },
    ...story.calls.map((call) => ({
      label: `${call.call.replace("_", " ")} at ${call.shard}`,
      from: call.from_us,
      to: call.to_us ?? story.now_us,
      className: call.trouble ? "bad" : "",
      title: call.trouble ?? "",
    })),
  ];
  const begin = -story.queued_us;
  const end = Math.max(1, ...rows.map((row) => row.to));
  const scale = (WIDTH - LABEL - 90) / (end - begin);
  const x = (at) => LABEL + (at - begin) * scale;
  const height = (rows.length + 1) * ROW;
  const picture = draw("svg", { viewBox: `0 0 ${WIDTH} ${height}`, class: "timeline", role: "img", "aria-label": "What took how long" });
  rows.forEach((row, index) => {
    const top = index * ROW;
    const width = Math.max((row.to - row.from) * scale, 2);
    const label = draw("text", { x: 0, y: top + 17 });
    label.textContent = row.label;
    const bar = draw("rect", { x: x(row.from), y: top + 5, width, height: ROW - 10, rx: 3, class: row.className });
    if (row.title) {
      const title = draw("title");
      title.textContent = row.title;
      bar.append(title);
    }
    const took = draw("text", { x: Math.min(x(row.from) + width + 6, WIDTH - 70), y: top + 17, class: "quiet" });
    took.textContent = duration((row.to - row.from) / 1000);
    picture.append(label, bar, took);
  });
  for (const [at, name] of [[story.decided_us, "decided"], [story.applied_us, "applied"]]) {
    if (at === null || at === undefined) continue;
    const mark = draw("line", { x1: x(at), x2: x(at), y1: 0, y2: height - ROW + 8 });
    const anchor = name === "decided" ? "end" : "start";
    const text = draw("text", { x: Math.min(x(at), WIDTH - 60), y: height - 4, class: "quiet", "text-anchor": anchor });
    text.textContent = name;
    picture.append(mark, text);
  }
  return picture;
}
