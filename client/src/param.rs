//! Parameters of a statement. They travel in PostgreSQL's text format, and the server infers
//! their types from the statement, as it does for a literal in quotes.

use serde_json::Value;
use uuid::Uuid;

/// One bound parameter: text, or NULL.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Param(pub(crate) Option<String>);

impl Param {
    /// SQL's NULL.
    pub const NULL: Self = Self(None);

    /// A parameter in PostgreSQL's text format, for types without a conversion here.
    pub fn text(text: impl Into<String>) -> Self {
        Self(Some(text.into()))
    }
}

/// A value that can be bound as a parameter.
pub trait IntoParam {
    /// The value in PostgreSQL's text format.
    fn into_param(self) -> Param;
}

impl IntoParam for Param {
    fn into_param(self) -> Param {
        self
    }
}

macro_rules! display_params {
    ($($type:ty),+) => {$(
        impl IntoParam for $type {
            fn into_param(self) -> Param {
                Param::text(self.to_string())
            }
        }
    )+};
}

display_params!(i16, i32, i64, u8, u16, u32, bool, &str, &String, char, Uuid);

/// JSON text, for `json` and `jsonb`. [`Value::Null`] is JSON's null; SQL's NULL is `None`.
impl IntoParam for Value {
    fn into_param(self) -> Param {
        Param::text(self.to_string())
    }
}

impl IntoParam for String {
    fn into_param(self) -> Param {
        Param::text(self)
    }
}

macro_rules! float_params {
    ($($type:ty),+) => {$(
        impl IntoParam for $type {
            fn into_param(self) -> Param {
                // Rust writes `inf`, which PostgreSQL knows only since version 16.
                if self.is_infinite() {
                    let sign = if self > 0.0 { "" } else { "-" };
                    return Param::text(format!("{sign}Infinity"));
                }
                Param::text(self.to_string())
            }
        }
    )+};
}

float_params!(f32, f64);

impl<T: IntoParam> IntoParam for Option<T> {
    fn into_param(self) -> Param {
        self.map_or(Param::NULL, T::into_param)
    }
}

/// Parameters for `$1`, `$2`, … of different types.
///
/// ```
/// use gavel_client::{Param, params};
/// let owner: Option<&str> = None;
/// assert_eq!(
///     params![100, "alice", owner],
///     vec![Param::text("100"), Param::text("alice"), Param::NULL]
/// );
/// ```
#[macro_export]
macro_rules! params {
    ($($value:expr),* $(,)?) => {
        ::std::vec::Vec::<$crate::Param>::from([
            $($crate::IntoParam::into_param($value)),*
        ])
    };
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_become_postgresqls_text() {
        let id = Uuid::from_u128(1);
        let bound = params![
            -5i16,
            i64::MIN,
            u32::MAX,
            1.5,
            f64::INFINITY,
            f64::NEG_INFINITY,
            f64::NAN,
            true,
            "it's",
            String::from("owned"),
            id,
            serde_json::json!({"a": [1, null]}),
            Value::Null,
            Some(7),
            None::<i32>,
        ];
        let texts: Vec<_> = bound.into_iter().map(|param| param.0).collect();
        let expected = [
            Some("-5"),
            Some("-9223372036854775808"),
            Some("4294967295"),
            Some("1.5"),
            Some("Infinity"),
            Some("-Infinity"),
            Some("NaN"),
            Some("true"),
            Some("it's"),
            Some("owned"),
            Some("00000000-0000-0000-0000-000000000001"),
            Some(r#"{"a":[1,null]}"#),
            Some("null"),
            Some("7"),
            None,
        ];
        assert_eq!(texts, expected.map(|text| text.map(str::to_owned)));
    }
}
