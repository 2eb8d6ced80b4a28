//! The OpenAPI document of the JSON API: what `docs/api.md` says, for programs.
//!
//! Built here, beside the routes, and compared by a test with the routes that there are and with
//! the copy in `docs/`.

use gavel_protocol::{AbortCode, RefusalCode};
use serde_json::{Map, Value, json};

use super::face::REASON_CHARS_MAX;

/// What may be called without saying who one is.
const OPEN: &[&str] = &["/health/live", "/health/ready"];

/// The document. The same for everybody, as it says nothing of a deployment.
pub fn openapi() -> Value {
    json!({
        "openapi": "3.1.0",
        "info": {
            "title": "Gavel",
            "version": env!("CARGO_PKG_VERSION"),
            "summary": "Atomic transactions over several PostgreSQL databases",
            "description": "No answer at all is never an abort: send the same request with the same txid again. See docs/api.md.",
            "license": { "name": "Apache-2.0", "identifier": "Apache-2.0" },
        },
        "security": [{ "token": [] }, { "certificate": [] }, {}],
        "paths": paths(),
        "components": {
            "securitySchemes": {
                "token": { "type": "http", "scheme": "bearer" },
                "certificate": { "type": "mutualTLS" },
            },
            "parameters": { "txid": {
                "name": "txid",
                "in": "path",
                "required": true,
                "description": "UUIDv7 whose last 16 bits are the tag of its home",
                "schema": { "$ref": "#/components/schemas/Txid" },
            }},
            "schemas": schemas(),
        },
    })
}

