//! Words to nodes.

use super::lexer::{Lexeme, Piece, Token, pieces};
use super::{Command, Kind, Node, Operand, Pipeline, Result, Template, functions, position};
use crate::api::field::go_quote;
use serde_json::Value;
use std::collections::BTreeMap;

/// How deep blocks and parentheses may nest.
const DEPTH: usize = 64;

impl Template {
    pub fn parse(text: &str) -> Result<Self> {
        let mut parser = Parser {
            text,
            pieces: pieces(text)?.into_iter(),
            defined: BTreeMap::new(),
            variables: vec![String::new()],
            loops: 0,
            depth: 0,
        };
        let (nodes, end) = parser.block()?;
        match end {
            End::Text => Ok(Self { text: text.to_owned(), nodes, defined: parser.defined }),
            End::Else(lexemes) => Err(parser.unexpected(lexemes.first())),
            End::End(at) => Err(parser.error(at, "unexpected {{end}}")),
        }
    }
}

struct Parser<'t> {
    text: &'t str,
    pieces: std::vec::IntoIter<Piece>,
    defined: BTreeMap<String, Vec<Node>>,
    /// Those that may be named here.
    variables: Vec<String>,
    loops: usize,
    depth: usize,
}

/// What ended a block.
enum End {
    Text,
    /// What stands behind `else`, with it.
    Else(Vec<Lexeme>),
    End(usize),
}

