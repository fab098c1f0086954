//! Postgres SQL as tokens and statements: enough to split, compare and lint it, not to understand it.
//!
//! Follows the server's own scanner with `standard_conforming_strings = on`, which every session of tandem sets.
//! It never fails: what the server would reject becomes a token that says so.

use sha2::{Digest, Sha256};
use std::ops::Range;

/// A piece of SQL that means something; white space and comments lie between tokens.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Token {
    pub kind: Kind,
    /// Bytes of the text.
    pub range: Range<usize>,
}

/// What a token is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// A keyword or an unquoted identifier.
    Word,
    /// `"name"` or `U&"name"`.
    QuotedIdentifier,
    /// `'…'` with any prefix, or `$tag$…$tag$`.
    String,
    Number,
    /// `$1`.
    Parameter,
    Operator,
    /// One of `( ) [ ] , ; .` or `:`, and `::`, `:=`, `..`.
    Punctuation,
    /// A backslash, which outside quotes only psql understands.
    Backslash,
    /// A string, quoted identifier or block comment that the text ends in.
    Unterminated,
    /// A byte that no SQL contains here.
    Other,
}

impl Token {
    /// The token as it is written.
    pub fn text<'a>(&self, sql: &'a str) -> &'a str {
        &sql[self.range.clone()]
    }

    /// Is it this keyword? The word is lower-case.
    pub fn is_word(&self, sql: &str, word: &str) -> bool {
        self.kind == Kind::Word && self.text(sql).eq_ignore_ascii_case(word)
    }

    /// Is it this punctuation?
    pub fn is_mark(&self, sql: &str, mark: &str) -> bool {
        self.kind == Kind::Punctuation && self.text(sql) == mark
    }

    /// The name that an identifier stands for: folded, or unquoted. `None` if it is not an identifier.
    pub fn name(&self, sql: &str) -> Option<String> {
        let text = self.text(sql);
        match self.kind {
            Kind::Word => Some(text.to_ascii_lowercase()),
            Kind::QuotedIdentifier => Some(text.strip_prefix('"')?.strip_suffix('"')?.replace("\"\"", "\"")),
            _ => None,
        }
    }
}

/// One statement without its semicolon.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Statement<'a> {
    /// Byte offset of the first token in the whole text.
    pub start: usize,
    /// From the first token to the last.
    pub text: &'a str,
    /// At least one; ranges are offsets into `text`.
    pub tokens: Vec<Token>,
}

struct Lexer<'a> {
    bytes: &'a [u8],
    at: usize,
    /// The token before was an `E''` string, so one that continues it on the next line has escapes too.
    escapes_continue: bool,
}

fn is_space(byte: u8) -> bool {
    matches!(byte, b' ' | b'\t' | b'\n' | b'\r' | 0x0b | 0x0c)
}

fn starts_word(byte: u8) -> bool {
    byte.is_ascii_alphabetic() || byte == b'_' || byte >= 0x80
}

fn continues_word(byte: u8) -> bool {
    starts_word(byte) || byte.is_ascii_digit() || byte == b'$'
}

fn is_operator(byte: u8) -> bool {
    b"~!@#^&|`?+-*/%<>=".contains(&byte)
}

