//! What the demonstration prints: short lines, aligned, in colour on a terminal.

use std::env;
use std::fmt::Display;
use std::io::{IsTerminal, stdout};

use crate::Result;

/// Prints, and counts the checks that passed.
pub struct Report {
    colour: bool,
    passed: u32,
}

impl Report {
    pub fn new() -> Report {
        let colour = stdout().is_terminal() && env::var_os("NO_COLOR").is_none_or(|v| v.is_empty());
        Report { colour, passed: 0 }
    }

    pub fn passed(&self) -> u32 {
        self.passed
    }

    /// A heading after an empty line.
    pub fn heading(&self, text: &str) {
        println!("\n{}", self.paint("1", text));
    }

    /// A line of explanation.
    pub fn say(&self, text: impl Display) {
        println!("  {text}");
    }

    /// A fact with its name.
    pub fn fact(&self, name: &str, value: impl Display) {
        println!("  {} {value}", self.paint("2", &format!("{name:<10}")));
    }

    /// A command line, as a reader would type it.
    pub fn command(&self, line: &str) {
        println!("\n  {} {}\n", self.paint("2", "$"), self.paint("36", line));
    }

    /// A figure, after what a program has logged.
    pub fn measured(&self, name: &str, value: impl Display) {
        println!("\n  {} {name:<20} {value}", self.paint("32", "✓"));
    }

    /// A checked fact: what was found if it is as expected, else an error that says what was expected.
    pub fn check(&mut self, name: &str, right: bool, found: impl Display, expected: &str) -> Result<()> {
        if !right {
            println!("  {} {name:<20} {found}", self.paint("31", "✗"));
            return Err(format!("{name}: expected {expected}, found {found}").into());
        }
        self.passed += 1;
        println!("  {} {name:<20} {found}", self.paint("32", "✓"));
        Ok(())
    }

    fn paint(&self, code: &str, text: &str) -> String {
        if self.colour { format!("\x1b[{code}m{text}\x1b[0m") } else { text.to_owned() }
    }
}

/// `1,234,567`
pub fn grouped(number: impl ToString) -> String {
    let digits = number.to_string();
    let mut text = String::new();
    for (n, digit) in digits.chars().enumerate() {
        if n > 0 && (digits.len() - n).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}
