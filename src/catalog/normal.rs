//! The normal form of what a server prints: expressions, constraint, index, trigger and view definitions.
//!
//! Two texts with the same normal form mean the same; Postgres itself prints one meaning differently after a dump and
//! restore and from one major version to the next. Only differences that can be told from the text alone to be without
//! meaning are taken away:
//!
//! - white space, needless parentheses, needless quotes around identifiers;
//! - a cast of a string literal to `text` or `character varying`, of a number to a number type, of `'true'` to boolean;
//! - a cast of a whole array, which becomes a cast of each element (`IN` lists are printed both ways);
//! - `ARRAY[]::t[]`, which is `'{}'::t[]`;
//! - `now()` and `transaction_timestamp()`, which the manual calls equivalent to `CURRENT_TIMESTAMP`;
//! - nested `AND` in `AND`, and `OR` in `OR`.
//!
//! Casts of columns and of calls stay: they are stable, and may decide which function is meant.

/// The normal form of an expression, or of a definition as the server prints it.
pub fn normal(text: &str) -> String {
    render(&tree(text))
}

/// The normal form of a column default. The column's type gives a number its scale, so `0.50` is `0.5`.
pub fn normal_default(text: &str) -> String {
    let nodes = tree(text);
    match nodes.as_slice() {
        [Node::Number(number)] => trim_zeros(number).to_owned(),
        _ => render(&nodes),
    }
}

/// The normal form of a view's query. Qualifications go: from version 16 on the server prints them only where needed,
/// and which relations the view reads is compared on its own.
pub fn normal_query(text: &str) -> String {
    let mut nodes = tree(text.trim_end().trim_end_matches(';'));
    unqualify(&mut nodes);
    render(&nodes)
}

/// The structure of an index, without its name, its table and its storage parameters:
/// `UNIQUE btree(a, b DESC) WHERE …`.
pub fn normal_index(definition: &str) -> String {
    let mut nodes = tree(definition);
    let unique = matches!(nodes.get(1), Some(Node::Word(word)) if word == "UNIQUE");
    let structure = nodes.iter().position(|node| node.is_word("USING")).map_or(0, |using| using + 1);
    nodes.drain(..structure);
    // A `WITH (…)` of storage parameters is the only WITH outside an expression.
    if let Some(with) = nodes.iter().position(|node| node.is_word("WITH")) {
        nodes.drain(with..(with + 2).min(nodes.len()));
    }
    if unique {
        nodes.insert(0, Node::Word("UNIQUE".to_owned()));
    }
    render(&nodes)
}

/// A constraint's structure; whether it is validated is a property of its own.
pub fn normal_constraint(definition: &str) -> String {
    let mut nodes = tree(definition);
    if let [.., Node::Word(not), Node::Word(valid)] = nodes.as_slice()
        && not == "NOT"
        && valid == "VALID"
    {
        nodes.truncate(nodes.len() - 2);
    }
    render(&nodes)
}

/// What makes two constraints or indexes of one table variants of each other: kind, columns and referenced columns,
/// of a normal form.
pub fn subject(normal: &str) -> &str {
    let from = normal.find(" REFERENCES ").unwrap_or(0);
    match normal[from..].find(')') {
        Some(end) => &normal[..from + end + 1],
        None => normal,
    }
}

#[derive(Debug, Clone, PartialEq)]
enum Node {
    /// A keyword, or anything that is not part of a name: upper case as the server prints it.
    Word(String),
    /// An identifier with its qualifications, quotes only where needed.
    Name(Vec<String>),
    /// A string literal with its quotes and prefix.
    Text(String),
    Number(String),
    Operator(String),
    Comma,
    /// `( … )`
    Group(Vec<Node>),
    /// `[ … ]`
    Subscript(Vec<Node>),
    /// `name( … )`
    Call(Vec<String>, Vec<Node>),
    /// `operand::type`
    Cast(Box<Node>, String),
}

impl Node {
    fn is_word(&self, text: &str) -> bool {
        matches!(self, Self::Word(word) if word == text)
    }

    /// Whether an operator beside it cannot take it apart.
    fn is_unit(&self) -> bool {
        matches!(
            self,
            Self::Name(_)
                | Self::Text(_)
                | Self::Number(_)
                | Self::Group(_)
                | Self::Call(..)
                | Self::Cast(..)
        ) || matches!(self, Self::Word(word) if word.starts_with("CURRENT_") || word == "NULL")
    }
}