impl Parser<'_> {
    fn error(&self, at: usize, what: impl std::fmt::Display) -> String {
        format!("template: output:{}: {what}", position(self.text, at).0)
    }

    fn unexpected(&self, lexeme: Option<&Lexeme>) -> String {
        match lexeme {
            Some(lexeme) => {
                let found = &self.text[lexeme.at..lexeme.end];
                self.error(lexeme.at, format!("unexpected {} in command", go_quote(found)))
            }
            None => self.error(self.text.len(), "unexpected EOF"),
        }
    }

    fn block(&mut self) -> Result<(Vec<Node>, End)> {
        self.depth += 1;
        if self.depth > DEPTH {
            return Err(self.error(0, "exceeded max nesting"));
        }
        let mut nodes = Vec::new();
        let end = loop {
            match self.pieces.next() {
                None => break End::Text,
                Some(Piece::Text(text)) if text.is_empty() => {}
                Some(Piece::Text(text)) => nodes.push(Node::Text(text)),
                Some(Piece::Action(lexemes, at)) => match lexemes.first().map(|first| &first.token) {
                    Some(Token::Word(word)) if word == "end" && lexemes.len() == 1 => break End::End(at),
                    Some(Token::Word(word)) if word == "else" => break End::Else(lexemes),
                    _ => nodes.extend(self.action(&lexemes, at)?),
                },
            }
        };
        self.depth -= 1;
        Ok((nodes, end))
    }

    fn action(&mut self, lexemes: &[Lexeme], at: usize) -> Result<Option<Node>> {
        let Some((first, rest)) = lexemes.split_first() else {
            return Err(self.error(at, "missing value for command"));
        };
        let word = if let Token::Word(word) = &first.token { word.as_str() } else { "" };
        let node = match word {
            "if" | "with" | "range" => self.branch(word, rest, at)?,
            "break" | "continue" if rest.is_empty() => {
                if self.loops == 0 {
                    return Err(self.error(at, format!("{{{{{word}}}}} outside {{{{range}}}}")));
                }
                if word == "break" { Node::Break } else { Node::Continue }
            }
            "define" | "block" | "template" => {
                let Some((Lexeme { token: Token::Constant(Value::String(name)), .. }, rest)) = rest.split_first()
                else {
                    return Err(self.unexpected(rest.first()));
                };
                let with = if rest.is_empty() { None } else { Some(self.pipeline(rest, at)?) };
                if word != "template" {
                    let outer = std::mem::replace(&mut self.variables, vec![String::new()]);
                    let (nodes, end) = self.block()?;
                    self.variables = outer;
                    let End::End(_) = end else { return Err(self.unexpected(None)) };
                    self.defined.insert(name.clone(), nodes);
                    if word == "define" {
                        return Ok(None);
                    }
                }
                Node::Template(name.clone(), with)
            }
            _ => Node::Print(self.pipeline(lexemes, at)?),
        };
        Ok(Some(node))
    }

    fn branch(&mut self, word: &str, lexemes: &[Lexeme], at: usize) -> Result<Node> {
        let known = self.variables.len();
        let asked = self.pipeline(lexemes, at)?;
        self.loops += usize::from(word == "range");
        let (then, end) = self.block()?;
        self.loops -= usize::from(word == "range");
        let otherwise = match end {
            End::End(_) => Vec::new(),
            End::Text => return Err(self.unexpected(None)),
            End::Else(lexemes) => match lexemes.get(1).map(|second| &second.token) {
                None => match self.block()? {
                    (nodes, End::End(_)) => nodes,
                    (_, End::Else(lexemes)) => return Err(self.unexpected(lexemes.first())),
                    (_, End::Text) => return Err(self.unexpected(None)),
                },
                // It ends with the same `end`.
                Some(Token::Word(again)) if again == word && word != "range" => {
                    vec![self.branch(word, &lexemes[2..], at)?]
                }
                Some(_) => return Err(self.unexpected(lexemes.get(1))),
            },
        };
        self.variables.truncate(known);
        Ok(match word {
            "if" => Node::If(asked, then, otherwise),
            "with" => Node::With(asked, then, otherwise),
            _ => Node::Range(asked, then, otherwise),
        })
    }

    fn pipeline(&mut self, lexemes: &[Lexeme], at: usize) -> Result<Pipeline> {
        self.depth += 1;
        if self.depth > DEPTH {
            return Err(self.error(at, "exceeded max nesting"));
        }
        let (mut variables, mut assigns, mut rest) = (Vec::new(), false, lexemes);
        let tokens: Vec<&Token> = lexemes.iter().take(4).map(|lexeme| &lexeme.token).collect();
        match tokens[..] {
            [Token::Variable(one), Token::Declare | Token::Assign, ..] => {
                (variables, assigns, rest) = (vec![one.clone()], *tokens[1] == Token::Assign, &lexemes[2..]);
            }
            [Token::Variable(one), Token::Comma, Token::Variable(two), Token::Declare | Token::Assign] => {
                variables = vec![one.clone(), two.clone()];
                (assigns, rest) = (*tokens[3] == Token::Assign, &lexemes[4..]);
            }
            _ => {}
        }
        let mut commands = Vec::new();
        for command in parted(rest) {
            commands.push(self.command(command, at)?);
        }
        if assigns {
            for name in &variables {
                self.known(name, at)?;
            }
        } else {
            self.variables.extend(variables.iter().cloned());
        }
        self.depth -= 1;
        Ok(Pipeline { variables, assigns, commands })
    }

    fn known(&self, name: &str, at: usize) -> Result<()> {
        if self.variables.iter().any(|known| known == name) {
            return Ok(());
        }
        Err(self.error(at, format!("undefined variable {}", go_quote(&format!("${name}")))))
    }

    fn command(&mut self, lexemes: &[Lexeme], at: usize) -> Result<Command> {
        let mut operands: Vec<Operand> = Vec::new();
        let mut rest = lexemes;
        while let Some((first, behind)) = rest.split_first() {
            let (place, mut end) = (first.at, first.end);
            let mut used = 1;
            let mut fields = Vec::new();
            let kind = match &first.token {
                Token::Dot => Kind::Dot,
                Token::Field(name) => {
                    fields.push(name.clone());
                    Kind::Dot
                }
                Token::Variable(name) => {
                    self.known(name, first.at)?;
                    Kind::Variable(name.clone())
                }
                Token::Word(word) if word == "nil" => Kind::Nil,
                Token::Word(word) if word == "true" || word == "false" => Kind::Constant((word == "true").into()),
                Token::Word(word) if functions::is_one(word) => Kind::Function(word.clone()),
                Token::Word(word) => {
                    return Err(self.error(first.at, format!("function {} not defined", go_quote(word))));
                }
                Token::Constant(value) => Kind::Constant(value.clone()),
                Token::Open => {
                    let close = closing(behind).ok_or_else(|| self.error(first.at, "unclosed left paren"))?;
                    used += close + 1;
                    end = behind[close].end;
                    Kind::Group(Box::new(self.pipeline(&behind[..close], first.at)?))
                }
                _ => return Err(self.unexpected(Some(first))),
            };
            let mut named = place;
            while let Some(Lexeme { token: Token::Field(name), joined: true, at, end: until }) = rest.get(used) {
                if matches!(kind, Kind::Nil | Kind::Constant(_)) {
                    return Err(
                        self.error(*at, format!("unexpected . after term {}", go_quote(&self.text[place..end])))
                    );
                }
                // Go names the place of the first field that is put behind another operand.
                if named == place {
                    named = *at;
                }
                fields.push(name.clone());
                (used, end) = (used + 1, *until);
            }
            operands.push(Operand { place: named, text: self.text[place..end].to_owned(), kind, fields });
            rest = &rest[used..];
        }
        if operands.is_empty() {
            return Err(self.error(at, "missing value for command"));
        }
        Ok(Command(operands))
    }
}

/// The commands between the pipes that stand in no parentheses.
fn parted(lexemes: &[Lexeme]) -> Vec<&[Lexeme]> {
    let (mut depth, mut start, mut commands) = (0_usize, 0, Vec::new());
    for (at, lexeme) in lexemes.iter().enumerate() {
        match lexeme.token {
            Token::Open => depth += 1,
            Token::Close => depth = depth.saturating_sub(1),
            Token::Pipe if depth == 0 => {
                commands.push(&lexemes[start..at]);
                start = at + 1;
            }
            _ => {}
        }
    }
    commands.push(&lexemes[start..]);
    commands
}

/// Where the parenthesis that is open before these is closed.
fn closing(lexemes: &[Lexeme]) -> Option<usize> {
    let mut depth = 1_usize;
    lexemes.iter().position(|lexeme| {
        match lexeme.token {
            Token::Open => depth += 1,
            Token::Close => depth -= 1,
            _ => {}
        }
        depth == 0
    })
}