/// One method of one path.
struct Operation {
    method: &'static str,
    path: &'static str,
    id: &'static str,
    summary: &'static str,
    /// The schema of the body, and whether it may be left out.
    body: Option<(&'static str, bool)>,
    /// Status, what it means, and the schema of the answer.
    answers: &'static [(u16, &'static str, &'static str)],
}

/// Answers to whatever ends a transaction.
const ENDED: &[(u16, &str, &str)] = &[
    (200, "Committed on all shards", "Committed"),
    (202, "Not known yet: ask for the status", "InDoubt"),
    (
        409,
        "Aborted on all shards, for good; or the txid is in use",
        "Ended",
    ),
];

const OPERATIONS: &[Operation] = &[
    Operation {
        method: "post",
        path: "/v1/transactions",
        id: "submit",
        summary: "Run a declared transaction to its end",
        body: Some(("Submit", false)),
        answers: ENDED,
    },
    Operation {
        method: "get",
        path: "/v1/transactions/{txid}",
        id: "status",
        summary: "What is recorded of a transaction",
        body: None,
        answers: &[(200, "What is recorded", "Status")],
    },
    Operation {
        method: "post",
        path: "/v1/transactions/{txid}/abort",
        id: "abort",
        summary: "Abort a transaction for good, unless it has an outcome",
        body: None,
        answers: &[
            (200, "It is aborted, and never will be committed", "Ended"),
            (202, "Not known yet: ask again", "InDoubt"),
            (409, "It was too late: it is committed", "Committed"),
        ],
    },
    Operation {
        method: "get",
        path: "/v1/transactions/{txid}/story",
        id: "story",
        summary: "What this coordinator remembers of a transaction. For operators",
        body: None,
        answers: &[(200, "The batches that it was in", "Stories")],
    },
    Operation {
        method: "post",
        path: "/v1/txids",
        id: "mint",
        summary: "Mint a txid",
        body: Some(("Mint", true)),
        answers: &[(201, "A new txid", "Minted")],
    },
    Operation {
        method: "post",
        path: "/v1/sessions",
        id: "begin",
        summary: "Begin an interactive transaction",
        body: Some(("Begin", true)),
        answers: &[(201, "It has begun", "Minted")],
    },
    Operation {
        method: "delete",
        path: "/v1/sessions/{txid}",
        id: "rollback",
        summary: "Roll an interactive transaction back",
        body: None,
        answers: &[(200, "It is rolled back", "Ended")],
    },
    Operation {
        method: "post",
        path: "/v1/sessions/{txid}/statements",
        id: "execute",
        summary: "Run a statement of an interactive transaction",
        body: Some(("Execute", false)),
        answers: &[
            (200, "It ran; or the transaction is over", "Executed"),
            (
                202,
                "The transaction is over, and its outcome not known yet",
                "InDoubt",
            ),
            (
                409,
                "The transaction is over: aborted; or the statement is out of sequence",
                "Ended",
            ),
        ],
    },
    Operation {
        method: "post",
        path: "/v1/sessions/{txid}/commit",
        id: "commit",
        summary: "Commit an interactive transaction",
        body: Some(("Commit", true)),
        answers: ENDED,
    },
    Operation {
        method: "get",
        path: "/v1/standing",
        id: "standing",
        summary: "How this coordinator stands, and the last five minutes. For operators",
        body: None,
        answers: &[(200, "How it stands", "Standing")],
    },
    Operation {
        method: "get",
        path: "/v1/in-doubt",
        id: "inDoubt",
        summary: "Prepared branches on all shards. For operators",
        body: None,
        answers: &[(200, "Per shard", "InDoubtList")],
    },
    Operation {
        method: "post",
        path: "/v1/in-doubt/resolve",
        id: "resolve",
        summary: "Resolve one prepared branch now. For operators",
        body: Some(("Resolve", false)),
        answers: &[(200, "What was done", "Resolved")],
    },
    Operation {
        method: "get",
        path: "/v1/shards",
        id: "shards",
        summary: "The shards of the deployment",
        body: None,
        answers: &[(200, "Names and numbers", "Shards")],
    },
    Operation {
        method: "post",
        path: "/v1/shards/retry",
        id: "retryShard",
        summary: "Ask a shard for a sign of life now. For operators",
        body: Some(("RetryShard", false)),
        answers: &[(200, "It answers", "Retried")],
    },
    Operation {
        method: "post",
        path: "/v1/draining",
        id: "setDraining",
        summary: "Take nothing new, or take transactions again. For operators",
        body: Some(("SetDraining", false)),
        answers: &[(200, "So it is now", "Draining")],
    },
    Operation {
        method: "get",
        path: "/health/live",
        id: "live",
        summary: "Whether the process serves",
        body: None,
        answers: &[(200, "It does", "Live")],
    },
    Operation {
        method: "get",
        path: "/health/ready",
        id: "ready",
        summary: "Whether it can commit",
        body: None,
        answers: &[(200, "It can", "Ready")],
    },
    Operation {
        method: "get",
        path: "/health/shards",
        id: "shardHealth",
        summary: "Whether it can, shard by shard",
        body: None,
        answers: &[
            (200, "On every shard", "ShardHealth"),
            (503, "Not on every shard", "ShardHealth"),
        ],
    },
];

fn paths() -> Value {
    let mut paths = Map::new();
    for operation in OPERATIONS {
        let path = paths.entry(operation.path).or_insert_with(|| {
            match operation.path.contains("{txid}") {
                true => json!({ "parameters": [{ "$ref": "#/components/parameters/txid" }] }),
                false => json!({}),
            }
        });
        path[operation.method] = described(operation);
    }
    Value::Object(paths)
}

fn described(operation: &Operation) -> Value {
    let mut responses = Map::new();
    for (status, description, schema) in operation.answers {
        responses.insert(status.to_string(), answer(description, schema));
    }
    responses.insert("default".to_owned(), answer("It was not done", "Failed"));
    let mut described = json!({
        "operationId": operation.id,
        "summary": operation.summary,
        "responses": responses,
    });
    if let Some((schema, optional)) = operation.body {
        described["requestBody"] = json!({
            "required": !optional,
            "content": content(schema),
        });
    }
    if OPEN.contains(&operation.path) {
        described["security"] = json!([]);
    }
    described
}

fn answer(description: &str, schema: &str) -> Value {
    json!({ "description": description, "content": content(schema) })
}

fn content(schema: &str) -> Value {
    json!({ "application/json": { "schema": reference(schema) } })
}

fn reference(schema: &str) -> Value {
    json!({ "$ref": format!("#/components/schemas/{schema}") })
}

/// An object with these properties, all of which are there unless they are said to be optional,
/// and, where it is sent by callers, no others.
fn object(properties: Value, optional: &[&str], is_sent: bool) -> Value {
    let names = properties.as_object().into_iter().flat_map(Map::keys);
    let required: Vec<_> = names
        .filter(|name| !optional.contains(&name.as_str()))
        .collect();
    let mut object = json!({ "type": "object", "required": required, "properties": properties });
    if is_sent {
        object["additionalProperties"] = json!(false);
    }
    object
}

fn list(items: Value) -> Value {
    json!({ "type": "array", "items": items })
}

fn at_least_one(items: Value) -> Value {
    json!({ "type": "array", "items": items, "minItems": 1 })
}

/// What may be left out may as well be null.
fn or_null(schema: Value) -> Value {
    json!({ "anyOf": [schema, { "type": "null" }] })
}

fn schemas() -> Value {
    let mut schemas = sent();
    if let (Value::Object(all), Value::Object(more)) = (&mut schemas, told()) {
        all.extend(more);
    }
    schemas
}

/// What callers send.
fn sent() -> Value {
    let text = json!({ "type": "string" });
    let shard = json!({ "type": "string", "pattern": "^[a-z][a-z0-9_]{0,31}$" });
    let whole = json!({ "type": "integer", "minimum": 0 });
    let params = list(
        json!({ "description": "Sent in PostgreSQL's text format; objects and arrays as JSON" }),
    );
    let isolation = json!({ "enum": ["read_committed", "repeatable_read", "serializable"] });
    let ack = json!({ "enum": ["applied", "decided"] });
    let because = json!({ "type": "string", "minLength": 1, "maxLength": REASON_CHARS_MAX });
    json!({
        "Txid": {
            "type": "string",
            "description": "A UUIDv7 whose last 16 bits are the tag of its home",
            "pattern": "^[0-9a-f]{8}-[0-9a-f]{4}-7[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}$",
        },
        "Guard": { "oneOf": [
            object(json!({ "rows_exactly": whole }), &[], true),
            object(json!({ "rows_at_least": whole }), &[], true),
        ]},
        "Statement": object(json!({
            "sql": { "type": "string", "minLength": 1, "description": "One statement, $1, $2, … for parameters; no transaction control" },
            "params": params,
            "expect": or_null(reference("Guard")),
        }), &["params", "expect"], true),
        "Branch": object(json!({
            "shard": shard,
            "read_only": { "type": "boolean" },
            "statements": at_least_one(reference("Statement")),
        }), &["read_only"], true),
        "Submit": object(json!({
            "txid": or_null(reference("Txid")),
            "ack": or_null(ack.clone()),
            "timeout_ms": { "type": ["integer", "null"], "minimum": 1 },
            "isolation": or_null(isolation.clone()),
            "retry": { "type": "boolean" },
            "branches": at_least_one(reference("Branch")),
        }), &["txid", "ack", "timeout_ms", "isolation", "retry"], true),
        "Mint": object(json!({ "home": or_null(shard.clone()) }), &["home"], true),
        "Begin": object(json!({
            "txid": or_null(reference("Txid")), "home": or_null(shard.clone()), "isolation": or_null(isolation),
        }), &["txid", "home", "isolation"], true),
        "Execute": object(json!({
            "sequence": whole, "shard": shard, "sql": { "type": "string", "minLength": 1 }, "params": params,
            "expect": or_null(reference("Guard")),
        }), &["params", "expect"], true),
        "Commit": object(json!({ "ack": or_null(ack) }), &["ack"], true),
        "Resolve": object(json!({ "gid": text, "because": because }), &[], true),
        "RetryShard": object(json!({ "shard": shard, "because": because }), &[], true),
        "SetDraining": object(json!({ "draining": { "type": "boolean" }, "because": because }), &[], true),
    })
}

/// What callers are told.
fn told() -> Value {
    let text = json!({ "type": "string" });
    let whole = json!({ "type": "integer" });
    let flag = json!({ "type": "boolean" });
    let maybe = |kind: &str| json!({ "type": [kind, "null"] });
    let codes = AbortCode::ALL.iter().map(|code| code.as_str());
    let codes: Vec<_> = codes
        .chain(RefusalCode::ALL.iter().map(|code| code.as_str()))
        .collect();
    json!({
        "Error": object(json!({
            "code": {
                "type": "string",
                "description": "Stable; docs/errors.md has all of them",
                "examples": codes,
            },
            "message": text,
            "retryable": flag,
            "shard": text,
            "statement": whole,
            "sqlstate": text,
        }), &["shard", "statement", "sqlstate"], false),
        "Failed": object(json!({
            "txid": reference("Txid"), "outcome": text, "error": reference("Error"),
        }), &["txid", "outcome"], false),
        "Ended": object(json!({
            "txid": reference("Txid"), "outcome": text, "error": reference("Error"),
        }), &["txid", "outcome", "error"], false),
        "Result": object(json!({
            "row_count": whole,
            "columns": list(object(json!({ "name": text, "type_oid": whole }), &[], false)),
            "rows": list(list(json!({}))),
        }), &[], false),
        "Committed": object(json!({
            "txid": reference("Txid"),
            "outcome": { "const": "committed" },
            "applied": flag,
            "results": { "type": "object", "additionalProperties": list(reference("Result")) },
        }), &["applied", "results"], false),
        "InDoubt": object(json!({
            "txid": reference("Txid"), "outcome": { "const": "in_doubt" }, "detail": text,
        }), &[], false),
        "Executed": object(json!({
            "txid": reference("Txid"), "sequence": whole, "result": reference("Result"),
            "outcome": text,
        }), &["sequence", "result", "outcome"], false),
        "Status": object(json!({
            "txid": reference("Txid"),
            "outcome": { "enum": ["committed", "aborted", "none_yet", "too_old"] },
            "error": reference("Error"),
            "detail": text,
        }), &["error", "detail"], false),
        "Minted": object(json!({ "txid": reference("Txid") }), &[], false),
        "Shards": object(json!({
            "shards": list(object(json!({ "name": text, "tag": whole }), &[], false)),
        }), &[], false),
        "InDoubtList": object(json!({ "shards": list(object(json!({
            "shard": maybe("string"),
            "tag": whole,
            "branches": list(object(json!({
                "gid": text, "age_ms": whole, "waits_for": text,
            }), &[], false)),
            "error": reference("Error"),
        }), &["branches", "error"], false)) }), &[], false),
        "Resolved": object(json!({ "gid": text, "resolution": text }), &[], false),
        "Retried": object(json!({ "shard": text, "found": text }), &[], false),
        "Draining": object(json!({ "draining": flag, "under_way": whole }), &[], false),
        "Live": object(json!({ "live": flag }), &[], false),
        "Ready": object(json!({ "ready": flag }), &[], false),
        "ShardHealth": object(json!({ "shards": {
            "type": "object",
            "additionalProperties": object(json!({
                "healthy": flag, "reason": text,
            }), &["reason"], false),
        }}), &[], false),
        "Stories": object(json!({
            "txid": reference("Txid"),
            "stories": list(object(json!({
                "batch": text, "home": maybe("string"), "began_unix_us": whole,
                "queued_us": whole, "members": whole, "now_us": whole,
                "calls": list(object(json!({
                    "call": text, "shard": maybe("string"), "from_us": whole,
                    "to_us": maybe("integer"), "trouble": maybe("string"),
                }), &[], false)),
                "decided_us": maybe("integer"), "applied_us": maybe("integer"),
            }), &[], false)),
        }), &[], false),
        "Standing": object(json!({
            "version": text, "started_unix_s": whole, "in_flight": whole, "in_flight_max": whole,
            "lanes": whole, "waiting": whole, "deepest": whole, "sessions": whole,
            "draining": flag,
            "shards": list(object(json!({
                "shard": maybe("string"), "tag": whole,
                "circuit": { "enum": ["closed", "half_open", "open"] },
                "wrong": maybe("string"),
                "draining": flag,
            }), &[], false)),
            "seconds": list(object(json!({
                "unix_s": whole, "committed": whole, "aborted": whole, "refused": whole,
                "in_doubt": whole, "p50_us": whole, "p99_us": whole, "max_us": whole,
            }), &[], false)),
        }), &[], false),
    })
}