fn tree(text: &str) -> Vec<Node> {
    let mut reader = Reader { rest: text };
    let mut nodes = reader.nodes();
    while let [Node::Group(_)] = nodes.as_slice() {
        let Some(Node::Group(inner)) = nodes.pop() else { break };
        nodes = inner;
    }
    nodes
}

/// Reads tokens and simplifies what it builds, innermost first.
struct Reader<'a> {
    rest: &'a str,
}

impl Reader<'_> {
    /// Everything up to the closing bracket, which is consumed, or the end.
    fn nodes(&mut self) -> Vec<Node> {
        let mut nodes = Vec::new();
        loop {
            self.rest = self.rest.trim_start();
            let Some(first) = self.rest.chars().next() else { break };
            match first {
                ')' | ']' => {
                    self.take(1);
                    break;
                }
                '(' => {
                    self.take(1);
                    let inner = self.nodes();
                    push_group(&mut nodes, inner);
                }
                '[' => {
                    self.take(1);
                    let inner = self.nodes();
                    nodes.push(Node::Subscript(inner));
                }
                ',' => {
                    self.take(1);
                    nodes.push(Node::Comma);
                }
                '\'' => nodes.push(Node::Text(self.literal(0))),
                'E' | 'B' | 'X' if self.rest[1..].starts_with('\'') => {
                    nodes.push(Node::Text(self.literal(1)))
                }
                '"' => nodes.push(Node::Name(self.name())),
                _ if self.rest.starts_with("::") => {
                    self.take(2);
                    let kind = self.type_name();
                    push_cast(&mut nodes, kind);
                }
                _ if first.is_ascii_digit() => {
                    let end = number_length(self.rest);
                    nodes.push(Node::Number(self.take(end).to_owned()));
                }
                _ if is_name_start(first) => {
                    let word = self.word();
                    if word.contains(|c: char| c.is_ascii_uppercase()) {
                        nodes.push(Node::Word(word.to_owned()));
                    } else {
                        nodes.push(Node::Name(self.name()));
                    }
                }
                _ => {
                    let end = operator_length(self.rest);
                    nodes.push(Node::Operator(self.take(end).to_owned()));
                }
            }
        }
        if let [Node::Operator(minus), Node::Number(number)] = nodes.as_slice()
            && minus == "-"
        {
            return vec![Node::Number(format!("-{number}"))];
        }
        flatten(nodes)
    }

    fn take(&mut self, length: usize) -> &str {
        let (taken, rest) = self.rest.split_at(length);
        self.rest = rest;
        taken
    }

    /// A word in upper case is consumed; one in lower case is left for `name`, which also reads its qualifications.
    fn word(&mut self) -> &str {
        let end = self.rest.find(|c| !is_name_part(c)).unwrap_or(self.rest.len());
        let word = &self.rest[..end];
        if word.contains(|c: char| c.is_ascii_uppercase()) {
            self.rest = &self.rest[end..];
        }
        word
    }

    /// A string literal whose quote stands at `quote`.
    fn literal(&mut self, quote: usize) -> String {
        let escapes = self.rest.starts_with('E');
        let bytes = self.rest.as_bytes();
        let mut at = quote + 1;
        while at < bytes.len() {
            match bytes[at] {
                b'\\' if escapes => at += 2,
                b'\'' if bytes.get(at + 1) == Some(&b'\'') => at += 2,
                b'\'' => break,
                _ => at += 1,
            }
        }
        self.take((at + 1).min(bytes.len())).to_owned()
    }

    /// A dotted name; `t.*` and `OPERATOR(s.<->)` end in an operator.
    fn name(&mut self) -> Vec<String> {
        let mut parts = vec![self.name_part()];
        while let Some(rest) = self.rest.strip_prefix('.') {
            self.rest = rest;
            parts.push(self.name_part());
        }
        parts
    }

    fn name_part(&mut self) -> String {
        if self.rest.starts_with('"') {
            let bytes = self.rest.as_bytes();
            let mut at = 1;
            while at < bytes.len() {
                match bytes[at] {
                    b'"' if bytes.get(at + 1) == Some(&b'"') => at += 2,
                    b'"' => break,
                    _ => at += 1,
                }
            }
            let quoted = self.take((at + 1).min(bytes.len()));
            return unquote(quoted).to_owned();
        }
        let end = self.rest.find(|c| !is_name_part(c)).unwrap_or(self.rest.len());
        let end = if end == 0 { operator_length(self.rest) } else { end };
        self.take(end).to_owned()
    }

    /// A type as `format_type` prints it, from just behind `::`.
    fn type_name(&mut self) -> String {
        let mut name = self.name().join(".");
        let second: &[&str] = match name.as_str() {
            "character" | "bit" => &[" varying"],
            "double" => &[" precision"],
            _ => &[],
        };
        self.follow(&mut name, second);
        if self.rest.starts_with('(') {
            let end = self.rest.find(')').map_or(self.rest.len(), |end| end + 1);
            let modifier = self.take(end).to_owned();
            name.push_str(&modifier);
        }
        if name.starts_with("time") {
            self.follow(&mut name, &[" with time zone", " without time zone"]);
        }
        while self.rest.starts_with("[]") {
            self.take(2);
            name.push_str("[]");
        }
        name
    }

    fn follow(&mut self, name: &mut String, continuations: &[&str]) {
        for continuation in continuations {
            if let Some(rest) = self.rest.strip_prefix(continuation) {
                self.rest = rest;
                name.push_str(continuation);
                return;
            }
        }
    }
}