impl Lexer<'_> {
    fn peek(&self, ahead: usize) -> u8 {
        // NUL stands for the end: no rule below accepts it.
        self.bytes.get(self.at + ahead).copied().unwrap_or(0)
    }

    fn rest(&self) -> &[u8] {
        &self.bytes[self.at..]
    }

    fn skip_while(&mut self, accept: impl Fn(u8) -> bool) {
        self.at += self.rest().iter().take_while(|&&b| accept(b)).count();
    }

    /// Skips white space and comments. False if a block comment does not end; the position is then its start.
    fn skip_gap(&mut self) -> bool {
        loop {
            self.skip_while(is_space);
            if self.rest().starts_with(b"--") {
                self.skip_while(|b| b != b'\n' && b != b'\r');
            } else if self.rest().starts_with(b"/*") {
                match block_comment_length(self.rest()) {
                    Some(length) => self.at += length,
                    None => return false,
                }
            } else {
                return true;
            }
        }
    }

    /// Moves behind the closing quote; doubled quotes stand for themselves.
    fn quoted(&mut self, quote: u8, escapes: bool, kind: Kind) -> Kind {
        self.at += 1;
        while self.at < self.bytes.len() {
            let byte = self.peek(0);
            if escapes && byte == b'\\' {
                self.at = (self.at + 2).min(self.bytes.len());
            } else if byte != quote {
                self.at += 1;
            } else if self.peek(1) == quote {
                self.at += 2;
            } else {
                self.at += 1;
                return kind;
            }
        }
        Kind::Unterminated
    }

    /// `$tag$…$tag$`, `$1`, or a lone dollar.
    fn dollar(&mut self) -> Kind {
        if self.peek(1).is_ascii_digit() {
            self.at += 1;
            self.skip_while(|b| b.is_ascii_digit());
            return Kind::Parameter;
        }
        let tag = match self.peek(1) {
            b'$' => 0,
            first if starts_word(first) => {
                self.rest()[1..].iter().take_while(|&&b| continues_word(b) && b != b'$').count()
            }
            _ => {
                self.at += 1;
                return Kind::Other;
            }
        };
        if self.peek(1 + tag) != b'$' {
            self.at += 1;
            return Kind::Other;
        }
        let delimiter = &self.bytes[self.at..self.at + tag + 2];
        let body = self.at + delimiter.len();
        match find(&self.bytes[body..], delimiter) {
            Some(length) => {
                self.at = body + length + delimiter.len();
                Kind::String
            }
            None => {
                self.at = self.bytes.len();
                Kind::Unterminated
            }
        }
    }

    fn number(&mut self) -> Kind {
        let digits = |b: u8| b.is_ascii_digit() || b == b'_';
        if self.peek(0) == b'0' && matches!(self.peek(1), b'x' | b'X' | b'o' | b'O' | b'b' | b'B') {
            self.at += 2;
            self.skip_while(|b| b.is_ascii_hexdigit() || b == b'_');
            return Kind::Number;
        }
        self.skip_while(digits);
        if self.peek(0) == b'.' && self.peek(1) != b'.' {
            self.at += 1;
            self.skip_while(digits);
        }
        let sign = usize::from(matches!(self.peek(1), b'+' | b'-'));
        if matches!(self.peek(0), b'e' | b'E') && self.peek(1 + sign).is_ascii_digit() {
            self.at += 1 + sign;
            self.skip_while(digits);
        }
        Kind::Number
    }

    fn operator(&mut self) -> Kind {
        let run = self.rest().iter().take_while(|&&b| is_operator(b)).count();
        let run = &self.rest()[..run];
        let comment = (1..run.len()).find(|&i| run[i..].starts_with(b"--") || run[i..].starts_with(b"/*"));
        let mut length = comment.unwrap_or(run.len());
        // The server's rule, by which `=-1` is `=` and `-1`: only an operator with an unusual character ends in a sign.
        if !run[..length].iter().any(|b| b"~!@#^&|`?%".contains(b)) {
            while length > 1 && matches!(run[length - 1], b'+' | b'-') {
                length -= 1;
            }
        }
        self.at += length;
        Kind::Operator
    }

    fn word(&mut self) -> Kind {
        let (first, second, third) = (self.peek(0), self.peek(1), self.peek(2));
        match (first.to_ascii_lowercase(), second) {
            (b'e', b'\'') => {
                self.at += 1;
                self.quoted(b'\'', true, Kind::String)
            }
            (b'b' | b'x' | b'n', b'\'') => {
                self.at += 1;
                self.quoted(b'\'', false, Kind::String)
            }
            (b'u', b'&') if third == b'\'' => {
                self.at += 2;
                self.quoted(b'\'', false, Kind::String)
            }
            (b'u', b'&') if third == b'"' => {
                self.at += 2;
                self.quoted(b'"', false, Kind::QuotedIdentifier)
            }
            _ => {
                self.skip_while(continues_word);
                Kind::Word
            }
        }
    }

    fn punctuation(&mut self) -> Kind {
        self.at += match (self.peek(0), self.peek(1)) {
            (b':', b':' | b'=') | (b'.', b'.') => 2,
            _ => 1,
        };
        Kind::Punctuation
    }
}

/// The length of a block comment, which may contain others. `None` if it does not end.
fn block_comment_length(bytes: &[u8]) -> Option<usize> {
    let mut depth = 0_usize;
    let mut at = 0;
    while at + 1 < bytes.len() {
        match &bytes[at..at + 2] {
            b"/*" => depth += 1,
            b"*/" if depth == 1 => return Some(at + 2),
            b"*/" => depth -= 1,
            _ => {
                at += 1;
                continue;
            }
        }
        at += 2;
    }
    None
}

