//! Reading request bodies, with a code of its own for every way in which they can be wrong.

use axum::body::Bytes;
use axum::extract::Path;
use axum::extract::rejection::{BytesRejection, PathRejection};
use axum::http::StatusCode;
use serde::de::DeserializeOwned;
use serde_json::Number;
use serde_json::error::Category;
use uuid::Uuid;

use crate::error::{ApiError, ErrorCode};

/// What the body extractor hands over.
pub(crate) type Body = Result<Bytes, BytesRejection>;

/// What the path extractor hands over.
pub(crate) type IdPath = Result<Path<String>, PathRejection>;

/// The id in a path. One that is not even text becomes the empty one, which is no id either.
pub(crate) fn id_text(path: IdPath) -> String {
    path.map(|Path(id)| id).unwrap_or_default()
}

/// The body as `T`. The content type does not matter: there is only JSON here.
pub(crate) fn read<T: DeserializeOwned>(body: Body) -> Result<T, ApiError> {
    let bytes = body.map_err(|rejection| {
        let code = match rejection.status() {
            StatusCode::PAYLOAD_TOO_LARGE => ErrorCode::BodyTooLarge,
            _ => ErrorCode::InvalidRequest,
        };
        ApiError::new(code, rejection.body_text())
    })?;
    serde_json::from_slice(&bytes).map_err(|error| {
        let code = match error.classify() {
            Category::Data => ErrorCode::InvalidRequest,
            Category::Io | Category::Syntax | Category::Eof => ErrorCode::MalformedJson,
        };
        ApiError::new(code, error.to_string())
    })
}

/// An account id, in any spelling of a UUID.
pub(crate) fn account_id(text: &str) -> Result<Uuid, ApiError> {
    Uuid::try_parse(text).map_err(|_| {
        let message = "an account id is a UUID, as `POST /accounts` returned it";
        ApiError::new(ErrorCode::InvalidAccountId, message)
    })
}

/// A whole number of minor units.
pub(crate) fn minor_units(field: &str, number: &Number) -> Result<i64, ApiError> {
    if let Some(amount) = number.as_i64() {
        return Ok(amount);
    }
    let is_integer = number
        .to_string()
        .bytes()
        .all(|b| b.is_ascii_digit() || b == b'-');
    Err(if is_integer {
        let message = format!("`{field}` must fit into 64 bits: at most {}", i64::MAX);
        ApiError::new(ErrorCode::AmountOutOfRange, message)
    } else {
        let message = format!("`{field}` is a whole number of minor units (cents)");
        ApiError::new(ErrorCode::AmountNotInteger, message)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn code(json: &str) -> Option<ErrorCode> {
        let number: Number = serde_json::from_str(json).unwrap();
        minor_units("amount", &number).err().map(|error| error.code)
    }

    #[test]
    fn money_is_whole_and_fits() {
        assert_eq!(code("9223372036854775807"), None);
        assert_eq!(code("-9223372036854775808"), None);
        assert_eq!(
            code("9223372036854775808"),
            Some(ErrorCode::AmountOutOfRange)
        );
        assert_eq!(
            code("1234567890123456789012345678901234567890"),
            Some(ErrorCode::AmountOutOfRange)
        );
        for fraction in ["1.5", "1.0", "1e3", "-0.01"] {
            assert_eq!(
                code(fraction),
                Some(ErrorCode::AmountNotInteger),
                "{fraction}"
            );
        }
    }
}