/// Behind these, parentheses only group; behind another keyword they belong to it (`ANY (…)`, `COALESCE(…)`, `KEY (…)`).
const GROUPING: &[&str] = &[
    "AND", "OR", "NOT", "WHEN", "THEN", "ELSE", "WHERE", "CHECK", "BETWEEN", "LIKE", "ON", "HAVING", "SELECT",
];

fn push_group(nodes: &mut Vec<Node>, inner: Vec<Node>) {
    if let Some(Node::Name(_)) = nodes.last() {
        let Some(Node::Name(name)) = nodes.pop() else { return };
        if inner.is_empty()
            && matches!(name.as_slice(), [only] if only == "now" || only == "transaction_timestamp")
        {
            nodes.push(Node::Word("CURRENT_TIMESTAMP".to_owned()));
        } else {
            nodes.push(Node::Call(name, arguments(inner)));
        }
        return;
    }
    let grouping = match nodes.last() {
        Some(Node::Word(word)) => GROUPING.contains(&word.as_str()),
        _ => true,
    };
    match inner.as_slice() {
        [unit] if grouping && unit.is_unit() => nodes.extend(inner),
        // An array loses its own parentheses, not those of ANY, ALL or IN around it.
        [array, Node::Subscript(_)] if grouping && array.is_word("ARRAY") => nodes.extend(inner),
        [Node::Group(_)] => nodes.extend(inner),
        _ => nodes.push(Node::Group(inner)),
    }
}

/// The arguments of a call, each without parentheses around the whole of it.
fn arguments(nodes: Vec<Node>) -> Vec<Node> {
    let mut plain = Vec::with_capacity(nodes.len());
    for argument in nodes.split(|node| *node == Node::Comma) {
        if !plain.is_empty() {
            plain.push(Node::Comma);
        }
        match argument {
            [Node::Group(inner)] if !inner.contains(&Node::Comma) => plain.extend(inner.iter().cloned()),
            _ => plain.extend(argument.iter().cloned()),
        }
    }
    plain
}

fn push_cast(nodes: &mut Vec<Node>, kind: String) {
    if let [.., array, Node::Subscript(elements)] = nodes.as_slice()
        && array.is_word("ARRAY")
        && let Some(element) = kind.strip_suffix("[]")
    {
        let cast = if elements.is_empty() {
            vec![Node::Cast(Box::new(Node::Text("'{}'".to_owned())), canonical_type(kind))]
        } else {
            let mut cast = Vec::with_capacity(elements.len());
            for one in elements.split(|node| *node == Node::Comma) {
                if !cast.is_empty() {
                    cast.push(Node::Comma);
                }
                let mut operand = match one {
                    [unit] if unit.is_unit() => vec![unit.clone()],
                    _ => vec![Node::Group(one.to_vec())],
                };
                push_cast(&mut operand, element.to_owned());
                cast.append(&mut operand);
            }
            vec![Node::Word("ARRAY".to_owned()), Node::Subscript(cast)]
        };
        nodes.truncate(nodes.len() - 2);
        nodes.extend(cast);
        return;
    }
    // Only a damaged text has a cast of nothing.
    let Some(operand) = nodes.pop() else { return nodes.push(Node::Word(kind)) };
    nodes.push(match operand {
        Node::Text(text) if is_character(&kind) => Node::Text(text),
        Node::Text(text) if is_number_type(&kind) && is_number(unquoted(&text)) => {
            Node::Number(unquoted(&text).to_owned())
        }
        Node::Number(number) if is_number_type(&kind) => Node::Number(number),
        Node::Text(text) if kind == "boolean" && matches!(unquoted(&text), "true" | "t") => {
            Node::Name(vec!["true".to_owned()])
        }
        Node::Text(text) if kind == "boolean" && matches!(unquoted(&text), "false" | "f") => {
            Node::Name(vec!["false".to_owned()])
        }
        operand => Node::Cast(Box::new(operand), canonical_type(kind)),
    });
}

