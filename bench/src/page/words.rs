//! The page's fixed parts.

pub const INTRODUCTION: &str = "\
# Benchmarks

This page is written by `make bench`, with `benchmarks.json` and the plots beside it; changes by hand
are lost.

Clients move money between accounts on several PostgreSQL servers. A transfer updates one balance on
each of its shards, under the guard that exactly one row changes, and inserts a mark on each. All
variants run the same statements against the same servers, one after the other in the same run, and a
client hears the end of a transfer when all shards show it (ack mode `applied`).
";

pub const VARIANTS: &str = "\
| variant | what it is | atomic over servers | survives the death of its client |
|:--|:--|:--|:--|
| `local-naive` | one database: a connection per client, one statement after the other | no | yes |
| `local-pipelined` | one database: the whole transaction with its COMMIT in one pipeline, few connections shared by all clients | no | yes |
| `2pc-naive` | hand-written: a connection per client and shard, one statement after the other | yes | no |
| `2pc-best` | hand-written: work and PREPARE in one pipeline, all shards at once, few connections shared by all clients | yes | no |
| `gavel-embedded` | coordinator and participants inside the client's process | yes | yes |
| `gavel-serve` | client, and one process with coordinator and participants, gRPC between them | yes | yes |
| `gavel-fleet` | client, coordinator and a participant per shard, each a process of its own, gRPC between them | yes | yes |

The `local` variants have both accounts on the first server and do no two-phase commit: they show what
a single PostgreSQL server does with the same statements. `local-pipelined` sends its COMMIT before it
has read any answer, so a guard cannot stop it; it is not measured where guards fail.

The two hand-written `2pc` variants keep no log: when their process dies between PREPARE and COMMIT
PREPARED, what is left cannot be resolved. They also keep no record of outcomes, so a lost answer
cannot be asked for again. They are yardsticks for the price of getting this right, not alternatives.
";

pub const REPEAT: &str = "Repeat it with

    make bench          # about 35 minutes after the build; writes this page
    make bench-quick    # about two minutes; writes nothing
    make bench-steady   # ten minutes at one load; writes benchmarks-steady.md

One scenario alone: `target/release/gavel-bench --scenario hot --clients 32,128`; `--help` lists the
rest, and `--write` makes the page of such a run.

After every run the servers are asked by SQL: nothing may be prepared, no money made or lost, every
balance must equal its marks, all shards of a transfer must have its marks and no other shard any, and
there must be exactly as many transfers as clients were told of commits. Transfers that are meant to
fail must fail. A run that breaks any of this fails the whole measurement.
";

pub const CAVEATS: &str = "\
## How to read it

- *CPU* is CPU time per committed transfer, from `/proc`. For `gavel-embedded`, client and Gavel are
  one process, and their time stands under the client.
- *batch* is the mean number of transactions that went through one two-phase commit together.
  Transactions wait for company only while another batch is under way; a single client never
  waits, and never has company.
- *aborts* are transfers that ended without effect though nothing was wrong with them: lock waits of
  more than a second, such as deadlocks across shards. *failures* are those that were meant to fail.
  Clients go on with the next transfer; only committed ones count in rates and latencies.
- Clients, servers and Gavel share the cores of one machine, so a variant that burns more CPU leaves
  less for PostgreSQL. On separate machines throughput moves, and network round trips add to
  latency: compare ratios, not absolute numbers.
- With one client the price of recoverability shows best: Gavel writes a decision, an outcome and a
  branch row that the hand-written variants do not write, though it needs fewer flushes.
- The layout of `2pc-best` and `local-pipelined` is searched at every number of clients in every
  scenario, in short runs before the measured ones: 4, 8, 16 and 32 connections per shard and groups of
  1 and 8 transactions per exchange in `uniform`, and those that can win in the others.
- Replication and network latency are not measured here.
- The other products that offer atomic writes over several PostgreSQL servers are not compared here.
";
