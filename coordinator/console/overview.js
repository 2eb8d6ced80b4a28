// How the coordinator stands, and the last five minutes.

import { button } from "./actions.js";
import { duration, make } from "./dom.js";

/** Seconds that a rate is taken over. */
const RATE_OVER = 5;

const rate = (seconds, key) => {
  const lately = seconds.slice(-RATE_OVER);
  return lately.reduce((sum, second) => sum + second[key], 0) / Math.max(lately.length, 1);
};

function uptime(seconds) {
  if (seconds < 120) return `${Math.round(seconds)} s`;
  if (seconds < 7200) return `${Math.round(seconds / 60)} min`;
  if (seconds < 172_800) return `${Math.round(seconds / 3600)} h`;
  return `${Math.round(seconds / 86_400)} d`;
}

function numbers(standing) {
  const { seconds } = standing;
  const worst = Math.max(0, ...seconds.slice(-RATE_OVER).map((second) => second.p99_us));
  const whole = (number) => Math.round(number).toLocaleString();
  return [
    ["commits per second", whole(rate(seconds, "committed"))],
    ["p99 of a commit", worst === 0 ? "–" : duration(worst / 1000)],
    ["aborts per second", whole(rate(seconds, "aborted"))],
    ["refusals per second", whole(rate(seconds, "refused"))],
    ["in flight", `${whole(standing.in_flight)} of ${whole(standing.in_flight_max)}`],
    ["waiting in lanes", whole(standing.waiting)],
    ["interactive", whole(standing.sessions)],
    ["up for", uptime(Date.now() / 1000 - standing.started_unix_s)],
  ];
}

/** A colour of the style sheet. light-dark() is resolved where a colour is used. */
const colour = (name) => () => {
  const probe = make("i", { hidden: true });
  probe.style.color = `var(${name})`;
  document.body.append(probe);
  const value = getComputedStyle(probe).color;
  probe.remove();
  return value;
};

const clock = (_, times) => times.map((time) => new Date(time * 1000).toLocaleTimeString([], { hour12: false }));

function chart(id, lines, unit) {
  const place = document.getElementById(id);
  const size = () => ({ width: Math.max(place.clientWidth, 200), height: 200 });
  const axis = { stroke: colour("--quiet"), grid: { stroke: colour("--line"), width: 1 }, ticks: { show: false } };
  const plot = new uPlot({
    ...size(),
    series: [{}, ...lines.map(([label, name]) => ({
      label,
      stroke: colour(name),
      width: 2,
      points: { show: false },
      value: (_, value) => (value === null ? "" : `${value.toLocaleString()} ${unit}`),
    }))],
    axes: [{ ...axis, values: clock, incrs: [1, 5, 15, 30, 60, 300], space: 70 }, { ...axis, size: 60 }],
    scales: { y: { range: (_, __, most) => [0, Math.max(most * 1.1, 1)] } },
  }, [[], ...lines.map(() => [])], place);
  new ResizeObserver(() => plot.setSize(size())).observe(place);
  matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () => plot.redraw());
  return plot;
}

/** The row of a shard. It is filled anew every second: a button that was replaced could not be clicked. */
class ShardRow {
  constructor(shard) {
    this.circuit = make("td");
    this.state = make("td");
    this.retry = button("Retry now…", {
      title: "Retry now?",
      does: "This coordinator asks the shard for a sign of life now, instead of when the pause is over. If there is "
        + "one, the next transaction may try it.",
      subject: shard.shard,
      verb: "Retry",
      path: "/v1/shards/retry",
      body: { shard: shard.shard },
      said: (answer) => answer.found,
      page: "overview",
    });
    this.element = make("tr", {}, make("td", { textContent: shard.shard }), make("td", { textContent: shard.tag }),
      this.circuit, this.state, make("td", {}, this.retry));
  }

  fill(shard) {
    this.circuit.textContent = shard.circuit.replace("_", "-");
    this.circuit.className = shard.circuit === "closed" ? "good" : "bad";
    this.state.textContent = shard.wrong ?? (shard.draining ? "draining" : "well");
    this.state.className = shard.wrong ? "bad" : "good";
    this.retry.hidden = !shard.wrong && shard.circuit === "closed";
  }
}

const steer = (draining, title, does) => ({
  title,
  does,
  subject: location.host,
  verb: draining ? "Drain" : "Resume",
  path: "/v1/draining",
  body: { draining },
  said: (answer) => (answer.draining ? `takes nothing new, and holds ${answer.under_way}` : "takes transactions"),
  page: "overview",
});
const DRAIN = steer(true, "Drain this coordinator?",
  "It finishes what it holds and refuses what is new; clients that know other coordinators go there. It lasts until "
  + "somebody resumes it, or it is restarted.");
const RESUME = steer(false, "Take transactions again?", "Clients come back by themselves.");

/** Whether this coordinator takes transactions, and how to change that. */
class Draining {
  constructor() {
    this.told = make("span", { className: "bad" });
    this.drain = button("Drain this coordinator…", DRAIN);
    this.resume = button("Resume…", RESUME);
    document.getElementById("drain").append(this.told, this.drain, this.resume);
  }

  fill(standing) {
    const underWay = standing.in_flight + standing.sessions;
    this.told.textContent = standing.draining ? `This coordinator takes nothing new, and holds ${underWay}. ` : "";
    this.drain.hidden = standing.draining;
    this.resume.hidden = !standing.draining;
  }
}

export class Overview {
  draining = new Draining();
  rows = new Map();

  fillShards(shards) {
    const rows = new Map(shards.map((shard) => [shard.shard, this.rows.get(shard.shard) ?? new ShardRow(shard)]));
    shards.forEach((shard) => rows.get(shard.shard).fill(shard));
    const isAnother = rows.size !== this.rows.size || [...rows.keys()].some((name) => !this.rows.has(name));
    if (isAnother) document.getElementById("shards").replaceChildren(...[...rows.values()].map((row) => row.element));
    this.rows = rows;
  }

  update(standing) {
    const { seconds } = standing;
    document.getElementById("numbers").replaceChildren(...numbers(standing).map(([name, value]) =>
      make("div", {}, make("dt", { textContent: name }), make("dd", { textContent: value }))));
    this.draining.fill(standing);
    this.fillShards(standing.shards);
    // A hidden chart has no size.
    if (document.getElementById("overview").hidden) return;
    this.rates ??= chart("rate-chart", [["committed", "--good"], ["aborted", "--accent"], ["refused", "--bad"]], "/s");
    this.latencies ??= chart("latency-chart", [["median", "--good"], ["p99", "--accent"], ["longest", "--bad"]], "ms");
    const times = seconds.map((second) => second.unix_s);
    const column = (key) => seconds.map((second) => second[key]);
    const waits = (key) => seconds.map((second) => (second[key] ? second[key] / 1000 : null));
    this.rates.setData([times, column("committed"), column("aborted"), column("refused")]);
    this.latencies.setData([times, waits("p50_us"), waits("p99_us"), waits("max_us")]);
  }
}