fn canonical_type(kind: String) -> String {
    if kind == "character varying[]" { "text[]".to_owned() } else { kind }
}

fn is_character(kind: &str) -> bool {
    matches!(kind, "text" | "character varying")
}

fn is_number_type(kind: &str) -> bool {
    matches!(kind, "smallint" | "integer" | "bigint" | "real" | "double precision" | "numeric")
}

fn is_number(text: &str) -> bool {
    let digits = text.strip_prefix('-').unwrap_or(text);
    digits.starts_with(|c: char| c.is_ascii_digit()) && number_length(digits) == digits.len()
}

fn unquoted(literal: &str) -> &str {
    literal.strip_prefix('\'').and_then(|text| text.strip_suffix('\'')).unwrap_or(literal)
}

/// Splices `(a AND b)` into the `AND` chain around it, likewise for `OR`.
fn flatten(nodes: Vec<Node>) -> Vec<Node> {
    let Some(chain) = chain(&nodes) else { return nodes };
    let mut flat = Vec::with_capacity(nodes.len());
    for (at, node) in nodes.iter().enumerate() {
        let alone = (at == 0 || nodes[at - 1].is_word(chain))
            && nodes.get(at + 1).is_none_or(|next| next.is_word(chain));
        match node {
            Node::Group(inner) if alone && self::chain(inner) == Some(chain) => {
                flat.extend(inner.iter().cloned())
            }
            _ => flat.push(node.clone()),
        }
    }
    flat
}

/// The one connective of a list of nodes, if it has only one and nothing that could claim an AND for itself.
fn chain(nodes: &[Node]) -> Option<&'static str> {
    let has = |word: &str| nodes.iter().any(|node| node.is_word(word));
    if has("BETWEEN") || has("SELECT") || has("CASE") {
        return None;
    }
    match (has("AND"), has("OR")) {
        (true, false) => Some("AND"),
        (false, true) => Some("OR"),
        _ => None,
    }
}

fn unqualify(nodes: &mut [Node]) {
    for node in nodes {
        match node {
            // A whole row keeps its name: `count(a.*)` is not `count(*)`.
            Node::Name(name) => {
                let kept = if name.last().is_some_and(|last| last == "*") { 2 } else { 1 };
                name.drain(..name.len().saturating_sub(kept));
            }
            Node::Call(name, inner) => {
                name.drain(..name.len() - 1);
                unqualify(inner);
            }
            Node::Group(inner) | Node::Subscript(inner) => unqualify(inner),
            Node::Cast(operand, _) => unqualify(std::slice::from_mut(operand)),
            Node::Word(_) | Node::Text(_) | Node::Number(_) | Node::Operator(_) | Node::Comma => {}
        }
    }
}

fn render(nodes: &[Node]) -> String {
    let mut text = String::new();
    render_into(&mut text, nodes);
    text
}

fn render_into(out: &mut String, nodes: &[Node]) {
    for (at, node) in nodes.iter().enumerate() {
        if at > 0 && !matches!(node, Node::Comma | Node::Subscript(_)) {
            out.push(' ');
        }
        match node {
            Node::Word(text) | Node::Text(text) | Node::Number(text) | Node::Operator(text) => {
                out.push_str(text)
            }
            Node::Name(name) => push_name(out, name),
            Node::Comma => out.push(','),
            Node::Group(inner) => {
                out.push('(');
                render_into(out, inner);
                out.push(')');
            }
            Node::Subscript(inner) => {
                out.push('[');
                render_into(out, inner);
                out.push(']');
            }
            Node::Call(name, inner) => {
                push_name(out, name);
                out.push('(');
                render_into(out, inner);
                out.push(')');
            }
            Node::Cast(operand, kind) => {
                render_into(out, std::slice::from_ref(operand));
                out.push_str("::");
                out.push_str(kind);
            }
        }
    }
}