fn find(haystack: &[u8], needle: &[u8]) -> Option<usize> {
    haystack.windows(needle.len()).position(|window| window == needle)
}

impl Iterator for Lexer<'_> {
    type Item = Token;

    fn next(&mut self) -> Option<Token> {
        let gap = self.at;
        if !self.skip_gap() {
            let start = self.at;
            self.at = self.bytes.len();
            return Some(Token { kind: Kind::Unterminated, range: start..self.at });
        }
        let new_line = self.bytes[gap..self.at].iter().any(|b| matches!(b, b'\n' | b'\r'));
        let escapes = std::mem::take(&mut self.escapes_continue) && new_line;
        let start = self.at;
        let first = *self.bytes.get(start)?;
        let kind = match first {
            b'\'' => self.quoted(b'\'', escapes, Kind::String),
            b'"' => self.quoted(b'"', false, Kind::QuotedIdentifier),
            b'$' => self.dollar(),
            b'\\' => {
                self.at += 1;
                Kind::Backslash
            }
            b'0'..=b'9' => self.number(),
            b'.' if self.peek(1).is_ascii_digit() => self.number(),
            b'(' | b')' | b'[' | b']' | b',' | b';' | b'.' | b':' => self.punctuation(),
            _ if is_operator(first) => self.operator(),
            _ if starts_word(first) => self.word(),
            _ => {
                self.at += 1;
                Kind::Other
            }
        };
        self.escapes_continue =
            kind == Kind::String && (first.eq_ignore_ascii_case(&b'e') || (first == b'\'' && escapes));
        Some(Token { kind, range: start..self.at })
    }
}

/// The tokens of a text, in order.
pub fn tokens(sql: &str) -> impl Iterator<Item = Token> {
    Lexer { bytes: sql.as_bytes(), at: 0, escapes_continue: false }
}

/// The statements of a text. Between them lie only white space, comments and semicolons.
///
/// Semicolons inside parentheses (`CREATE RULE … DO (…; …)`) and inside `BEGIN ATOMIC … END` do not end a statement.
pub fn statements(sql: &str) -> Vec<Statement<'_>> {
    let mut statements = Vec::new();
    let mut pending: Vec<Token> = Vec::new();
    let mut parentheses = 0_usize;
    let mut blocks = 0_usize;
    for token in tokens(sql) {
        match token.kind {
            Kind::Punctuation => match token.text(sql) {
                "(" => parentheses += 1,
                ")" => parentheses = parentheses.saturating_sub(1),
                ";" if parentheses == 0 && blocks == 0 => {
                    statements.extend(statement(sql, std::mem::take(&mut pending)));
                    continue;
                }
                _ => {}
            },
            Kind::Word if parentheses == 0 => {
                let after_begin = pending.last().is_some_and(|last| last.is_word(sql, "begin"));
                let opens = (after_begin && token.is_word(sql, "atomic"))
                    || (blocks > 0 && token.is_word(sql, "case"));
                if opens {
                    blocks += 1;
                } else if blocks > 0 && token.is_word(sql, "end") {
                    blocks -= 1;
                }
            }
            _ => {}
        }
        pending.push(token);
    }
    statements.extend(statement(sql, pending));
    statements
}

fn statement(sql: &str, mut tokens: Vec<Token>) -> Option<Statement<'_>> {
    let start = tokens.first()?.range.start;
    let end = tokens.last()?.range.end;
    for token in &mut tokens {
        token.range = token.range.start - start..token.range.end - start;
    }
    Some(Statement { start, text: &sql[start..end], tokens })
}

impl Statement<'_> {
    /// Does it begin with these keywords? They are lower-case.
    pub fn begins(&self, words: &[&str]) -> bool {
        self.tokens.len() >= words.len()
            && words.iter().zip(&self.tokens).all(|(word, token)| token.is_word(self.text, word))
    }

    /// The index behind these keywords if all of them stand at `at`, else `at`: for optional noise words.
    pub fn skip(&self, at: usize, words: &[&str]) -> usize {
        let there = words.iter().enumerate().all(|(i, word)| self.word(at + i, word));
        if there { at + words.len() } else { at }
    }

    /// Is the token at `at` this keyword?
    pub fn word(&self, at: usize, word: &str) -> bool {
        self.tokens.get(at).is_some_and(|token| token.is_word(self.text, word))
    }

    /// A possibly qualified name at `at`, its parts folded or unquoted, and the index behind it.
    pub fn qualified_name(&self, at: usize) -> Option<(Vec<String>, usize)> {
        let mut parts = vec![self.tokens.get(at)?.name(self.text)?];
        let mut at = at + 1;
        while self.tokens.get(at).is_some_and(|t| t.is_mark(self.text, ".")) {
            parts.push(self.tokens.get(at + 1)?.name(self.text)?);
            at += 2;
        }
        Some((parts, at))
    }
}

