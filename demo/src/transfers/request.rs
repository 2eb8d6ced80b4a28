//! What a client asks for, checked before anything is touched.

use axum::http::HeaderMap;
use serde::Deserialize;
use serde_json::Number;

use super::Transfer;
use crate::body::{self, Body};
use crate::error::{ApiError, ErrorCode};

const KEY_HEADER: &str = "idempotency-key";
/// What a row of `idempotency_keys` holds; UUIDs and hashes fit many times over.
const KEY_BYTES_MAX: usize = 255;

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Request {
    from: String,
    to: String,
    amount: Number,
}

/// The transfer in the body.
pub(super) fn transfer(body: Body) -> Result<Transfer, ApiError> {
    let request: Request = body::read(body)?;
    let transfer = Transfer {
        from: body::account_id(&request.from)?,
        to: body::account_id(&request.to)?,
        amount: body::minor_units("amount", &request.amount)?,
    };
    let refused = |code, message: &str| Err(ApiError::new(code, message));
    if transfer.amount == 0 {
        return refused(ErrorCode::AmountZero, "there is nothing to transfer");
    }
    if transfer.amount < 0 {
        let message = "`amount` must be above zero; to move money back, swap `from` and `to`";
        return refused(ErrorCode::AmountNegative, message);
    }
    if transfer.from == transfer.to {
        return refused(ErrorCode::SelfTransfer, "`from` and `to` are one account");
    }
    Ok(transfer)
}

/// The key in the headers: any text of 1 to 255 bytes.
pub(super) fn idempotency_key(headers: &HeaderMap) -> Result<String, ApiError> {
    let mut values = headers.get_all(KEY_HEADER).iter();
    let first = values.next().ok_or_else(|| {
        let message = "send a header `Idempotency-Key`: any text that is yours for this one \
                       transfer; with it the same request can be repeated safely";
        ApiError::new(ErrorCode::IdempotencyKeyMissing, message)
    })?;
    let key = std::str::from_utf8(first.as_bytes()).ok();
    let fits = |key: &&str| (1..=KEY_BYTES_MAX).contains(&key.len());
    match (key.filter(fits), values.next()) {
        (Some(key), None) => Ok(key.to_owned()),
        _ => Err(ApiError::new(
            ErrorCode::IdempotencyKeyInvalid,
            format!("`Idempotency-Key` is one text of 1 to {KEY_BYTES_MAX} bytes in UTF-8"),
        )),
    }
}

#[cfg(test)]
mod tests {
    use axum::http::HeaderValue;

    use super::*;

    fn key_code(values: &[&[u8]]) -> Result<String, ErrorCode> {
        let mut headers = HeaderMap::new();
        for value in values {
            headers.append(KEY_HEADER, HeaderValue::from_bytes(value).unwrap());
        }
        idempotency_key(&headers).map_err(|error| error.code)
    }

    #[test]
    fn a_key_is_any_bounded_text() {
        assert_eq!(key_code(&[b"k"]), Ok("k".into()));
        assert_eq!(
            key_code(&["Schlüssel 'x'; --".as_bytes()]),
            Ok("Schlüssel 'x'; --".into())
        );
        assert_eq!(key_code(&[&[b'x'; 255]]), Ok("x".repeat(255)));
        assert_eq!(key_code(&[]), Err(ErrorCode::IdempotencyKeyMissing));
        for bad in [
            &[&b""[..]][..],
            &[&[b'x'; 256]],
            &[b"\xff\xfe"],
            &[b"a", b"a"],
        ] {
            assert_eq!(
                key_code(bad),
                Err(ErrorCode::IdempotencyKeyInvalid),
                "{bad:?}"
            );
        }
    }
}
