//! Text that comes from the server's files, and text that goes into statements. Pure.

/// `server-uuid` of `auto.cnf`.
pub(super) fn server_uuid(auto_cnf: &str) -> Option<String> {
    let (_, uuid) = auto_cnf
        .lines()
        .filter_map(|line| line.split_once('='))
        .find(|(key, _)| key.trim() == "server-uuid")?;
    let uuid = uuid.trim();
    let formed = uuid.len() == 36 && uuid.bytes().all(|byte| byte.is_ascii_hexdigit() || byte == b'-');
    formed.then(|| uuid.to_owned())
}

/// Series of the last entry of `mysql_upgrade_history`.
pub(super) fn newest_series(history: &str) -> Option<String> {
    #[derive(serde::Deserialize)]
    struct History {
        upgrade_history: Vec<Entry>,
    }
    #[derive(serde::Deserialize)]
    struct Entry {
        version: String,
    }
    let history: History = serde_json::from_str(history).ok()?;
    series(&history.upgrade_history.last()?.version)
}

/// `9.7` of `9.7.4-2`.
pub(super) fn series(version: &str) -> Option<String> {
    let mut numbers = version.split(['.', '-', ' ']);
    let (first, second) = (numbers.next()?, numbers.next()?);
    let number = |text: &str| text.parse::<u32>().is_ok();
    (number(first) && number(second)).then(|| format!("{first}.{second}"))
}

/// A string literal that is nothing else, whatever is in it. The session's `sql_mode` must be without
/// `NO_BACKSLASH_ESCAPES`, and its character set UTF-8: every session of ours begins by saying so.
pub(super) fn literal(text: &str) -> String {
    let mut out = String::with_capacity(text.len() + 2);
    out.push('\'');
    for character in text.chars() {
        match character {
            '\0' => out.push_str("\\0"),
            '\n' => out.push_str("\\n"),
            '\r' => out.push_str("\\r"),
            '\u{1a}' => out.push_str("\\Z"),
            '\'' | '"' | '\\' => out.extend(['\\', character]),
            other => out.push(other),
        }
    }
    out.push('\'');
    out
}

/// An identifier that is nothing else, whatever is in it.
pub(super) fn identifier(name: &str) -> String {
    format!("`{}`", name.replace('`', "``"))
}

/// A database in `GRANT … ON`, where `_` and `%` would stand for other databases too.
pub(super) fn granted_database(name: &str) -> String {
    identifier(&name.replace('\\', "\\\\").replace('_', "\\_").replace('%', "\\%"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// Reads a literal as the server does; what is left is after it.
    fn read_literal(text: &str) -> Option<(String, &str)> {
        let mut characters = text.strip_prefix('\'')?.char_indices();
        let mut value = String::new();
        while let Some((at, character)) = characters.next() {
            match character {
                '\'' => return Some((value, text.get(at + 2..)?)),
                '\\' => value.push(match characters.next()?.1 {
                    '0' => '\0',
                    'n' => '\n',
                    'r' => '\r',
                    'Z' => '\u{1a}',
                    other => other,
                }),
                other => value.push(other),
            }
        }
        None
    }

    proptest! {
        #[test]
        fn a_literal_is_one_value_and_nothing_else(value in any::<String>()) {
            let (read, rest) = read_literal(&literal(&value)).map(|(read, rest)| (read, rest.to_owned())).unwrap();
            prop_assert_eq!((read, rest.as_str()), (value, ""));
        }

        #[test]
        fn an_identifier_ends_where_it_should(name in any::<String>()) {
            let quoted = identifier(&name);
            let inside = quoted.strip_prefix('`').and_then(|it| it.strip_suffix('`')).unwrap();
            prop_assert_eq!(inside.replace("``", ""), name.replace('`', ""));
            prop_assert!(inside.split("``").all(|part| !part.contains('`')));
        }
    }

    #[test]
    fn a_literal_of_quotes_and_backslashes_stays_closed() {
        assert_eq!(literal(r"a\' OR '1'='1"), r"'a\\\' OR \'1\'=\'1'");
        assert_eq!(identifier("a`b"), "`a``b`");
        assert_eq!(granted_database("my_shop"), r"`my\_shop`");
    }

    #[test]
    fn files_of_the_server_are_understood() {
        let auto = "[auto]\nserver-uuid=f82efc1c-e5b4-11f1-987c-02fc00000001\n";
        assert_eq!(
            server_uuid(auto).as_deref(),
            Some("f82efc1c-e5b4-11f1-987c-02fc00000001")
        );
        assert_eq!(server_uuid("[auto]\nserver-uuid=\n"), None);
        let history = r#"{"file_format":"1","upgrade_history":[{"version":"8.4.6"},{"version":"9.7.4-2"}]}"#;
        assert_eq!(newest_series(history).as_deref(), Some("9.7"));
        assert_eq!(newest_series("{}"), None);
        assert_eq!(series("8.4.6"), Some("8.4".into()));
        assert_eq!(series("x.4"), None);
    }
}