/// A statement that Postgres forbids in a transaction and whose outcome can be read from the catalog.
///
/// Names are qualified as written, last part the object's own.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum NonTransactional {
    /// `CREATE [UNIQUE] INDEX CONCURRENTLY`; the index gets the schema of its table.
    CreateIndex { index: String, table: Vec<String> },
    /// `DROP INDEX CONCURRENTLY`, which takes one index.
    DropIndex { index: Vec<String> },
    /// `REINDEX INDEX CONCURRENTLY`.
    ReindexIndex { index: Vec<String> },
    /// `VACUUM` leaves nothing that a repetition could harm.
    Vacuum,
}

/// The statement as one of those that a `-- tandem:no-transaction` file may hold; `None` for every other.
pub fn non_transactional(statement: &Statement) -> Option<NonTransactional> {
    let s = statement;
    if s.begins(&["vacuum"]) {
        return Some(NonTransactional::Vacuum);
    }
    if s.begins(&["create"]) {
        let at = s.skip(s.skip(1, &["unique"]), &["index", "concurrently"]);
        if !s.word(at - 1, "concurrently") {
            return None;
        }
        let (index, at) = s.qualified_name(s.skip(at, &["if", "not", "exists"]))?;
        if !s.word(at, "on") || index.len() != 1 {
            return None;
        }
        let (table, _) = s.qualified_name(s.skip(at + 1, &["only"]))?;
        return Some(NonTransactional::CreateIndex { index: index.into_iter().next()?, table });
    }
    if s.begins(&["drop", "index", "concurrently"]) {
        let (index, at) = s.qualified_name(s.skip(3, &["if", "exists"]))?;
        let more = s.tokens.get(at).is_some_and(|t| t.is_mark(s.text, ","));
        return (!more).then_some(NonTransactional::DropIndex { index });
    }
    if s.begins(&["reindex", "index", "concurrently"]) {
        return Some(NonTransactional::ReindexIndex { index: s.qualified_name(3)?.0 });
    }
    None
}

/// Feeds the tokens to a hash, each ended by a byte that UTF-8 does not have.
///
/// Line endings do not count anywhere, not even in strings: a checkout may convert a whole file, function bodies and
/// all, and nobody changes a statement that way.
pub(super) fn hash_tokens(sql: &str, hash: &mut Sha256) {
    let unified;
    let sql = if sql.contains('\r') {
        unified = sql.replace("\r\n", "\n");
        &unified
    } else {
        sql
    };
    for token in tokens(sql) {
        match token.kind {
            Kind::Word => hash.update(token.text(sql).to_ascii_lowercase()),
            _ => hash.update(token.text(sql)),
        }
        hash.update([0xff]);
    }
}

/// Line and column, both from 1, columns in characters, of a byte offset. An offset behind the end is the end.
pub fn line_column(text: &str, offset: usize) -> (usize, usize) {
    let before = &text.as_bytes()[..offset.min(text.len())];
    let line = before.iter().filter(|&&b| b == b'\n').count() + 1;
    let line_start = before.iter().rposition(|&b| b == b'\n').map_or(0, |i| i + 1);
    // Characters are counted by the bytes that begin one, so that an offset inside a character is harmless.
    let column = before[line_start..].iter().filter(|&&b| b & 0xc0 != 0x80).count() + 1;
    (line, column)
}

