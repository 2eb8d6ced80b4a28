//! The OpenAPI document: it has every route, and `docs/openapi.json` is what is served.

use std::collections::BTreeSet;
use std::path::Path;

use gavel_coordinator::api::openapi;
use gavel_protocol::Limits;
use serde_json::Value;

use crate::scripted::{Script, Server};

/// Files for people, which no program asks for.
const PAGES: &str = "/console";

#[test]
fn every_route_is_described() {
    let source = include_str!("../../src/api/http.rs");
    let routes: BTreeSet<String> = source
        .lines()
        .filter_map(|line| {
            let rest = line.trim().strip_prefix(".route(\"")?;
            let (path, handler) = rest.split_once("\", ")?;
            let handler = handler.strip_prefix("axum::routing::").unwrap_or(handler);
            let (method, _) = handler.split_once('(')?;
            Some(format!("{method} {path}"))
        })
        .filter(|route| !route.contains(PAGES) && !route.ends_with("/openapi.json"))
        .collect();
    let document = openapi();
    let paths = document["paths"].as_object().expect("paths").iter();
    let described: BTreeSet<String> = paths
        .flat_map(|(path, methods)| {
            let methods = methods.as_object().expect("methods").keys();
            let methods = methods.filter(|method| *method != "parameters");
            methods.map(move |method| format!("{method} {path}"))
        })
        .collect();
    assert_eq!(described, routes);
}

#[test]
fn whatever_is_referred_to_is_there() {
    let document = openapi();
    fn references<'a>(value: &'a Value, found: &mut Vec<&'a str>) {
        match value {
            Value::Object(fields) => {
                found.extend(fields.get("$ref").and_then(Value::as_str));
                fields.values().for_each(|field| references(field, found));
            }
            Value::Array(items) => items.iter().for_each(|item| references(item, found)),
            _ => {}
        }
    }
    let mut found = Vec::new();
    references(&document, &mut found);
    assert!(found.len() > 50, "{found:?}");
    for reference in found {
        let pointer = reference.strip_prefix('#').expect("in this document");
        assert!(document.pointer(pointer).is_some(), "{reference}");
    }
}

/// `UPDATE_DOCS=1` writes it.
#[test]
fn the_documentation_has_the_same() {
    let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/openapi.json");
    let wanted = serde_json::to_string_pretty(&openapi()).expect("JSON") + "\n";
    if std::env::var_os("UPDATE_DOCS").is_some() {
        std::fs::write(&file, &wanted).expect("written");
    }
    let found = std::fs::read_to_string(&file).unwrap_or_default();
    assert!(found == wanted, "run this test with UPDATE_DOCS=1");
}

#[tokio::test]
async fn it_is_served_to_everybody() {
    let auth = gavel_coordinator::api::Authenticator::open();
    let server = Server::start_with(Script::default(), auth, Limits::default()).await;
    let heard = server.get("/openapi.json").await;
    assert_eq!((heard.status, heard.body), (200, openapi()));
}
