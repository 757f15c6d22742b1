//! Which types go together, and what the holes in signatures turn out to be.

use super::declaration::Type;
use super::overloads::Overload;
use std::collections::HashMap;
use std::sync::Arc;

/// What is known of the holes. A trial that fails leaves nothing behind.
#[derive(Default)]
pub(super) struct Inference {
    found: HashMap<u32, Type>,
    /// What a trial has overwritten, to be put back.
    trail: Vec<(u32, Option<Type>)>,
    next: u32,
}

impl Inference {
    pub fn fresh(&mut self) -> Type {
        self.next += 1;
        Type::Variable(self.next - 1)
    }

    /// Whether a value of one type may stand where the other is wanted.
    pub fn assign(&mut self, from: &Type, to: &Type) -> bool {
        self.attempt(|inference| inference.assignable(from, to))
    }

    fn attempt(&mut self, trial: impl FnOnce(&mut Self) -> bool) -> bool {
        self.trail.clear();
        let fits = trial(self);
        if !fits {
            while let Some((number, old)) = self.trail.pop() {
                match old {
                    Some(old) => self.found.insert(number, old),
                    None => self.found.remove(&number),
                };
            }
        }
        fits
    }

    /// What the overload gives for such arguments. None: it does not take them.
    pub fn instantiate(&mut self, overload: &Overload, given: &[Type]) -> Option<Type> {
        if overload.arguments.len() != given.len() {
            return None;
        }
        let mut holes = HashMap::new();
        let wanted: Vec<Type> = overload.arguments.iter().map(|argument| self.open(argument, &mut holes)).collect();
        let result = self.open(&overload.result, &mut holes);
        let fits = self
            .attempt(|inference| given.iter().zip(&wanted).all(|(given, wanted)| inference.assignable(given, wanted)));
        fits.then(|| self.resolve(&result, false))
    }

    /// A signature's letters as holes of their own.
    fn open(&mut self, of: &Type, holes: &mut HashMap<char, Type>) -> Type {
        match of {
            Type::Parameter(letter) => match holes.get(letter) {
                Some(hole) => hole.clone(),
                None => {
                    let hole = self.fresh();
                    holes.insert(*letter, hole.clone());
                    hole
                }
            },
            Type::List(element) => Type::list(self.open(element, holes)),
            Type::Optional(inner) => Type::optional(self.open(inner, holes)),
            Type::Type(inner) => Type::Type(Arc::new(self.open(inner, holes))),
            Type::Map(pair) => {
                let key = self.open(&pair.0, holes);
                Type::map(key, self.open(&pair.1, holes))
            }
            other => other.clone(),
        }
    }

    /// The type with its holes filled as far as they are known; `close`: the rest is dynamic.
    pub fn resolve(&self, of: &Type, close: bool) -> Type {
        match of {
            Type::Variable(number) => match self.found.get(number) {
                Some(found) => self.resolve(found, close),
                None if close => Type::Dyn,
                None => of.clone(),
            },
            Type::List(element) => Type::list(self.resolve(element, close)),
            Type::Optional(inner) => Type::optional(self.resolve(inner, close)),
            Type::Type(inner) => Type::Type(Arc::new(self.resolve(inner, close))),
            Type::Map(pair) => Type::map(self.resolve(&pair.0, close), self.resolve(&pair.1, close)),
            other => other.clone(),
        }
    }

    fn assignable(&mut self, from: &Type, to: &Type) -> bool {
        if let Type::Variable(number) = to {
            let known = self.found.contains_key(number) || from.is_exactly(to);
            if self.fills(from, *number) {
                return true;
            }
            if known {
                return false;
            }
        }
        if let Type::Variable(number) = from {
            return self.fills(to, *number);
        }
        if from.is_dyn_or_error() || to.is_dyn_or_error() {
            return true;
        }
        match (from, to) {
            (Type::Null, other) | (other, Type::Null) => matches!(
                other,
                Type::Null | Type::Opaque(_) | Type::Optional(_) | Type::Object(_) | Type::Duration | Type::Timestamp
            ),
            (Type::Type(_), Type::Type(_)) => true,
            (Type::List(a), Type::List(b)) | (Type::Optional(a), Type::Optional(b)) => self.assignable(a, b),
            (Type::Map(a), Type::Map(b)) => self.assignable(&a.0, &b.0) && self.assignable(&a.1, &b.1),
            _ => from.is_exactly(to),
        }
    }

    /// Whether the hole may be (as general as) such a type; it then is.
    fn fills(&mut self, of: &Type, number: u32) -> bool {
        let hole = Type::Variable(number);
        if of.is_exactly(&hole) {
            return true;
        }
        match self.found.get(&number).cloned() {
            Some(known) => {
                if of.is_exactly(&known) {
                    return true;
                }
                if !self.assignable(of, &known) {
                    return false;
                }
                let general = most_general(of.clone(), known);
                if !self.occurs(number, &general) {
                    self.set(number, general);
                }
                true
            }
            None => {
                if self.occurs(number, of) {
                    return false;
                }
                self.set(number, of.clone());
                true
            }
        }
    }

    fn set(&mut self, number: u32, of: Type) {
        let old = self.found.insert(number, of);
        self.trail.push((number, old));
    }

    fn occurs(&self, number: u32, within: &Type) -> bool {
        match within {
            Type::Variable(other) => {
                *other == number || self.found.get(other).is_some_and(|found| self.occurs(number, found))
            }
            Type::List(inner) | Type::Optional(inner) | Type::Type(inner) => self.occurs(number, inner),
            Type::Map(pair) => self.occurs(number, &pair.0) || self.occurs(number, &pair.1),
            _ => false,
        }
    }
}

/// The wider of two types that go together.
pub(super) fn most_general(a: Type, b: Type) -> Type {
    if less_specific(&a, &b) { a } else { b }
}

fn less_specific(a: &Type, b: &Type) -> bool {
    match (a, b) {
        (Type::Dyn | Type::Variable(_) | Type::Parameter(_), _) => true,
        (_, Type::Dyn | Type::Variable(_) | Type::Parameter(_)) => false,
        (Type::List(a), Type::List(b)) | (Type::Optional(a), Type::Optional(b)) => less_specific(a, b),
        (Type::Map(a), Type::Map(b)) => less_specific(&a.0, &b.0) && less_specific(&a.1, &b.1),
        (Type::Type(_), Type::Type(_)) => true,
        _ => a.is_exactly(b),
    }
}