/// Line and column of the position in a server's error message, which counts characters from 1.
pub fn line_column_of_position(text: &str, position: usize) -> (usize, usize) {
    let offset = text.char_indices().nth(position.saturating_sub(1)).map_or(text.len(), |(offset, _)| offset);
    line_column(text, offset)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn shown(sql: &str) -> Vec<(Kind, &str)> {
        tokens(sql).map(|token| (token.kind, token.text(sql))).collect()
    }

    fn texts(sql: &str) -> Vec<&str> {
        statements(sql).into_iter().map(|statement| statement.text).collect()
    }

    #[test]
    fn tokens_are_those_of_the_server() {
        use Kind::*;
        let table: &[(&str, &[(Kind, &str)])] = &[
            ("", &[]),
            (" \t\r\n-- comment\n/* one /* two */ one */", &[]),
            ("SELECT a", &[(Word, "SELECT"), (Word, "a")]),
            ("größe$1", &[(Word, "größe$1")]),
            ("\"a\"\"b\" U&\"c\"", &[(QuotedIdentifier, "\"a\"\"b\""), (QuotedIdentifier, "U&\"c\"")]),
            (r"'a''b' 'c\' d", &[(String, "'a''b'"), (String, r"'c\'"), (Word, "d")]),
            (r"E'a\'b' e'\\' f", &[(String, r"E'a\'b'"), (String, r"e'\\'"), (Word, "f")]),
            (
                r"U&'\0041' B'1' x'F' N'n'",
                &[(String, r"U&'\0041'"), (String, "B'1'"), (String, "x'F'"), (String, "N'n'")],
            ),
            ("E'a'\n'b\\'c' d", &[(String, "E'a'"), (String, "'b\\'c'"), (Word, "d")]),
            ("E'a' 'b\\' d", &[(String, "E'a'"), (String, "'b\\'"), (Word, "d")]),
            ("$$a;'b$$ $x$ $$ $y$ $x$", &[(String, "$$a;'b$$"), (String, "$x$ $$ $y$ $x$")]),
            ("$1 a$b$ $", &[(Parameter, "$1"), (Word, "a$b$"), (Other, "$")]),
            (
                "1 1.5 .5 1e-3 0xFF 1_000 1..2",
                &[
                    (Number, "1"),
                    (Number, "1.5"),
                    (Number, ".5"),
                    (Number, "1e-3"),
                    (Number, "0xFF"),
                    (Number, "1_000"),
                    (Number, "1"),
                    (Punctuation, ".."),
                    (Number, "2"),
                ],
            ),
            ("a=-1", &[(Word, "a"), (Operator, "="), (Operator, "-"), (Number, "1")]),
            ("a@-1", &[(Word, "a"), (Operator, "@-"), (Number, "1")]),
            ("a<>b--c", &[(Word, "a"), (Operator, "<>"), (Word, "b")]),
            ("a*/**/b", &[(Word, "a"), (Operator, "*"), (Word, "b")]),
            (
                "a::b:=c[1]",
                &[
                    (Word, "a"),
                    (Punctuation, "::"),
                    (Word, "b"),
                    (Punctuation, ":="),
                    (Word, "c"),
                    (Punctuation, "["),
                    (Number, "1"),
                    (Punctuation, "]"),
                ],
            ),
            ("\\connect x", &[(Backslash, "\\"), (Word, "connect"), (Word, "x")]),
            ("a 'b", &[(Word, "a"), (Unterminated, "'b")]),
            ("a \"b", &[(Word, "a"), (Unterminated, "\"b")]),
            ("a /* b /* */", &[(Word, "a"), (Unterminated, "/* b /* */")]),
            ("a $x$ b $$", &[(Word, "a"), (Unterminated, "$x$ b $$")]),
            ("E'\\", &[(Unterminated, "E'\\")]),
        ];
        for (sql, expected) in table {
            assert_eq!(shown(sql), *expected, "{sql}");
        }
    }

    #[test]
    fn statements_end_at_their_own_semicolon() {
        let body = "create function f(a int) returns int language sql begin atomic select case when a > 0 then 1 else 2 \
                    end; select 3; end";
        let rule = "create rule r as on insert to t do (insert into u values (1); delete from v)";
        let table: &[(&str, &[&str])] = &[
            ("", &[]),
            (";; -- nothing\n;", &[]),
            ("select 1", &["select 1"]),
            ("select 1; select 2;\n", &["select 1", "select 2"]),
            ("-- a;\nselect ';' /* ; */;select $$;$$", &["select ';'", "select $$;$$"]),
            (&format!("{body}; select 4"), &[body, "select 4"]),
            (&format!("{rule}; select 4"), &[rule, "select 4"]),
            ("begin; select 1; end; select 2", &["begin", "select 1", "end", "select 2"]),
            ("select 1); select 2", &["select 1)", "select 2"]),
        ];
        for (sql, expected) in table {
            assert_eq!(texts(sql), *expected, "{sql}");
        }
    }

    #[test]
    fn statements_that_run_outside_of_a_transaction_are_recognised_by_what_can_be_probed() {
        let create = |index: &str, table: &[&str]| {
            let table = table.iter().map(|&part| part.to_owned()).collect();
            Some(NonTransactional::CreateIndex { index: index.into(), table })
        };
        let table = [
            ("CREATE INDEX CONCURRENTLY i ON t (a)", create("i", &["t"])),
            (
                "create unique index concurrently if not exists \"I x\" on only s.\"T\" using gin (a)",
                create("I x", &["s", "T"]),
            ),
            ("create index concurrently on t (a)", None),
            ("create index i on t (a)", None),
            ("create table concurrently (a int)", None),
            (
                "drop index concurrently if exists s.I",
                Some(NonTransactional::DropIndex { index: vec!["s".into(), "i".into()] }),
            ),
            ("drop index concurrently a, b", None),
            ("drop index i", None),
            (
                "reindex index concurrently i",
                Some(NonTransactional::ReindexIndex { index: vec!["i".into()] }),
            ),
            ("reindex table concurrently t", None),
            ("vacuum (analyze) t", Some(NonTransactional::Vacuum)),
            ("select 1", None),
        ];
        for (sql, expected) in table {
            let statements = statements(sql);
            assert_eq!(non_transactional(&statements[0]), expected, "{sql}");
        }
    }

    #[test]
    fn lines_and_columns_count_characters_from_one() {
        let text = "äb\r\nç\nd";
        let table =
            [(0, (1, 1)), (2, (1, 2)), (3, (1, 3)), (5, (2, 1)), (7, (2, 2)), (8, (3, 1)), (99, (3, 2))];
        for (offset, expected) in table {
            assert_eq!(line_column(text, offset), expected, "offset {offset}");
        }
        let table =
            [(0, (1, 1)), (1, (1, 1)), (2, (1, 2)), (5, (2, 1)), (7, (3, 1)), (8, (3, 2)), (99, (3, 2))];
        for (position, expected) in table {
            assert_eq!(line_column_of_position(text, position), expected, "position {position}");
        }
    }

    /// Text rich in what begins and ends tokens.
    fn sql() -> impl Strategy<Value = String> {
        let piece = prop_oneof![
            prop::sample::select(vec![
                "'",
                "''",
                "\"",
                "$$",
                "$a$",
                "$",
                "--",
                "/*",
                "*/",
                "\n",
                "\r\n",
                " ",
                ";",
                "(",
                ")",
                "E'",
                "U&'",
                "\\",
                "begin atomic ",
                "case ",
                "end ",
                "1",
                ".",
                "e",
                "-",
                "+",
                "=",
                "@",
                ":",
                "ä",
                "\u{a0}",
                "\0",
            ])
            .prop_map(str::to_owned),
            "[a-z0-9]{0,3}",
            any::<char>().prop_map(String::from),
        ];
        prop::collection::vec(piece, 0..40).prop_map(|pieces| pieces.concat())
    }

    fn is_gap(text: &str) -> bool {
        tokens(text).all(|token| token.is_mark(text, ";"))
    }

    proptest! {
        #[test]
        fn tokens_and_gaps_are_the_text(sql in sql()) {
            let mut end = 0;
            for token in tokens(&sql) {
                prop_assert!(token.range.start >= end && token.range.end > token.range.start);
                prop_assert_eq!(tokens(&sql[end..token.range.start]).count(), 0);
                end = token.range.end;
            }
            prop_assert_eq!(tokens(&sql[end..]).count(), 0);
        }

        #[test]
        fn splitting_keeps_every_byte(sql in sql()) {
            let mut end = 0;
            let mut kept = 0;
            for statement in statements(&sql) {
                prop_assert!(is_gap(&sql[end..statement.start]));
                end = statement.start + statement.text.len();
                prop_assert_eq!(&sql[statement.start..end], statement.text);
                kept += statement.tokens.len();
                for token in &statement.tokens {
                    prop_assert!(!token.text(statement.text).is_empty());
                }
            }
            prop_assert!(is_gap(&sql[end..]));
            prop_assert!(kept <= tokens(&sql).count());
        }

        #[test]
        fn places_lie_in_the_text(sql in sql(), offset in 0..200_usize) {
            let (line, column) = line_column(&sql, offset);
            prop_assert!(line >= 1 && line <= sql.split('\n').count());
            prop_assert!(column >= 1 && column <= sql.split('\n').nth(line - 1).unwrap().chars().count() + 1);
        }
    }
}
