//! The console: a page for people who would rather look than read.
//!
//! What is served here is the same for everybody and holds nothing: all that the page shows it
//! asks of the API, as whoever looks at it. Nothing comes from other hosts, and the browser is told
//! to see to that.

use axum::extract::Path;
use axum::response::{IntoResponse, Redirect, Response};
use http::header::{
    CACHE_CONTROL, CONTENT_SECURITY_POLICY, CONTENT_TYPE, REFERRER_POLICY, X_CONTENT_TYPE_OPTIONS,
};
use http::{HeaderValue, StatusCode};

use super::error::ApiError;

/// Scripts, styles and pictures of this host, and nothing else. No inline scripts or styles, so
/// that text which got into the page by mistake can do nothing.
const POLICY: &str = "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; \
     connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'";

const HTML: &str = "text/html; charset=utf-8";
const CSS: &str = "text/css; charset=utf-8";
const SCRIPT: &str = "text/javascript; charset=utf-8";
const PICTURE: &str = "image/svg+xml";

macro_rules! files {
    ($($name:literal in $folder:literal: $kind:expr,)*) => {
        /// Name, content type, content.
        const FILES: &[(&str, &str, &[u8])] = &[
            $(($name, $kind, include_bytes!(concat!("../../console/", $folder, $name)))),*
        ];
    };
}

files! {
    "index.html" in "": HTML,
    "console.css" in "": CSS,
    "icon.svg" in "": PICTURE,
    "console.js" in "": SCRIPT,
    "api.js" in "": SCRIPT,
    "dom.js" in "": SCRIPT,
    "overview.js" in "": SCRIPT,
    "actions.js" in "": SCRIPT,
    "in-doubt.js" in "": SCRIPT,
    "transaction.js" in "": SCRIPT,
    "uPlot.iife.min.js" in "uplot/": SCRIPT,
    "uPlot.min.css" in "uplot/": CSS,
    "LICENSE" in "uplot/": "text/plain; charset=utf-8",
}

/// To the folder, below which the page's files are.
pub(super) async fn enter() -> Redirect {
    Redirect::permanent("/console/")
}

/// The page.
pub(super) async fn index() -> Response {
    file("index.html").into_response()
}

/// What the page is made of.
pub(super) async fn part(Path(name): Path<String>) -> Result<Response, ApiError> {
    file(&name)
}

fn file(name: &str) -> Result<Response, ApiError> {
    let found = FILES.iter().find(|(known, ..)| *known == name);
    let (_, kind, content) = found.ok_or_else(|| {
        let message = "the console has no such file";
        ApiError::new(StatusCode::NOT_FOUND, "not_found", message)
    })?;
    let mut response = (*content).into_response();
    let headers = response.headers_mut();
    for (header, value) in [
        (CONTENT_TYPE, *kind),
        (CONTENT_SECURITY_POLICY, POLICY),
        (X_CONTENT_TYPE_OPTIONS, "nosniff"),
        (REFERRER_POLICY, "no-referrer"),
        // The next version has other files under these names.
        (CACHE_CONTROL, "no-cache"),
    ] {
        headers.insert(header, HeaderValue::from_static(value));
    }
    Ok(response)
}