fn push_name(out: &mut String, name: &[String]) {
    for (at, part) in name.iter().enumerate() {
        if at > 0 {
            out.push('.');
        }
        out.push_str(part);
    }
}

fn trim_zeros(number: &str) -> &str {
    if number.contains('.') && !number.contains(['e', 'E']) {
        number.trim_end_matches('0').trim_end_matches('.')
    } else {
        number
    }
}

/// `"name"` without its quotes where they are not needed for the name itself: reserved words differ between versions.
fn unquote(quoted: &str) -> &str {
    let inner = quoted.strip_prefix('"').and_then(|text| text.strip_suffix('"')).unwrap_or(quoted);
    let plain = inner.starts_with(|c: char| c.is_ascii_lowercase() || c == '_')
        && inner.chars().all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '_');
    if plain { inner } else { quoted }
}

fn number_length(text: &str) -> usize {
    let bytes = text.as_bytes();
    let mut at = 0;
    while at < bytes.len() {
        match bytes[at] {
            b'0'..=b'9' => at += 1,
            b'.' if bytes.get(at + 1).is_some_and(u8::is_ascii_digit) => at += 1,
            b'e' | b'E' if at > 0 => {
                let sign = usize::from(matches!(bytes.get(at + 1), Some(b'+' | b'-')));
                if !bytes.get(at + 1 + sign).is_some_and(u8::is_ascii_digit) {
                    break;
                }
                at += 1 + sign;
            }
            _ => break,
        }
    }
    at
}

/// A run of operator characters, or one character of anything else.
fn operator_length(text: &str) -> usize {
    let run = text.find(|c| !"+-*/<>=~!@#%^&|`?".contains(c)).unwrap_or(text.len());
    if run > 0 { run } else { text.chars().next().map_or(0, char::len_utf8) }
}

fn is_name_start(c: char) -> bool {
    c.is_ascii_alphabetic() || c == '_' || !c.is_ascii()
}

