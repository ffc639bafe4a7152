//! What people read: short, aligned, plain ASCII, without colours, 80 columns where the content allows.

mod table;
mod units;

pub(crate) use table::{Align, Table};
pub(crate) use units::{duration, moment, rate, size, utc};

/// Text of others (labels, file names, a server's words) made harmless for a terminal, on one line.
pub(crate) fn printable(text: &str) -> String {
    text.chars()
        .map(|letter| match letter {
            '\n' | '\t' | '\r' => ' ',
            letter if letter.is_control() => '?',
            letter => letter,
        })
        .collect()
}

/// Breaks `text` at spaces into lines of at most `width` columns, each after `indent`.
pub(crate) fn wrap(text: &str, indent: &str, width: usize) -> Vec<String> {
    let mut lines: Vec<String> = Vec::new();
    for word in printable(text).split_whitespace() {
        match lines.last_mut() {
            Some(line) if line.chars().count() + 1 + word.chars().count() <= width => {
                line.push(' ');
                line.push_str(word);
            }
            _ => lines.push(format!("{indent}{word}")),
        }
    }
    lines
}

/// Lines of `name  value`, the values aligned.
pub(crate) fn fields(pairs: &[(&str, String)]) -> String {
    let width = pairs.iter().map(|(name, _)| name.len()).max().unwrap_or(0);
    pairs
        .iter()
        .map(|(name, value)| format!("{name:<width$}  {}\n", printable(value)))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn long_words_stay_whole_and_lines_stay_short() {
        assert_eq!(
            wrap("aa bb cc ddddddddd e", "  ", 7),
            ["  aa bb", "  cc", "  ddddddddd", "  e"]
        );
        assert_eq!(wrap("", "  ", 7), Vec::<String>::new());
    }

    #[test]
    fn values_of_fields_are_aligned() {
        assert_eq!(fields(&[("a", "1".into()), ("bcd", "2".into())]), "a    1\nbcd  2\n");
    }
}
