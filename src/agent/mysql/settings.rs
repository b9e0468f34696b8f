//! The configuration file against the running server: what can be changed while it runs is changed, the rest
//! waits for a restart. What is not in the file any more goes back to the server's default. The server says itself
//! which is which, and where each value comes from, so there is no list of ours to grow old.

use std::collections::HashMap;

use super::sql::Session;
use super::text::{identifier, literal};
use super::wire::Error;
use crate::agent::engine::{Configured, EngineError};
use crate::engine::mysql::parameters::PARAMETERS;

/// "Variable … is a read only variable".
const READ_ONLY: u16 = 1238;

/// Brings the server to what the file says.
pub(super) async fn apply(session: &Session, file: &str) -> Result<Configured, EngineError> {
    let wanted = match parse(file) {
        Ok(wanted) => wanted,
        Err(errors) => return Ok(refused(errors)),
    };
    let rows = session.rows("read the settings", "SHOW GLOBAL VARIABLES").await?;
    let running: HashMap<String, String> = rows
        .into_iter()
        .filter_map(|row| {
            let mut cells = row.into_iter();
            Some((cells.next()??, cells.next()?.unwrap_or_default()))
        })
        .collect();
    let unknown: Vec<String> = wanted
        .iter()
        .filter(|(name, _)| !running.contains_key(name))
        .map(|(name, _)| format!("{name}: there is no such setting"))
        .collect();
    if !unknown.is_empty() {
        // The server would not start with such a file: none of it is taken.
        return Ok(refused(unknown));
    }
    let mut configured = Configured::default();
    let left = left_over(session, &wanted).await?;
    // First what is taken back: what is asked for may depend on it.
    for name in left {
        set(session, name, "DEFAULT", &mut configured).await?;
    }
    for (name, value) in wanted {
        if running.get(&name).is_none_or(|now| !same(now, &value)) {
            set(session, name, &expression(&value), &mut configured).await?;
        }
    }
    configured.pending_restart.sort();
    Ok(configured)
}

/// Changes one setting, or says why not.
async fn set(
    session: &Session,
    name: String,
    value: &str,
    configured: &mut Configured,
) -> Result<(), EngineError> {
    let set = format!("SET GLOBAL {} = {value}", identifier(&name));
    match session.attempted(&set).await? {
        Ok(_) => {}
        Err(Error::Server { code: READ_ONLY, .. }) => configured.pending_restart.push(name),
        Err(Error::Server { message, .. }) => configured.errors.push(format!("{name}: {message}")),
        Err(error) => return Err(super::sql::failed("change a setting", &error)),
    }
    Ok(())
}

/// Names of settings that the server has from a file, or from an earlier change of ours, and that are not wanted any
/// more. What the agent has set for other reasons, such as the place of the certificate, is none of the file's.
async fn left_over(session: &Session, wanted: &[(String, String)]) -> Result<Vec<String>, EngineError> {
    let query = "SELECT variable_name, variable_source FROM performance_schema.variables_info \
         WHERE variable_source IN ('EXPLICIT', 'DYNAMIC') ORDER BY variable_name";
    let rows = session.rows("ask where settings come from", query).await?;
    let left = rows.into_iter().filter_map(|row| {
        let mut cells = row.into_iter();
        let (name, source) = (cells.next()??, cells.next()??);
        let may_be_set = PARAMETERS.iter().any(|it| it.name == name);
        let ours = source == "EXPLICIT" || may_be_set;
        (ours && wanted.iter().all(|(known, _)| *known != name)).then_some(name)
    });
    Ok(left.collect())
}

fn refused(errors: Vec<String>) -> Configured {
    Configured {
        pending_restart: Vec::new(),
        errors,
    }
}

/// Names and values of `[mysqld]`, the last of each name.
fn parse(file: &str) -> Result<Vec<(String, String)>, Vec<String>> {
    let (mut settings, mut wrong) = (Vec::<(String, String)>::new(), Vec::new());
    for (number, line) in file.lines().enumerate() {
        let line = line.trim();
        if line.is_empty() || line.starts_with(['#', ';']) || line == "[mysqld]" {
            continue;
        }
        let Some((name, value)) = line.split_once('=') else {
            wrong.push(format!("line {}: not a setting", number + 1));
            continue;
        };
        let name = name.trim().replace('-', "_");
        let value = value.trim().trim_matches(['\'', '"']).to_owned();
        settings.retain(|(known, _)| *known != name);
        settings.push((name, value));
    }
    if wrong.is_empty() {
        Ok(settings)
    } else {
        Err(wrong)
    }
}

/// Whether two spellings mean the same: `64M` and `67108864`, `ON` and `1`.
fn same(one: &str, other: &str) -> bool {
    one.eq_ignore_ascii_case(other) || plain(one) == plain(other)
}

fn plain(value: &str) -> String {
    let value = value.to_ascii_lowercase();
    match value.as_str() {
        "on" | "true" => return "1".into(),
        "off" | "false" => return "0".into(),
        _ => {}
    }
    number(&value).map_or(value, |number| number.to_string())
}

/// A whole number with the suffix of a size.
fn number(value: &str) -> Option<u64> {
    let (digits, shift) = match value.to_ascii_lowercase().chars().last()? {
        'k' => (value.get(..value.len() - 1)?, 10),
        'm' => (value.get(..value.len() - 1)?, 20),
        'g' => (value.get(..value.len() - 1)?, 30),
        't' => (value.get(..value.len() - 1)?, 40),
        _ => (value, 0),
    };
    digits.parse::<u64>().ok()?.checked_mul(1 << shift)
}

/// A value in a statement: numbers are no strings there, and have no suffixes.
fn expression(value: &str) -> String {
    let fraction = value.parse::<f64>().is_ok() && value.bytes().all(|byte| b"0123456789.-".contains(&byte));
    match number(value) {
        Some(number) => number.to_string(),
        None if fraction => value.to_owned(),
        None => literal(value),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn spellings_of_one_value_are_the_same() {
        for (one, other) in [
            ("64M", "67108864"),
            ("ON", "1"),
            ("off", "OFF"),
            ("1g", "1073741824"),
        ] {
            assert!(same(one, other), "{one} {other}");
        }
        for (one, other) in [("64M", "64"), ("ON", "0"), ("utf8mb4", "latin1"), ("0.5", "0.25")] {
            assert!(!same(one, other), "{one} {other}");
        }
    }

    #[test]
    fn values_cannot_leave_their_statement() {
        assert_eq!(expression("64M"), "67108864");
        assert_eq!(expression("-1"), "-1");
        assert_eq!(expression("0.5"), "0.5");
        assert_eq!(expression("1; DROP DATABASE app"), "'1; DROP DATABASE app'");
        assert_eq!(expression("a' OR 1"), r"'a\' OR 1'");
        assert_eq!(expression("99999999999999999999T"), "'99999999999999999999T'");
        assert_eq!(expression("inf"), "'inf'");
        assert_eq!(expression(""), "''");
    }

    #[test]
    fn the_last_of_a_name_counts_and_what_is_no_setting_is_said() {
        let file = "[mysqld]\n# a remark\nmax-connections = 5\nmax_connections = '7'\n";
        assert_eq!(parse(file), Ok(vec![("max_connections".into(), "7".into())]));
        assert_eq!(
            parse("[mysqld]\nnonsense\n"),
            Err(vec!["line 2: not a setting".into()])
        );
    }
}