fn is_name_part(c: char) -> bool {
    is_name_start(c) || c.is_ascii_digit() || c == '$'
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn texts_of_one_meaning_have_one_normal_form() {
        let table: &[&[&str]] = &[
            &["(a)", "((a))", "a", "\"a\""],
            &[
                "CHECK (((t)::text = ANY ((ARRAY['a'::character varying, 'b'::character varying])::text[])))",
                "CHECK (((t)::text = ANY (ARRAY[('a'::character varying)::text, ('b'::character varying)::text])))",
                "CHECK ((t)::text = ANY (ARRAY['a'::text, 'b'::text]))",
            ],
            &["((w >= (0)::double precision) AND (w <= (1)::double precision))", "((w >= 0) AND (w <= 1))"],
            &["'0.3'::double precision", "0.3", "(0.3)::double precision"],
            &["'-1'::integer", "(-1)", "'-1'::bigint", "(- (1)::bigint)"],
            &["now()", "CURRENT_TIMESTAMP", "transaction_timestamp()", "(now())"],
            &["'x'::character varying", "'x'::text", "('x'::character varying)::text"],
            &["ARRAY[]::character varying[]", "'{}'::text[]", "ARRAY[]::text[]"],
            &["(ARRAY[x, y])::text[]", "ARRAY[(x)::text, (y)::text]"],
            &["'true'::boolean", "true", "'t'::boolean"],
            &["((a AND b) AND c)", "(a AND (b AND c))", "(a AND b AND c)"],
            &[
                "to_tsvector('english'::regconfig, ((a || ' '::text) || b))",
                "to_tsvector('english'::regconfig, (a || ' ') || b)",
            ],
        ];
        for same in table {
            for text in *same {
                assert_eq!(normal(text), normal(same[0]), "{text}");
            }
        }
    }

    #[test]
    fn texts_of_different_meaning_keep_different_normal_forms() {
        for (a, b) in [
            ("(a + b) * c", "a + (b * c)"),
            ("(a AND b) OR c", "a AND (b OR c)"),
            ("NOT (a AND b)", "(NOT a) AND b"),
            ("'1'::text", "1"),
            ("(n)::text = '1'::text", "n = 1"),
            ("'{}'::jsonb", "'{}'::json"),
            ("'a'::text", "'A'::text"),
            ("(x)::integer", "x"),
            ("((1)::numeric / 2.0)", "(1 / 2)"),
            ("\"User\"", "\"user\""),
            ("app.f(x)", "other.f(x)"),
            ("f((a, b))", "f(a, b)"),
            ("clock_timestamp()", "now()"),
            ("'a''b'", "'a' 'b'"),
            ("a[1]", "a"),
            ("x = ANY (ARRAY['a'::text, 'b'::text])", "x = ALL (ARRAY['a'::text, 'b'::text])"),
        ] {
            assert_ne!(normal(a), normal(b), "{a} and {b}");
        }
    }

    #[test]
    fn a_default_has_its_scale_from_the_column() {
        assert_eq!(normal_default("0.0"), normal_default("'0'::double precision"));
        assert_eq!(normal_default("0.50"), normal_default("0.5"));
        assert_ne!(normal_default("'0.0'::text"), normal_default("'0'::text"));
        assert_ne!(normal_default("10"), normal_default("1"));
    }

    #[test]
    fn an_index_is_its_structure() {
        let one =
            "CREATE UNIQUE INDEX a ON public.t USING btree (x, y DESC) WITH (fillfactor='70') WHERE (z > 0)";
        let two = "CREATE UNIQUE INDEX b ON ONLY public.t USING btree (x, y DESC) WHERE (z > (0)::numeric)";
        assert_eq!(normal_index(one), "UNIQUE btree(x, y DESC) WHERE (z > 0)");
        assert_eq!(normal_index(one), normal_index(two));
        for other in [
            "CREATE INDEX a ON public.t USING btree (x, y DESC) WHERE (z > 0)",
            "CREATE UNIQUE INDEX a ON public.t USING btree (x, y) WHERE (z > 0)",
            "CREATE UNIQUE INDEX a ON public.t USING btree (y DESC, x) WHERE (z > 0)",
            "CREATE UNIQUE INDEX a ON public.t USING hash (x, y DESC) WHERE (z > 0)",
            "CREATE UNIQUE INDEX a ON public.t USING btree (x, y DESC)",
            "CREATE UNIQUE INDEX a ON public.t USING btree (x, y DESC) INCLUDE (w) WHERE (z > 0)",
            "CREATE UNIQUE INDEX a ON public.t USING btree (x, y DESC) NULLS NOT DISTINCT WHERE (z > 0)",
        ] {
            assert_ne!(normal_index(one), normal_index(other), "{other}");
        }
    }

    #[test]
    fn a_constraint_is_its_structure_whether_validated_or_not() {
        let valid = normal_constraint("FOREIGN KEY (a) REFERENCES public.x(id) ON DELETE CASCADE");
        assert_eq!(valid, "FOREIGN KEY (a) REFERENCES public.x(id) ON DELETE CASCADE");
        assert_eq!(
            valid,
            normal_constraint("FOREIGN KEY (a) REFERENCES public.x(id) ON DELETE CASCADE NOT VALID")
        );
        assert_eq!(subject(&valid), "FOREIGN KEY (a) REFERENCES public.x(id)");
        assert_eq!(subject("UNIQUE (a, b) INCLUDE (c)"), "UNIQUE (a, b)");
    }

    #[test]
    fn a_view_reads_the_same_before_and_after_version_16() {
        let before = " SELECT a.id,\n    (a.x)::text AS x,\n    count(*) AS n\n   FROM (public.a\n     LEFT JOIN public.b ON ((a.id = b.id)))\n  WHERE (a.at >= (now() - '30 days'::interval));";
        let after = before.replace("a.id,", "id,").replace("(a.x)", "(x)").replace("a.at", "at");
        assert_eq!(normal_query(before), normal_query(&after));
        assert_ne!(normal_query(before), normal_query(&before.replace("30 days", "60 days")));
        assert_ne!(normal_query(before), normal_query(&before.replace("LEFT JOIN", "RIGHT JOIN")));
    }

    #[test]
    fn any_text_at_all_ends() {
        for text in ["", "(", ")", "'", "E'\\", "::", "a.", "\"", "x::", "[", "é::text", "a..b", "'ß"] {
            normal(text);
        }
    }
}
