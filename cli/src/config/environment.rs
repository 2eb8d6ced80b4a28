//! Overrides from the environment: `GAVEL__SECTION__KEY`.
//!
//! Two underscores separate, because keys contain single ones. Tables that have a name are
//! addressed by it: `GAVEL__SHARD__ALPHA__DATABASE_URL`.

use toml::{Table, Value};

use super::Problem;

const PREFIX: &str = "GAVEL__";

/// One override that was applied: the key as error messages spell it, and its variable.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Override {
    pub(super) key: String,
    pub(super) variable: String,
}

/// Puts the overrides among `variables` into `table`.
pub(super) fn apply(
    table: &mut Table,
    variables: impl IntoIterator<Item = (String, String)>,
) -> (Vec<Override>, Vec<Problem>) {
    let (mut applied, mut problems) = (Vec::new(), Vec::new());
    let mut ours: Vec<_> = variables
        .into_iter()
        .filter(|(name, _)| name.starts_with(PREFIX))
        .collect();
    // One order, whatever the environment's: messages and results must not vary.
    ours.sort();
    for (variable, text) in ours {
        let path = variable[PREFIX.len()..].to_ascii_lowercase();
        let parts: Vec<&str> = path.split("__").collect();
        match set(table, &parts, &text) {
            Ok(key) => applied.push(Override { key, variable }),
            Err(fix) => problems.push(Problem {
                key: variable,
                what: "this environment variable overrides nothing".to_owned(),
                fix,
            }),
        }
    }
    (applied, problems)
}

/// Sets one key; gives it as error messages spell it.
fn set(table: &mut Table, parts: &[&str], text: &str) -> Result<String, String> {
    if parts.iter().any(|part| part.is_empty()) {
        return Err("write GAVEL__KEY or GAVEL__SECTION__KEY".to_owned());
    }
    match parts {
        [key] => {
            insert(table, key, text);
            Ok((*key).to_owned())
        }
        [section, key] => {
            let inner = table
                .entry(*section)
                .or_insert_with(|| Value::Table(Table::new()));
            let inner = inner.as_table_mut().ok_or_else(|| {
                format!(
                    "`{section}` has several entries: write GAVEL__{0}__NAME__KEY",
                    section.to_uppercase()
                )
            })?;
            insert(inner, key, text);
            Ok(format!("{section}.{key}"))
        }
        [section, name, key] => set_named(table, section, name, key, text),
        _ => Err("write GAVEL__SECTION__KEY or GAVEL__SECTION__NAME__KEY".to_owned()),
    }
}

fn set_named(
    table: &mut Table,
    section: &str,
    name: &str,
    key: &str,
    text: &str,
) -> Result<String, String> {
    let entries = table.get_mut(section).and_then(Value::as_array_mut);
    let mut entries = entries.into_iter().flatten().enumerate();
    let found = entries.find_map(|(index, entry)| {
        let entry = entry.as_table_mut()?;
        let is_named = entry.get("name")?.as_str()?.eq_ignore_ascii_case(name);
        is_named.then_some((index, entry))
    });
    let (index, entry) =
        found.ok_or_else(|| format!("the file has no [[{section}]] with name = \"{name}\""))?;
    insert(entry, key, text);
    Ok(format!("{section}[{index}].{key}"))
}

/// A number or boolean where the text looks like one, unless the file has a string there.
fn insert(table: &mut Table, key: &str, text: &str) {
    let is_string = table.get(key).is_some_and(Value::is_str);
    let value = match (is_string, text.parse(), text.parse()) {
        (false, Ok(number), _) => Value::Integer(number),
        (false, _, Ok(boolean)) => Value::Boolean(boolean),
        _ => Value::String(text.to_owned()),
    };
    table.insert(key.to_owned(), value);
}
